//! Lists the images of a folder and their classes.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::data::Missing;

/// Extensions of image files.
const ENDINGS: [&str; 5] = ["jpeg", "jpg", "png", "webp", "bmp"];

/// An image and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Labelled {
    pub(super) path: PathBuf,
    pub(super) label: i64,
}

/// Images and classes of a folder that has one subfolder per class.
#[derive(Debug)]
pub(super) struct Listing {
    dir: PathBuf,
    /// Sorted by name. The index of a class is its label.
    pub(super) classes: Vec<OsString>,
    /// Sorted by class, then by path.
    pub(super) images: Vec<Labelled>,
}

impl Listing {
    /// Lists a folder with one subfolder per class.
    ///
    /// # Errors
    /// Errors of [`classes`], a class without images, a folder that cannot be read.
    pub(super) fn of(dir: &Path) -> Result<Self> {
        let folders = classes(dir)?;
        let mut images = Vec::new();
        for (label, folder) in folders.iter().enumerate() {
            let before = images.len();
            gather(folder, label as i64, &mut images)?;
            ensure!(
                images.len() > before,
                "`{}` has no images, which end in .{}",
                folder.display(),
                ENDINGS.join(", .")
            );
        }
        let classes =
            folders.iter().filter_map(|folder| folder.file_name()).map(OsStr::to_owned).collect();
        Ok(Self { dir: dir.to_owned(), classes, images })
    }

    /// Checks that both listings have the same classes.
    ///
    /// # Errors
    /// The classes differ.
    pub(super) fn compare(&self, other: &Self) -> Result<()> {
        let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) =
            (self.classes.iter().collect(), other.classes.iter().collect());
        let only = |listing: &Self, names: Vec<&&OsString>| match names.len() {
            0 => None,
            count => {
                let shown: Vec<_> =
                    names.iter().take(5).map(|name| format!("`{}`", name.display())).collect();
                let more =
                    if count > 5 { format!(" and {} more", count - 5) } else { String::new() };
                Some(format!("only `{}` has {}{more}", listing.dir.display(), shown.join(", ")))
            }
        };
        let differences = [
            only(self, ours.difference(&theirs).collect()),
            only(other, theirs.difference(&ours).collect()),
        ];
        let said: Vec<_> = differences.into_iter().flatten().collect();
        ensure!(
            said.is_empty(),
            "training and test images are of different classes: {}",
            said.join("; ")
        );
        Ok(())
    }
}

/// Folders of the classes, sorted by name.
///
/// # Errors
/// [`Missing`] if there is no such folder; a folder that cannot be read.
pub(super) fn classes(dir: &Path) -> Result<Vec<PathBuf>> {
    let folders: Vec<_> = entries(dir)?.into_iter().filter(|path| path.is_dir()).collect();
    if folders.is_empty() {
        let (dir, expected) = (dir.to_owned(), vec!["CLASS/*.jpeg"]);
        let origin = "each class has a folder of its name there, with its images in it, as ImageNet's (https://www.image-net.org)";
        return Err(Missing {
            set: "classes",
            absent: expected.clone(),
            places: vec![dir.clone()],
            dir,
            expected,
            origin,
        }
        .into());
    }
    Ok(folders)
}

/// Entries of a folder without the hidden ones, sorted by name.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read =
        || fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = read().with_context(|| dir.display().to_string())?;
    paths.retain(|path| {
        path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
    });
    paths.sort_unstable();
    Ok(paths)
}

/// Appends all images in a folder and its subfolders to `images`.
fn gather(dir: &Path, label: i64, images: &mut Vec<Labelled>) -> Result<()> {
    for path in entries(dir)? {
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        if path.is_dir() {
            gather(&path, label, images)?;
        } else if ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)) {
            images.push(Labelled { path, label });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> Result<tempfile::TempDir> {
        let dir = tempfile::tempdir()?;
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap_or(dir.path()))?;
            if !file.ends_with('/') {
                fs::write(path, "")?;
            }
        }
        Ok(dir)
    }

    fn said(dir: &tempfile::TempDir, result: Result<impl Sized>) -> String {
        let error = result.err().map(|error| format!("{error:#}")).unwrap_or_default();
        error.replace(&dir.path().display().to_string(), "data")
    }

    #[test]
    fn images_come_class_by_class_in_the_order_of_names() -> Result<()> {
        let dir = tree(&[
            "n2/b.JPEG",
            "n2/a.png",
            "n10/z.jpg",
            "n10/images/y.webp",
            "n10/readme.txt",
            "n10/.z.jpg",
            "Z/c.bmp",
            "list.txt",
            ".git/x.png",
        ])?;
        let listing = Listing::of(dir.path())?;
        assert_eq!(listing.classes, ["Z", "n10", "n2"]);
        let found: Vec<_> = listing
            .images
            .iter()
            .map(|image| Ok((image.path.strip_prefix(dir.path())?.to_str(), image.label)))
            .collect::<Result<_>>()?;
        let expected = [
            ("Z/c.bmp", 0),
            ("n10/images/y.webp", 1),
            ("n10/z.jpg", 1),
            ("n2/a.png", 2),
            ("n2/b.JPEG", 2),
        ];
        assert_eq!(found, expected.map(|(path, label)| (Some(path), label)));
        Ok(())
    }

    #[test]
    fn folders_without_images_are_named() -> Result<()> {
        let dir = tree(&["cat/1.png", "dog/1.txt"])?;
        insta::assert_snapshot!(said(&dir, Listing::of(dir.path())), @"`data/dog` has no images, which end in .jpeg, .jpg, .png, .webp, .bmp");
        let dir = tree(&["1.png"])?;
        insta::assert_snapshot!(said(&dir, Listing::of(dir.path())), @"no classes in `data`: expected are `CLASS/*.jpeg` in `data`; each class has a folder of its name there, with its images in it, as ImageNet's (https://www.image-net.org)");
        Ok(())
    }

    #[test]
    fn classes_that_only_one_part_has_are_named() -> Result<()> {
        let dir = tree(&["train/cat/1.png", "train/cow/1.png", "val/cat/1.png", "val/dog/1.png"])?;
        let (train, val) =
            (Listing::of(&dir.path().join("train"))?, Listing::of(&dir.path().join("val"))?);
        train.compare(&train)?;
        insta::assert_snapshot!(said(&dir, train.compare(&val)), @"training and test images are of different classes: only `data/train` has `cow`; only `data/val` has `dog`");
        let dir = tree(&[
            "train/0/1.png",
            "val/0/1.png",
            "val/1/1.png",
            "val/2/1.png",
            "val/3/1.png",
            "val/4/1.png",
            "val/5/1.png",
            "val/6/1.png",
        ])?;
        let (train, val) =
            (Listing::of(&dir.path().join("train"))?, Listing::of(&dir.path().join("val"))?);
        insta::assert_snapshot!(said(&dir, train.compare(&val)), @"training and test images are of different classes: only `data/val` has `1`, `2`, `3`, `4`, `5` and 1 more");
        Ok(())
    }
}
