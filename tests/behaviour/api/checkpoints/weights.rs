//! Files with weights and no plan.

use std::collections::HashMap;

use slim_runtime::error::{FileError, WiringError};
use slim_runtime::{Error, Prunable, checkpoint};
use slim_tests::device;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::{metadata, net, plain, text, with_metadata};
use crate::common::{assert_same, values};

#[test]
fn every_float_kind_is_kept_and_converted() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
        let file = folder.path().join("kind.safetensors");
        let (_net, mut vs) = net();
        vs.set_kind(kind);
        checkpoint::save_weights(&file, &vs).unwrap();
        let (_other, mut other_vs) = net();
        other_vs.set_kind(kind);
        checkpoint::load_weights(&file, &mut other_vs).unwrap();
        assert_same(&values(&vs), &values(&other_vs));
        let (_double, mut double) = net();
        double.double();
        checkpoint::load_weights(&file, &mut double).unwrap();
        assert!(
            values(&double)["fc.weight"].equal(&values(&vs)["fc.weight"].to_kind(Kind::Double))
        );
    }
}

/// Stores the same values in another order in memory.
fn relaid(tensor: &Tensor, order: &[i64]) -> Tensor {
    let back: Vec<i64> = (0..order.len())
        .map(|dim| order.iter().position(|&from| from as usize == dim).unwrap() as i64)
        .collect();
    tensor.detach().permute(order).contiguous().permute(&back)
}

/// Gives every variable other strides: convolutions become channels-last, matrices transposed, and
/// vectors every second entry of a longer one.
fn lay_out(vs: &VarStore) {
    for (name, variable) in vs.variables() {
        let strided = match variable.size()[..] {
            [_, _, _, _] => relaid(&variable, &[0, 2, 3, 1]),
            [_, _] => relaid(&variable, &[1, 0]),
            _ => variable.detach().repeat_interleave_self_int(2, 0, None).slice(0, None, None, 2),
        };
        variable.shallow_clone().set_data(&strided);
        assert!(!variable.is_contiguous(), "{name}");
    }
}

#[test]
fn values_are_written_in_one_order_whatever_the_strides() {
    let folder = tempfile::tempdir().unwrap();
    let (file, strided) =
        (folder.path().join("contiguous.safetensors"), folder.path().join("strided.safetensors"));
    let (_net, vs) = net();
    checkpoint::save_weights(&file, &vs).unwrap();
    let before = values(&vs);
    lay_out(&vs);
    checkpoint::save_weights(&strided, &vs).unwrap();
    // The files are equal byte for byte: they do not depend on the order of a hash map either.
    assert_eq!(std::fs::read(&strided).unwrap(), std::fs::read(&file).unwrap());
    let weight: Vec<f32> = Vec::try_from(before["conv1.weight"].flatten(0, -1)).unwrap();
    assert_eq!(plain(&strided)["conv1.weight"], (vec![8, 3, 3, 3], weight));
}

#[test]
fn a_store_keeps_its_strides() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    let (_net, vs) = net();
    checkpoint::save_weights(&file, &vs).unwrap();
    let (_other, mut other_vs) = net();
    lay_out(&other_vs);
    let strides = |name: &str, vs: &VarStore| vs.variables()[name].stride();
    let (conv, fc) = (strides("conv1.weight", &other_vs), strides("fc.weight", &other_vs));
    checkpoint::load_weights(&file, &mut other_vs).unwrap();
    assert_same(&values(&other_vs), &values(&vs));
    assert_eq!((strides("conv1.weight", &other_vs), strides("fc.weight", &other_vs)), (conv, fc));
}

#[test]
fn an_expanded_variable_is_named_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("good.safetensors");
    let (_net, mut vs) = net();
    checkpoint::save_weights(&file, &vs).unwrap();
    let bias = &vs.variables()["fc.bias"];
    bias.shallow_clone().set_data(&Tensor::zeros([1], (Kind::Float, device())).expand([5], false));
    let before = values(&vs);
    let error = checkpoint::load_weights(&file, &mut vs).unwrap_err();
    assert!(error.to_string().contains("`fc.bias` is an expanded view"), "{error}");
    assert_same(&values(&vs), &before);
}

#[test]
fn a_layer_that_is_frozen_by_a_detach_follows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    let (mut trained, trained_vs) = net();
    checkpoint::save_weights(&file, &trained_vs).unwrap();
    let (mut net, mut vs) = net();
    net.conv1.ws = net.conv1.ws.detach();
    checkpoint::load_weights(&file, &mut vs).unwrap();
    assert_eq!(net.conv1.ws, trained.conv1.ws);

    // A model that would be slimmed without its variable is not slimmed at all.
    checkpoint::save(&file, &trained_vs, &trained.slim(0.3).unwrap()).unwrap();
    let before = values(&vs);
    assert!(matches!(
        checkpoint::load(&file, &mut vs, &mut net),
        Err(Error::Wiring(WiringError::NotShared { .. }))
    ));
    assert_same(&values(&vs), &before);
    assert_eq!(net.conv1.ws.size(), [8, 3, 3, 3]);
}

