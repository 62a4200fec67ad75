//! The programs `prune` and `iterate` as their users run them: what they write, what they print,
//! and what they refuse.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod choices;
mod disk;
mod hostile;
mod measured;
mod oracle;
mod passes;
mod refusals;
mod words;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use slim_runtime::{Plan, checkpoint};
use tch::Tensor;

const PRUNE: &str = "prune";
const ITERATE: &str = "iterate";

/// Where a program is.
fn program(name: &str) -> OsString {
    let compiled =
        if name == PRUNE { env!("CARGO_BIN_EXE_prune") } else { env!("CARGO_BIN_EXE_iterate") };
    slim_tests::place::program(name, compiled)
}

/// A file that PyTorch or the reference has left.
fn fixture(name: &str) -> PathBuf {
    slim_tests::place::path("fixtures/checkpoints").join(name)
}

/// Of the VGG among them, whose widths a user has to say, since they are not those of its depth.
const CFG: &str = "--arch vgg --depth 11 --cfg [8,'M',8,'M',8,8,'M',12,12,'M',12,12]";

/// What `prune` writes.
const FILES: [&str; 4] = ["plan.json", "prune.txt", "pruned.safetensors", "report.html"];

/// A folder, which programs are run in.
struct Folder(tempfile::TempDir);

/// What a program has said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Folder {
    /// With some of the fixtures.
    fn with(fixtures: &[&str]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for name in fixtures {
            fs::copy(fixture(name), folder.path(name)).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program, with words parted by spaces.
    fn command(&self, name: &str, line: &str) -> Command {
        let mut command = Command::new(program(name));
        command.current_dir(&self.0).args(line.split_whitespace()).args([
            "--no-cuda",
            "--threads",
            "1",
        ]);
        // Threads that wait for each other take the time of tests beside this one.
        command.stdin(Stdio::null()).env("OMP_NUM_THREADS", "1");
        command
    }

    fn run(&self, name: &str, line: &str) -> Said {
        Said::by(&mut self.command(name, line))
    }

    /// What `prune` prints, which has to succeed, and to say nothing on standard error.
    fn prune(&self, line: &str) -> String {
        let said = self.run(PRUNE, line);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{line}");
        said.out
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn plan(&self, name: &str) -> Plan {
        Plan::from_json(&self.text(name)).unwrap()
    }

    /// The names of files in a folder, those that are hidden too.
    fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The bytes of what `prune` has written into a folder.
    fn written(&self, name: &str) -> Vec<Vec<u8>> {
        FILES.map(|file| fs::read(self.path(name).join(file)).unwrap()).to_vec()
    }
}

impl Said {
    fn by(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        // Where a signal has ended it, as shells say it.
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        let code = output.status.code().or(signal.map(|signal| 128 + signal)).unwrap();
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The tensors of a safetensors file, to the bit.
fn bits(file: &Path) -> BTreeMap<String, (Vec<i64>, Vec<u64>)> {
    let bits = |tensor: Tensor| {
        let values =
            Vec::<f64>::try_from(tensor.flatten(0, -1).to_kind(tch::Kind::Double)).unwrap();
        (tensor.size(), values.into_iter().map(f64::to_bits).collect())
    };
    checkpoint::tensors(file)
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| (name, bits(tensor)))
        .collect()
}
