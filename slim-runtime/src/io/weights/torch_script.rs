//! Reads the tensors of TorchScript archives: those of tch's `VarStore::save`, a module whose
//! attributes are the variables, and those of `torch.jit.save`, modules in modules.
//!
//! libtorch's own reader compiles and runs the code in such a file, so that an untrusted file could
//! do anything. This module reads the pickle like that of any PyTorch file, and ignores the code.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use pytorch_reader::PytorchReader;
use tch::Tensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::archive::{self, Archive};
use super::problem::Result;
use super::tensors;

/// Reads the tensors of a TorchScript archive.
///
/// # Errors
/// A damaged archive, or a pickle that libtorch does not write.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let mut archive = archive::checked(path)?;
    let names = archive.names()?;
    let pickle = names.iter().find(|name| archive::is_at_root(name, "data.pkl"));
    let pickle = archive.read(pickle.ok_or("it is a TorchScript archive without `data.pkl`")?)?;
    let dicts = objects_as_dicts(pickle).ok_or(
        "it is a TorchScript archive whose `data.pkl` libtorch did not write; save its `state_dict()` with `torch.save`",
    )?;
    let reader = PytorchReader::from_bytes(with_pickle(&mut archive, &dicts)?, None)?;
    let named = reader.into_tensors();
    let there = named.len();
    // tch replaces dots by `|`, since attribute names have no dots.
    let named: BTreeMap<_, _> =
        named.into_iter().map(|(name, tensor)| (name.replace('|', "."), tensor)).collect();
    if named.len() != there {
        return Err(format!("it has {there} tensors with {} different names", named.len()).into());
    }
    tensors::read(named, path.metadata()?.len())
}

/// The pickle with each object replaced by the dict of its attributes, in which modules are nested
/// as in a state dict; `None` for opcodes that libtorch does not write.
///
/// libtorch writes an object as its class, an empty tuple, NEWOBJ, a dict of its attributes, and
/// BUILD. Here, POP removes the class instead, and EMPTY_DICT takes the place of the object, which
/// BUILD then fills.
fn objects_as_dicts(mut pickle: Vec<u8>) -> Option<Vec<u8>> {
    const EMPTY_TUPLE: u8 = b')';
    const NEWOBJ: u8 = 0x81;
    const POP: u8 = b'0';
    const EMPTY_DICT: u8 = b'}';
    const STOP: u8 = b'.';
    let mut at = 0;
    loop {
        match *pickle.get(at)? {
            STOP => return Some(pickle),
            EMPTY_TUPLE if pickle.get(at + 1) == Some(&NEWOBJ) => {
                pickle[at..at + 2].copy_from_slice(&[POP, EMPTY_DICT]);
                at += 2;
            }
            _ => at += length(&pickle[at..])?,
        }
    }
}

/// The length in bytes of the first opcode of a pickle with its argument; `None` for an opcode that
/// libtorch does not write.
fn length(pickle: &[u8]) -> Option<usize> {
    let prefixed = |bytes: usize| {
        let prefix = pickle.get(1..1 + bytes)?;
        let length = prefix.iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        (1 + bytes).checked_add(length)
    };
    match pickle.first()? {
        // MARK, NONE, BINPERSID, REDUCE, APPEND, BUILD, EMPTY_DICT, APPENDS, SETITEM, TUPLE,
        // EMPTY_TUPLE, SETITEMS, EMPTY_LIST, LIST, DICT, TUPLE1 to TUPLE3, NEWTRUE, NEWFALSE.
        b'('
        | b'N'
        | b'Q'
        | b'R'
        | b'a'
        | b'b'
        | b'}'
        | b'e'
        | b's'
        | b't'
        | b')'
        | b'u'
        | b']'
        | b'l'
        | b'd'
        | 0x85..=0x89 => Some(1),
        // PROTO, BININT1, BINGET, BINPUT.
        0x80 | b'K' | b'h' | b'q' => Some(2),
        // BININT2.
        b'M' => Some(3),
        // BININT, LONG_BINGET, LONG_BINPUT.
        b'J' | b'j' | b'r' => Some(5),
        // BINFLOAT.
        b'G' => Some(9),
        // LONG1, SHORT_BINSTRING.
        0x8a | b'U' => prefixed(1),
        // BINUNICODE, BINSTRING.
        b'X' | b'T' => prefixed(4),
        // GLOBAL: two lines.
        b'c' => {
            let mut ends = pickle.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            ends.nth(1).map(|(end, _)| end + 1)
        }
        _ => None,
    }
}

/// A copy of the archive's tensors with another pickle.
fn with_pickle(archive: &mut Archive, pickle: &[u8]) -> Result<Vec<u8>> {
    let mut copy = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..archive.zip.len() {
        let entry = archive.zip.by_index_raw(index)?;
        let name = entry.name()?.into_owned();
        if let Some(("data", key)) = name.split_once('/').and_then(|(_, rest)| rest.split_once('/'))
        {
            copy.raw_copy_file_rename(entry, format!("file/data/{key}"))?;
        }
    }
    copy.start_file(
        "file/data.pkl",
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored),
    )?;
    copy.write_all(pickle)?;
    Ok(copy.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_becomes_the_dict_of_its_attributes() {
        // A string whose bytes look like an object's stays.
        let object = b"\x80\x02c__torch__\nNet\nq\x00)\x81}(X\x02\x00\x00\x00)\x81NubN.";
        let dict = b"\x80\x02c__torch__\nNet\nq\x000}}(X\x02\x00\x00\x00)\x81NubN.";
        assert_eq!(objects_as_dicts(object.to_vec()).as_deref(), Some(&dict[..]));
    }

    #[test]
    fn other_opcodes_and_pickles_that_end_early_are_refused() {
        for pickle in [&b"\x80\x02i"[..], b"", b"X\xff\xff\xff\xff", b"c__torch__\n", b"\x80", b"N"]
        {
            assert_eq!(objects_as_dicts(pickle.to_vec()), None, "{pickle:?}");
        }
    }
}
