//! The comparisons with PyTorch and Torch-Pruning, and with ONNX Runtime and OpenVINO: installs
//! them, and runs all sides.

mod packages;

use crate::{
    onnxruntime,
    setup::{self, Report},
    source::cargo,
    tasks,
    workspace::root,
};
use anyhow::Result;
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
    process::ExitCode,
};

/// The first argument of the comparison of serving.
const SERVE: &str = "serve";

/// The first argument of the table of methods.
const CHOOSING: &str = "choosing";

/// The first argument of the measurement of data-parallel training, which needs no Python.
const OVERLAP: &str = "overlap";

/// Where the comparison of serving writes its networks.
const SERVED: &str = "target/serving";

pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    let (program, args) = match args {
        [first, rest @ ..] if first == SERVE => (SERVE, rest),
        [first, rest @ ..] if first == OVERLAP => (OVERLAP, rest),
        [first, rest @ ..] if first == CHOOSING => (CHOOSING, rest),
        all => ("compare", all),
    };
    let said =
        values(args, "--device").next().map(OsStr::to_owned).or_else(|| env::var_os("SLIM_DEVICE"));
    let cuda = said.is_some_and(|device| device.to_string_lossy().starts_with("cuda"));
    setup::run(cuda, Report::IfNews)?;
    let mut compare =
        cargo(["run", "--quiet", "--release", "--package", "slim-bench", "--bin", program, "--"]);
    if program == SERVE {
        compare.args(["--out", SERVED]);
    }
    // Both sides compute in single precision, on a GPU, too. From Rust, only this variable turns
    // TF32 off.
    compare.env("NVIDIA_TF32_OVERRIDE", "0").args(args);
    let asks_for_help = args.iter().any(|arg| arg == "--help" || arg == "-h");
    let needs_python = program != OVERLAP && !asks_for_help;
    if needs_python && values(args, "--python").next().is_none() {
        compare.env("PYTHONPATH", python_path()?);
    }
    let code = tasks::run(&mut compare)?;
    if program != SERVE || asks_for_help || code != ExitCode::SUCCESS {
        return Ok(code);
    }
    // The first network once more, in ONNX Runtime from Rust.
    onnxruntime::run(Report::IfNews)?;
    let Some(file) = first_network()? else { return Ok(code) };
    tasks::run(cargo(["run", "--quiet", "--package", "slim-onnx-example", "--"]).arg(file))
}

/// `PYTHONPATH` with PyTorch and the other packages, which are installed where they are missing.
pub(crate) fn python_path() -> Result<OsString> {
    let packages = packages::ready()?;
    // In front of the user's own packages, which may have other versions.
    let others = env::var_os("PYTHONPATH").unwrap_or_default();
    Ok(env::join_paths([packages].into_iter().chain(env::split_paths(&others)))?)
}

/// The first file, by its name, that the comparison of serving has written.
fn first_network() -> Result<Option<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join(SERVED))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.to_string_lossy();
            name.ends_with(".onnx") && !name.ends_with(".int8.onnx")
        })
        .collect();
    files.sort();
    Ok(files.into_iter().next())
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
