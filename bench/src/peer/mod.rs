//! PyTorch's side: a Python process that reads requests, one line each, and answers them.

mod protocol;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use tch::Device;

pub use protocol::{Done, Greeting, Input, Model, Request, Seconds};

const SCRIPT: &str = include_str!("../../python/peer.py");

/// The packages that the script imports.
const PACKAGES: &str = "torch, torchvision, torch-pruning, safetensors and numpy";

/// The Python process, which ends when this value is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// The standard error of the process; its last lines say why the process ended.
    errors: File,
}

impl Peer {
    /// Starts `python` and sends it the number of threads and the device. The Python needs torch,
    /// torchvision, torch-pruning, safetensors and numpy.
    ///
    /// # Errors
    /// The process does not start, a package is missing, or there is no such device.
    pub fn start(python: &Path, threads: i32, device: Device) -> Result<(Self, Greeting)> {
        let errors = tempfile::tempfile()?;
        let mut command = Command::new(python);
        command
            .args(["-c", SCRIPT])
            .env("OMP_NUM_THREADS", threads.to_string())
            .env("NVIDIA_TF32_OVERRIDE", "0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors.try_clone()?);
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", python.display()))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{} has no pipes", python.display())
        };
        let mut peer =
            Self { child, requests: Some(requests), answers: BufReader::new(answers), errors };
        let greeting = peer.ask(&Request::Hello { threads, device: protocol::device(device) });
        let needs =
            || format!("{} needs {PACKAGES}: `cargo xtask bench` installs them", python.display());
        let greeting = greeting.with_context(needs)?;
        Ok((peer, greeting))
    }

    /// Sends a request, and waits for its answer.
    ///
    /// # Errors
    /// An error on the other side, or the end of its process.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        let mut answer = String::new();
        let sent = self.requests.as_mut().is_some_and(|requests| {
            requests.write_all(line.as_bytes()).and_then(|()| requests.flush()).is_ok()
        });
        if !sent || self.answers.read_line(&mut answer)? == 0 {
            bail!("PyTorch's side has ended{}", self.last_words());
        }
        protocol::answer(&answer).with_context(|| format!("PyTorch's side, asked to {request}"))
    }

    fn last_words(&mut self) -> String {
        let mut text = String::new();
        // If the text cannot be read, it is left out: the end of the process is the error to
        // report.
        let _ = self.errors.rewind().and_then(|()| self.errors.read_to_string(&mut text));
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(5)..].iter().map(|line| format!("\n  {line}")).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The process ends by itself at the end of its input, but not while it computes.
        self.requests = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(python: &str) -> String {
        match Peer::start(Path::new(python), 1, Device::Cpu) {
            Ok(_) => "it started".into(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn a_python_that_is_none() {
        assert_eq!(
            start("/nowhere/python3"),
            "cannot start /nowhere/python3: No such file or directory (os error 2)"
        );
        // The program `true` reads no line, and ends.
        assert_eq!(
            start("true"),
            "true needs torch, torchvision, torch-pruning, safetensors and numpy: `cargo xtask bench` installs them: PyTorch's side has ended"
        );
    }
}
