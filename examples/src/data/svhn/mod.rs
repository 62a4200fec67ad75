//! SVHN's cropped digits: `X` of 32×32×3×N bytes and `y` of N classes, 10 for the digit 0.

mod mat;
#[cfg(test)]
mod written;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Tensor};

use self::mat::{Array, Numbers};
use super::DataSet;
use super::augment::Augment;
use super::memory::{Look, Memory, SIDE};
use super::missing::Source;
use super::normal::Normal;

/// The digits.
const CLASSES: i64 = 10;

pub(super) const SOURCE: Source = Source {
    set: "SVHN",
    folder: "svhn",
    train: &["train_32x32.mat"],
    test: &["test_32x32.mat"],
    origin: "they are format 2, cropped digits, at http://ufldl.stanford.edu/housenumbers",
};

/// The figures that are in use for SVHN, those of its training images (DeepCore,
/// `deepcore/datasets/svhn.py`). The reference has no SVHN; its crops are taken over, its flips are
/// not: a 2 in the mirror is none.
const LOOK: Look = Look {
    normal: Normal { mean: [0.4377, 0.4438, 0.4728], deviation: [0.1980, 0.2010, 0.1970] },
    augment: Augment { pad: 4, flip: false },
};

pub(super) fn load(dir: &Path, device: Device) -> Result<DataSet> {
    let folder = SOURCE.find(dir)?;
    let part = |files: &[&str]| {
        let path = folder.join(files[0]);
        part(&path, device).with_context(|| path.display().to_string())
    };
    Ok(DataSet {
        classes: CLASSES,
        image: [3, SIDE, SIDE],
        train: Box::new(part(SOURCE.train)?),
        test: Box::new(part(SOURCE.test)?),
    })
}

fn part(file: &Path, device: Device) -> Result<Memory> {
    let [x, y] = mat::read(file, ["X", "y"])?;
    let (images, labels) = (images(x)?, labels(y)?);
    Memory::new(images, Tensor::f_from_slice(&labels)?, LOOK, device)
}

/// `[N, 3, 32, 32]`.
fn images(x: Array) -> Result<Tensor> {
    let side = SIDE as u64;
    let count = match *x.dims {
        [height, width, 3, count] if (height, width) == (side, side) => count,
        // MATLAB drops a last size of one.
        [height, width, 3] if (height, width) == (side, side) => 1,
        _ => bail!("`X` is of sizes {:?}, and images are [{side}, {side}, 3, N]", x.dims),
    };
    ensure!(count > 0, "`X` has no image");
    let Numbers::Bytes(bytes) = x.numbers else { bail!("the pixels in `X` are no bytes") };
    // The row runs fastest, then the column.
    let columns_first = Tensor::f_from_slice(&bytes)?.f_view([count as i64, 3, SIDE, SIDE])?;
    Ok(columns_first.f_transpose(2, 3)?.f_contiguous()?)
}

