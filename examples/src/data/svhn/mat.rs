//! Numeric arrays of MAT files of version 5, MATLAB's `save -v6` and `-v7`
//! (<https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf>).
//!
//! Nothing is believed before it is compared: no size that a file states is allocated, no length
//! multiplied unchecked, no array read that nobody asked for. That is why no crate does it: matfile
//! 0.5 panics on damaged files, matrw 0.1 refuses what SciPy writes, matreader 0.1 makes of every
//! byte a float of eight.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::ZlibDecoder;

/// Bytes of the header: a text, and at its end version and byte order.
const HEADER: usize = 128;
/// More bytes than the flags, the dimensions or the name of an array take.
const SHORT: u64 = 256;

/// The types of data that the format numbers.
mod kind {
    pub(super) const INT8: u32 = 1;
    pub(super) const INT32: u32 = 5;
    pub(super) const UINT32: u32 = 6;
    pub(super) const MATRIX: u32 = 14;
    pub(super) const COMPRESSED: u32 = 15;
}

/// An array of numbers.
#[derive(Debug, PartialEq)]
pub(super) struct Array {
    /// Its size along each dimension; the first one's index runs fastest.
    pub(super) dims: Vec<u64>,
    /// The numbers, in the type that the file stores them in, which may be smaller than the array's
    /// own.
    pub(super) numbers: Numbers,
}

/// Numbers of a type that classes and pixels are stored in.
#[derive(Debug, PartialEq)]
pub(super) enum Numbers {
    Bytes(Vec<u8>),
    Integers(Vec<i64>),
}

/// Reads the arrays of some names.
///
/// # Errors
/// A file that is none, or damaged, or has no array of one of the names.
pub(super) fn read<const N: usize>(file: &Path, names: [&str; N]) -> Result<[Array; N]> {
    arrays(BufReader::new(File::open(file)?), names)
}

fn arrays<const N: usize>(mut file: impl Read, names: [&str; N]) -> Result<[Array; N]> {
    header(&mut file)?;
    let (mut found, mut start) = (BTreeMap::new(), HEADER as u64);
    while let Some(tag) = tag(&mut file).with_context(|| format!("at byte {start}"))? {
        let mut body = (&mut file).take(tag.size.into());
        let array =
            element(&tag, &mut body, &names).with_context(|| format!("array at byte {start}"))?;
        io::copy(&mut body, &mut io::sink())?;
        ensure!(
            body.limit() == 0,
            "array at byte {start}: {} of its {} bytes are not there",
            body.limit(),
            tag.size
        );
        start += 8 + u64::from(tag.size);
        if let Some((name, array)) = array {
            ensure!(found.insert(name.clone(), array).is_none(), "it has two arrays `{name}`");
        }
    }
    let missing: Vec<_> = names.into_iter().filter(|name| !found.contains_key(*name)).collect();
    let arrays: Vec<_> = names.into_iter().filter_map(|name| found.remove(name)).collect();
    arrays
        .try_into()
        .map_err(|_| anyhow::anyhow!("it has no array of numbers `{}`", missing.join("` and no `")))
}

fn header(file: &mut impl Read) -> Result<()> {
    let mut header = [0; HEADER];
    file.read_exact(&mut header).context("it is no MAT file: it is too short")?;
    match &header[124..] {
        [0, 1, b'I', b'M'] => Ok(()),
        [0, 2, b'I', b'M'] => {
            bail!(
                "it is a MAT file of version 7.3, and only those of version 5 are read; MATLAB writes one by `save -v7`"
            )
        }
        [_, _, b'M', b'I'] => {
            bail!("it is a big-endian MAT file, and only little-endian ones are read")
        }
        _ => bail!("it is no MAT file of version 5"),
    }
}

/// What stands before data: their type, and how many bytes they are.
struct Tag {
    kind: u32,
    size: u32,
}

