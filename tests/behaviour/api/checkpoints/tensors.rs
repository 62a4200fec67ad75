//! Weights from tensors in memory: the same checks as for a file, and all or nothing.

use std::collections::BTreeMap;

use slim_runtime::error::FileError;
use slim_runtime::{Error, checkpoint};
use tch::{Device, Kind, Tensor};

use super::net;
use crate::common::{assert_same, values};

#[test]
fn they_are_what_a_file_of_them_would_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
        let (_saved, mut saved_vs) = net();
        saved_vs.set_kind(kind);
        checkpoint::save_weights(&file, &saved_vs).unwrap();
        let mut tensors = checkpoint::tensors(&file).unwrap();
        assert_eq!(tensors["fc.weight"].kind(), kind);
        tensors.insert("bn1.num_batches_tracked".to_owned(), Tensor::from(3_i64));
        let (_read, mut by_file) = net();
        checkpoint::load_weights(&file, &mut by_file).unwrap();
        let (_given, mut vs) = net();
        checkpoint::load_tensors(&tensors, "memory", &mut vs).unwrap();
        assert_same(&values(&vs), &values(&by_file));
    }
}

#[test]
fn they_are_copied_from_any_strides_and_trained_variables() {
    let ((_from, from), (_to, mut to)) = (net(), net());
    let given: BTreeMap<_, _> = from.variables().into_iter().collect();
    let transposed = |tensor: &Tensor| {
        if tensor.dim() == 2 {
            tensor.detach().tr().contiguous().tr()
        } else {
            tensor.shallow_clone()
        }
    };
    let strided = given.iter().map(|(name, tensor)| (name.clone(), transposed(tensor))).collect();
    checkpoint::load_tensors(&strided, "memory", &mut to).unwrap();
    assert_same(&values(&to), &values(&from));
    let before = values(&to);
    tch::no_grad(|| given.values().for_each(|tensor| drop(tensor.shallow_clone().zero_())));
    assert_same(&values(&to), &before);
}

#[test]
fn all_that_does_not_fit_is_named_and_nothing_changes() {
    let (_net, mut vs) = net();
    let cpu = |kind| (kind, Device::Cpu);
    let mut tensors: BTreeMap<_, _> = values(&vs).into_iter().collect();
    tensors.remove("bn1.bias");
    tensors.insert(
        "bn1.weight".to_owned(),
        Tensor::ones([8], cpu(Kind::Float)).quantize_per_tensor(0.1, 0, Kind::QInt8),
    );
    // Would broadcast to the variable's shape.
    tensors.insert("bn2.weight".to_owned(), Tensor::ones([1], cpu(Kind::Float)));
    tensors.insert("bn2.bias".to_owned(), Tensor::zeros([6], cpu(Kind::ComplexFloat)));
    tensors.insert("bn2.running_var".to_owned(), Tensor::new());
    tensors.insert("extra".to_owned(), Tensor::ones([2], cpu(Kind::Float)));
    tensors.insert("fc.bias".to_owned(), Tensor::ones([5], cpu(Kind::Int64)));
    let before = values(&vs);
    let error = checkpoint::load_tensors(&tensors, "some.pth", &mut vs).unwrap_err();
    assert!(matches!(error, Error::File(FileError::Checkpoint { .. })));
    insta::assert_snapshot!(error, @r"
    some.pth: 8 tensors do not fit the store; build the network as the file's was (`checkpoint::load` then slims it by the file's plan):
      `bn1.bias` is missing in the file
      `bn1.weight` is of type QInt8, which is not supported
      `bn2.bias` is of type ComplexFloat, which is not supported
      `bn2.running_var` has shape [] in the file, [6] in the store
      `bn2.running_var` is of type none, which is not supported
      `bn2.weight` has shape [1] in the file, [6] in the store
      `fc.bias` is of type I64, which is not supported
      `extra` is not in the store
    ");
    assert_same(&values(&vs), &before);
}

#[test]
fn a_tensor_that_cannot_be_converted_leaves_all() {
    let (_net, mut vs) = net();
    let mut tensors: BTreeMap<_, _> =
        values(&vs).into_iter().map(|(name, tensor)| (name, tensor + 1.)).collect();
    // The shape and kind are right, but a sparse tensor has no strides.
    let sparse = tensors["fc.weight"].to_sparse(None, None::<&[i64]>, None);
    tensors.insert("fc.weight".to_owned(), sparse);
    let before = values(&vs);
    let error = checkpoint::load_tensors(&tensors, "some.pth", &mut vs).unwrap_err();
    assert!(
        matches!(&error, Error::Torch { .. }) && error.to_string().contains("fc.weight"),
        "{error}"
    );
    assert_same(&values(&vs), &before);
}
