//! Results of each epoch, in a file for plots: one JSON object per line.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::GammaStats;

/// Results of an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The epoch, from 0.
    pub epoch: usize,
    /// Its learning rate.
    pub lr: f64,
    /// Mean loss of the training images, during the epoch: the cross entropy, with a teacher its
    /// sum with the distillation.
    pub train_loss: f64,
    /// Accuracy on the training images during the epoch, in percent.
    pub train_accuracy: f64,
    /// Mean cross entropy of the test images after the epoch.
    pub test_loss: f64,
    /// Accuracy on the test images after the epoch, in percent.
    pub test_accuracy: f64,
    /// Training time in seconds, without testing.
    pub seconds: f64,
    /// Training images per second.
    pub images_per_second: f64,
    /// γ after the epoch; `None` for a network without γ.
    pub gamma: Option<GammaStats>,
}

/// Reads a file of metrics.
///
/// # Errors
/// A file that cannot be read, or a line that is not the record of an epoch.
pub fn read_metrics(path: &Path) -> Result<Vec<Record>> {
    let lines =
        BufReader::new(File::open(path).with_context(|| path.display().to_string())?).lines();
    let record = |(index, line): (usize, std::io::Result<String>)| {
        let record =
            line.map_err(anyhow::Error::from).and_then(|line| Ok(serde_json::from_str(&line)?));
        record.with_context(|| format!("{}, line {}", path.display(), index + 1))
    };
    lines.enumerate().map(record).collect()
}

/// A file to which records of epochs are added.
#[derive(Debug)]
pub(super) struct Metrics {
    path: PathBuf,
    file: File,
    /// Position of the first line to write. The lines after it are cut off only when that line is
    /// written: until then, they belong to a checkpoint beside the file.
    end: Option<u64>,
}

/// The field that a line must have to be kept.
#[derive(Deserialize)]
struct Line {
    epoch: usize,
}

impl Metrics {
    /// Opens a file. The first record that is written replaces the records of epoch `first` and
    /// later epochs, since these are trained again.
    ///
    /// # Errors
    /// A file that cannot be written, or that holds something else.
    pub(super) fn open(path: PathBuf, first: usize) -> Result<Self> {
        let open = || -> Result<(File, u64)> {
            let mut file =
                File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            let end = end_of(&mut file, first)?;
            Ok((file, end))
        };
        let (file, end) = open().with_context(|| path.display().to_string())?;
        Ok(Self { path, file, end: Some(end) })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// Errors of the operating system.
    pub(super) fn add(&mut self, record: &Record) -> Result<()> {
        // Write the line in one piece, so that readers see whole lines.
        let line = serde_json::to_string(record)? + "\n";
        self.write(line.as_bytes()).with_context(|| self.path.display().to_string())
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        if let Some(end) = self.end.take() {
            self.file.set_len(end)?;
            self.file.seek(SeekFrom::Start(end))?;
        }
        self.file.write_all(line)?;
        self.file.sync_data()
    }
}

/// Where the lines of the epochs before `first` end, in bytes.
fn end_of(file: &mut File, first: usize) -> Result<u64> {
    let mut lines = BufReader::new(file);
    let (mut end, mut number) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        let length = lines.read_until(b'\n', &mut line)?;
        // A line without a newline was cut off when the process was killed.
        if length == 0 || line.last() != Some(&b'\n') {
            return Ok(end);
        }
        match serde_json::from_slice::<Line>(&line) {
            Ok(Line { epoch }) if epoch < first => end += length as u64,
            Ok(_) => return Ok(end),
            Err(error) => {
                bail!(
                    "line {number} does not describe an epoch ({error}), so the file is another program's: move it away, or save elsewhere"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: usize) -> Record {
        Record {
            epoch,
            lr: 0.1,
            train_loss: 1.5,
            train_accuracy: 50.,
            test_loss: 1.25,
            test_accuracy: 55.5,
            seconds: 2.,
            images_per_second: 700.,
            gamma: None,
        }
    }

    #[test]
    fn epochs_that_come_again_are_cut_off_and_so_is_half_a_line() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(path.clone(), 0)?;
        (0..4).try_for_each(|epoch| metrics.add(&record(epoch)))?;
        metrics.file.write_all(b"{\"epoch\": 4, \"lr\"")?;
        let mut metrics = Metrics::open(path.clone(), 2)?;
        metrics.add(&Record { lr: 0.01, ..record(2) })?;
        assert_eq!(read_metrics(&path)?, [record(0), record(1), Record { lr: 0.01, ..record(2) }]);
        // A new run replaces the records only when it writes its first one.
        let mut metrics = Metrics::open(path.clone(), 0)?;
        assert_eq!(read_metrics(&path)?.len(), 3);
        metrics.add(&record(0))?;
        assert_eq!(read_metrics(&path)?, [record(0)]);
        Ok(())
    }

    #[test]
    fn another_programs_file_is_left_alone() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "loss,accuracy\n1,2\n")?;
        let error = Metrics::open(path.clone(), 0).err().context("it was opened")?;
        assert!(format!("{error:#}").contains("line 1 does not describe an epoch"), "{error:#}");
        assert_eq!(std::fs::read_to_string(&path)?, "loss,accuracy\n1,2\n");
        Ok(())
    }
}
