//! The comparison with PyTorch and Torch-Pruning: installs them, and runs both sides.

mod packages;

use crate::{
    setup::{self, Report},
    source::cargo,
    tasks,
};
use anyhow::Result;
use std::{
    env,
    ffi::{OsStr, OsString},
    process::ExitCode,
};

pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    let said =
        values(args, "--device").next().map(OsStr::to_owned).or_else(|| env::var_os("SLIM_DEVICE"));
    let cuda = said.is_some_and(|device| device.to_string_lossy().starts_with("cuda"));
    setup::run(cuda, Report::IfNews)?;
    let mut compare =
        cargo(["run", "--quiet", "--release", "--package", "slim-bench", "--bin", "compare", "--"]);
    // Both sides compute in single precision, on a GPU, too. From Rust, only this variable turns
    // TF32 off.
    compare.env("NVIDIA_TF32_OVERRIDE", "0").args(args);
    let asks_for_help = args.iter().any(|arg| arg == "--help" || arg == "-h");
    if values(args, "--python").next().is_none() && !asks_for_help {
        let packages = packages::ready()?;
        // In front of the user's own packages, which may have other versions.
        let others = env::var_os("PYTHONPATH").unwrap_or_default();
        compare.env(
            "PYTHONPATH",
            env::join_paths([packages].into_iter().chain(env::split_paths(&others)))?,
        );
    }
    tasks::run(&mut compare)
}

/// The values of an option, `--name value` or `--name=value`.
fn values<'a>(args: &'a [OsString], name: &'a str) -> impl Iterator<Item = &'a OsStr> {
    let next = args.iter().skip(1).map(Some).chain([None]);
    args.iter().zip(next).filter_map(move |(arg, next)| {
        if arg == name {
            return next.map(OsString::as_os_str);
        }
        arg.to_str()?.strip_prefix(name)?.strip_prefix('=').map(OsStr::new)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_has_its_value_behind_it_or_in_it() {
        let of = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(OsString::from).collect();
            values(&args, "--device")
                .map(|value| value.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&["--rounds", "3", "--device", "cuda:1"]), ["cuda:1"]);
        assert_eq!(of(&["--device=cpu", "--json", "--devices=2"]), ["cpu"]);
        assert_eq!(of(&["--device"]), [""; 0]);
        assert_eq!(of(&[]), [""; 0]);
    }
}
