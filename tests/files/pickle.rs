//! PyTorch files that PyTorch itself never writes.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A tensor as a pickle describes it: its storage, and its shape.
pub struct Said<'s> {
    pub name: &'s str,
    /// The kind of the storage: `Float` or any other.
    pub kind: &'s str,
    pub key: &'s str,
    pub elements: i64,
    pub shape: &'s [i64],
}

/// A tensor over a whole storage `0` of floats.
pub fn floats<'s>(name: &'s str, elements: i64, shape: &'s [i64]) -> Said<'s> {
    Said { name, kind: "Float", key: "0", elements, shape }
}

pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub fn number(number: i64) -> Vec<u8> {
    [b"\x8a\x08", &number.to_le_bytes()[..]].concat()
}

fn tuple(numbers: impl Iterator<Item = i64>) -> Vec<u8> {
    [b"(".to_vec(), numbers.flat_map(number).collect(), b"t".to_vec()].concat()
}

impl Said<'_> {
    fn opcodes(&self) -> Vec<u8> {
        let strides = (1..=self.shape.len()).map(|dim| {
            self.shape[dim..].iter().fold(1_i64, |product, size| product.saturating_mul(*size))
        });
        [
            text(self.name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            format!("ctorch\n{}Storage\n", self.kind).into_bytes(),
            text(self.key),
            text("cpu"),
            number(self.elements),
            b"tQK\0".to_vec(),
            tuple(self.shape.iter().copied()),
            tuple(strides),
            b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
        ]
        .concat()
    }
}

/// The opcodes of a dict of tensors.
pub fn dict(tensors: &[Said]) -> Vec<u8> {
    [b"}(".to_vec(), tensors.iter().flat_map(Said::opcodes).collect(), b"u".to_vec()].concat()
}

/// A file of `{'cfg', 'state_dict'}`. The opcodes of `cfg` may be anything.
pub fn reference(cfg: &[u8], tensors: &[Said]) -> Vec<u8> {
    let root = [
        b"}(".to_vec(),
        text("cfg"),
        cfg.to_vec(),
        text("state_dict"),
        dict(tensors),
        b"u".to_vec(),
    ]
    .concat();
    file(&root, &[("0", &[0; 4 * 64])])
}

/// A file of `torch.save` with these opcodes in its pickle, and these storages.
pub fn file(opcodes: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let pickle = [b"\x80\x02", opcodes, b"."].concat();
    let storages = storages.iter().map(|(key, bytes)| (format!("file/data/{key}"), *bytes));
    let entries: Vec<_> =
        [("file/data.pkl".to_owned(), &pickle[..])].into_iter().chain(storages).collect();
    archive(&entries, CompressionMethod::Stored)
}

pub fn archive(entries: &[(String, &[u8])], compression: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(name, SimpleFileOptions::default().compression_method(compression)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Replaces a name in the file by another of the same length.
pub fn renamed(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let places: Vec<_> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, name)| *name == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty() && from.len() == to.len());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// The tensors of a VGG with one layer of two channels, each of zeros.
const TINY: [(&str, i64, &[i64]); 7] = [
    ("feature.0.weight", 54, &[2, 3, 3, 3]),
    ("feature.1.weight", 2, &[2]),
    ("feature.1.bias", 2, &[2]),
    ("feature.1.running_mean", 2, &[2]),
    ("feature.1.running_var", 2, &[2]),
    ("classifier.weight", 20, &[10, 2]),
    ("classifier.bias", 10, &[10]),
];

/// A file of that VGG: its names start with `prefix`, its classifier is of a `kind`, and `around`
/// wraps the dict.
pub fn tiny_vgg(prefix: &str, kind: &str, around: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let keys: Vec<_> =
        (0..TINY.len()).map(|key| (key.to_string(), format!("{prefix}{}", TINY[key].0))).collect();
    let said = TINY.iter().zip(&keys).map(|((plain, elements, shape), (key, name))| {
        let kind = if *plain == "classifier.weight" { kind } else { "Float" };
        Said { name, kind, key, elements: *elements, shape }
    });
    let bytes = [0; 8 * 54];
    let storages: Vec<_> = keys.iter().map(|(key, _)| (key.as_str(), &bytes[..])).collect();
    file(&around(dict(&said.collect::<Vec<_>>())), &storages)
}
