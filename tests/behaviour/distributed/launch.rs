//! Starts processes as `torchrun` does.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use slim_tests::place::program;
use tempfile::TempDir;

/// Longer than any scenario takes, and shorter than the timeout of its collective operations.
const PATIENCE: Duration = Duration::from_secs(200);

/// Processes that run one scenario.
pub(super) struct Workers {
    pub(super) processes: Vec<Child>,
    folder: TempDir,
    port: u16,
}

impl Workers {
    pub(super) fn start(scenario: &str, world_size: usize) -> Self {
        // The port is free again when the first process serves the store there.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let processes = spawn(scenario, world_size, folder.path(), port, &[]);
        Self { processes, folder, port }
    }

    /// Starts processes that find each other by the store of these ones.
    pub(super) fn start_others(&self, scenario: &str, world_size: usize, folder: TempDir) -> Self {
        let agent = [("TORCHELASTIC_USE_AGENT_STORE", "True")];
        let processes = spawn(scenario, world_size, folder.path(), self.port, &agent);
        Self { processes, folder, port: self.port }
    }

    /// The folder, once the processes have ended.
    pub(super) fn into_folder(mut self) -> TempDir {
        self.words();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What each process says at its end; `None` for one that was killed.
    pub(super) fn words(&mut self) -> Vec<Option<String>> {
        let begun = Instant::now();
        while self.processes.iter_mut().any(|process| process.try_wait().unwrap().is_none()) {
            assert!(begun.elapsed() < PATIENCE, "a process hangs");
            sleep(Duration::from_millis(10));
        }
        let file = |rank| self.folder.path().join(format!("{rank}.txt"));
        (0..self.processes.len()).map(|rank| fs::read_to_string(file(rank)).ok()).collect()
    }

    /// Waits until every process has done some steps.
    pub(super) fn wait_until_begun(&self) {
        let begun = Instant::now();
        let has = |rank: usize| self.folder.path().join(format!("{rank}.begun")).exists();
        while !(0..self.processes.len()).all(has) {
            assert!(begun.elapsed() < PATIENCE, "a process does not begin");
            sleep(Duration::from_millis(10));
        }
    }
}

fn spawn(
    scenario: &str,
    world_size: usize,
    folder: &Path,
    port: u16,
    variables: &[(&str, &str)],
) -> Vec<Child> {
    let one = |rank: usize| {
        Command::new(program("worker", env!("CARGO_BIN_EXE_worker")))
            .arg(scenario)
            .arg(folder)
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("WORLD_SIZE", world_size.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .envs(variables.iter().copied())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    (0..world_size).map(one).collect()
}

impl Drop for Workers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What each process says at the end of a scenario in which none is killed.
pub(super) fn words(scenario: &str, world_size: usize) -> Vec<String> {
    let words = Workers::start(scenario, world_size).words();
    words.into_iter().map(Option::unwrap).collect()
}
