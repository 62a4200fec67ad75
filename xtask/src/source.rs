//! Which libtorch programs are linked with, and how to call cargo so that it uses that libtorch.

use crate::workspace::root;
use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// A command for the cargo that runs this program, in the workspace's root.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args).current_dir(root());
    // The build of torch-sys depends on these variables. Child processes must see the same values
    // as plain cargo, for which `.cargo/config.toml` sets `LIBTORCH`: if a value changes, torch-sys
    // is compiled again, which takes minutes.
    let source = Source::of_this_process();
    if source != Source::Python {
        cargo.env_remove("LIBTORCH_USE_PYTORCH");
    }
    if source == Source::Managed {
        cargo.env_remove("LIBTORCH");
    }
    cargo
}

/// The origin of the libtorch that programs are linked with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `.libtorch/`, kept by this program.
    Managed,
    /// The user's own `LIBTORCH`.
    Folder(PathBuf),
    /// The user's own `LIBTORCH_USE_PYTORCH`.
    Python,
}

impl Source {
    pub(crate) fn of_this_process() -> Self {
        Self::choose(
            env::var_os("LIBTORCH").as_deref(),
            env::var_os("LIBTORCH_USE_PYTORCH").as_deref(),
            &home().join("torch"),
        )
    }

    /// Chooses like torch-sys, where `LIBTORCH_USE_PYTORCH` wins whatever its value, except that an
    /// empty variable counts as unset. Cargo sets `LIBTORCH` to `managed` if the user does not set
    /// it.
    fn choose(libtorch: Option<&OsStr>, use_pytorch: Option<&OsStr>, managed: &Path) -> Self {
        if use_pytorch.is_some_and(|value| !value.is_empty()) {
            return Self::Python;
        }
        match libtorch.map(Path::new) {
            Some(path) if !path.as_os_str().is_empty() && !same(path, managed) => {
                Self::Folder(path.into())
            }
            _ => Self::Managed,
        }
    }
}

/// Whether two paths are the same folder, also through links.
fn same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

pub(crate) fn home() -> PathBuf {
    root().join(".libtorch")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_the_user_wins() {
        let managed = Path::new("/ws/.libtorch/torch");
        let choose = |libtorch: Option<&str>, python: Option<&str>| {
            Source::choose(libtorch.map(OsStr::new), python.map(OsStr::new), managed)
        };
        assert_eq!(choose(None, None), Source::Managed);
        assert_eq!(choose(Some("/ws/.libtorch/torch"), None), Source::Managed);
        assert_eq!(choose(Some("/ws/.libtorch/torch/"), None), Source::Managed);
        assert_eq!(choose(Some("/opt/libtorch"), None), Source::Folder("/opt/libtorch".into()));
        assert_eq!(choose(Some("/ws/.libtorch/torch"), Some("1")), Source::Python);
        assert_eq!(choose(Some("/opt/libtorch"), Some("1")), Source::Python);
        assert_eq!(choose(Some(""), Some("")), Source::Managed);
        assert_eq!(choose(Some("/opt/libtorch"), Some("")), Source::Folder("/opt/libtorch".into()));
    }
}
