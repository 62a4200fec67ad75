//! Installs ONNX Runtime, which tests and an example load, from its wheel on PyPI.

use crate::{
    host,
    install::{Work, any_python, carry_out, pip_install},
    lock,
    setup::Report,
    workspace::{root, spell_size},
};
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The newest version on PyPI whose opset is at least that of exported files.
const VERSION: &str = "1.32.0";

/// `.cargo/config.toml` names the library for every cargo command.
const LIBRARY: &str = "libonnxruntime.so";

/// The stamp's name. It has the version and the size of the library.
const STAMP: &str = "slim-setup";

/// Makes sure that there is a library of ONNX Runtime where `ORT_DYLIB_PATH` says.
pub(crate) fn run(report: Report) -> Result<()> {
    let home = root().join(".onnxruntime");
    if let Some(own) = own(&home) {
        if !own.is_file() {
            bail!(
                "`ORT_DYLIB_PATH` is `{}`, which is no file: set it to the path of {LIBRARY}, or unset it",
                own.display()
            );
        }
        if report == Report::Always {
            println!("ONNX Runtime: yours, {} (`ORT_DYLIB_PATH`)", own.display());
        }
        return Ok(());
    }
    if is_whole(&home) {
        if report == Report::Always {
            println!("ONNX Runtime {VERSION} is ready in .onnxruntime/");
        }
        return Ok(());
    }
    host::platform()?;
    host::pip()?;
    let _lock = lock::wait(root(), || println!("another setup is at work here: waiting for it"))
        .context("cannot lock the workspace")?;
    // Checked again: another setup may have installed it meanwhile.
    if is_whole(&home) { Ok(()) } else { install(&home) }
}

/// The user's own library, if `ORT_DYLIB_PATH` names another than the one that is installed here.
fn own(home: &Path) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os("ORT_DYLIB_PATH")?);
    (!path.as_os_str().is_empty() && path != home.join(LIBRARY)).then_some(path)
}

fn is_whole(home: &Path) -> bool {
    stamp(&home.join(LIBRARY)).is_some_and(|wanted| {
        fs::read_to_string(home.join(STAMP)).is_ok_and(|stamp| stamp == wanted)
    })
}

/// The stamp of a library; `None` if it is not there.
fn stamp(library: &Path) -> Option<String> {
    let size = library.metadata().ok()?.len();
    Some(format!("onnxruntime {VERSION} {size}\n"))
}

fn install(home: &Path) -> Result<()> {
    println!("installing ONNX Runtime {VERSION} from PyPI into .onnxruntime/: takes 35 MB of disk");
    let work = Work::begin(home)?;
    let (wheel, new) = (work.folder("wheel")?, work.folder("new")?);
    let mut pip = pip_install(&wheel, &work.folder("tmp")?);
    any_python(&mut pip);
    let package = format!("onnxruntime=={VERSION}");
    carry_out(pip.arg("--no-deps").arg(&package), &package)?;

    let library = new.join(LIBRARY);
    let name = format!("{LIBRARY}.{VERSION}");
    fs::rename(wheel.join("onnxruntime/capi").join(&name), &library)
        .with_context(|| format!("the wheel of {package} has no {name}"))?;
    for text in ["LICENSE", "ThirdPartyNotices.txt"] {
        fs::rename(wheel.join("onnxruntime").join(text), new.join(text))
            .with_context(|| format!("the wheel of {package} has no {text}"))?;
    }
    let stamp = stamp(&library).with_context(|| format!("cannot read {}", library.display()))?;
    fs::write(new.join(STAMP), stamp)
        .with_context(|| format!("cannot write to {}", new.display()))?;
    if home.symlink_metadata().is_ok() {
        fs::rename(home, work.path().join("old"))
            .with_context(|| format!("cannot move {} away", home.display()))?;
    }
    fs::rename(&new, home)
        .with_context(|| format!("cannot move ONNX Runtime to {}", home.display()))?;
    let size = home.join(LIBRARY).metadata().map_or(0, |file| file.len());
    println!("ONNX Runtime {VERSION} is ready: {}", spell_size(size));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_or_damaged_install_is_not_whole() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        assert!(!is_whole(home));
        fs::write(home.join(LIBRARY), "library").unwrap();
        assert!(!is_whole(home));
        fs::write(home.join(STAMP), format!("onnxruntime {VERSION} 7\n")).unwrap();
        assert!(is_whole(home));
        fs::write(home.join(LIBRARY), "half").unwrap();
        assert!(!is_whole(home));
        fs::write(home.join(LIBRARY), "library").unwrap();
        fs::write(home.join(STAMP), "onnxruntime 1.0.0 7\n").unwrap();
        assert!(!is_whole(home));
    }
}
