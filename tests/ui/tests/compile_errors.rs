//! The compiler's errors for a wrong struct: each case in `cases/`, next to the text that a user
//! reads.
//!
//! The texts are exact. Lines of rustc, unlike those of the derive, differ from version to version,
//! so cases with such lines are compared only on the rustc in `rustc-version`. The derive's own
//! messages and their places are compared on any rustc, here and in `slim-derive`'s tests.
//!
//! To write the texts again, run `TRYBUILD=overwrite cargo test -p slim-ui-tests` and update
//! `rustc-version`.

#![allow(clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn compile_errors_teach() {
    let cases = trybuild::TestCases::new();
    let written_with = include_str!("../rustc-version").trim();
    for case in files("rs") {
        if rustc_version() == written_with || is_ours(&case) {
            cases.compile_fail(case);
        }
    }
}

#[test]
fn no_text_is_left_without_its_case() {
    for text in files("stderr") {
        assert!(text.with_extension("rs").exists(), "{} has no case", text.display());
    }
}

/// Whether every error of a case is the derive's own: such errors have no code.
fn is_ours(case: &Path) -> bool {
    let text = std::fs::read_to_string(case.with_extension("stderr")).unwrap_or_default();
    !text.contains("error[E")
}

fn files(extension: &str) -> Vec<PathBuf> {
    let folders = Path::new("cases").read_dir().expect("cases are there");
    let files = folders
        .flat_map(|folder| folder.expect("can be read").path().read_dir().expect("is a folder"));
    let mut files: Vec<_> = files
        .map(|file| file.expect("can be read").path())
        .filter(|file| file.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// The version of rustc, such as `1.95.0`.
fn rustc_version() -> String {
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("--version")
        .output()
        .expect("rustc runs");
    String::from_utf8_lossy(&output.stdout).split(' ').nth(1).unwrap_or_default().to_owned()
}
