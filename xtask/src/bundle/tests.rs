//! Tests of the script and the folder, with shell scripts in place of compiled tests.

use super::{RUN, folder};
use anyhow::{Context, Result};
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A temporary bundle with a libtorch, removed when dropped.
struct Bundle(PathBuf);

impl Bundle {
    fn new(name: &str) -> Result<Self> {
        let bundle =
            Self(env::temp_dir().join(format!("slim-xtask-bundle-{name}-{}", std::process::id())));
        for folder in ["tests", "bin", "workspace/tests", "libtorch/lib"] {
            fs::create_dir_all(bundle.0.join(folder))?;
        }
        fs::write(bundle.0.join("libtorch/lib/libtorch_cpu.so"), "")?;
        fs::write(bundle.0.join("tests.txt"), "good tests\nbad tests\n")?;
        bundle.program("run.sh", RUN)?;
        bundle.program("bin/train", "#!/bin/sh\n")?;
        // In a bundle, programs are packed until the script runs.
        assert!(Command::new("gzip").arg(bundle.0.join("bin/train")).status()?.success());
        let said = "test result: ok. 3 passed; 0 failed; 0 ignored";
        bundle.program(
            "tests/good",
            &format!("#!/bin/sh\npwd\nenv\necho \"threads $2\"\necho '{said}'\n"),
        )?;
        bundle.program("tests/bad", "#!/bin/sh\necho 'test a ... ok'\necho 'test b ... FAILED'\necho 'error: no GPU'\nexit 101\n")?;
        Ok(bundle)
    }

    fn program(&self, name: &str, text: &str) -> Result<()> {
        let file = self.0.join(name);
        fs::write(&file, text)?;
        Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o755))?)
    }

    fn run(&self, args: &[&str]) -> Result<Output> {
        let mut run = Command::new(self.0.join("run.sh"));
        // Run from a folder other than the bundle.
        run.args(args)
            .current_dir("/")
            .env("LIBTORCH", self.0.join("libtorch"))
            .env_remove("LD_LIBRARY_PATH");
        run.output().context("the script does not run")
    }

    fn refusal(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        assert_eq!(output.status.code(), Some(2));
        Ok(String::from_utf8(output.stderr)?.replace(&self.0.display().to_string(), "BUNDLE"))
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn programs_find_what_cargo_would_tell_them() -> Result<()> {
    let bundle = Bundle::new("environment")?;
    let output = bundle.run(&["--device", "cpu", "--threads", "2", "good"])?;
    assert!(output.status.success(), "{output:?}");
    let log = fs::read_to_string(bundle.0.join("logs/good.log"))?
        .replace(&bundle.0.display().to_string(), "BUNDLE");
    for line in [
        "BUNDLE/workspace/tests",
        "CARGO_MANIFEST_DIR=BUNDLE/workspace/tests",
        "CARGO_BIN_EXE_train=BUNDLE/bin/train",
        "INSTA_WORKSPACE_ROOT=BUNDLE/workspace",
        "LD_LIBRARY_PATH=BUNDLE/libtorch/lib",
        "NVIDIA_TF32_OVERRIDE=0",
        "SLIM_DEVICE=cpu",
        "threads 2",
    ] {
        assert!(log.lines().any(|found| found == line), "{line} is not in\n{log}");
    }
    assert!(bundle.0.join("bin/train").is_file());
    Ok(())
}

#[test]
fn a_failure_is_named_and_is_the_scripts_own() -> Result<()> {
    let bundle = Bundle::new("failure")?;
    let output = bundle.run(&["--device", "cpu"])?;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout)?.replace(&bundle.0.display().to_string(), "BUNDLE");
    let words: Vec<_> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let [first, good, bad, rest @ ..] = &words[..] else { panic!("{text}") };
    assert_eq!(first, "libtorch in BUNDLE/libtorch, on cpu");
    assert!(good.starts_with("ok good 3 passed; 0 failed "), "{good}");
    assert!(bad.starts_with("FAILED bad ended with code 101 "), "{bad}");
    assert_eq!(
        rest,
        ["test b ... FAILED", "error: no GPU", "1 failed: what they said is in BUNDLE/logs"]
    );
    Ok(())
}

#[test]
fn what_cannot_run_is_refused() -> Result<()> {
    let bundle = Bundle::new("refused")?;
    assert_eq!(
        bundle.refusal(&[])?,
        "error: --device cuda: the libtorch in BUNDLE/libtorch has no CUDA\n"
    );
    assert_eq!(bundle.refusal(&["--device"])?, "error: --device needs a value\n");
    assert_eq!(bundle.refusal(&["--gpu"])?, "error: there is no --gpu: see run.sh --help\n");
    assert_eq!(
        bundle.refusal(&["--libtorch", "/nowhere/at/all"])?,
        "error: there is no folder /nowhere/at/all\n"
    );
    assert_eq!(
        bundle.refusal(&["--libtorch", "/"])?,
        "error: / is no libtorch: it has no lib/libtorch_cpu.so\n"
    );
    assert_eq!(
        bundle.refusal(&["--device", "cpu", "other"])?,
        "error: no test is called other; there are: good bad \n"
    );
    Ok(())
}

#[test]
fn only_a_bundle_is_replaced() -> Result<()> {
    let bundle = Bundle::new("replaced")?;
    folder::clear(&bundle.0)?;
    assert!(!bundle.0.exists());
    folder::clear(&bundle.0)?;
    fs::create_dir_all(&bundle.0)?;
    fs::write(bundle.0.join("thesis.txt"), "years of work")?;
    let refused = folder::clear(&bundle.0).map_err(|error| error.to_string());
    assert_eq!(
        refused,
        Err(format!(
            "--out {}: there is something in it that is no bundle; name another folder",
            bundle.0.display()
        ))
    );
    assert!(Path::new(&bundle.0).join("thesis.txt").exists());
    Ok(())
}
