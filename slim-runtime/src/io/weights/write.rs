//! Writes tensors as `torch.save` writes a state dict, so that `torch.load(weights_only=True)`
//! reads them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use tch::{Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::error::FileError;
use crate::io::atomic;
use crate::io::checkpoint::bytes;
use crate::{Error, Result};

/// The root folder in the archive; PyTorch takes any name.
const ROOT: &str = "archive";
/// PyTorch aligns values so, in order to map them into memory.
const ALIGNMENT: u16 = 64;

/// Writes tensors in row-major order, whatever their strides.
///
/// # Errors
/// [`Error::Io`], [`FileError::Format`] for a kind that PyTorch's storages do not have,
/// [`Error::Torch`]. A file at `path` is then unchanged.
pub(super) fn state_dict(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let pickle = pickle(tensors)
        .map_err(|reason| Error::File(FileError::Format { file: path.to_owned(), reason }))?;
    let mut failed = None;
    let written = atomic::write(path, |file| {
        let mut zip = ZipWriter::new(file);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT);
        let mut entry = |name: &str, bytes: &[u8]| {
            let options = options.large_file(u32::try_from(bytes.len()).is_err());
            zip.start_file(format!("{ROOT}/{name}"), options)?;
            zip.write_all(bytes)
        };
        entry("data.pkl", &pickle)?;
        entry("byteorder", if cfg!(target_endian = "little") { b"little" } else { b"big" })?;
        for (index, (name, tensor)) in tensors.iter().enumerate() {
            let bytes = bytes(tensor).map_err(|cause| {
                failed = Some(Error::torch(name)(cause));
                io::Error::other("libtorch failed")
            })?;
            entry(&format!("data/{index}"), &bytes)?;
        }
        entry("version", b"3\n")?;
        zip.finish()?;
        Ok(())
    });
    match (failed, written) {
        (Some(error), _) => Err(error),
        (None, Err(cause)) => Err(Error::Io { file: path.to_owned(), action: "write", cause }),
        (None, Ok(())) => Ok(()),
    }
}

/// The pickle of an `OrderedDict` from names to calls of `torch._utils._rebuild_tensor_v2`, in
/// protocol 2.
fn pickle(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>, String> {
    const EMPTY_ORDERED_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";
    let mut out = b"\x80\x02".to_vec();
    out.extend(EMPTY_ORDERED_DICT);
    out.push(b'('); // MARK
    for (index, (name, tensor)) in tensors.iter().enumerate() {
        let kind = tensor.f_kind().map_err(|_| format!("`{name}` is undefined"))?;
        let storage = storage(kind)
            .ok_or_else(|| format!("`{name}` is of kind {kind:?}, which slim does not write"))?;
        text(&mut out, name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{storage}\n").as_bytes());
        text(&mut out, &index.to_string());
        text(&mut out, "cpu");
        integer(&mut out, tensor.numel() as i64);
        out.extend(b"tQ"); // TUPLE, BINPERSID: the storage
        integer(&mut out, 0);
        let size = tensor.size();
        tuple(&mut out, &size);
        tuple(&mut out, &row_major_strides(&size));
        out.push(0x89); // NEWFALSE: requires no gradient
        out.extend(EMPTY_ORDERED_DICT);
        out.extend(b"tR"); // TUPLE, REDUCE
    }
    out.extend(b"u."); // SETITEMS, STOP
    Ok(out)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X'); // BINUNICODE
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn integer(out: &mut Vec<u8>, number: i64) {
    match i32::try_from(number) {
        Ok(number) => {
            out.push(b'J'); // BININT
            out.extend(number.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8a, 8]); // LONG1
            out.extend(number.to_le_bytes());
        }
    }
}

fn tuple(out: &mut Vec<u8>, numbers: &[i64]) {
    out.push(b'(');
    numbers.iter().for_each(|&number| integer(out, number));
    out.push(b't');
}

fn row_major_strides(size: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; size.len()];
    for dim in (1..size.len()).rev() {
        strides[dim - 1] = strides[dim] * size[dim];
    }
    strides
}

/// The class of PyTorch's storages of a kind; `None` for a kind that networks do not have.
fn storage(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Double => "DoubleStorage",
        Kind::Float => "FloatStorage",
        Kind::Half => "HalfStorage",
        Kind::BFloat16 => "BFloat16Storage",
        Kind::Int64 => "LongStorage",
        Kind::Int => "IntStorage",
        Kind::Int16 => "ShortStorage",
        Kind::Int8 => "CharStorage",
        Kind::Uint8 => "ByteStorage",
        Kind::Bool => "BoolStorage",
        _ => return None,
    })
}