#[test]
fn a_file_that_does_not_fit_names_every_tensor_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.safetensors");
    let (_net, vs) = net();
    let mut tensors: HashMap<String, Tensor> = vs.variables();
    tensors.remove("bn1.bias");
    // Would broadcast to the variable's shape.
    tensors.insert("bn2.weight".to_owned(), Tensor::ones([1], (Kind::Float, device())));
    tensors.insert("extra".to_owned(), Tensor::ones([2], (Kind::Float, device())));
    tensors.insert("bn1.num_batches_tracked".to_owned(), Tensor::from(3_i64));
    tensors.insert("fc.bias".to_owned(), Tensor::ones([5], (Kind::Int64, device())));
    let named: Vec<_> =
        tensors.iter().map(|(name, tensor)| (name, tensor.detach().contiguous())).collect();
    Tensor::write_safetensors(&named, &file).unwrap();

    let (_other, mut other_vs) = net();
    let before = values(&other_vs);
    let error = checkpoint::load_weights(&file, &mut other_vs).unwrap_err();
    insta::assert_snapshot!(text(error, &folder), @r"
    FOLDER/other.safetensors: 4 tensors do not fit the store; build the network as the file's was (`checkpoint::load` then slims it by the file's plan):
      `bn1.bias` is missing in the file
      `bn2.weight` has shape [1] in the file, [6] in the store
      `fc.bias` is of type I64, which is not supported
      `extra` is not in the store
    ");
    assert_same(&values(&other_vs), &before);
}

#[test]
fn bad_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, mut vs) = net();
    let before = values(&vs);
    let file = folder.path().join("bad.safetensors");
    let missing = checkpoint::load_weights(&file, &mut vs).unwrap_err();
    assert!(matches!(&missing, Error::Io { file: named, .. } if *named == file), "{missing}");

    let good = folder.path().join("good.safetensors");
    checkpoint::save_weights(&good, &vs).unwrap();
    let bytes = std::fs::read(&good).unwrap();
    for bad in [
        &b""[..],
        b"no safetensors",
        &bytes[..bytes.len() / 2],
        &bytes[..bytes.len() - 1],
        &[255; 64],
    ] {
        std::fs::write(&file, bad).unwrap();
        for error in [
            checkpoint::load_weights(&file, &mut vs).unwrap_err(),
            checkpoint::load(&file, &mut vs, &mut model).unwrap_err(),
            checkpoint::cfg(&file).unwrap_err(),
            checkpoint::plan(&file).unwrap_err(),
        ] {
            assert!(matches!(error, Error::File(FileError::Format { .. })), "{error}");
            assert!(error.to_string().contains("bad.safetensors"));
        }
    }
    assert_same(&values(&vs), &before);
}

#[test]
fn a_file_of_a_later_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("later.safetensors");
    let (mut model, mut vs) = net();
    checkpoint::save_weights(&file, &vs).unwrap();
    assert_eq!(metadata(&file), HashMap::from([("slim_format".to_owned(), "1".to_owned())]));
    with_metadata(&file, "slim_format", "2");
    insta::assert_snapshot!(text(checkpoint::load_weights(&file, &mut vs).unwrap_err(), &folder), @"FOLDER/later.safetensors: it is of slim's format 2, and this version reads 1 at most; take a later version of slim-runtime");
    for error in [
        checkpoint::load(&file, &mut vs, &mut model).unwrap_err(),
        checkpoint::cfg(&file).unwrap_err(),
        checkpoint::plan(&file).unwrap_err(),
    ] {
        assert!(error.to_string().contains("slim's format 2"), "{error}");
    }
    for odd in ["", "one", "0", "-1", "99999999999"] {
        with_metadata(&file, "slim_format", odd);
        assert!(
            matches!(
                checkpoint::load_weights(&file, &mut vs),
                Err(Error::File(FileError::Format { .. }))
            ),
            "{odd}"
        );
    }
}

#[test]
fn a_kind_that_is_no_float_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let (_net, vs) = net();
    checkpoint::save_weights(&file, &vs).unwrap();
    let old = std::fs::read(&file).unwrap();
    let odd = VarStore::new(device());
    let weight = odd.root().zeros_no_train("a", &[2]);
    weight.shallow_clone().set_data(&weight.to_kind(Kind::Int64));
    assert!(matches!(
        checkpoint::save_weights(&file, &odd),
        Err(Error::File(FileError::Format { .. }))
    ));
    assert_eq!(std::fs::read(&file).unwrap(), old);
}
