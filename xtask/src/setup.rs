//! Decides which libtorch is used, and whether one must be installed.

use crate::{
    host,
    install::install,
    libtorch::{Flavour, State, VERSION, inspect},
    lock,
    source::{Source, home},
    workspace::root,
};
use anyhow::{Context, Result, bail};
use std::{env, fs, path::Path};

/// When to report that there is nothing to install.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    Always,
    /// Never, since setup is only the first step of another task.
    IfNews,
}

/// Makes sure that there is a libtorch to compile and link with.
pub(crate) fn run(cuda: bool, report: Report) -> Result<()> {
    for variable in ["LIBTORCH", "LIBTORCH_USE_PYTORCH"] {
        if env::var_os(variable).is_some_and(|value| value.is_empty()) {
            eprintln!(
                "note: `{variable}` is empty and ignored here; plain cargo takes it for set: `unset {variable}`"
            );
        }
    }
    let source = Source::of_this_process();
    if source == Source::Managed {
        host::platform()?;
    }
    host::compiler()?;
    match source {
        Source::Managed => managed(cuda, report),
        Source::Folder(path) => {
            let version = own(&path)?;
            println!("libtorch{version}: yours in {} (`LIBTORCH`)", path.display());
            Ok(())
        }
        Source::Python => {
            let version = host::torch_in_python()?;
            expect_version(&version, "LIBTORCH_USE_PYTORCH")?;
            println!("libtorch {version}: yours in Python (`LIBTORCH_USE_PYTORCH`)");
            Ok(())
        }
    }
}

fn managed(cuda: bool, report: Report) -> Result<()> {
    let wish = || if cuda || host::nvidia_driver() { Flavour::Full } else { Flavour::Lean };
    let ready = |flavour| {
        if report == Report::Always {
            println!("libtorch {VERSION}, {flavour}, is ready in .libtorch/");
        }
        Ok(())
    };
    let home = home();
    if let Plan::Ready(flavour) = plan(inspect(&home), wish) {
        return ready(flavour);
    }
    host::pip()?;
    let _lock = lock::wait(root(), || println!("another setup is at work here: waiting for it"))
        .context("cannot lock the workspace")?;
    // Checked again: another setup may have installed libtorch meanwhile.
    match plan(inspect(&home), wish) {
        Plan::Ready(flavour) => ready(flavour),
        Plan::Install { flavour, why } => {
            if let Some(why) = why {
                println!("the libtorch in .libtorch/ is replaced: {why}");
            }
            install(&home, flavour)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Ready(Flavour),
    /// `why` is the reason, if an earlier install is replaced.
    Install {
        flavour: Flavour,
        why: Option<String>,
    },
}

/// Decides what to do. `wish` is the flavour that the user or this machine asks for; calling it may
/// take a moment.
fn plan(state: State, wish: impl Fn() -> Flavour) -> Plan {
    match state {
        State::Absent => Plan::Install { flavour: wish(), why: None },
        State::Whole(Flavour::Full) => Plan::Ready(Flavour::Full),
        State::Whole(Flavour::Lean) => match wish() {
            Flavour::Lean => Plan::Ready(Flavour::Lean),
            Flavour::Full => {
                Plan::Install { flavour: Flavour::Full, why: Some("it has no CUDA".into()) }
            }
        },
        // If the broken install had CUDA, the new one has it, too.
        State::Broken { was, why } => {
            Plan::Install { flavour: was.unwrap_or(Flavour::Lean).max(wish()), why: Some(why) }
        }
    }
}

/// Checks the user's own libtorch. Returns its version with a space before it, or an empty string
/// if the version is unknown.
fn own(libtorch: &Path) -> Result<String> {
    const LIBRARIES: [&str; 8] = [
        "libtorch.so",
        "libtorch_cpu.so",
        "libtorch.dylib",
        "libtorch_cpu.dylib",
        "torch.lib",
        "torch_cpu.lib",
        "libtorch.a",
        "libtorch_cpu.a",
    ];
    if libtorch.is_relative() {
        bail!(
            "`LIBTORCH` is `{}`: make it an absolute path, builds run in other folders",
            libtorch.display()
        );
    }
    if !LIBRARIES.iter().any(|name| libtorch.join("lib").join(name).exists()) {
        bail!(
            "`LIBTORCH` is `{}`, where there is no lib/{}: set it to the folder of an unpacked libtorch {VERSION}, or unset it",
            libtorch.display(),
            LIBRARIES[if cfg!(target_os = "macos") { 2 } else { 0 }]
        );
    }
    let Some(version) = version_of(libtorch) else { return Ok(String::new()) };
    expect_version(&version, "LIBTORCH")?;
    Ok(format!(" {version}"))
}

/// The version of a libtorch: an archive has it in the file `build-version`, the torch package in
/// `version.py`.
fn version_of(libtorch: &Path) -> Option<String> {
    if let Ok(version) = fs::read_to_string(libtorch.join("build-version")) {
        return Some(version.trim().to_owned());
    }
    let python = fs::read_to_string(libtorch.join("version.py")).ok()?;
    let version = python.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(version.trim_matches(['\'', '"']).to_owned())
}

fn expect_version(version: &str, variable: &str) -> Result<()> {
    let plain = version.split('+').next().unwrap_or(version);
    // torch-sys skips its version check for this variable, too.
    if plain == VERSION || env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some() {
        return Ok(());
    }
    bail!(
        "`{variable}` leads to libtorch {version}, and {VERSION} is needed: install that one, or unset `{variable}`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        use Flavour::{Full, Lean};
        let install =
            |flavour, why: Option<&str>| Plan::Install { flavour, why: why.map(Into::into) };
        let broken = |was| State::Broken { was, why: "dropped".into() };

        assert_eq!(plan(State::Absent, || Lean), install(Lean, None));
        assert_eq!(plan(State::Absent, || Full), install(Full, None));
        assert_eq!(plan(State::Whole(Lean), || Lean), Plan::Ready(Lean));
        assert_eq!(plan(State::Whole(Lean), || Full), install(Full, Some("it has no CUDA")));
        assert_eq!(plan(State::Whole(Full), || Lean), Plan::Ready(Full));
        assert_eq!(plan(State::Whole(Full), || Full), Plan::Ready(Full));
        assert_eq!(plan(broken(None), || Lean), install(Lean, Some("dropped")));
        assert_eq!(plan(broken(Some(Full)), || Lean), install(Full, Some("dropped")));
        assert_eq!(plan(broken(Some(Lean)), || Full), install(Full, Some("dropped")));
    }

    #[test]
    fn own_libtorch_is_checked() -> Result<()> {
        let folder = env::temp_dir().join(format!("slim-xtask-own-{}", std::process::id()));
        let fault = || own(&folder).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(fault().contains("where there is no lib/"), "{}", fault());
        fs::create_dir_all(folder.join("lib"))?;
        fs::write(folder.join("lib/libtorch_cpu.so"), "")?;
        assert_eq!(own(&folder)?, "");
        fs::write(folder.join("version.py"), "debug = False\n__version__ = '2.11.0+cu130'\n")?;
        assert_eq!(own(&folder)?, " 2.11.0+cu130");
        fs::write(folder.join("build-version"), "2.10.0+cpu\n")?;
        assert!(fault().contains("leads to libtorch 2.10.0+cpu"), "{}", fault());
        fs::remove_dir_all(&folder)?;
        assert!(own(Path::new("libtorch")).is_err());
        Ok(())
    }
}
