//! Compiles the programs of a bundle, and reads from cargo's messages which there are.

use crate::source::cargo;
use crate::workspace::root;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Tells build scripts (`slim-runtime/build.rs`) that programs are run with another libtorch than
/// the one they are linked with.
const VARIABLE: &str = "SLIM_BUNDLE";

/// The packages whose unit tests are bundled. Not bundled are slim-derive, slim-ui-tests and xtask,
/// which do not use libtorch, and doctests, since cargo keeps no programs of them.
const UNIT_TESTS: [&str; 4] = ["--package", "slim-runtime", "--package", "slim-cli"];
const INTEGRATION_TESTS: [&str; 6] =
    ["--package", "slim-cli", "--package", "slim-tests", "--package", "slim-hostile-tests"];

/// The role of a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// A test, which runs in the folder of its package in the workspace.
    Test { package: PathBuf },
    /// A program that tests run.
    Helper,
    /// A program that is run by hand.
    Bench,
}

impl Role {
    /// The folder in a bundle for programs of this role.
    pub(super) fn folder(&self) -> &'static str {
        match self {
            Self::Test { .. } => "tests",
            Self::Helper | Self::Bench => "bin",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// The name, unique in the program's folder.
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) file: PathBuf,
}

/// Compiles the tests, and the programs that they run.
pub(super) fn tests() -> Result<Vec<Program>> {
    let profile = ["test", "--no-run", "--profile", "bundle"];
    let mut programs = programs(cargo(profile.iter().chain(&UNIT_TESTS).chain(&["--lib"])))?;
    programs.extend(self::programs(cargo(
        profile.iter().chain(&INTEGRATION_TESTS).chain(&["--test", "*"]),
    ))?);
    distinct(programs)
}

/// Compiles the programs of slim-bench, optimised.
pub(super) fn benches() -> Result<Vec<Program>> {
    let programs = programs(cargo(["build", "--release", "--package", "slim-bench", "--bins"]))?;
    distinct(programs.into_iter().map(|program| Program { role: Role::Bench, ..program }).collect())
}

fn programs(mut command: Command) -> Result<Vec<Program>> {
    command.args(["--message-format", "json-render-diagnostics"]).env(VARIABLE, "1");
    let done = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo does not run")?;
    ensure!(done.status.success(), "cargo could not compile the programs, for the reasons above");
    let text = String::from_utf8(done.stdout).context("cargo's messages are no UTF-8")?;
    text.lines().filter_map(|line| program(line, root()).transpose()).collect()
}

/// Sorts programs by folder and name, and removes duplicates, which come from programs that are
/// built for several packages. Two different programs of one name in a folder are an error.
fn distinct(programs: Vec<Program>) -> Result<Vec<Program>> {
    let mut by_name = BTreeMap::new();
    for program in programs {
        if let Some(other) =
            by_name.insert((program.role.folder(), program.name.clone()), program.clone())
            && other != program
        {
            bail!(
                "two programs are to be `{}/{}`: {} and {}",
                program.role.folder(),
                program.name,
                other.file.display(),
                program.file.display()
            );
        }
    }
    Ok(by_name.into_values().collect())
}

/// A message of cargo, one line each. Only messages about artifacts are used.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// The program that a message of cargo reports; `None` if the message reports no program.
fn program(line: &str, root: &Path) -> Result<Option<Program>> {
    let message: Message = serde_json::from_str(line)
        .with_context(|| format!("cargo says what is no message: {line}"))?;
    if message.reason != "compiler-artifact" {
        return Ok(None);
    }
    let (Some(target), Some(profile), Some(manifest)) =
        (message.target, message.profile, message.manifest_path)
    else {
        bail!("cargo names an artifact without its package: {line}");
    };
    let Some(file) = message.executable else { return Ok(None) };
    let is = |kind: &str| target.kind.iter().any(|other| other == kind);
    let folder = manifest
        .parent()
        .and_then(|folder| folder.strip_prefix(root).ok())
        .context("a program of another workspace")?;
    Ok(match profile.test {
        true => {
            // Unit tests have the name of their crate.
            let name = if is("test") { target.name } else { format!("{}-unit", target.name) };
            Some(Program { name, role: Role::Test { package: folder.into() }, file })
        }
        false if is("bin") => Some(Program { name: target.name, role: Role::Helper, file }),
        false => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, test: bool, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"x","manifest_path":"/ws/tests/Cargo.toml","target":{{"kind":["{kind}"],"crate_types":["bin"],"name":"suite","src_path":"/"}},"profile":{{"opt_level":"s","test":{test}}},"features":[],"filenames":[],"executable":{executable},"fresh":true}}"#
        )
    }

    #[test]
    fn programs_are_told_from_the_rest() -> Result<()> {
        let of = |line: &str| program(line, Path::new("/ws"));
        let test = Role::Test { package: "tests".into() };
        let expected =
            |name: &str, role| Some(Program { name: name.into(), role, file: "/t/suite-1".into() });
        assert_eq!(of(&line("test", true, "\"/t/suite-1\""))?, expected("suite", test.clone()));
        assert_eq!(of(&line("lib", true, "\"/t/suite-1\""))?, expected("suite-unit", test));
        assert_eq!(of(&line("bin", false, "\"/t/suite-1\""))?, expected("suite", Role::Helper));
        assert_eq!(of(&line("custom-build", false, "\"/t/suite-1\""))?, None);
        assert_eq!(of(&line("lib", false, "null"))?, None);
        assert_eq!(of(r#"{"reason":"build-finished","success":true}"#)?, None);
        assert!(of("warning: something").is_err());
        assert!(program(&line("test", true, "\"/t/suite-1\""), Path::new("/elsewhere")).is_err());
        Ok(())
    }

    #[test]
    fn names_are_distinct() -> Result<()> {
        let program =
            |file: &str| Program { name: "train".into(), role: Role::Helper, file: file.into() };
        assert_eq!(distinct(vec![program("a"), program("a")])?, [program("a")]);
        let test = Program { role: Role::Test { package: "examples".into() }, ..program("b") };
        assert_eq!(distinct(vec![program("a"), test.clone()])?, [program("a"), test]);
        let refused = distinct(vec![program("a"), program("b")]).map_err(|error| error.to_string());
        assert_eq!(refused, Err("two programs are to be `bin/train`: a and b".into()));
        Ok(())
    }
}