/// A tag of eight bytes; none at the end of the file.
fn tag(reader: &mut impl Read) -> Result<Option<Tag>> {
    let mut bytes = Vec::new();
    reader.take(8).read_to_end(&mut bytes)?;
    match *bytes.as_slice() {
        [] => Ok(None),
        [a, b, c, d, e, f, g, h] => Ok(Some(Tag {
            kind: u32::from_le_bytes([a, b, c, d]),
            size: u32::from_le_bytes([e, f, g, h]),
        })),
        _ => bail!("the file is cut off"),
    }
}

/// The array that an element is, if it is one of the names.
fn element(tag: &Tag, body: &mut impl Read, names: &[&str]) -> Result<Option<(String, Array)>> {
    match tag.kind {
        kind::MATRIX => matrix(body, names),
        kind::COMPRESSED => {
            let mut inflated = ZlibDecoder::new(body);
            let inner = self::tag(&mut inflated)?.context("it is empty")?;
            ensure!(
                inner.kind == kind::MATRIX,
                "it has data of type {} in compressed form, and an array is of type {}",
                inner.kind,
                kind::MATRIX
            );
            let array = matrix(&mut (&mut inflated).take(inner.size.into()), names)?;
            if array.is_some() {
                // The checksum is at the end.
                io::copy(&mut inflated, &mut io::sink())?;
            }
            Ok(array)
        }
        other => {
            bail!("its type is {other}, and an array's is {} or {}", kind::MATRIX, kind::COMPRESSED)
        }
    }
}

fn matrix(body: &mut impl Read, names: &[&str]) -> Result<Option<(String, Array)>> {
    let flags = short(body, kind::UINT32, "flags")?;
    let [class, flags, ..] = *flags.as_slice() else {
        bail!("its flags are {} bytes", flags.len())
    };
    let dims = short(body, kind::INT32, "dimensions")?;
    let name = short(body, kind::INT8, "name")?;
    let name = String::from_utf8_lossy(&name).into_owned();
    // Numbers are of the classes from 6, double, to 15, uint64; before them come cells, structures,
    // objects, text and sparse arrays.
    if !names.contains(&name.as_str()) || !(6..=15).contains(&class) {
        return Ok(None);
    }
    let complex = flags & 0b1000 != 0;
    ensure!(!complex, "`{name}` has complex numbers");
    let dims = ints(&dims)
        .map(u64::try_from)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("`{name}` has a negative size"))?;
    let count = dims
        .iter()
        .try_fold(1_u64, |count, size| count.checked_mul(*size))
        .with_context(|| format!("`{name}` has sizes {dims:?}"))?;
    let (kind, bytes) = data(body, |size, width| {
        let right = Some(u64::from(size)) == count.checked_mul(width);
        ensure!(right, "`{name}` is of sizes {dims:?} and has {size} bytes, {width} per number");
        Ok(())
    })?;
    let numbers = numbers(kind, bytes).with_context(|| format!("`{name}`"))?;
    Ok(Some((name, Array { dims, numbers })))
}

/// Data of a known type that are never long.
fn short(body: &mut impl Read, expected: u32, what: &str) -> Result<Vec<u8>> {
    let fits = |size: u32, _| {
        ensure!(u64::from(size) <= SHORT, "its {what} take {size} bytes, which is too much");
        Ok(())
    };
    let (kind, bytes) = data(body, fits)?;
    ensure!(kind == expected, "its {what} are of type {kind}, and should be of {expected}");
    Ok(bytes)
}

/// Data with the tag before and the padding behind them: their type and their bytes. `fits` sees
/// the number of bytes, and how many a number takes.
fn data(body: &mut impl Read, fits: impl Fn(u32, u64) -> Result<()>) -> Result<(u32, Vec<u8>)> {
    let mut word = || -> Result<u32> {
        let mut bytes = [0; 4];
        body.read_exact(&mut bytes).context("it is cut off")?;
        Ok(u32::from_le_bytes(bytes))
    };
    let first = word()?;
    // Four bytes or less stand in the tag itself, behind their number in its upper half.
    let small = first >> 16 != 0;
    let (kind, size) = if small { (first & 0xffff, first >> 16) } else { (first, word()?) };
    ensure!(!small || size <= 4, "it has {size} bytes in a place for 4");
    fits(
        size,
        width(kind).with_context(|| format!("it has data of type {kind}, which are no numbers"))?,
    )?;
    let mut bytes = Vec::new();
    body.take(size.into()).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() == size as usize,
        "it is cut off: {} of {size} bytes are there",
        bytes.len()
    );
    let padded = if small { 4 } else { u64::from(size).next_multiple_of(8) };
    // What ends an array may go without.
    io::copy(&mut body.take(padded - u64::from(size)), &mut io::sink())?;
    Ok((kind, bytes))
}

