//! CIFAR-10 and CIFAR-100 in their binary versions: one record per image, its label bytes first,
//! then red, green and blue, row by row.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use super::DataSet;
use super::augment::Augment;
use super::memory::{Look, Memory, SIDE};
use super::missing::Source;
use super::normal::Normal;

/// Bytes of an image.
const PIXELS: usize = 3 * (SIDE * SIDE) as usize;

/// CIFAR-10 or CIFAR-100.
#[derive(Debug)]
pub(super) struct Cifar {
    pub(super) source: Source,
    pub(super) classes: i64,
    /// Label bytes of a record. The last is the class; CIFAR-100 has a coarser class before it.
    labels: usize,
}

/// CIFAR-10.
pub(super) const TEN: Cifar = Cifar {
    source: Source {
        set: "CIFAR-10",
        folder: "cifar-10-batches-bin",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: &["test_batch.bin"],
        origin: "it is the binary version at https://www.cs.toronto.edu/~kriz/cifar.html",
    },
    classes: 10,
    labels: 1,
};

/// CIFAR-100, by its fine labels.
pub(super) const HUNDRED: Cifar = Cifar {
    source: Source {
        set: "CIFAR-100",
        folder: "cifar-100-binary",
        train: &["train.bin"],
        test: &["test.bin"],
        origin: "it is the binary version at https://www.cs.toronto.edu/~kriz/cifar.html",
    },
    classes: 100,
    labels: 2,
};

/// Mean, deviation and padding of the reference
/// (<https://github.com/Eric-mingjie/network-slimming>, `main.py`). The reference uses the figures
/// of CIFAR-10 for CIFAR-100 too; with the same figures, a network that was trained there has the
/// same accuracy here.
const LOOK: Look = Look {
    normal: Normal { mean: [0.4914, 0.4822, 0.4465], deviation: [0.2023, 0.1994, 0.2010] },
    augment: Augment { pad: 4 },
};

impl Cifar {
    pub(super) fn load(&self, dir: &Path, device: Device) -> Result<DataSet> {
        let folder = self.source.find(dir)?;
        Ok(DataSet {
            classes: self.classes,
            image: [3, SIDE, SIDE],
            train: Box::new(self.part(&folder, self.source.train, device)?),
            test: Box::new(self.part(&folder, self.source.test, device)?),
        })
    }

