//! Image folders: `train/CLASS/*.jpeg` and `val/CLASS/*.jpeg`, as ImageNet has them. Threads decode
//! the images while the network computes.

mod list;
mod view;
mod workers;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{iter, thread};

use anyhow::{Context, Result};
use tch::{Device, Tensor};

use self::list::{Labelled, Listing};
use self::view::View;
use self::workers::InOrder;
use super::missing::{Missing, absent};
use super::normal::Normal;
use super::{Batch, Batches, DataSet, Split, order};
use crate::network::Arch;

/// Side of the images that networks for ImageNet take, in pixels.
pub(super) const SIDE: u32 = Arch::IMAGENET_SIDE as u32;

/// torchvision's mean and deviation for ImageNet
/// (<https://docs.pytorch.org/vision/stable/models.html>).
const NORMAL: Normal = Normal { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };

/// The folders of the training and the test images. Each has one subfolder per class.
///
/// # Errors
/// [`Missing`], or a folder that cannot be read.
pub(super) fn find(dir: &Path) -> Result<[PathBuf; 2]> {
    let missing = |absent: Vec<&'static str>| {
        let origin = "each has one folder of images per class, as ImageNet's (https://www.image-net.org), and `val` may be called `test`";
        Missing {
            set: "images",
            dir: dir.to_owned(),
            expected: vec!["train", "val"],
            absent,
            places: vec![dir.to_owned()],
            origin,
        }
    };
    let absent = absent(dir, &["train", "val", "test"])?;
    let test = ["val", "test"].into_iter().find(|name| !absent.contains(name));
    let folders = match test {
        Some(test) if !absent.contains(&"train") => [dir.join("train"), dir.join(test)],
        Some(_) => return Err(missing(vec!["train"]).into()),
        None => {
            return Err(missing(absent.into_iter().filter(|name| *name != "test").collect()).into());
        }
    };
    folders.iter().try_for_each(|folder| list::classes(folder).map(drop))?;
    Ok(folders)
}

/// Loads the data set in a folder. Images are cropped to squares of `side` pixels.
pub(super) fn load(dir: &Path, device: Device, side: u32) -> Result<DataSet> {
    let [train, test] = find(dir)?;
    let (training, testing) = (Listing::of(&train)?, Listing::of(&test)?);
    training.compare(&testing)?;
    let classes = training.classes.len() as i64;
    let part = |listing: Listing| Box::new(Folder { images: listing.images.into(), side, device });
    Ok(DataSet {
        classes,
        image: [3, side.into(), side.into()],
        train: part(training),
        test: part(testing),
    })
}

/// Images on disk.
#[derive(Debug)]
struct Folder {
    images: Arc<[Labelled]>,
    side: u32,
    device: Device,
}

impl Folder {
    fn batch(&self, numbers: &[i64], pixels: &mut InOrder<Result<Vec<u8>>>) -> Result<Batch> {
        let side = i64::from(self.side);
        let (mut bytes, mut labels) = (
            Vec::with_capacity(numbers.len() * 3 * (side * side) as usize),
            Vec::with_capacity(numbers.len()),
        );
        for number in numbers {
            let Labelled { path, label } = &self.images[*number as usize];
            let image =
                pixels.next().context("the thread that decoded it died").and_then(|image| image);
            bytes.extend(image.with_context(|| path.display().to_string())?);
            labels.push(*label);
        }
        let interleaved =
            Tensor::f_from_slice(&bytes)?.f_view([-1, side, side, 3])?.f_to_device(self.device)?;
        let images = NORMAL.apply(&interleaved.f_permute([0, 3, 1, 2])?.f_contiguous()?)?;
        Ok(Batch { images, labels: Tensor::f_from_slice(&labels)?.f_to_device(self.device)? })
    }
}

impl Split for Folder {
    fn len(&self) -> usize {
        self.images.len()
    }

