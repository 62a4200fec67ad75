//! Files that hold more than a network.

use std::collections::BTreeMap;
use std::fs;

use slim_runtime::checkpoint::{self, Writer};
use slim_runtime::error::FileError;
use slim_runtime::{Error, Prunable};
use slim_tests::device;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::{metadata, net, text};
use crate::common::{assert_same, values};

const KINDS: [Kind; 10] = [
    Kind::Half,
    Kind::BFloat16,
    Kind::Float,
    Kind::Double,
    Kind::Int64,
    Kind::Int,
    Kind::Int16,
    Kind::Int8,
    Kind::Uint8,
    Kind::Bool,
];

/// Tensors of each kind that safetensors has; some are strided, one has no dimensions, and one has
/// no values.
fn tensors() -> Vec<(String, Tensor)> {
    let numbers =
        |kind: Kind| Tensor::arange(6, (Kind::Float, device())).to_kind(kind).view([2, 3]);
    let mut tensors: Vec<_> =
        KINDS.into_iter().map(|kind| (format!("beside.{kind:?}"), numbers(kind).tr())).collect();
    tensors.push(("count".to_owned(), Tensor::from(7_i64)));
    tensors.push(("nothing".to_owned(), Tensor::zeros([0, 3], (Kind::Uint8, device()))));
    tensors
}

fn held(vs: &VarStore) -> BTreeMap<String, Tensor> {
    tensors().into_iter().chain(values(vs)).collect()
}

#[test]
fn tensors_of_every_kind_and_metadata_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("epoch.safetensors");
    let (_net, vs) = net();
    let odd = "ümlaut \" \\ \n \u{0} 🦀";
    Writer::new(&vs)
        .tensors(tensors())
        .metadata("epoch", "12")
        .metadata(odd, odd)
        .metadata("empty", "")
        .write(&file)
        .unwrap();
    for (key, value) in
        [("epoch", Some("12")), (odd, Some(odd)), ("empty", Some("")), ("none", None)]
    {
        assert_eq!(checkpoint::metadata(&file, key).unwrap().as_deref(), value);
    }
    let (found, expected) = (checkpoint::tensors(&file).unwrap(), held(&vs));
    assert!(found.keys().eq(expected.keys()));
    for (name, tensor) in expected {
        let found = &found[&name];
        assert!(
            found.kind() == tensor.kind()
                && found.size() == tensor.size()
                && found.equal(&tensor.to_device(Device::Cpu)),
            "{name}"
        );
    }
    // Aligned: each tensor begins at a multiple of its element width.
    let bytes = fs::read(&file).unwrap();
    let (length, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(length % 8, 0);
    assert!(
        header.tensors().values().all(|info| info.data_offsets.0 % (info.dtype.bitsize() / 8) == 0)
    );
}

#[test]
fn loading_knows_what_is_beside_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("epoch.safetensors");
    let (mut model, vs) = net();
    Writer::new(&vs).tensors(tensors()).write(&file).unwrap();
    let (_other, mut other) = net();
    checkpoint::load_weights(&file, &mut other).unwrap();
    assert_same(&values(&other), &values(&vs));

    let slimmed = model.slim(0.4).unwrap();
    Writer::new(&vs)
        .tensors(tensors())
        .slimmed(&slimmed)
        .metadata("epoch", "1")
        .write(&file)
        .unwrap();
    let (mut dense, mut dense_vs) = net();
    assert_eq!(checkpoint::load(&file, &mut dense_vs, &mut dense).unwrap(), slimmed);
    assert_same(&values(&dense_vs), &values(&vs));

    // A tensor that neither the metadata nor the store names is refused, as in other files.
    let named = metadata(&file).remove("beside").unwrap();
    super::with_metadata(&file, "beside", &named.replace("\"count\",", ""));
    let before = values(&dense_vs);
    for error in [
        checkpoint::load_weights(&file, &mut dense_vs).unwrap_err(),
        checkpoint::load(&file, &mut dense_vs, &mut dense).unwrap_err(),
    ] {
        let Error::File(FileError::Checkpoint { problems, .. }) = error else { panic!("{error}") };
        assert_eq!(problems, ["`count` is not in the store"]);
    }
    super::with_metadata(&file, "beside", "5");
    assert!(matches!(
        checkpoint::load_weights(&file, &mut dense_vs),
        Err(Error::File(FileError::Format { .. }))
    ));
    assert_same(&values(&dense_vs), &before);
}

#[test]
fn a_variable_that_the_file_calls_beside_is_one_still() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("epoch.safetensors");
    let (_net, vs) = net();
    Writer::new(&vs).tensors(tensors()).write(&file).unwrap();
    super::with_metadata(&file, "beside", r#"["fc.bias","count","nothing","not there"]"#);
    let (_other, mut other) = net();
    let error = checkpoint::load_weights(&file, &mut other).unwrap_err();
    assert!(!error.to_string().contains("fc.bias"), "{error}");
    assert_eq!(error.to_string().matches("is not in the store").count(), KINDS.len());
}

#[test]
fn what_cannot_be_written_is_said_and_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("epoch.safetensors");
    let (mut model, vs) = net();
    Writer::new(&vs).metadata("epoch", "1").write(&file).unwrap();
    let old = fs::read(&file).unwrap();
    let refused = |writer: Writer| {
        let error = writer.write(&file).unwrap_err();
        assert_eq!(fs::read(&file).unwrap(), old);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        text(error, &folder)
    };
    let one = || Tensor::from(1_f32);
    insta::assert_snapshot!(refused(Writer::new(&vs).metadata("cfg", "[1]")), @"FOLDER/epoch.safetensors: the metadata's key `cfg` is taken; choose another");
    for key in ["slim_format", "plan", "positions", "beside", "format"] {
        assert_eq!(
            refused(Writer::new(&vs).metadata(key, "")),
            format!(
                "FOLDER/epoch.safetensors: the metadata's key `{key}` is taken; choose another"
            )
        );
    }
    insta::assert_snapshot!(refused(Writer::new(&vs).tensors([("fc.bias", one())])), @"FOLDER/epoch.safetensors: `fc.bias` is a variable of the store already");
    insta::assert_snapshot!(refused(Writer::new(&vs).tensors([("a", one().to_kind(Kind::ComplexFloat))])), @"FOLDER/epoch.safetensors: `a` is of kind ComplexFloat, which safetensors has not");
    let other = net().0.slim(0.3).unwrap();
    insta::assert_snapshot!(refused(Writer::new(&vs).slimmed(&other)), @"`conv1.weight` is no variable of this store; pass the store that the model was built with");
    let first = model.slim(0.3).unwrap();
    model.slim(0.3).unwrap();
    assert!(refused(Writer::new(&vs).slimmed(&first)).contains("first.then(&second)"));
    let error = Writer::new(&vs).write(folder.path().join("none/epoch.safetensors")).unwrap_err();
    assert!(matches!(error, Error::Io { action: "write", .. }));
    // The format stores its metadata under this name.
    insta::assert_snapshot!(refused(Writer::new(&vs).tensors([("__metadata__", one())])), @"FOLDER/epoch.safetensors: `__metadata__` is no name for a tensor; choose another");
}