/// Bytes of a number.
fn width(kind: u32) -> Option<u64> {
    match kind {
        1 | 2 => Some(1),
        3 | 4 => Some(2),
        5..=7 => Some(4),
        9 | 12 | 13 => Some(8),
        _ => None,
    }
}

fn ints(bytes: &[u8]) -> impl Iterator<Item = i32> {
    bytes.chunks_exact(4).filter_map(|bytes| bytes.try_into().ok()).map(i32::from_le_bytes)
}

fn numbers(kind: u32, bytes: Vec<u8>) -> Result<Numbers> {
    /// The numbers of a type, each made an integer.
    macro_rules! each {
        ($number:ty, $integer:expr) => {{
            let numbers =
                bytes.chunks_exact(size_of::<$number>()).filter_map(|bytes| bytes.try_into().ok());
            Numbers::Integers(
                numbers.map(<$number>::from_le_bytes).map($integer).collect::<Result<_>>()?,
            )
        }};
    }
    fn whole(number: f64) -> Result<i64> {
        ensure!(number.fract() == 0. && number.abs() < 2_f64.powi(53), "{number} is no integer");
        Ok(number as i64)
    }
    Ok(match kind {
        1 => each!(i8, |number| Ok(number.into())),
        2 => Numbers::Bytes(bytes),
        3 => each!(i16, |number| Ok(number.into())),
        4 => each!(u16, |number| Ok(number.into())),
        5 => each!(i32, |number| Ok(number.into())),
        6 => each!(u32, |number| Ok(number.into())),
        7 => each!(f32, |number| whole(number.into())),
        9 => each!(f64, whole),
        12 => each!(i64, Ok),
        13 => each!(u64, |number: u64| Ok(number.try_into()?)),
        _ => bail!("data of type {kind} are no numbers"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::written::{DOUBLE, UINT8, array, compressed, file};
    use super::*;

    fn parsed(bytes: &[u8]) -> Result<[Array; 2]> {
        arrays(bytes, ["a", "b"])
    }

    fn said(bytes: &[u8]) -> String {
        parsed(bytes).err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[test]
    fn integers_are_read_from_every_type() -> Result<()> {
        let bytes = array("a", UINT8, &[2, 3], 2, &[1, 2, 3, 4, 5, 6]);
        for (kind, number) in [
            (1, (-3_i8).to_le_bytes().to_vec()),
            (3, (-3_i16).to_le_bytes().to_vec()),
            (5, (-3_i32).to_le_bytes().to_vec()),
            (7, (-3_f32).to_le_bytes().to_vec()),
            (9, (-3_f64).to_le_bytes().to_vec()),
            (12, (-3_i64).to_le_bytes().to_vec()),
        ] {
            let [a, b] =
                parsed(&file(&[bytes.clone(), array("b", DOUBLE, &[1, 1], kind, &number)]))?;
            assert_eq!(
                a,
                Array { dims: vec![2, 3], numbers: Numbers::Bytes(vec![1, 2, 3, 4, 5, 6]) }
            );
            assert_eq!(
                b,
                Array { dims: vec![1, 1], numbers: Numbers::Integers(vec![-3]) },
                "type {kind}"
            );
        }
        for (kind, number) in [
            (4, 40_000_u16.to_le_bytes().to_vec()),
            (6, 40_000_u32.to_le_bytes().to_vec()),
            (13, 40_000_u64.to_le_bytes().to_vec()),
        ] {
            let [_, b] =
                parsed(&file(&[bytes.clone(), array("b", DOUBLE, &[1, 1], kind, &number)]))?;
            assert_eq!(b.numbers, Numbers::Integers(vec![40_000]), "type {kind}");
        }
        Ok(())
    }

    #[test]
    fn damage_is_said_with_its_place() -> Result<()> {
        let (a, b) = (array("a", UINT8, &[3, 3], 2, &[0; 9]), array("b", DOUBLE, &[1, 1], 2, &[1]));
        let whole = file(&[a.clone(), b.clone()]);
        parsed(&whole)?;
        insta::assert_snapshot!(said(&whole[..100]), @"it is no MAT file: it is too short: failed to fill whole buffer");
        insta::assert_snapshot!(said(&whole[..whole.len() - 1]), @"array at byte 200: 1 of its 48 bytes are not there");
        insta::assert_snapshot!(said(&whole[..132]), @"at byte 128: the file is cut off");
        insta::assert_snapshot!(said(&[&whole[..], &b].concat()), @"it has two arrays `b`");
        let patched = |at: usize, bytes: &[u8]| {
            let mut patched = whole.clone();
            patched[at..at + bytes.len()].copy_from_slice(bytes);
            said(&patched)
        };
        insta::assert_snapshot!(patched(124, &[0, 2]), @"it is a MAT file of version 7.3, and only those of version 5 are read; MATLAB writes one by `save -v7`");
        insta::assert_snapshot!(patched(124, b"\x01\0MI"), @"it is a big-endian MAT file, and only little-endian ones are read");
        insta::assert_snapshot!(patched(126, b"??"), @"it is no MAT file of version 5");
        insta::assert_snapshot!(patched(128, &[99]), @"array at byte 128: its type is 99, and an array's is 14 or 15");
        insta::assert_snapshot!(patched(132, &[255; 4]), @"array at byte 128: 4294967175 of its 4294967295 bytes are not there");
        insta::assert_snapshot!(patched(156, &[255; 4]), @"array at byte 128: its dimensions take 4294967295 bytes, which is too much");
        insta::assert_snapshot!(patched(160, &[255; 4]), @"array at byte 128: `a` has a negative size: out of range integral type conversion attempted");
        insta::assert_snapshot!(patched(160, &[255, 255, 255, 127, 255, 255, 255, 127]), @"array at byte 128: `a` is of sizes [2147483647, 2147483647] and has 9 bytes, 1 per number");
        insta::assert_snapshot!(patched(145, &[8]), @"array at byte 128: `a` has complex numbers");
        let mut squeezed = file(&[compressed(&a)?, compressed(&b)?]);
        parsed(&squeezed)?;
        insta::assert_snapshot!(said(&file(&[compressed(&compressed(&a)?)?])), @"array at byte 128: it has data of type 15 in compressed form, and an array is of type 14");
        squeezed[136] ^= 0xff;
        // What is wrong with the stream, the library says in its own words.
        let damaged = said(&squeezed);
        assert!(
            damaged.starts_with("array at byte 128: ") && damaged.contains("deflate"),
            "{damaged}"
        );
        Ok(())
    }

    #[test]
    fn no_damage_is_worse_than_an_error() -> Result<()> {
        let arrays = [
            array("a", UINT8, &[4, 4, 3, 2], 2, &(0..96).collect::<Vec<_>>()),
            array("b", DOUBLE, &[2, 1], 2, &[1, 10]),
        ];
        let squeezed = arrays.iter().map(|array| compressed(array)).collect::<Result<Vec<_>>>()?;
        let mut rng = fastrand::Rng::with_seed(0);
        for whole in [file(&arrays), file(&squeezed)] {
            let mut refused = 0;
            for _ in 0..400 {
                let mut damaged = whole.clone();
                for _ in 0..rng.usize(1..4) {
                    let place = rng.usize(120..damaged.len());
                    damaged[place] = [rng.u8(..), 0, 0x7f, 0xff][rng.usize(..4)];
                }
                damaged.truncate(if rng.bool() {
                    damaged.len()
                } else {
                    rng.usize(..damaged.len())
                });
                refused += usize::from(parsed(&damaged).is_err());
            }
            assert!(refused > 200, "{refused} of 400");
        }
        Ok(())
    }
}
