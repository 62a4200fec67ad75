//! The data set that comes with the project: 1,797 handwritten digits (see
//! `slim-cli/data/README.md`), in CIFAR's shape.

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use tch::{Device, Kind, Tensor};

use super::memory::SIDE;
use super::{Batch, Batches, DataSet, Split};

/// Number of classes, the digits 0 to 9.
const CLASSES: i64 = 10;
/// Pixels of a digit.
const PIXELS: usize = 64;
/// The largest pixel value.
const WHITE: f64 = 16.;
/// Number of test images.
const TEST: usize = 360;

/// Images and their classes.
#[derive(Debug)]
pub struct Labelled {
    /// `[N, 3, 32, 32]`, float, mean about 0 and deviation about 1.
    pub images: Tensor,
    /// `[N]`, 0 to 9.
    pub labels: Tensor,
}

/// Training and test images.
#[derive(Debug)]
pub struct Digits {
    /// 1,437 digits.
    pub train: Labelled,
    /// 360 digits. Each class has the same share as in the whole set.
    pub test: Labelled,
}

impl Labelled {
    fn batch(&self, numbers: &[i64]) -> Result<Batch> {
        let index = Tensor::f_from_slice(numbers)?.f_to_device(self.images.device())?;
        Ok(Batch {
            images: self.images.f_index_select(0, &index)?,
            labels: self.labels.f_index_select(0, &index)?,
        })
    }
}

impl Split for Labelled {
    fn len(&self) -> usize {
        self.labels.numel()
    }

    /// Does not augment: a digit that is shifted or flipped may be cut off or become another digit.
    fn read(&self, batches: Vec<Vec<i64>>, _seed: Option<u64>) -> Batches<'_> {
        Box::new(batches.into_iter().map(|numbers| self.batch(&numbers)))
    }
}

impl From<Digits> for DataSet {
    fn from(digits: Digits) -> Self {
        DataSet {
            classes: CLASSES,
            image: [3, SIDE, SIDE],
            train: Box::new(digits.train),
            test: Box::new(digits.test),
        }
    }
}

/// Reads the digits. The split is the same every time.
///
/// # Errors
/// A damaged file, or no memory on the device.
pub fn load(device: Device) -> Result<Digits> {
    let rows =
        read(include_bytes!("../../data/digits.csv.gz")).context("slim-cli/data/digits.csv.gz")?;
    let (test, train) = split(rows);
    Ok(Digits { train: tensors(&train, device)?, test: tensors(&test, device)? })
}

struct Row {
    pixels: Vec<f32>,
    label: i64,
}

fn read(file: &[u8]) -> Result<Vec<Row>> {
    let mut lines = csv::ReaderBuilder::new().has_headers(false).from_reader(GzDecoder::new(file));
    let row = |line: csv::Result<Vec<i64>>| {
        let mut values = line?;
        let label = values.pop().context("an empty line")?;
        ensure!(
            values.len() == PIXELS && (0..CLASSES).contains(&label),
            "a digit is {PIXELS} pixels and a class of 0 to 9"
        );
        Ok(Row { pixels: values.into_iter().map(|value| value as f32).collect(), label })
    };
    lines.deserialize().map(row).collect()
}

/// Shuffles, then takes from every class the same share for testing.
fn split(mut rows: Vec<Row>) -> (Vec<Row>, Vec<Row>) {
    fastrand::Rng::with_seed(0).shuffle(&mut rows);
    let mut of_class = [0_usize; CLASSES as usize];
    rows.iter().for_each(|row| of_class[row.label as usize] += 1);
    // Sort by each row's rank within its class, divided by the size of the class: the rows with the
    // smallest values are a stratified sample.
    let mut seen = [0_usize; CLASSES as usize];
    let mut places: Vec<_> = rows
        .into_iter()
        .map(|row| {
            let class = row.label as usize;
            seen[class] += 1;
            (seen[class] as f64 / of_class[class] as f64, row)
        })
        .collect();
    places.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let train = places.split_off(TEST);
    let rows = |places: Vec<(f64, Row)>| places.into_iter().map(|(_, row)| row).collect();
    (rows(places), rows(train))
}

fn tensors(rows: &[Row], device: Device) -> Result<Labelled> {
    let pixels: Vec<f32> = rows.iter().flat_map(|row| row.pixels.iter().copied()).collect();
    let labels: Vec<i64> = rows.iter().map(|row| row.label).collect();
    let gray = Tensor::f_from_slice(&pixels)?.f_view([-1, 1, 8, 8])? / WHITE;
    // The digits' own mean and deviation, rounded.
    let normal = (gray - 0.3) / 0.38;
    let images = normal
        .f_upsample_bilinear2d([SIDE, SIDE], false, None, None)?
        .f_expand([-1, 3, -1, -1], false)?
        .f_contiguous()?;
    Ok(Labelled {
        images: images.f_to_kind(Kind::Float)?.f_to_device(device)?,
        labels: Tensor::f_from_slice(&labels)?.f_to_device(device)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_is_stratified_and_the_same_every_time() -> Result<()> {
        let digits = load(Device::Cpu)?;
        assert_eq!(digits.train.images.size(), [1437, 3, 32, 32]);
        assert_eq!(digits.test.images.size(), [360, 3, 32, 32]);
        let counts =
            |split: &Labelled| Vec::<i64>::try_from(split.labels.bincount::<Tensor>(None, 10));
        let (train, test) = (counts(&digits.train)?, counts(&digits.test)?);
        for (train, test) in train.into_iter().zip(test) {
            let share = test as f64 / (train + test) as f64;
            assert!((share - 360. / 1797.).abs() < 0.005, "{test} of {}", train + test);
        }
        assert!(load(Device::Cpu)?.test.images.equal(&digits.test.images));
        Ok(())
    }

    #[test]
    fn batches_have_every_digit_as_it_is() -> Result<()> {
        let data = DataSet::from(load(Device::Cpu)?);
        let digits = load(Device::Cpu)?;
        let batches = data.test.batches(100).collect::<Result<Vec<_>>>()?;
        assert_eq!(
            batches.iter().map(|batch| batch.labels.size()[0]).collect::<Vec<_>>(),
            [100, 100, 100, 60]
        );
        let images = Tensor::cat(&batches.iter().map(|batch| &batch.images).collect::<Vec<_>>(), 0);
        assert!(images.equal(&digits.test.images));

        let epoch = |seed, first| data.train.shuffled(64, seed, first).collect::<Result<Vec<_>>>();
        let (whole, rest) = (epoch(3, 0)?, epoch(3, 20)?);
        assert!(
            whole[20..]
                .iter()
                .zip(&rest)
                .all(|(a, b)| a.images.equal(&b.images) && a.labels.equal(&b.labels))
        );
        assert_eq!(whole.len() - 20, rest.len());
        assert!(!whole[0].images.equal(&epoch(4, 0)?[0].images), "two epochs are the same");
        let sum =
            |images: &Tensor| images.sum_dim_intlist([1_i64, 2, 3].as_slice(), false, Kind::Double);
        let sums =
            Tensor::cat(&whole.iter().map(|batch| sum(&batch.images)).collect::<Vec<_>>(), 0);
        assert!(
            sums.sort(0, false).0.equal(&sum(&digits.train.images).sort(0, false).0),
            "an image is not there once"
        );
        Ok(())
    }

    #[test]
    fn images_are_normalised() -> Result<()> {
        let images = load(Device::Cpu)?.train.images;
        assert!(images.mean(Kind::Float).double_value(&[]).abs() < 0.05);
        assert!((images.std(true).double_value(&[]) - 1.).abs() < 0.15);
        Ok(())
    }
}
