//! `slim_runtime::weights`: any file into a network of one's own, and back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use slim_runtime::weights::{self, Loader};
use slim_runtime::{checkpoint, nn as layers};
use tch::nn::{self, VarStore};
use tch::{Device, Kind, Tensor};

use crate::fixture;
use crate::hostile::Folder;
use crate::pickle::{dict, file, floats, text};

/// A store with these variables, of zeros.
fn store(variables: &[(&str, &[i64])]) -> VarStore {
    let vs = VarStore::new(Device::Cpu);
    for (name, shape) in variables {
        let (path, name) = name.rsplit_once('.').unwrap_or(("", name));
        let path = path.split('.').filter(|part| !part.is_empty());
        let path = path.fold(vs.root(), |path, part| path / part);
        let _ = path.var(name, shape, nn::Init::Const(0.));
    }
    vs
}

/// A store with the variables of a file.
fn store_of(file: &Path) -> VarStore {
    let names = weights::names(file).unwrap();
    let names = names.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked"));
    store(&names.map(|(name, shape)| (name.as_str(), shape.as_slice())).collect::<Vec<_>>())
}

fn values(vs: &VarStore) -> BTreeMap<String, Tensor> {
    vs.variables().into_iter().collect()
}

fn assert_same(found: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>) {
    crate::assert_same(found, expected);
}

/// The error without the folder of the file.
fn refused(loader: Loader, file: &Path, vs: &mut VarStore) -> String {
    let before: BTreeMap<_, _> =
        values(vs).into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
    let error = loader.load(file, vs).unwrap_err().to_string();
    assert_same(&values(vs), &before);
    error.replace(&file.display().to_string(), "FILE")
}

#[test]
fn every_form_of_one_network_gives_the_same_weights() {
    let mut expected = store_of(&fixture("vgg11.pth"));
    checkpoint::load_weights(fixture("vgg11.safetensors"), &mut expected).unwrap();
    for form in ["vgg11.pth", "vgg11_legacy.pth", "vgg11_module.pt", "vgg11.safetensors"] {
        let mut vs = store_of(&fixture("vgg11.pth"));
        let loaded = weights::load(fixture(form), &mut vs).unwrap();
        assert_same(&values(&vs), &values(&expected));
        assert_eq!(loaded.beside.len(), 8, "{form}");
        assert!(loaded.missing.is_empty() && loaded.left_out.is_empty());
    }
    // A trainer's file, of a network in `DataParallel`.
    let mut vs = store_of(&fixture("vgg11.pth"));
    let loader = Loader::new().key("state_dict").strip("module.");
    let loaded = loader.load(fixture("vgg11.pth.tar"), &mut vs).unwrap();
    assert_same(&values(&vs), &values(&expected));
    assert_eq!(loaded.names["feature.0.weight"], "module.feature.0.weight");
    assert_eq!(loaded.metadata["epoch"], 160);
    let accuracy = loaded.metadata["best_prec1"].as_f64().unwrap();
    assert!((accuracy - 0.9377).abs() < 1e-6);
    // tch's own form.
    let folder = Folder::new();
    vs.save(folder.path().with_extension("ot")).unwrap();
    let mut vs = store_of(&fixture("vgg11.pth"));
    weights::load(folder.path().with_extension("ot"), &mut vs).unwrap();
    assert_same(&values(&vs), &values(&expected));
}

#[test]
fn the_tensors_of_a_torch_script_are_read_and_its_code_is_not() {
    // `torch.jit.script(nn.Linear(2, 3))`.
    let script = fixture("script.hostile");
    assert_eq!(weights::Format::of(&script).unwrap(), weights::Format::TorchScript);
    let names = weights::names(&script).unwrap();
    assert_eq!(names, BTreeMap::from([("bias".into(), vec![3]), ("weight".into(), vec![3, 2])]));
    let mut vs = store_of(&script);
    weights::load(&script, &mut vs).unwrap();
    let module = tch::CModule::load(&script).unwrap();
    assert_same(&values(&vs), &module.named_parameters().unwrap().into_iter().collect());

    // Modules in modules, as slim itself exports them.
    let folder = Folder::new();
    let vs = VarStore::new(Device::Cpu);
    let bn = layers::batch_norm2d(vs.root() / "stem" / "bn", 4, Default::default());
    let path = folder.path().with_extension("pt");
    let sample = Tensor::rand([1, 4, 2, 2], (Kind::Float, Device::Cpu));
    slim_runtime::export::torch_script(&path, &bn, &sample, |bn, xs| {
        nn::ModuleT::forward_t(bn, xs, false)
    })
    .unwrap();
    let read = weights::File::open(&path).unwrap().into_tensors();
    let module = tch::CModule::load(&path).unwrap();
    for (name, tensor) in module.named_parameters().unwrap() {
        assert!(read[&name].equal(&tensor), "{name}");
    }
}

