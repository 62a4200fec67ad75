//! Files of PyTorch, of tch and of the reference implementation: a damaged file is refused by name,
//! and no file makes a network that does not run.

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::select;
use slim_cli::model::{Model, Wanted};
use slim_cli::network::Arch;
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::guard::fuzz;
use crate::mutation::{Mutation, mutated, mutations, pieces};

fn fixture(name: &str) -> PathBuf {
    slim_tests::place::path("fixtures/checkpoints").join(name)
}

fn vgg() -> Wanted {
    Wanted {
        cfg: Some("[8, 'M', 8, 'M', 8, 8, 'M', 12, 12, 'M', 12, 12]".parse().unwrap()),
        ..Wanted::default()
    }
}

/// Files, and the options that a user gives for them.
fn files() -> Vec<(Vec<u8>, Wanted)> {
    let folder = tempfile::tempdir().unwrap();
    let ot = folder.path().join("vgg11.ot");
    Model::read(&fixture("vgg11.pth"), &vgg(), Device::Cpu).unwrap().vs.save(&ot).unwrap();
    let (pruned, densenet) =
        (Wanted::default(), Wanted { arch: Some(Arch::Densenet), ..Wanted::default() });
    let of_vgg =
        ["vgg11_f16.pth", "vgg11_legacy.pth", "vgg11.pth.tar"].map(|name| (fixture(name), vgg()));
    let others = [
        (fixture("vgg11_pruned.pth.tar"), pruned),
        (fixture("densenet7_pruned.pth.tar"), densenet),
        (ot, vgg()),
    ];
    of_vgg
        .into_iter()
        .chain(others)
        .map(|(file, wanted)| (std::fs::read(file).unwrap(), wanted))
        .collect()
}

fn dictionary() -> Vec<Vec<u8>> {
    let mut dictionary = pieces(&[
        "a.b",
        "module.",
        "0",
        "-1",
        "9999999999",
        "M",
        "state_dict",
        "cfg",
        "select.indexes",
        "FloatStorage",
        "DoubleStorage",
        "LongStorage",
        "\n",
    ]);
    let opcodes: [&[u8]; 24] = [
        b"]",
        b"}",
        b"(",
        b")",
        b"t",
        b"R",
        b"b",
        b"0",
        b"2",
        b"N",
        b"q\0",
        b"h\0",
        b"K\0",
        b"K\xff",
        b"M\xff\xff",
        b"J\xff\xff\xff\x7f",
        b"J\xff\xff\xff\xff",
        b"Q",
        b".",
        b"\x81",
        b"\x85",
        b"\x86",
        b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"cos\nsystem\n",
    ];
    dictionary.extend(opcodes.map(<[u8]>::to_vec));
    dictionary.extend([b"(", b"]", b"2"].map(|piece| piece.repeat(3000)));
    dictionary
}

/// The mutated part: the bytes of the file, or the pickle inside a sound zip.
#[derive(Debug, Clone)]
pub enum Change {
    Bytes(Vec<Mutation>),
    Pickle(Vec<Mutation>),
}

pub fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => mutations(dictionary()).prop_map(Change::Bytes),
        3 => mutations(dictionary()).prop_map(Change::Pickle),
    ]
}

pub fn changed(file: &[u8], change: &Change) -> Vec<u8> {
    match change {
        Change::Bytes(mutations) => mutated(file, mutations),
        Change::Pickle(mutations) if file.starts_with(b"PK") => with_pickle(file, mutations),
        // The pickles of other files are at the front.
        Change::Pickle(mutations) => {
            let (pickles, rest) = file.split_at(file.len() / 4);
            [&mutated(pickles, mutations)[..], rest].concat()
        }
    }
}

fn with_pickle(file: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut zip = ZipArchive::new(Cursor::new(file)).unwrap();
    let mut copy = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        if name.ends_with("/data.pkl") {
            let mut pickle = Vec::new();
            entry.read_to_end(&mut pickle).unwrap();
            copy.start_file(
                name,
                SimpleFileOptions::default().compression_method(CompressionMethod::Stored),
            )
            .unwrap();
            copy.write_all(&mutated(&pickle, mutations)).unwrap();
        } else {
            copy.raw_copy_file(entry).unwrap();
        }
    }
    copy.finish().unwrap().into_inner()
}

fn check(path: &Path, bytes: &[u8], wanted: &Wanted) -> bool {
    std::fs::write(path, bytes).unwrap();
    match Model::read(path, wanted, Device::Cpu) {
        Ok(model) => {
            let image = Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu));
            assert_eq!(model.net.forward_t(&image, false).size(), [1, 10]);
            true
        }
        Err(error) => {
            assert!(format!("{error:#}").starts_with(&path.display().to_string()), "{error:#}");
            false
        }
    }
}

#[derive(Debug, Clone)]
struct Input(Vec<u8>, Wanted);

impl AsRef<[u8]> for Input {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn files_of_pytorch_and_of_tch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fuzzed");
    let inputs = (select(files()), change())
        .prop_map(|((file, wanted), change)| Input(changed(&file, &change), wanted));
    fuzz(250, inputs, |Input(bytes, wanted)| check(&path, bytes, wanted));
}
