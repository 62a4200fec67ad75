//! Missing files of a data set.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::{Context, Result};

/// A data set is missing or incomplete in all searched folders. Programs exit with code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {set} in `{}`: {}expected are {} in {}; {origin}", dir.display(), self.absent(), list(&self.expected), self.places())]
pub struct Missing {
    /// The data set.
    pub set: &'static str,
    /// The folder with the fewest missing files.
    pub dir: PathBuf,
    /// All files of the set.
    pub expected: Vec<&'static str>,
    /// The files that are missing in `dir`.
    pub absent: Vec<&'static str>,
    /// The folders that were searched.
    pub places: Vec<PathBuf>,
    /// Where the files come from, as a clause.
    pub origin: &'static str,
}

impl Missing {
    /// Names the missing files. Empty if all are missing, since the list of expected files is
    /// enough then.
    fn absent(&self) -> String {
        match self.absent.len() {
            all if all == self.expected.len() => String::new(),
            1 => format!("{} is not there; ", list(&self.absent)),
            _ => format!("{} are not there; ", list(&self.absent)),
        }
    }

    fn places(&self) -> String {
        let places: Vec<_> =
            self.places.iter().map(|place| format!("`{}`", place.display())).collect();
        places.join(" or ")
    }
}

fn list<T: fmt::Display>(names: &[T]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// Files of a data set on disk.
#[derive(Debug)]
pub(super) struct Source {
    /// The set's name.
    pub(super) set: &'static str,
    /// The folder that its archive unpacks to.
    pub(super) folder: &'static str,
    /// Its files for training.
    pub(super) train: &'static [&'static str],
    /// Its files for testing.
    pub(super) test: &'static [&'static str],
    /// Where the set comes from, as a clause.
    pub(super) origin: &'static str,
}

impl Source {
    /// Finds the folder that has all files: `dir` itself, or the subfolder that the archive unpacks
    /// to.
    ///
    /// # Errors
    /// [`Missing`], or a folder that cannot be read.
    pub(super) fn find(&self, dir: &Path) -> Result<PathBuf> {
        let expected: Vec<_> = self.train.iter().chain(self.test).copied().collect();
        let places = vec![dir.to_owned(), dir.join(self.folder)];
        let mut best: Option<(Vec<&'static str>, PathBuf)> = None;
        for place in &places {
            let absent = absent(place, &expected)?;
            if absent.is_empty() {
                return Ok(place.clone());
            }
            if best.as_ref().is_none_or(|(fewest, _)| absent.len() < fewest.len()) {
                best = Some((absent, place.clone()));
            }
        }
        let (absent, dir) = best.unwrap_or_default();
        Err(Missing { set: self.set, dir, expected, absent, places, origin: self.origin }.into())
    }
}

/// The files of `names` that are not in `dir`.
pub(super) fn absent(dir: &Path, names: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut absent = Vec::new();
    for name in names {
        let path = dir.join(name);
        match fs::metadata(&path) {
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                absent.push(*name);
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    Ok(absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Source = Source {
        set: "Set",
        folder: "set",
        train: &["a.bin", "b.bin"],
        test: &["c.bin"],
        origin: "it is at https://example.org",
    };

    fn said(dir: &Path) -> String {
        let error = SOURCE.find(dir).expect_err("files are missing").to_string();
        error.replace(&dir.display().to_string(), "data")
    }

    #[test]
    fn files_are_found_in_the_folder_and_in_that_of_the_archive() -> Result<()> {
        for folder in ["", "set"] {
            let dir = tempfile::tempdir()?;
            fs::create_dir_all(dir.path().join(folder))?;
            for name in ["a.bin", "b.bin", "c.bin"] {
                assert!(SOURCE.find(dir.path()).is_err());
                fs::write(dir.path().join(folder).join(name), "")?;
            }
            assert_eq!(SOURCE.find(dir.path())?, dir.path().join(folder));
        }
        Ok(())
    }

    #[test]
    fn what_is_missing_is_listed() -> Result<()> {
        let dir = tempfile::tempdir()?;
        insta::assert_snapshot!(said(dir.path()), @"no Set in `data`: expected are `a.bin`, `b.bin`, `c.bin` in `data` or `data/set`; it is at https://example.org");
        fs::create_dir(dir.path().join("set"))?;
        fs::write(dir.path().join("set/b.bin"), "")?;
        insta::assert_snapshot!(said(dir.path()), @"no Set in `data/set`: `a.bin`, `c.bin` are not there; expected are `a.bin`, `b.bin`, `c.bin` in `data` or `data/set`; it is at https://example.org");
        fs::write(dir.path().join("set/a.bin"), "")?;
        insta::assert_snapshot!(said(dir.path()), @"no Set in `data/set`: `c.bin` is not there; expected are `a.bin`, `b.bin`, `c.bin` in `data` or `data/set`; it is at https://example.org");
        Ok(())
    }

    #[test]
    fn a_file_in_place_of_the_folder_has_no_data_set() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        assert!(SOURCE.find(file.path()).is_err_and(|error| error.is::<Missing>()));
        Ok(())
    }
}
