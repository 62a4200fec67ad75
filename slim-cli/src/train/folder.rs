//! Options for the files that training reads and writes. No file of another run is overwritten.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;

use super::checkpoint::{BEST, CHECKPOINT, job_of};
use crate::files::is_same;

/// The options of a program that trains, for its files.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Files")]
pub struct FileOptions {
    /// Fine-tune the network in this file, pruned or not
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub refine: Option<PathBuf>,
    /// Go on from this checkpoint, in its folder. Options that contradict it are errors, but for
    /// --epochs, whose new value sets the schedule of the epochs left
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Folder for what is written, without a checkpoint of another run [default: logs; with
    /// --resume, where the file is]
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
}

impl FileOptions {
    /// The options of processes that a launcher has started again: if the folder has a checkpoint
    /// of this job, training goes on from it, whatever it began with.
    ///
    /// # Errors
    /// A checkpoint that cannot be read.
    pub fn of_job(&self, job: Option<&str>) -> Result<Self> {
        let checkpoint = self.wanted_folder().join(CHECKPOINT);
        let is_own = match job {
            Some(job) if checkpoint.exists() => job_of(&checkpoint)?.as_deref() == Some(job),
            _ => false,
        };
        let resumed = || Self { refine: None, resume: Some(checkpoint), save: self.save.clone() };
        Ok(if is_own { resumed() } else { self.clone() })
    }

    /// The folder for output files, which may have those of another run.
    fn wanted_folder(&self) -> PathBuf {
        let beside = || self.resume.as_deref().map(folder_of);
        self.save.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("logs"))
    }

    /// The folder for output files.
    ///
    /// # Errors
    /// A folder in which training would overwrite the files of another run or the file that it
    /// reads; when training resumes, another folder than the checkpoint's.
    pub fn folder(&self) -> Result<PathBuf> {
        let beside = self.resume.as_deref().map(folder_of);
        let folder = self.wanted_folder();
        if let Some(beside) = beside {
            ensure!(
                is_same(&beside, &folder),
                "training goes on in {}, where the best network and the metrics are, and not in {}: leave out --save, or go on from a copy of the folder",
                beside.display(),
                folder.display()
            );
        }

        let read =
            |file: &Path| self.refine.iter().chain(&self.resume).any(|read| is_same(read, file));
        let (checkpoint, best) = (folder.join(CHECKPOINT), folder.join(BEST));
        if self.resume.is_some() && read(&checkpoint) {
            return Ok(folder);
        }
        for file in [&checkpoint, &best] {
            ensure!(
                !read(file),
                "training would overwrite {}, which it reads: save into another folder (--save)",
                file.display()
            );
        }
        ensure!(
            !checkpoint.exists(),
            "{} is of another run: go on from it (--resume), save into another folder (--save), or move it away",
            checkpoint.display()
        );
        Ok(folder)
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The result of the options in a folder that has files of these names.
    fn folder(files: &[&str], options: impl Fn(&Path) -> FileOptions) -> Result<String> {
        let there = tempfile::tempdir()?;
        fs::create_dir(there.path().join("logs"))?;
        files.iter().try_for_each(|file| fs::write(there.path().join(file), ""))?;
        let text = match options(there.path()).folder() {
            Ok(folder) => folder.display().to_string(),
            Err(error) => format!("error: {error:#}"),
        };
        Ok(text.replace(&there.path().display().to_string(), "."))
    }

    fn fresh(save: &str) -> impl Fn(&Path) -> FileOptions {
        move |there| FileOptions { save: Some(there.join(save)), ..FileOptions::default() }
    }

    fn refine(file: &str, save: &str) -> impl Fn(&Path) -> FileOptions {
        move |there| FileOptions {
            refine: Some(there.join(file)),
            save: Some(there.join(save)),
            ..FileOptions::default()
        }
    }

    fn resume(file: &str, save: Option<&str>) -> impl Fn(&Path) -> FileOptions {
        move |there| FileOptions {
            resume: Some(there.join(file)),
            save: save.map(|save| there.join(save)),
            ..FileOptions::default()
        }
    }

    #[test]
    fn a_folder_is_a_runs_own() -> Result<()> {
        let run =
            ["logs/checkpoint.safetensors", "logs/model_best.safetensors", "logs/metrics.jsonl"];
        let texts = [
            folder(&[], fresh("logs"))?,
            folder(&[], fresh("new"))?,
            // Files of a run that was killed in its first epoch.
            folder(&run[1..], fresh("logs"))?,
            folder(&run, fresh("logs"))?,
            folder(&run, refine("logs/model_best.safetensors", "new"))?,
            folder(&run, refine("logs/model_best.safetensors", "logs"))?,
            folder(&run[1..2], refine("logs/model_best.safetensors", "logs/../logs"))?,
            folder(&run, refine("logs/checkpoint.safetensors", "logs"))?,
            folder(&["logs/pruned.safetensors"], refine("logs/pruned.safetensors", "logs"))?,
            folder(&run, resume("logs/checkpoint.safetensors", None))?,
            folder(&run, resume("logs/checkpoint.safetensors", Some("logs/.")))?,
            folder(&run, resume("logs/checkpoint.safetensors", Some("new")))?,
            folder(&["logs/earlier.safetensors"], resume("logs/earlier.safetensors", None))?,
            folder(
                &["logs/earlier.safetensors", run[0]],
                resume("logs/earlier.safetensors", None),
            )?,
        ];
        insta::assert_snapshot!(texts.join("\n"), @r"
        ./logs
        ./new
        ./logs
        error: ./logs/checkpoint.safetensors is of another run: go on from it (--resume), save into another folder (--save), or move it away
        ./new
        error: training would overwrite ./logs/model_best.safetensors, which it reads: save into another folder (--save)
        error: training would overwrite ./logs/../logs/model_best.safetensors, which it reads: save into another folder (--save)
        error: training would overwrite ./logs/checkpoint.safetensors, which it reads: save into another folder (--save)
        ./logs
        ./logs
        ./logs/.
        error: training goes on in ./logs, where the best network and the metrics are, and not in ./new: leave out --save, or go on from a copy of the folder
        ./logs
        error: ./logs/checkpoint.safetensors is of another run: go on from it (--resume), save into another folder (--save), or move it away
        ");
        Ok(())
    }

    #[test]
    fn without_options_it_is_logs_and_beside_a_file_the_folder_of_that() -> Result<()> {
        assert_eq!(folder_of(Path::new("checkpoint.safetensors")), Path::new("."));
        assert_eq!(
            folder_of(Path::new("logs/sparse/checkpoint.safetensors")),
            Path::new("logs/sparse")
        );
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_what_is_written_is_what_is_written() -> Result<()> {
        let there = tempfile::tempdir()?;
        let (best, link) = (there.path().join(BEST), there.path().join("link.safetensors"));
        fs::write(&best, "")?;
        std::os::unix::fs::symlink(&best, &link)?;
        let options = FileOptions {
            refine: Some(link),
            save: Some(there.path().to_owned()),
            ..FileOptions::default()
        };
        assert!(
            options
                .folder()
                .is_err_and(|error| error.to_string().starts_with("training would overwrite "))
        );
        Ok(())
    }
}
