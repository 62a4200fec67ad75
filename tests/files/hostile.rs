//! Broken and malicious files: an error names them, and nothing else happens.

use std::fs;
use std::path::{Path, PathBuf};

use slim_cli::model::{Model, Wanted};
use slim_cli::network::{Arch, Spec};
use tch::{Device, Kind, Tensor};
use zip::CompressionMethod;

use crate::pickle::{
    Said, archive, dict, file, floats, number, reference, renamed, text, tiny_vgg,
};
use crate::{fixture, read, refused, values, vgg};

/// A temporary folder for one file.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("file")
    }

    /// The error for a file with these bytes.
    pub fn refused(&self, bytes: &[u8], wanted: &Wanted) -> String {
        fs::write(self.path(), bytes).unwrap();
        refused(&self.path(), wanted)
    }
}

pub fn nothing() -> Wanted {
    Wanted::default()
}

/// The header of a safetensors file.
pub fn header(header: &serde_json::Value) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}

/// The only linear layer of the smallest VGG.
pub const CLASSIFIER: &str = "classifier.weight";

#[test]
fn a_file_that_ends_early_is_refused_at_any_length() {
    let folder = Folder::new();
    let ot = folder.0.path().join("sound.ot");
    read(&fixture("vgg11.pth"), &vgg()).vs.save(&ot).unwrap();
    for form in ["vgg11.pth", "vgg11.pth.tar", "vgg11_legacy.pth", "vgg11.safetensors"]
        .map(fixture)
        .into_iter()
        .chain([ot])
    {
        let bytes = fs::read(form).unwrap();
        let lengths = (0..bytes.len())
            .step_by(bytes.len() / 60)
            .chain(0..20)
            .chain(bytes.len() - 20..bytes.len());
        for length in lengths {
            folder.refused(&bytes[..length], &vgg());
        }
    }
}

