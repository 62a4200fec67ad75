//! Data sets by their names.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;

use super::{cifar, folder};

/// The data sets that programs can be told to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Name {
    /// 1,797 handwritten digits, which come with the project
    Digits,
    /// CIFAR-10, the binary version
    Cifar10,
    /// CIFAR-100, the binary version
    Cifar100,
    /// Images in folders, one per class: `train/CLASS/*.jpeg` and `val/CLASS/*.jpeg`, as ImageNet
    /// has them
    Imagefolder,
}

impl Name {
    /// Checks that the files of the data set are in the folder `dir`, without reading them.
    ///
    /// # Errors
    /// [`Missing`](super::Missing) if files are missing; a folder that cannot be read.
    pub fn check(self, dir: &Path) -> Result<()> {
        match self {
            Name::Digits => Ok(()),
            Name::Cifar10 => cifar::TEN.source.find(dir).map(drop),
            Name::Cifar100 => cifar::HUNDRED.source.find(dir).map(drop),
            Name::Imagefolder => folder::find(dir).map(drop),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => write!(f, "{self:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Missing, load};
    use tch::Device;

    #[test]
    fn what_is_missing_is_said_before_anything_is_read() -> Result<()> {
        let empty = tempfile::tempdir()?;
        for name in Name::value_variants().iter().filter(|name| **name != Name::Digits) {
            let checked = name.check(empty.path()).expect_err("an empty folder");
            let loaded = load(*name, empty.path(), Device::Cpu).err().expect("an empty folder");
            assert!(
                checked.is::<Missing>() && loaded.is::<Missing>(),
                "{name}: {checked}, {loaded}"
            );
            assert_eq!(checked.to_string(), loaded.to_string());
        }
        Name::Digits.check(empty.path())
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        let names: Vec<_> = Name::value_variants().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["digits", "cifar10", "cifar100", "imagefolder"]);
    }
}