    fn part(&self, folder: &Path, files: &[&str], device: Device) -> Result<Memory> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for file in files {
            let path = folder.join(file);
            let (images, classes) = self.read(&path).with_context(|| path.display().to_string())?;
            pixels.push(images);
            labels.push(classes);
        }
        Memory::new(Tensor::f_cat(&pixels, 0)?, Tensor::f_cat(&labels, 0)?, LOOK, device)
    }

    /// The images and classes of a file.
    fn read(&self, file: &Path) -> Result<(Tensor, Tensor)> {
        let bytes = fs::read(file)?;
        let record = self.labels + PIXELS;
        let whole = bytes.len() / record;
        ensure!(
            whole > 0 && bytes.len() % record == 0,
            "it ends within image {whole}: {} bytes, and an image takes {record}",
            bytes.len()
        );
        let class = |record: &[u8]| i64::from(record[self.labels - 1]);
        if let Some((image, class)) =
            bytes.chunks(record).map(class).enumerate().find(|(_, class)| *class >= self.classes)
        {
            let Source { set, .. } = self.source;
            anyhow::bail!(
                "image {image} is of class {class}, and {set}'s are 0 to {}",
                self.classes - 1
            );
        }
        let records = Tensor::f_from_slice(&bytes)?.f_view([-1, record as i64])?;
        let images = records
            .f_narrow(1, self.labels as i64, PIXELS as i64)?
            .f_reshape([-1, 3, SIDE, SIDE])?;
        Ok((images, records.f_select(1, self.labels as i64 - 1)?.f_to_kind(Kind::Int64)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Batch;

    /// Pixel value that depends on image, channel, row and column, so that a mix-up is noticed.
    fn pixel(image: usize, channel: usize, row: usize, column: usize) -> u8 {
        (image * 101 + channel * 67 + row * 13 + column * 3) as u8
    }

    fn image(image: usize) -> impl Iterator<Item = u8> {
        (0..PIXELS).map(move |at| pixel(image, at / 1024, at / 32 % 32, at % 32))
    }

    /// A folder with all files of a set, five images in each. The class of an image is its number.
    fn folder(cifar: &Cifar) -> Result<tempfile::TempDir> {
        let dir = tempfile::tempdir()?;
        let mut number = 0;
        for name in cifar.source.train.iter().chain(cifar.source.test) {
            let mut bytes = Vec::new();
            for _ in 0..5 {
                bytes.extend(
                    [99_u8, (number % cifar.classes as usize) as u8].split_at(2 - cifar.labels).1,
                );
                bytes.extend(image(number));
                number += 1;
            }
            fs::create_dir_all(dir.path().join(cifar.source.folder))?;
            fs::write(dir.path().join(cifar.source.folder).join(name), bytes)?;
        }
        Ok(dir)
    }

    /// Pixel bytes and labels of all images in `batches`.
    fn bytes(batches: impl Iterator<Item = Result<Batch>>) -> Result<(Tensor, Vec<i64>)> {
        let batches = batches.collect::<Result<Vec<_>>>()?;
        let cat =
            |of: fn(&Batch) -> &Tensor| Tensor::cat(&batches.iter().map(of).collect::<Vec<_>>(), 0);
        Ok((
            LOOK.normal.undo(&cat(|batch| &batch.images)),
            Vec::try_from(cat(|batch| &batch.labels))?,
        ))
    }

    #[test]
    fn every_pixel_and_label_comes_out() -> Result<()> {
        for cifar in [TEN, HUNDRED] {
            let dir = folder(&cifar)?;
            let data = cifar.load(dir.path(), Device::Cpu)?;
            assert_eq!(data.train.len(), cifar.source.train.len() * 5);
            assert_eq!(data.test.len(), 5);
            for (part, start) in [(&data.train, 0), (&data.test, data.train.len())] {
                let (pixels, labels) = bytes(part.batches(4))?;
                let expected: Vec<u8> = (start..start + part.len()).flat_map(image).collect();
                assert!(
                    Vec::<u8>::try_from(pixels.reshape([-1]))? == expected,
                    "{}",
                    cifar.source.set
                );
                assert_eq!(
                    labels,
                    (start..start + part.len())
                        .map(|number| number as i64 % cifar.classes)
                        .collect::<Vec<_>>()
                );
            }
            let first = data.train.batches(2).next().expect("a batch")?;
            assert_eq!((first.images.size(), first.labels.size()), (vec![2, 3, 32, 32], vec![2]));
            assert_eq!((first.images.kind(), first.labels.kind()), (Kind::Float, Kind::Int64));
        }
        Ok(())
    }

    #[test]
    fn an_epoch_has_every_image_once_and_can_begin_anywhere() -> Result<()> {
        let dir = folder(&HUNDRED)?;
        let train = HUNDRED.load(dir.path(), Device::Cpu)?.train;
        let epoch = |seed, first| train.shuffled(2, seed, first).collect::<Result<Vec<_>>>();
        let (whole, again) = (epoch(1, 0)?, epoch(1, 0)?);
        assert_eq!(whole.iter().map(|batch| batch.labels.size()[0]).collect::<Vec<_>>(), [2, 2, 1]);
        let same = |a: &[Batch], b: &[Batch]| {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| a.images.equal(&b.images) && a.labels.equal(&b.labels))
        };
        assert!(same(&whole, &again));
        for first in 0..4 {
            assert!(same(&whole[first.min(3)..], &epoch(1, first)?), "from batch {first} on");
        }
        let next = epoch(2, 0)?;
        assert!(!same(&whole, &next), "two epochs are the same");
        for batches in [whole, next] {
            let mut labels = bytes(batches.into_iter().map(Ok))?.1;
            labels.sort_unstable();
            assert_eq!(labels, [0, 1, 2, 3, 4]);
        }
        Ok(())
    }

    #[test]
    fn what_is_trained_on_are_crops_of_the_images() -> Result<()> {
        let dir = folder(&HUNDRED)?;
        let train = HUNDRED.load(dir.path(), Device::Cpu)?.train;
        let (originals, _) = bytes(train.batches(5))?;
        let padded = originals.constant_pad_nd([4; 4]);
        let (mut moved, mut flipped) = (0, 0);
        for seed in 0..8 {
            let (crops, labels) = bytes(train.shuffled(5, seed, 0))?;
            for (place, label) in labels.into_iter().enumerate() {
                let crop = crops.get(place as i64);
                let found = (0..162).find(|at| {
                    let piece = padded.get(label).narrow(1, at % 9, 32).narrow(2, at / 9 % 9, 32);
                    crop.equal(&if *at < 81 { piece } else { piece.flip([2]) })
                });
                let at = found.expect("a crop that is none of its image");
                moved += usize::from(at % 81 != 40);
                flipped += usize::from(at >= 81);
            }
        }
        assert!(
            moved > 30 && (8..32).contains(&flipped),
            "of 40 images {moved} were moved and {flipped} flipped"
        );
        Ok(())
    }

    #[test]
    fn damage_is_said_with_its_place() -> Result<()> {
        let dir = folder(&TEN)?;
        let file = dir.path().join("cifar-10-batches-bin/data_batch_2.bin");
        let whole = fs::read(&file)?;
        let said = |bytes: &[u8]| -> Result<String> {
            fs::write(&file, bytes)?;
            let error = TEN.load(dir.path(), Device::Cpu).err().expect("a damaged file");
            Ok(format!("{error:#}").replace(&dir.path().display().to_string(), "data"))
        };
        insta::assert_snapshot!(said(&whole[..whole.len() - 1])?, @"data/cifar-10-batches-bin/data_batch_2.bin: it ends within image 4: 15364 bytes, and an image takes 3073");
        insta::assert_snapshot!(said(&[])?, @"data/cifar-10-batches-bin/data_batch_2.bin: it ends within image 0: 0 bytes, and an image takes 3073");
        let mut mislabelled = whole.clone();
        mislabelled[3 * 3073] = 10;
        insta::assert_snapshot!(said(&mislabelled)?, @"data/cifar-10-batches-bin/data_batch_2.bin: image 3 is of class 10, and CIFAR-10's are 0 to 9");
        fs::remove_file(&file)?;
        insta::assert_snapshot!(TEN.load(dir.path(), Device::Cpu).err().expect("no file").to_string().replace(&dir.path().display().to_string(), "data"), @"no CIFAR-10 in `data/cifar-10-batches-bin`: `data_batch_2.bin` is not there; expected are `data_batch_1.bin`, `data_batch_2.bin`, `data_batch_3.bin`, `data_batch_4.bin`, `data_batch_5.bin`, `test_batch.bin` in `data` or `data/cifar-10-batches-bin`; it is the binary version at https://www.cs.toronto.edu/~kriz/cifar.html");
        Ok(())
    }
}