#[test]
fn other_files_are_none() {
    let folder = Folder::new();
    insta::assert_snapshot!(folder.refused(b"", &nothing()), @"FILE: is empty");
    let other = folder.refused(b"\x89PNG\r\n\x1a\n", &nothing());
    insta::assert_snapshot!(other, @"FILE: is neither a safetensors file nor one that PyTorch or tch saved");
    for bytes in
        [&b"x"[..], b"# a text\n", b"\x1f\x8b\x08\0\0\0\0\0\0\0", &[0; 4096], &[0xff; 4096]]
    {
        assert_eq!(folder.refused(bytes, &nothing()), other);
    }
    insta::assert_snapshot!(folder.refused(&archive(&[("a.txt".to_owned(), b"a")], CompressionMethod::Stored), &nothing()), @"FILE: invalid PyTorch file format: No data.pkl entry found in ZIP archive. Expected a PyTorch 1.6+ checkpoint");
    let tar = [&[0; 257][..], b"ustar", &[0; 762]].concat();
    insta::assert_snapshot!(folder.refused(&tar, &nothing()), @"FILE: is no sound tar archive: an entry is larger than the file");
    insta::assert_snapshot!(folder.refused(b"(dp0\nVepoch\np1\nI3\ns.", &nothing()), @r#"FILE: it holds no tensors, at the top or under state_dict, model, model_state_dict, net; it has ["epoch"]"#);
    insta::assert_snapshot!(folder.refused(b"PK", &nothing()), @"FILE: no sound zip file: invalid Zip archive: Could not find EOCD");
}

#[test]
fn what_is_no_file_is_said() {
    let folder = Folder::new();
    insta::assert_snapshot!(refused(folder.0.path(), &nothing()), @"FILE: is a folder; give the file in it");
    insta::assert_snapshot!(refused(&folder.path(), &nothing()), @"FILE: cannot read: No such file or directory (os error 2)");
    #[cfg(unix)]
    insta::assert_snapshot!(refused(Path::new("/dev/zero"), &nothing()), @"FILE: is no regular file");
}

#[test]
fn a_file_that_cannot_be_read_is_said() {
    let folder = Folder::new();
    fs::write(folder.path(), "a file, and no folder").unwrap();
    #[cfg(unix)]
    insta::assert_snapshot!(refused(&folder.path().join("model.pth"), &nothing()), @"FILE: cannot read: Not a directory (os error 20)");
    // The first page of a process is not mapped, so even the administrator cannot read it.
    #[cfg(target_os = "linux")]
    insta::assert_snapshot!(refused(Path::new("/proc/self/mem"), &nothing()), @"FILE: cannot read: Input/output error (os error 5)");
}

#[test]
fn a_file_is_named_whatever_it_is_called() {
    // Also names with which these errors begin.
    for name in ["c", "cannot", "cannot read"] {
        let said = Model::read(Path::new(name), &nothing(), Device::Cpu).unwrap_err();
        let said = format!("{said:#}");
        assert!(said.starts_with(&format!("{name}: cannot read: ")), "{said}");
    }
}

#[test]
fn a_command_in_a_pickle_is_not_run() {
    for name in ["command.hostile", "command_legacy.hostile"] {
        assert!(fs::read(fixture(name)).unwrap().windows(9).any(|bytes| bytes == b"touch ran"));
    }
    insta::assert_snapshot!(refused(&fixture("command.hostile"), &vgg()), @r#"FILE: it holds no tensors, at the top or under state_dict, model, model_state_dict, net; it has ["state_dict"]"#);
    insta::assert_snapshot!(refused(&fixture("command_legacy.hostile"), &vgg()), @r#"FILE: it holds no tensors, at the top or under state_dict, model, model_state_dict, net; it has ["a"]"#);
    assert!(!Path::new("ran").exists());
    // Beside weights the command does not run either, and the weights can be read.
    let command = b"cposix\nsystem\nX\x09\0\0\0touch ran\x85R";
    let root = [
        b"}(".to_vec(),
        text("config"),
        command.to_vec(),
        text("state_dict"),
        dict(&[floats("a", 2, &[2])]),
        b"u".to_vec(),
    ]
    .concat();
    let said = Folder::new().refused(&file(&root, &[("0", &[0; 8])]), &vgg());
    assert!(said.contains("`a` is not in the store"), "{said}");
    assert!(!Path::new("ran").exists());
}

#[test]
fn kinds_that_are_no_weights_are_said() {
    insta::assert_snapshot!(refused(&fixture("complex.hostile"), &vgg()), @"FILE: pickle: unsupported Python type 'torch.ComplexFloatStorage'. The file holds tensor data in a form this reader cannot represent.");
    insta::assert_snapshot!(refused(&fixture("quantised.hostile"), &vgg()), @"FILE: pickle: unsupported Python type 'torch.QInt8Storage'. The file holds tensor data in a form this reader cannot represent.");
    insta::assert_snapshot!(refused(&fixture("sparse.hostile"), &vgg()), @"FILE: pickle: unsupported Python type 'torch._utils._rebuild_sparse_tensor'. The file holds tensor data in a form this reader cannot represent.");
    insta::assert_snapshot!(refused(&fixture("expanded.hostile"), &vgg()), @"FILE: its tensors would take 480000000 bytes, `classifier.weight` alone 480000000, and the file has 1648: they are views of the same values");
    let script = refused(&fixture("script.hostile"), &vgg());
    insta::assert_snapshot!(script.lines().next().unwrap(), @"FILE: it does not hold vgg [8, 'M', 8, 'M', 8, 8, 'M', 12, 12, 'M', 12, 12], 10 classes; say the --arch, --depth or --cfg that it was trained with:");
    let folder = Folder::new();
    let tiny = Wanted { cfg: Some("[2]".parse().unwrap()), ..Wanted::default() };
    let whole = |kind| tiny_vgg("", kind, |dict| dict);
    insta::assert_snapshot!(folder.refused(&whole("Long"), &tiny), @r"
    FILE: it does not hold vgg [2], 10 classes; say the --arch, --depth or --cfg that it was trained with:
      `classifier.weight` is of type I64, which is not supported
    ");
    insta::assert_snapshot!(folder.refused(&whole("Bool"), &tiny), @r"
    FILE: it does not hold vgg [2], 10 classes; say the --arch, --depth or --cfg that it was trained with:
      `classifier.weight` is of type BOOL, which is not supported
    ");
    insta::assert_snapshot!(folder.refused(&whole("ComplexFloat"), &tiny), @"FILE: pickle: unsupported Python type 'torch.ComplexFloatStorage'. The file holds tensor data in a form this reader cannot represent.");
    fs::write(folder.path(), whole("Float")).unwrap();
    read(&folder.path(), &tiny);
}

#[test]
fn tensors_that_are_not_what_they_say_are_refused() {
    let folder = Folder::new();
    let said = |tensors: &[Said], storage: &[u8]| {
        folder.refused(&file(&dict(tensors), &[("0", storage)]), &vgg())
    };
    insta::assert_snapshot!(said(&[floats(CLASSIFIER, 0, &[0, 12])], &[]), @r"
    FILE: it holds tensors that no network has:
      `classifier.weight` is of type F32 and shape [0, 12], which is not supported
    ");
    insta::assert_snapshot!(said(&[floats(CLASSIFIER, 120, &[10, 12])], &[0; 8]), @"FILE: tensor 'classifier.weight': Tensor with shape [10, 12] requires 120 elements from storage '0', but only 2 are available");
    insta::assert_snapshot!(said(&[floats(CLASSIFIER, i64::MAX, &[10, 12])], &[0; 480]), @"FILE: pickle: invalid data in pickle file: storage '0' byte length overflows usize");
    insta::assert_snapshot!(said(&[floats(CLASSIFIER, 120, &[i64::MAX, i64::MAX])], &[0; 480]), @"FILE: pickle: invalid data in pickle file: Tensor shape element count overflows usize");
    insta::assert_snapshot!(said(&[floats(CLASSIFIER, 120, &[-10, -12])], &[0; 480]), @"FILE: pickle: invalid data in pickle file: shape must be non-negative, got -10");
    insta::assert_snapshot!(said(&[floats(CLASSIFIER, 0, &[0, i64::MAX])], &[]), @r"
    FILE: it holds tensors that no network has:
      `classifier.weight` is of type F32 and shape [0, 9223372036854775807], which is not supported
    ");
    let names: Vec<_> = (0..1000).map(|n| format!("a{n}")).collect();
    let shared: Vec<_> = names.iter().map(|name| floats(name, 25_000, &[25_000])).collect();
    insta::assert_snapshot!(said(&shared, &vec![0; 100_000]), @"FILE: its tensors would take 100000000 bytes, `a999` alone 100000, and the file has 258118: they are views of the same values");
}

#[test]
fn two_of_one_name_are_refused() {
    let folder = Folder::new();
    let twice = dict(&[
        floats("module.a", 2, &[2]),
        floats("a", 2, &[2]),
        floats("module.module.b", 2, &[2]),
    ]);
    insta::assert_snapshot!(folder.refused(&file(&twice, &[("0", &[0; 8])]), &vgg()), @"FILE: it has `a` twice, with and without `module.` in front");
    let nested = [
        b"}(".to_vec(),
        text("a.b"),
        dict(&[floats("c", 2, &[2])]),
        text("a"),
        dict(&[floats("b.c", 2, &[2])]),
        b"u".to_vec(),
    ]
    .concat();
    insta::assert_snapshot!(folder.refused(&file(&nested, &[("0", &[0; 8])]), &vgg()), @"FILE: it has 2 tensors with 1 different names");
    let storages = file(&dict(&[floats(CLASSIFIER, 2, &[2])]), &[("0", &[0; 8]), ("1", &[1; 8])]);
    insta::assert_snapshot!(folder.refused(&renamed(&storages, "file/data/1", "file/data/0"), &vgg()), @"FILE: no sound zip file: it has two entries of one name");
    let both = [
        b"}(".to_vec(),
        text("model"),
        dict(&[floats("a", 2, &[2])]),
        text("net"),
        dict(&[floats("a", 2, &[2])]),
        b"u".to_vec(),
    ]
    .concat();
    insta::assert_snapshot!(folder.refused(&file(&both, &[("0", &[0; 8])]), &vgg()), @"FILE: it holds tensors under `model` and under `net`: save the one that is meant, or say which with `weights::Loader::key`");
    let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 8]].concat();
    insta::assert_snapshot!(folder.refused(&bytes, &vgg()), @"FILE: no sound safetensors file (invalid offset for tensor `a`)");
}

#[test]
fn lengths_that_cannot_be_are_refused_at_once() {
    let folder = Folder::new();
    for length in [
        1 << 20,
        99_999_999,
        100_000_001,
        u64::from(u32::MAX),
        i64::MAX as u64,
        u64::MAX - 7,
        u64::MAX,
    ] {
        folder.refused(&[&length.to_le_bytes()[..], b"{\"a\":{}}"].concat(), &nothing());
        // Opcodes with a length or an index: texts, bytes, a frame, an integer, and a place in the
        // memo.
        for opcode in [b'\x8d', b'\x8e', b'\x96', b'\x95'] {
            let opcodes = [&[opcode][..], &length.to_le_bytes(), b"abc"].concat();
            folder.refused(&file(&opcodes, &[]), &nothing());
            folder.refused(&[b"\x80\x04", &opcodes[..]].concat(), &nothing());
        }
        for opcode in [b'X', b'T', b'B', b'\x8b', b'r', b'j'] {
            let opcodes = [&[opcode][..], &(length as u32).to_le_bytes(), b"abc"].concat();
            folder.refused(&file(&opcodes, &[]), &nothing());
            folder.refused(&[b"\x80\x02", &opcodes[..]].concat(), &nothing());
        }
    }
    // Each count and length in the end record of a zip.
    let sound = file(&dict(&[floats("a", 2, &[2])]), &[("0", &[0; 8])]);
    let end = sound.len() - 22;
    for at in [8, 10, 12, 14, 16, 18, 20] {
        let mut bytes = sound.clone();
        bytes[end + at..end + at + 2].copy_from_slice(&[0xff, 0xff]);
        folder.refused(&bytes, &vgg());
    }
}

#[test]
fn depth_is_no_harm() {
    let folder = Folder::new();
    let lists = |depth: usize| [b"]".repeat(depth), b"a".repeat(depth - 1)].concat();
    for depth in [900, 1000, 1001, 5_000, 1_000_000] {
        for opcodes in [
            lists(depth),
            [b"(".repeat(depth), b"t".repeat(depth)].concat(),
            b"(".repeat(depth),
            [b"N".to_vec(), b"2\x86".repeat(depth)].concat(),
        ] {
            folder.refused(&file(&opcodes, &[]), &nothing());
        }
    }
    let deep =
        [b"}".to_vec(), text("state_dict"), b"}".to_vec(), text("a"), lists(900), b"ss".to_vec()]
            .concat();
    folder.refused(&file(&deep, &[]), &nothing());
    let nested = format!("{{\"__metadata__\":{{\"network\":\"{}\"}}}}", "[".repeat(100_000));
    folder.refused(
        &[&(nested.len() as u64).to_le_bytes()[..], nested.as_bytes()].concat(),
        &nothing(),
    );
}

#[test]
fn a_file_that_would_fill_the_memory_is_refused() {
    let folder = Folder::new();
    let pickle = [b"\x80\x02(".to_vec(), b"N".repeat(4 << 20), b"t.".to_vec()].concat();
    let bomb = archive(&[("file/data.pkl".to_owned(), &pickle)], CompressionMethod::Deflated);
    insta::assert_snapshot!(folder.refused(&bomb, &nothing()).replace(&bomb.len().to_string(), "N"), @"FILE: it would unpack to 4194309 bytes, more than 16 times its size");
}

#[test]
fn a_cfg_that_is_none_is_refused() {
    let folder = Folder::new();
    let list = |entries: &[Vec<u8>]| [b"](".to_vec(), entries.concat(), b"e".to_vec()].concat();
    let said = |cfg: Vec<u8>, wanted: &Wanted| {
        folder.refused(&reference(&cfg, &[floats(CLASSIFIER, 20, &[10, 2])]), wanted)
    };
    insta::assert_snapshot!(said(list(&[]), &nothing()), @"FILE: cfg []: a VGG has at least one width");
    insta::assert_snapshot!(said(list(&[number(8), number(0)]), &nothing()), @"FILE: its cfg has 0 in place 2, which is no width");
    insta::assert_snapshot!(said(list(&[number(-1)]), &nothing()), @"FILE: its cfg has -1 in place 1, which is no width");
    insta::assert_snapshot!(said(list(&[text("A")]), &nothing()), @r#"FILE: its cfg has "A" in place 1, which is neither a width nor 'M'"#);
    insta::assert_snapshot!(said(list(&[text("M"), number(4)]), &nothing()), @"FILE: cfg ['M', 4]: an 'M' follows a width");
    insta::assert_snapshot!(said(list(&[number(1_000_000), number(1_000_000)]), &nothing()), @"FILE: a VGG of these widths would have 9000027000000 parameters, more than 268435456");
    insta::assert_snapshot!(said(list(&[number(i64::MAX), number(i64::MAX)]), &nothing()), @"FILE: a VGG of these widths would have 765635325572111542792592866721478475776 parameters, more than 268435456");
    insta::assert_snapshot!(said(list(&[b"\x8a\x09\0\0\0\0\0\0\0\0\x01".to_vec()]), &nothing()), @"FILE: its cfg has null in place 1, which is neither a width nor 'M'");
    for arch in [Arch::Preresnet, Arch::Densenet] {
        let wanted = Wanted { arch: Some(arch), ..nothing() };
        for cfg in [
            list(&[]),
            list(&[number(4)]),
            list(&vec![number(4); 10]),
            list(&vec![number(4); 6]),
            list(&vec![number(i64::MAX); 6]),
            list(&[text("M")]),
        ] {
            said(cfg, &wanted);
        }
    }
    // A `cfg` of another program is ignored.
    let said = said([b"}".to_vec(), text("lr"), number(1), b"s".to_vec()].concat(), &vgg());
    assert!(said.contains("`feature.0.weight` is missing"), "{said}");
}

#[test]
fn indexes_that_are_none_are_refused() {
    let folder = Folder::new();
    let wanted = Wanted { arch: Some(Arch::Densenet), depth: Some(7), ..nothing() };
    let mut tensors: Vec<_> = values(
        &Model::new(Spec::new(Arch::Densenet, Some(7), None, 10).unwrap(), Device::Cpu).unwrap().vs,
    )
    .into_iter()
    .collect();
    let mut with = |indexes: Tensor| {
        tensors.retain(|(name, _)| name != "select.indexes");
        tensors.push(("select.indexes".to_owned(), indexes));
        Tensor::write_safetensors(&tensors, folder.path().with_extension("safetensors")).unwrap();
        refused(&folder.path().with_extension("safetensors"), &wanted)
    };
    insta::assert_snapshot!(with(Tensor::ones([6, 10], (Kind::Float, Device::Cpu))), @"FILE: `select.indexes` has shape [6, 10], which is no list");
    insta::assert_snapshot!(with(Tensor::zeros([60], (Kind::Float, Device::Cpu))), @"FILE: `select` picks none of 60 channels");
    insta::assert_snapshot!(with(Tensor::ones([0], (Kind::Float, Device::Cpu))), @"FILE: `select` picks none of 0 channels");
}

#[test]
fn metadata_that_cannot_be_is_refused() {
    let folder = Folder::new();
    let said = |network: &str| {
        folder.refused(
            &header(&serde_json::json!({ "__metadata__": { "network": network } })),
            &nothing(),
        )
    };
    insta::assert_snapshot!(said("vgg"), @"FILE: the network in its metadata cannot be used: expected value at line 1 column 1");
    insta::assert_snapshot!(said(r#"{"arch":"vgg"}"#), @"FILE: the network in its metadata cannot be used: missing field `classes` at line 1 column 14");
    insta::assert_snapshot!(said(r#"{"arch":"vgg","classes":0}"#), @"FILE: a network tells at least one class, not 0");
    insta::assert_snapshot!(said(r#"{"arch":"resnet50","classes":1000000000000}"#), @"FILE: a network tells 65536 classes at most, not 1000000000000");
    insta::assert_snapshot!(said(r#"{"arch":"preresnet","depth":4294967286,"classes":10}"#), @"FILE: a depth of 4294967286 is more than any network has");
    insta::assert_snapshot!(said(r#"{"arch":"densenet","depth":1000,"classes":10}"#), @"FILE: a depth of 1000 is more than any network has");
    insta::assert_snapshot!(said(r#"{"arch":"vgg","cfg":"[1000000, 1000000]","classes":10}"#), @"FILE: a VGG of these widths would have 9000027000000 parameters, more than 268435456");
    insta::assert_snapshot!(said(r#"{"arch":"resnet50","cfg":"[4]","classes":10}"#), @"FILE: resnet50 is not built from widths: leave out --cfg");
    insta::assert_snapshot!(said(r#"{"arch":"densenet","cfg":"[4, 4, 4, 4, 4, 4]","selections":{"dense1.0.select":"0-999999999999"},"classes":10}"#), @"FILE: `dense1.0.select` selects channel 999999999999 of a stream of 24");
    insta::assert_snapshot!(said(r#"{"arch":"densenet","cfg":"[4, 4, 4, 4, 4, 4]","selections":{"dense1.0.select":"21-24"},"classes":10}"#), @"FILE: `dense1.0.select` selects channel 24 of a stream of 24");
    insta::assert_snapshot!(said(r#"{"arch":"densenet","cfg":"[4]","selections":{"select":"0-3"},"classes":10}"#), @"FILE: nothing says what `trans1.select` selects");
}
