//! Files: what is written is read back, and what does not fit changes nothing.

use std::collections::HashMap;

use slim_runtime::{Error, Prunable, channels, checkpoint};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::common::{Net, assert_same, values};

fn net() -> (Net, VarStore) {
    let vs = VarStore::new(Device::Cpu);
    (Net::new(&vs.root()), vs)
}

#[test]
fn a_slimmed_network_is_read_back_through_its_cfg() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let (mut net, vs) = net();
    let slimmed = net.slim(0.5).unwrap();
    checkpoint::save(&file, &vs, &slimmed.cfg()).unwrap();
    assert_eq!(checkpoint::cfg(&file).unwrap(), slimmed.cfg());

    let (mut other, mut other_vs) = self::net();
    other.apply(slimmed.plan()).unwrap();
    checkpoint::load(&file, &mut other_vs).unwrap();
    assert_same(&values(&vs), &values(&other_vs));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn every_float_kind_is_kept_and_converted() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
        let file = folder.path().join("kind.safetensors");
        let (_net, mut vs) = net();
        vs.set_kind(kind);
        checkpoint::save(&file, &vs, &channels![8, 6]).unwrap();
        let (_other, mut other_vs) = net();
        other_vs.set_kind(kind);
        checkpoint::load(&file, &mut other_vs).unwrap();
        assert_same(&values(&vs), &values(&other_vs));
        let (_double, mut double) = net();
        double.double();
        checkpoint::load(&file, &mut double).unwrap();
        assert!(values(&double)["fc.weight"].equal(&values(&vs)["fc.weight"].to_kind(Kind::Double)));
    }
}

#[test]
fn a_transposed_variable_is_saved_by_its_values() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("strides.safetensors");
    let (_net, vs) = net();
    let weight = &vs.variables()["fc.weight"];
    weight.shallow_clone().set_data(&weight.detach().tr().contiguous().tr());
    assert!(!vs.variables()["fc.weight"].is_contiguous());
    checkpoint::save(&file, &vs, &channels![8, 6]).unwrap();
    let (_other, mut other_vs) = net();
    checkpoint::load(&file, &mut other_vs).unwrap();
    assert!(values(&other_vs)["fc.weight"].equal(&values(&vs)["fc.weight"]));
}

#[test]
fn a_file_that_does_not_fit_names_every_tensor_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.safetensors");
    let (_net, vs) = net();
    let mut tensors: HashMap<String, Tensor> = vs.variables();
    tensors.remove("bn1.bias");
    // Would broadcast.
    tensors.insert("bn2.weight".to_owned(), Tensor::ones([1], (Kind::Float, Device::Cpu)));
    tensors.insert("extra".to_owned(), Tensor::ones([2], (Kind::Float, Device::Cpu)));
    tensors.insert("bn1.num_batches_tracked".to_owned(), Tensor::from(3_i64));
    tensors.insert("fc.bias".to_owned(), Tensor::ones([5], (Kind::Int64, Device::Cpu)));
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor.detach().contiguous())).collect();
    Tensor::write_safetensors(&named, &file).unwrap();

    let (_other, mut other_vs) = net();
    let before = values(&other_vs);
    let error = checkpoint::load(&file, &mut other_vs).unwrap_err();
    insta::assert_snapshot!(error.to_string().replace(&folder.path().display().to_string(), "FOLDER"), @r"
    FOLDER/other.safetensors: 4 tensors do not fit the store; build the network from the file's cfg, or apply its plan, and then load:
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
    let (_net, mut vs) = net();
    let before = values(&vs);
    let file = folder.path().join("bad.safetensors");
    let missing = checkpoint::load(&file, &mut vs).unwrap_err();
    assert!(matches!(&missing, Error::Io { file: named, .. } if *named == file), "{missing}");

    let good = folder.path().join("good.safetensors");
    checkpoint::save(&good, &vs, &channels![8, 6]).unwrap();
    let bytes = std::fs::read(&good).unwrap();
    for bad in [&b""[..], b"no safetensors", &bytes[..bytes.len() / 2], &bytes[..bytes.len() - 1], &[255; 64]] {
        std::fs::write(&file, bad).unwrap();
        let error = checkpoint::load(&file, &mut vs).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error}");
        assert!(error.to_string().contains("bad.safetensors"));
        assert!(checkpoint::cfg(&file).is_err());
    }
    assert_same(&values(&vs), &before);
}

#[test]
fn a_file_without_a_cfg_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plain.safetensors");
    Tensor::write_safetensors(&[("a", Tensor::ones([2], (Kind::Float, Device::Cpu)))], &file).unwrap();
    assert!(checkpoint::cfg(&file).unwrap_err().to_string().contains("no cfg"));
}

#[test]
fn a_folder_that_is_not_there_is_named_and_an_old_file_survives_a_failed_save() {
    let folder = tempfile::tempdir().unwrap();
    let (_net, vs) = net();
    let error = checkpoint::save(folder.path().join("none/slim.safetensors"), &vs, &channels![8, 6]).unwrap_err();
    assert!(error.to_string().contains("none/slim.safetensors"), "{error}");

    let file = folder.path().join("slim.safetensors");
    checkpoint::save(&file, &vs, &channels![8, 6]).unwrap();
    let old = std::fs::read(&file).unwrap();
    let odd = VarStore::new(Device::Cpu);
    let weight = odd.root().zeros_no_train("a", &[2]);
    weight.shallow_clone().set_data(&weight.to_kind(Kind::Int64));
    assert!(matches!(checkpoint::save(&file, &odd, &channels![8, 6]), Err(Error::Format { .. })));
    assert_eq!(std::fs::read(&file).unwrap(), old);
}

#[test]
fn widths_below_one_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let (_net, vs) = net();
    assert!(matches!(checkpoint::save(folder.path().join("bad.safetensors"), &vs, &channels![8, 0]), Err(Error::Cfg { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_expanded_variable_is_named_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("good.safetensors");
    let (_net, mut vs) = net();
    checkpoint::save(&file, &vs, &channels![8, 6]).unwrap();
    let bias = &vs.variables()["fc.bias"];
    bias.shallow_clone().set_data(&Tensor::zeros([1], (Kind::Float, Device::Cpu)).expand([5], false));
    let before = values(&vs);
    let error = checkpoint::load(&file, &mut vs).unwrap_err();
    assert!(error.to_string().contains("`fc.bias` is an expanded view"), "{error}");
    assert_same(&values(&vs), &before);
}