fn labels(y: Array) -> Result<Vec<i64>> {
    ensure!(matches!(*y.dims, [_, 1]), "`y` is of sizes {:?}, and classes are [N, 1]", y.dims);
    let classes = match y.numbers {
        Numbers::Bytes(bytes) => bytes.into_iter().map(i64::from).collect(),
        Numbers::Integers(integers) => integers,
    };
    let digit = |(image, class): (usize, i64)| {
        ensure!(
            (1..=CLASSES).contains(&class),
            "image {image} is of class {class}, and SVHN's are 1 to 10"
        );
        Ok(class % CLASSES)
    };
    classes.into_iter().enumerate().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::written::{DOUBLE, UINT8, array, compressed, file};
    use super::*;
    use crate::data::Batch;
    use std::fs;

    fn pixel(row: usize, column: usize, channel: usize, image: usize) -> u8 {
        (row * 7 + column * 3 + channel * 50 + image * 11) as u8
    }

    /// As MATLAB has them: the row runs fastest.
    fn x(images: std::ops::Range<usize>) -> Vec<u8> {
        let plane = move |image| {
            (0..3).flat_map(move |channel| {
                (0..1024).map(move |at| pixel(at % 32, at / 32, channel, image))
            })
        };
        images.flat_map(plane).collect()
    }

    /// As networks have them: the column runs fastest.
    fn rows(images: std::ops::Range<usize>) -> Vec<u8> {
        let plane = move |image| {
            (0..3).flat_map(move |channel| {
                (0..1024).map(move |at| pixel(at / 32, at % 32, channel, image))
            })
        };
        images.flat_map(plane).collect()
    }

    fn folder(train: &[u8], test: &[u8]) -> Result<tempfile::TempDir> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("train_32x32.mat"), train)?;
        fs::write(dir.path().join("test_32x32.mat"), test)?;
        Ok(dir)
    }

    fn whole(part: &dyn crate::data::Part) -> Result<(Vec<u8>, Vec<i64>)> {
        let batches = part.batches(2).collect::<Result<Vec<_>>>()?;
        let cat =
            |of: fn(&Batch) -> &Tensor| Tensor::cat(&batches.iter().map(of).collect::<Vec<_>>(), 0);
        let pixels = LOOK.normal.undo(&cat(|batch| &batch.images)).reshape([-1]);
        Ok((pixels.try_into()?, cat(|batch| &batch.labels).try_into()?))
    }

    #[test]
    fn every_pixel_and_label_comes_out() -> Result<()> {
        let train = file(&[
            compressed(&array("X", UINT8, &[32, 32, 3, 5], 2, &x(0..5)))?,
            compressed(&array("y", UINT8, &[5, 1], 2, &[1, 2, 9, 10, 3]))?,
        ]);
        let doubles: Vec<u8> = [10., 7.].into_iter().flat_map(f64::to_le_bytes).collect();
        // The other way round, not compressed, and with something else between them.
        let test = file(&[
            array("y", DOUBLE, &[2, 1], 9, &doubles),
            array("extra", DOUBLE, &[1, 1], 2, &[1]),
            array("X", UINT8, &[32, 32, 3, 2], 2, &x(5..7)),
        ]);
        let dir = folder(&train, &test)?;
        let data = load(dir.path(), Device::Cpu)?;
        assert_eq!(
            (data.classes, data.image, data.train.len(), data.test.len()),
            (10, [3, 32, 32], 5, 2)
        );
        assert!(whole(&*data.train)? == (rows(0..5), vec![1, 2, 9, 0, 3]));
        assert!(whole(&*data.test)? == (rows(5..7), vec![0, 7]));
        Ok(())
    }

    #[test]
    fn a_file_that_scipy_wrote_is_read() -> Result<()> {
        // savemat("scipy.mat", {"X": X, "y": [[10], [3]], "note": "text", "s": {"a": 1.0}},
        // do_compression=True), y in uint8
        let written = include_bytes!("scipy.mat");
        let data = load(folder(written, written)?.path(), Device::Cpu)?;
        assert!(whole(&*data.test)? == (rows(0..2), vec![0, 3]));
        Ok(())
    }

    #[test]
    fn digits_are_moved_and_never_flipped() -> Result<()> {
        let written = include_bytes!("scipy.mat");
        let train = load(folder(written, written)?.path(), Device::Cpu)?.train;
        let padded = Tensor::from_slice(&rows(0..2)).view([2, 3, 32, 32]).constant_pad_nd([4; 4]);
        for seed in 0..20 {
            let batch = train.shuffled(1, seed, 1).next().context("a batch")??;
            let crop = LOOK.normal.undo(&batch.images).get(0);
            let original = padded.get(i64::from(batch.labels.int64_value(&[0]) == 3));
            assert!(
                (0..81).any(|at| crop.equal(&original.narrow(1, at % 9, 32).narrow(2, at / 9, 32))),
                "seed {seed}"
            );
        }
        Ok(())
    }

    #[test]
    fn one_image_has_no_last_size() -> Result<()> {
        let one = file(&[
            array("X", UINT8, &[32, 32, 3], 2, &x(0..1)),
            array("y", UINT8, &[1, 1], 2, &[4]),
        ]);
        assert!(
            whole(&*load(folder(&one, &one)?.path(), Device::Cpu)?.train)? == (rows(0..1), vec![4])
        );
        Ok(())
    }

    #[test]
    fn other_arrays_than_svhns_are_refused() -> Result<()> {
        let said = |x: Vec<u8>, y: Vec<u8>| -> Result<String> {
            let dir = folder(&file(&[x, y]), &[])?;
            let error = load(dir.path(), Device::Cpu).err().context("it was taken")?;
            Ok(format!("{error:#}")
                .replace(&format!("{}/train_32x32.mat: ", dir.path().display()), ""))
        };
        let good = || {
            (
                array("X", UINT8, &[32, 32, 3, 2], 2, &x(0..2)),
                array("y", UINT8, &[2, 1], 2, &[1, 2]),
            )
        };
        let y = |dims: &[i32], labels: &[u8]| said(good().0, array("y", UINT8, dims, 2, labels));
        let x =
            |dims: &[i32], kind, bytes: &[u8]| said(array("X", UINT8, dims, kind, bytes), good().1);
        insta::assert_snapshot!(y(&[2, 1], &[1, 11])?, @"image 1 is of class 11, and SVHN's are 1 to 10");
        insta::assert_snapshot!(y(&[2, 1], &[0, 1])?, @"image 0 is of class 0, and SVHN's are 1 to 10");
        insta::assert_snapshot!(y(&[3, 1], &[1, 2, 3])?, @"2 images have 3 labels");
        insta::assert_snapshot!(y(&[1, 2], &[1, 2])?, @"`y` is of sizes [1, 2], and classes are [N, 1]");
        insta::assert_snapshot!(said(good().0, array("y", DOUBLE, &[1, 1], 9, &1.5_f64.to_le_bytes()))?, @"array at byte 6336: `y`: 1.5 is no integer");
        insta::assert_snapshot!(x(&[28, 28, 3, 1], 2, &[0; 28 * 28 * 3])?, @"`X` is of sizes [28, 28, 3, 1], and images are [32, 32, 3, N]");
        insta::assert_snapshot!(x(&[32, 32, 3, 0], 2, &[])?, @"`X` has no image");
        insta::assert_snapshot!(x(&[32, 32, 3, 1], 3, &[0; 2 * 3072])?, @"the pixels in `X` are no bytes");
        insta::assert_snapshot!(x(&[32, 32, 3, 2], 2, &[0; 3072])?, @"array at byte 128: `X` is of sizes [32, 32, 3, 2] and has 3072 bytes, 1 per number");
        insta::assert_snapshot!(said(good().0, good().0)?, @"it has two arrays `X`");
        insta::assert_snapshot!(said(good().0, array("z", UINT8, &[2, 1], 2, &[1, 2]))?, @"it has no array of numbers `y`");
        Ok(())
    }
}
