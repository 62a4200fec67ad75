//! The program `slim` as its users run it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod end_to_end;
mod export;
#[cfg(target_os = "linux")]
mod prune;
mod several;
mod train;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// A file below the workspace's `tests/fixtures`.
fn fixture(name: &str) -> PathBuf {
    // The folder at run time, which may differ from the folder at compile time.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.join("../tests/fixtures").join(name)
}

/// Path of the program. Cargo before 1.94 sets it only at compile time.
fn program() -> OsString {
    std::env::var_os("CARGO_BIN_EXE_slim").unwrap_or_else(|| env!("CARGO_BIN_EXE_slim").into())
}

/// A command of the program.
fn slim(command: &str) -> Command {
    let mut slim = Command::new(program());
    slim.arg(command);
    slim
}

#[test]
fn help_completions_and_mistakes() {
    let said = |arguments: &[&str]| {
        let output =
            Command::new(program()).args(arguments).env("COLUMNS", "100").output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, help, _) = said(&["--help"]);
    assert_eq!(code, 0);
    insta::assert_snapshot!("help", help);
    let (code, script, _) = said(&["completions", "bash"]);
    assert_eq!(code, 0);
    assert!(script.contains("--percent") && script.contains("iterate"), "{script}");
    let (code, _, error) = said(&["prun"]);
    assert_eq!(code, 2);
    assert!(error.contains("'prune'"), "{error}");
}
