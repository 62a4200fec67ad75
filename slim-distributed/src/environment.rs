//! What `torchrun`, or another launcher, tells a process in its environment.

use std::str::FromStr;
use std::{env, fs};

use crate::{Error, Result};

/// Who this process is among the others, for programs that have to know before they join them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launch {
    /// The number of this process, from 0 on.
    pub rank: usize,
    /// The number of this process on its machine, from 0 on.
    pub local_rank: usize,
    /// The number of processes.
    pub world_size: usize,
    /// Where the store is.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether the launcher serves the store; otherwise rank 0 does.
    pub(crate) has_store: bool,
    /// torchrun's `--rdzv-id`, which `--standalone` draws; `none` if nobody says one.
    run_id: Option<String>,
}

impl Launch {
    /// Reads the environment. `None` without `WORLD_SIZE`: the program was started alone.
    ///
    /// # Errors
    /// [`Error::Environment`].
    pub fn from_env() -> Result<Option<Self>> {
        Self::from_variables(|name| env::var(name).ok())
    }

    /// A name of the job, which is the same after `torchrun` has started its processes again: its
    /// `--rdzv-id`, or else the number and the start of torchrun's own process. `None` if there is
    /// neither.
    pub fn job(&self) -> Option<String> {
        match self.run_id.as_deref()? {
            "none" | "" => launcher(),
            id => Some(id.to_owned()),
        }
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        if variable("WORLD_SIZE").is_none() {
            return Ok(None);
        }
        let world_size = number("WORLD_SIZE", &variable)?;
        let rank = number("RANK", &variable)?;
        if rank >= world_size {
            let reason = format!("is {rank}, with WORLD_SIZE {world_size}");
            return Err(Error::Environment { variable: "RANK", reason });
        }
        let local_rank = match variable("LOCAL_RANK") {
            Some(_) => number("LOCAL_RANK", &variable)?,
            None => rank,
        };
        let host = variable("MASTER_ADDR").ok_or(missing("MASTER_ADDR"))?;
        let port = number("MASTER_PORT", &variable)?;
        let has_store = variable("TORCHELASTIC_USE_AGENT_STORE")
            .is_some_and(|is| is.eq_ignore_ascii_case("true"));
        let run_id = variable("TORCHELASTIC_RUN_ID");
        Ok(Some(Self { rank, local_rank, world_size, host, port, has_store, run_id }))
    }
}

/// The process that has started this one. Its number alone is that of another process after a
/// reboot, or in another container.
fn launcher() -> Option<String> {
    let status = fs::read_to_string("/proc/self/stat").ok()?;
    let parent = after_name(&status)?.nth(1)?.to_owned();
    let status = fs::read_to_string(format!("/proc/{parent}/stat")).ok()?;
    let start = after_name(&status)?.nth(19)?;
    Some(format!("{parent} since {start}"))
}

/// The fields of `/proc/PID/stat` from the third on. The second one is the name of the program in
/// parentheses, which may have spaces.
fn after_name(status: &str) -> Option<impl Iterator<Item = &str>> {
    Some(status.rsplit_once(')')?.1.split_whitespace())
}

fn number<T: FromStr>(name: &'static str, variable: &impl Fn(&str) -> Option<String>) -> Result<T> {
    let text = variable(name).ok_or(missing(name))?;
    let reason = || format!("is `{text}`, which is no number in range");
    text.parse().map_err(|_| Error::Environment { variable: name, reason: reason() })
}

fn missing(variable: &'static str) -> Error {
    Error::Environment { variable, reason: "is not set".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::Launch;

    fn launch(variables: &[(&str, &str)]) -> Result<Option<Launch>, String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Launch::from_variables(find).map_err(|error| error.to_string())
    }

    #[test]
    fn a_launcher_says_who_a_process_is() {
        let mut variables = vec![
            ("WORLD_SIZE", "4"),
            ("RANK", "3"),
            ("LOCAL_RANK", "1"),
            ("MASTER_ADDR", "node0"),
            ("MASTER_PORT", "29500"),
        ];
        let mut expected = Launch {
            rank: 3,
            local_rank: 1,
            world_size: 4,
            host: "node0".to_owned(),
            port: 29500,
            has_store: false,
            run_id: None,
        };
        assert_eq!(launch(&variables), Ok(Some(expected.clone())));
        variables.push(("TORCHELASTIC_USE_AGENT_STORE", "True"));
        expected.has_store = true;
        assert_eq!(launch(&variables), Ok(Some(expected)));
        assert_eq!(launch(&[("RANK", "3")]), Ok(None));
    }

    #[test]
    fn a_job_has_a_name_that_restarts_do_not_change() {
        let job = |run_id: Option<&str>| {
            let mut variables = vec![
                ("WORLD_SIZE", "1"),
                ("RANK", "0"),
                ("MASTER_ADDR", "node0"),
                ("MASTER_PORT", "29500"),
            ];
            variables.extend(run_id.map(|id| ("TORCHELASTIC_RUN_ID", id)));
            launch(&variables).unwrap().unwrap().job()
        };
        assert_eq!(job(None), None);
        assert_eq!(job(Some("night")).as_deref(), Some("night"));
        if cfg!(target_os = "linux") {
            let parent = format!("{} since ", std::os::unix::process::parent_id());
            assert!(job(Some("none")).unwrap().starts_with(&parent), "{:?}", job(Some("none")));
        }
    }

    #[test]
    fn what_is_wrong_in_the_environment_is_named() {
        let fix = "; start the program by `torchrun --no-python`, or without WORLD_SIZE to train in one process";
        let cases: [(&[(&str, &str)], &str); 4] = [
            (&[("WORLD_SIZE", "2")], "RANK is not set"),
            (&[("WORLD_SIZE", "two")], "WORLD_SIZE is `two`, which is no number in range"),
            (&[("WORLD_SIZE", "2"), ("RANK", "2")], "RANK is 2, with WORLD_SIZE 2"),
            (
                &[
                    ("WORLD_SIZE", "2"),
                    ("RANK", "0"),
                    ("MASTER_ADDR", "a"),
                    ("MASTER_PORT", "70000"),
                ],
                "MASTER_PORT is `70000`, which is no number in range",
            ),
        ];
        for (variables, expected) in cases {
            assert_eq!(launch(variables), Err(format!("{expected}{fix}")));
        }
    }
}
