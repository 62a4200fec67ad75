//! `slim prune`, `slim iterate`, `slim sensitivity` and `slim search`: the files that they write,
//! their output, and their errors.

mod choices;
mod disk;
mod hostile;
mod measured;
mod oracle;
mod passes;
mod refusals;
mod search;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use slim_runtime::{Plan, checkpoint};
use tch::Tensor;

use crate::slim;

const PRUNE: &str = "prune";
const ITERATE: &str = "iterate";

/// A file that PyTorch or the reference wrote.
fn fixture(name: &str) -> PathBuf {
    crate::fixture("checkpoints").join(name)
}

/// Options for the VGG among these files. Its widths are not those of its depth, so users have to
/// give them.
const CFG: &str = "--arch vgg --depth 11 --cfg [8,'M',8,'M',8,8,'M',12,12,'M',12,12]";

/// The files that `prune` writes.
const FILES: [&str; 4] = ["plan.json", "prune.txt", "pruned.safetensors", "report.html"];

/// A folder that commands are run in.
struct Folder(tempfile::TempDir);

/// Exit code and output of a command.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Folder {
    /// A folder with some of the fixtures.
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

    /// A command, whose arguments are separated by spaces.
    fn command(&self, name: &str, line: &str) -> Command {
        let mut command = slim(name);
        command.current_dir(&self.0).args(line.split_whitespace()).args([
            "--no-cuda",
            "--threads",
            "1",
        ]);
        // Threads that wait for each other would slow down the tests that run at the same time.
        command.stdin(Stdio::null()).env("OMP_NUM_THREADS", "1");
        command
    }

    fn run(&self, name: &str, line: &str) -> Said {
        Said::by(&mut self.command(name, line))
    }

    /// Output of `prune`, which has to succeed and to print nothing on standard error.
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

    /// Names of the files in a folder, including hidden ones.
    fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Contents of the files that `prune` has written into a folder.
    fn written(&self, name: &str) -> Vec<Vec<u8>> {
        FILES.map(|file| fs::read(self.path(name).join(file)).unwrap()).to_vec()
    }
}

impl Said {
    fn by(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        // If a signal ended the process, the code that shells report.
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
