//! MAT files for tests, written byte by byte.

use std::io::Write;

use anyhow::Result;
use flate2::Compression;
use flate2::write::ZlibEncoder;

pub(super) const DOUBLE: u8 = 6;
pub(super) const UINT8: u8 = 9;

/// A file of some arrays.
pub(super) fn file(arrays: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes =
        b"MATLAB 5.0 MAT-file, Platform: GLNXA64, Created on: Thu Jan  1 00:00:00 1970".to_vec();
    bytes.resize(116, b' ');
    bytes.extend([0; 8]);
    bytes.extend([0, 1, b'I', b'M']);
    bytes.extend(arrays.concat());
    bytes
}

/// An array: its name, class and sizes, the type that its numbers are stored in, and their bytes.
pub(super) fn array(name: &str, class: u8, dims: &[i32], kind: u32, numbers: &[u8]) -> Vec<u8> {
    let flags = data(6, &[class, 0, 0, 0, 0, 0, 0, 0]);
    let dims = data(5, &dims.iter().flat_map(|size| size.to_le_bytes()).collect::<Vec<_>>());
    data(14, &[flags, dims, data(1, name.as_bytes()), data(kind, numbers)].concat())
}

/// Data with their tag and padding, in the short form where MATLAB writes that.
fn data(kind: u32, bytes: &[u8]) -> Vec<u8> {
    let size = bytes.len() as u32;
    let (mut all, block) = if (1..=4).contains(&size) {
        ((size << 16 | kind).to_le_bytes().to_vec(), 4)
    } else {
        ([kind.to_le_bytes(), size.to_le_bytes()].concat(), 8)
    };
    all.extend(bytes);
    all.resize(all.len() + (size.next_multiple_of(block) - size) as usize, 0);
    all
}

/// An array in compressed form.
pub(super) fn compressed(array: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(array)?;
    let bytes = encoder.finish()?;
    Ok([&15_u32.to_le_bytes(), &(bytes.len() as u32).to_le_bytes(), bytes.as_slice()].concat())
}