#[test]
fn several_safetensors_files_are_read_by_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    let write = |name: &str, variable: &str, value: f64| {
        let vs = VarStore::new(Device::Cpu);
        let _ = vs.root().var(variable, &[2], nn::Init::Const(value));
        checkpoint::save_weights(folder.path().join(name), &vs).unwrap();
    };
    write("model-1.safetensors", "a", 1.);
    write("model-2.safetensors", "b", 2.);
    let say = |map: &str| fs::write(&index, format!("{{\"weight_map\": {map}}}")).unwrap();
    say(r#"{"a": "model-1.safetensors", "b": "model-2.safetensors"}"#);
    let mut vs = store(&[("a", &[2]), ("b", &[2])]);
    weights::load(&index, &mut vs).unwrap();
    assert_eq!(values(&vs)["b"].double_value(&[1]), 2.);

    let said = |vs: &mut VarStore| refused(Loader::new(), &index, vs);
    say(r#"{"a": "model-1.safetensors", "b": "model-1.safetensors"}"#);
    insta::assert_snapshot!(said(&mut vs), @"FILE: `b` is not in `model-1.safetensors`, which the index gives");
    say(r#"{"a": "../model-1.safetensors"}"#);
    insta::assert_snapshot!(said(&mut vs), @"FILE: its files must be beside it, and `../model-1.safetensors` is not");
    say(r#"{"a": "/etc/passwd"}"#);
    insta::assert_snapshot!(said(&mut vs), @"FILE: its files must be beside it, and `/etc/passwd` is not");
    fs::write(&index, r#"{"weights": {}}"#).unwrap();
    insta::assert_snapshot!(said(&mut vs), @"FILE: no index of safetensors files (missing field `weight_map` at line 1 column 15); an index has a `weight_map`");
}

#[test]
fn what_does_not_fit_is_listed_at_once_with_names_that_are_near() {
    let mut vs = store(&[
        ("conv1.weight", &[8, 3, 3, 3]),
        ("bn1.weight", &[8]),
        ("fc.weight", &[10, 12]),
        ("fc.bias", &[10]),
    ]);
    let folder = Folder::new();
    let tensors = [
        floats("conv_1.weight", 216, &[8, 3, 3, 3]),
        floats("bn1.weight", 4, &[4]),
        floats("fc.weight", 120, &[10, 12]),
        floats("head.weight", 120, &[10, 12]),
    ];
    fs::write(folder.path(), file(&dict(&tensors), &[("0", &[0; 4 * 216])])).unwrap();
    insta::assert_snapshot!(refused(Loader::new(), &folder.path(), &mut vs), @r"
    FILE: 5 tensors do not fit the store; build the network as the file's was, or give `weights::Loader` the `.key(…)` of its state dict, a `.rename(|name| …)`, or `.strict(false)`:
      `bn1.weight` has shape [4] in the file, [8] in the store
      `conv1.weight` is missing in the file, which has `conv_1.weight` of this shape
      `fc.bias` is missing in the file
      `conv_1.weight` is not in the store
      `head.weight` is not in the store
    ");
    let twice = Loader::new().rename(|name| name.replace("head", "fc"));
    insta::assert_snapshot!(refused(twice, &folder.path(), &mut vs), @r"
    FILE: 1 tensor does not fit the store; give every tensor a name of its own:
      `fc.weight` and `head.weight` would both be `fc.weight`
    ");
    let other = Loader::new().key("model");
    insta::assert_snapshot!(refused(other, &folder.path(), &mut vs), @r#"FILE: it holds no tensors under `model`; it has ["bn1.weight", "conv_1.weight", "fc.weight", "head.weight"]"#);
    let ot = folder.path().with_extension("ot");
    vs.save(&ot).unwrap();
    insta::assert_snapshot!(refused(Loader::new().key("model"), &ot, &mut vs), @"FILE: it is no file of `torch.save`, so it has no key `model`");
}

#[test]
fn a_prefix_of_all_names_is_seen() {
    let folder = Folder::new();
    let tensors = [floats("module.a", 2, &[2]), floats("module.b", 2, &[2])];
    fs::write(folder.path(), file(&dict(&tensors), &[("0", &[0; 8])])).unwrap();
    let mut plain = store(&[("a", &[2]), ("b", &[2])]);
    insta::assert_snapshot!(refused(Loader::new(), &folder.path(), &mut plain), @r#"
    FILE: 4 tensors do not fit the store; names in the file begin with `module.`, so give `weights::Loader` a `.strip("module.")`:
      `a` is missing in the file
      `b` is missing in the file
      `module.a` is not in the store
      `module.b` is not in the store
    "#);
    insta::assert_snapshot!(refused(Loader::new().strict(false), &folder.path(), &mut plain), @r#"
    FILE: 1 tensor does not fit the store; names in the file begin with `module.`, so give `weights::Loader` a `.strip("module.")`:
      it has no tensor with the name of a variable
    "#);
    let mut deeper = store(&[("net.module.a", &[2]), ("net.module.b", &[2])]);
    insta::assert_snapshot!(refused(Loader::new(), &folder.path(), &mut deeper), @r#"
    FILE: 4 tensors do not fit the store; names in the store begin with `net.`, so give `weights::Loader` a `.rename(|name| format!("net.{name}"))`:
      `net.module.a` is missing in the file, which has `module.a` of this shape
      `net.module.b` is missing in the file, which has `module.b` of this shape
      `module.a` is not in the store
      `module.b` is not in the store
    "#);
    Loader::new().rename(|name| format!("net.{name}")).load(folder.path(), &mut deeper).unwrap();
}

#[test]
fn without_strict_what_fits_is_read() {
    let folder = Folder::new();
    let floats_of =
        |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let tensors = [floats("a", 2, &[2]), floats("other", 2, &[2])];
    fs::write(folder.path(), file(&dict(&tensors), &[("0", &floats_of(&[5., 6.]))])).unwrap();
    let mut vs = store(&[("a", &[2]), ("b", &[2])]);
    let loaded = Loader::new().strict(false).load(folder.path(), &mut vs).unwrap();
    assert_eq!((loaded.missing, loaded.left_out), (vec!["b".to_owned()], vec!["other".to_owned()]));
    assert_eq!(Vec::<f32>::try_from(&values(&vs)["a"]).unwrap(), [5., 6.]);
    assert_eq!(Vec::<f32>::try_from(&values(&vs)["b"]).unwrap(), [0., 0.]);
    // A tensor of another shape is no tensor that may be left out.
    let mut other = store(&[("a", &[3]), ("b", &[2])]);
    let said = refused(Loader::new().strict(false), &folder.path(), &mut other);
    insta::assert_snapshot!(said, @r"
    FILE: 1 tensor does not fit the store; build the network as the file's was, or give `weights::Loader` the `.key(…)` of its state dict, a `.rename(|name| …)`:
      `a` has shape [2] in the file, [3] in the store
    ");
}

#[test]
fn weights_are_written_under_the_names_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut vs = store_of(&fixture("vgg11.pth"));
    let loader = Loader::new().strip("module.");
    let loaded = loader.load(fixture("vgg11.pth.tar"), &mut vs).unwrap();
    let original = weights::File::open(fixture("vgg11.pth.tar")).unwrap().into_tensors();
    for name in ["out.pth", "out.pt", "out.safetensors"] {
        let path = folder.path().join(name);
        loaded.save(&path, &vs).unwrap();
        let written = weights::File::open(&path).unwrap().into_tensors();
        assert_same(&written, &original);
        assert_eq!(written["module.feature.1.num_batches_tracked"].kind(), Kind::Int64);
    }
    // The names of the store, and every kind of floats, whatever the strides.
    let vs = VarStore::new(Device::Cpu);
    let mut t = vs.root().var("t", &[3, 2], nn::Init::Randn { mean: 0., stdev: 1. });
    tch::no_grad(|| t.set_data(&t.transpose(0, 1)));
    for kind in [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16] {
        let path = folder.path().join(format!("{kind:?}.pth"));
        let mut converted = store(&[("t", &[2, 3])]);
        converted.set_kind(kind);
        tch::no_grad(|| converted.variables()["t"].shallow_clone().copy_(&t));
        weights::save(&path, &converted).unwrap();
        let read = weights::File::open(&path).unwrap();
        assert_eq!(read.tensors()["t"].kind(), kind);
        assert!(read.tensors()["t"].equal(&t.to_kind(kind)));
    }
    let error = weights::save(folder.path().join("out.bin"), &vs).unwrap_err().to_string();
    let error = error.replace(&folder.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!(error, @"FOLDER/out.bin: the name says no format; let it end in .safetensors, .pth or .pt");
    assert!(!folder.path().join("out.bin").exists());
}

#[test]
fn a_checkpoint_that_pytorch_wrote_says_how_to_read_it() {
    for name in ["vgg11.pth", "vgg11_legacy.pth"] {
        let mut vs = store_of(&fixture("vgg11.pth"));
        let error = checkpoint::load_weights(fixture(name), &mut vs).unwrap_err().to_string();
        let error = error.replace(&fixture(name).display().to_string(), "FILE");
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"FILE: no sound safetensors file (header too large); a file of PyTorch or tch is read by `slim_runtime::weights`, with the feature `pytorch`");
        }
    }
}

#[test]
fn other_values_of_a_trainer_are_metadata() {
    let folder = Folder::new();
    let root = [
        b"}(".to_vec(),
        text("state_dict"),
        dict(&[floats("a", 2, &[2])]),
        text("names"),
        [&b"]("[..], &text("x"), b"K\x07Ne"].concat(),
        text("command"),
        b"cposix\nsystem\nX\x09\0\0\0touch ran\x85R".to_vec(),
        b"u".to_vec(),
    ]
    .concat();
    fs::write(folder.path(), file(&root, &[("0", &[0; 8])])).unwrap();
    let read = weights::File::open(folder.path()).unwrap();
    let metadata = serde_json::to_string(read.metadata()).unwrap();
    assert_eq!(metadata, r#"{"names":["x",7,null]}"#);
    assert!(!Path::new("ran").exists());
}

#[test]
fn a_tar_archive_that_would_unpack_to_any_size_is_refused() {
    let folder = Folder::new();
    let entry = |kind: u8, size: &str| {
        let mut header = [0; 512];
        header[..7].copy_from_slice(b"tensors");
        header[124..124 + size.len()].copy_from_slice(size.as_bytes());
        header[156] = kind;
        header[257..262].copy_from_slice(b"ustar");
        [&header[..], &[0; 1024]].concat()
    };
    let said = |bytes: &[u8]| {
        fs::write(folder.path(), bytes).unwrap();
        let error = weights::names(folder.path()).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "FILE")
    };
    // A sparse entry, and one that changes the size of the next.
    for kind in [b'S', b'x', b'L'] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(said(&entry(kind, "00000000010")), @"FILE: is a tar archive with entries that are no plain files; save it again with a later PyTorch");
        }
    }
    for size in ["77777777777", "-1", "x"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(said(&entry(b'0', size)), @"FILE: is no sound tar archive: an entry is larger than the file");
        }
    }
    assert!(said(&entry(b'0', "00000000010")).starts_with("FILE: TAR archive error"));
}

#[test]
fn a_header_whose_length_begins_like_a_zip_is_safetensors() {
    let folder = Folder::new();
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    // 0x4B50 is `PK`.
    let header = format!("{header:width$}", width = 0x4B50);
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
    assert!(bytes.starts_with(b"PK"));
    fs::write(folder.path(), bytes).unwrap();
    assert_eq!(weights::Format::of(folder.path()).unwrap(), weights::Format::Safetensors);
    assert_eq!(weights::names(folder.path()).unwrap(), BTreeMap::from([("a".into(), vec![1])]));
}

#[test]
#[cfg(unix)]
fn a_device_behind_an_index_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero.safetensors")).unwrap();
    fs::write(&index, r#"{"weight_map": {"a": "zero.safetensors"}}"#).unwrap();
    let said = refused(Loader::new(), &index, &mut store(&[("a", &[1])]));
    insta::assert_snapshot!(said, @"FILE: `zero.safetensors`, which the index gives, is no regular file");
}

#[test]
fn tensors_beside_the_variables_of_a_checkpoint_are_carried_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut vs = store(&[("a", &[2])]);
    let momentum = Tensor::from_slice(&[1_f32, 2.]);
    checkpoint::Writer::new(&vs)
        .tensors([("momentum.a".to_owned(), momentum.shallow_clone())])
        .metadata("epoch", "7")
        .write(&path)
        .unwrap();
    let loaded = weights::load(&path, &mut vs).unwrap();
    assert!(loaded.beside["momentum.a"].equal(&momentum));
    assert_eq!(loaded.metadata["epoch"], "7");
    // What Hugging Face's libraries ask for.
    let other = folder.path().join("other.safetensors");
    loaded.save(&other, &vs).unwrap();
    assert_eq!(checkpoint::metadata(&other, "format").unwrap().as_deref(), Some("pt"));
    assert!(weights::names(&other).unwrap().contains_key("momentum.a"));
}