    /// Threads decode the images, up to two batches ahead.
    fn read(&self, batches: Vec<Vec<i64>>, seed: Option<u64>) -> Batches<'_> {
        let ahead = 2 * batches.iter().map(Vec::len).max().unwrap_or(0);
        let (images, side) = (self.images.clone(), self.side);
        let work = move |number: &i64| {
            let view = seed.map_or(View::Centre, |seed| View::Random(order::draws(seed, *number)));
            view.of(&images[*number as usize].path, side)
        };
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        match InOrder::new(batches.concat(), threads, ahead, work) {
            Ok(mut pixels) => {
                let mut batches = batches.into_iter();
                let mut batch =
                    move || batches.next().map(|numbers| self.batch(&numbers, &mut pixels));
                let mut failed = false;
                Box::new(iter::from_fn(move || {
                    if failed { None } else { batch().inspect(|batch| failed = batch.is_err()) }
                }))
            }
            Err(error) => Box::new(iter::once(Err(error).context("no thread to decode images on"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};
    use std::fs;

    const SMALL: u32 = 28;

    /// Colour of a test image. It encodes the image's number.
    fn colour(number: u8) -> [u8; 3] {
        [number * 8, 255 - number * 8, number]
    }

    /// Twelve training and four test images of two classes, as files of all formats.
    fn tree(test: &str) -> Result<tempfile::TempDir> {
        let dir = tempfile::tempdir()?;
        for (part, count) in [("train", 12), (test, 4)] {
            for number in 0..count {
                let folder =
                    dir.path().join(part).join(if number < count / 2 { "cat" } else { "dog" });
                fs::create_dir_all(&folder)?;
                let ending = ["png", "jpeg", "webp", "bmp"][usize::from(number) % 4];
                RgbImage::from_pixel(40, 50, Rgb(colour(number)))
                    .save(folder.join(format!("{number:02}.{ending}")))?;
            }
        }
        Ok(dir)
    }

    /// Number and label of each image in `batches`.
    fn numbers(batches: Batches<'_>) -> Result<Vec<(i64, i64)>> {
        let mut found = Vec::new();
        for batch in batches {
            let batch = batch?;
            let pixels = NORMAL.undo(&batch.images);
            assert_eq!(pixels.size(), [batch.labels.size()[0], 3, 28, 28]);
            for (place, label) in Vec::<i64>::try_from(&batch.labels)?.into_iter().enumerate() {
                let pixel =
                    Vec::<u8>::try_from(pixels.get(place as i64).select(1, 14).select(1, 14))?;
                let number = (i64::from(pixel[0]) + 4) / 8;
                // JPEG is lossy.
                assert!(
                    pixel
                        .iter()
                        .zip(colour(number as u8))
                        .all(|(found, wanted)| found.abs_diff(wanted) <= 3),
                    "{pixel:?}"
                );
                found.push((number, label));
            }
        }
        Ok(found)
    }

    #[test]
    fn images_of_all_formats_come_in_order() -> Result<()> {
        for test in ["val", "test"] {
            let dir = tree(test)?;
            let data = load(dir.path(), Device::Cpu, SMALL)?;
            assert_eq!(
                (data.classes, data.image, data.train.len(), data.test.len()),
                (2, [3, 28, 28], 12, 4)
            );
            assert_eq!(
                numbers(data.train.batches(5))?,
                (0..12).map(|number| (number, number / 6)).collect::<Vec<_>>()
            );
            assert_eq!(numbers(data.test.batches(5))?, [(0, 0), (1, 0), (2, 1), (3, 1)]);
        }
        Ok(())
    }

    #[test]
    fn channels_rows_and_columns_are_where_they_belong() -> Result<()> {
        let dir = tree("val")?;
        // For squares of 28 pixels, the shorter side is resized to 32, and the centre begins at 2.
        let pixel =
            |row: i64, column: i64| [row * 5, column * 4, row + column].map(|value| value as u8);
        RgbImage::from_fn(32, 32, |x, y| Rgb(pixel(y.into(), x.into())))
            .save(dir.path().join("val/cat/00.png"))?;
        let batch =
            load(dir.path(), Device::Cpu, SMALL)?.test.batches(1).next().context("a batch")??;
        let pixels = NORMAL.undo(&batch.images);
        for (row, column) in [(0, 0), (0, 27), (27, 0), (13, 5)] {
            let found =
                [0, 1, 2].map(|channel| pixels.int64_value(&[0, channel, row, column]) as u8);
            assert_eq!(found, pixel(row + 2, column + 2), "{row}, {column}");
        }
        Ok(())
    }

    #[test]
    fn an_epoch_has_every_image_once_and_can_begin_anywhere() -> Result<()> {
        let dir = tree("val")?;
        // Pixels that differ, so that different crops differ.
        RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8 * 4, y as u8 * 4, 0]))
            .save(dir.path().join("train/cat/00.png"))?;
        let train = load(dir.path(), Device::Cpu, SMALL)?.train;
        let epoch = |seed, first| train.shuffled(5, seed, first).collect::<Result<Vec<_>>>();
        let same = |a: &[Batch], b: &[Batch]| {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| a.images.equal(&b.images) && a.labels.equal(&b.labels))
        };
        let whole = epoch(1, 0)?;
        for first in 0..4 {
            assert!(same(&whole[first..], &epoch(1, first)?), "from batch {first} on");
        }
        assert!(!same(&whole, &epoch(2, 0)?), "two epochs are the same");
        RgbImage::from_pixel(9, 9, Rgb(colour(0))).save(dir.path().join("train/cat/00.png"))?;
        let mut found = numbers(train.shuffled(5, 1, 0))?;
        found.sort_unstable();
        assert_eq!(found, (0..12).map(|number| (number, number / 6)).collect::<Vec<_>>());
        Ok(())
    }

    #[test]
    fn a_broken_image_is_named_and_ends_the_batches() -> Result<()> {
        let dir = tree("val")?;
        let file = dir.path().join("train/cat/05.jpeg");
        let whole = fs::read(&file)?;
        let data = load(dir.path(), Device::Cpu, SMALL)?;
        let said = || -> Result<String> {
            let batches: Vec<_> = data.train.batches(4).collect();
            assert_eq!(batches.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);
            let error = batches.into_iter().find_map(Result::err).context("no error")?;
            Ok(format!("{error:#}").replace(&dir.path().display().to_string(), "data"))
        };
        fs::write(&file, &whole[..100])?;
        insta::assert_snapshot!(said()?, @"data/train/cat/05.jpeg: it is cut off");
        fs::write(&file, "<html>not found</html>")?;
        assert!(said()?.starts_with("data/train/cat/05.jpeg: it cannot be decoded: "));
        fs::remove_file(&file)?;
        insta::assert_snapshot!(said()?, @"data/train/cat/05.jpeg: No such file or directory (os error 2)");
        Ok(())
    }

    #[test]
    fn a_batch_larger_than_the_set_is_all_of_it() -> Result<()> {
        let dir = tree("val")?;
        let data = load(dir.path(), Device::Cpu, SMALL)?;
        for size in [12, 100_000_000_000, usize::MAX] {
            assert_eq!(data.test.batches(size).count(), 1, "{size}");
            let batches = data.train.shuffled(size, 1, 0).collect::<Result<Vec<_>>>()?;
            assert_eq!(
                batches.iter().map(|batch| batch.labels.numel()).collect::<Vec<_>>(),
                [12],
                "{size}"
            );
            assert_eq!(data.train.shuffled(size, 1, 1).count(), 0, "{size}");
        }
        Ok(())
    }

    #[test]
    fn what_is_missing_is_said() -> Result<()> {
        let dir = tree("val")?;
        let said = || {
            let error = find(dir.path()).err().map(|error| error.to_string()).unwrap_or_default();
            error.replace(&dir.path().display().to_string(), "data")
        };
        assert_eq!(said(), "");
        fs::remove_dir_all(dir.path().join("train"))?;
        fs::create_dir(dir.path().join("train"))?;
        fs::write(dir.path().join("train/00.png"), "")?;
        insta::assert_snapshot!(said(), @"no classes in `data/train`: expected are `CLASS/*.jpeg` in `data/train`; each class has a folder of its name there, with its images in it, as ImageNet's (https://www.image-net.org)");
        assert!(load(dir.path(), Device::Cpu, SMALL).is_err_and(|error| error.is::<Missing>()));
        fs::remove_dir_all(dir.path().join("val"))?;
        insta::assert_snapshot!(said(), @"no images in `data`: `val` is not there; expected are `train`, `val` in `data`; each has one folder of images per class, as ImageNet's (https://www.image-net.org), and `val` may be called `test`");
        fs::remove_dir_all(dir.path().join("train"))?;
        insta::assert_snapshot!(said(), @"no images in `data`: expected are `train`, `val` in `data`; each has one folder of images per class, as ImageNet's (https://www.image-net.org), and `val` may be called `test`");
        Ok(())
    }
}
