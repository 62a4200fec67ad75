//! Slimmed networks: a file holds all that a dense network needs to become the slimmed one.

use slim_runtime::error::{FileError, PlanError};
use slim_runtime::{
    Axis, Error, Flow, LayerKind, LayerVisitor, Plan, Prunable, Result, Slimming, Tracer,
    checkpoint, nn as own,
};
use slim_tests::device;
use tch::nn::{self, ModuleT, VarStore};
use tch::{Kind, Tensor};

use super::{metadata, net, plain, text, with_metadata};
use crate::common::{Net, assert_same, images, set, values};

fn output(net: &Net, images: &Tensor) -> Tensor {
    tch::no_grad(|| net.forward_t(images, false))
}

#[test]
fn a_dense_network_becomes_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let (mut net, vs) = net();
    let slimmed = net.slim(0.5).unwrap();
    checkpoint::save(&file, &vs, &slimmed).unwrap();
    assert_eq!(checkpoint::cfg(&file).unwrap(), slimmed.cfg());
    assert_eq!(&checkpoint::plan(&file).unwrap(), slimmed.plan());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");

    let (mut other, mut other_vs) = self::net();
    let images = images(2);
    assert_eq!(checkpoint::load(&file, &mut other_vs, &mut other).unwrap(), slimmed);
    assert_same(&values(&vs), &values(&other_vs));
    assert_eq!(output(&other, &images), output(&net, &images));

    // Loading keeps the model's kind, as it keeps its device.
    let (mut double, mut double_vs) = self::net();
    double_vs.double();
    checkpoint::load(&file, &mut double_vs, &mut double).unwrap();
    for (name, value) in values(&double_vs) {
        assert_eq!(value, values(&vs)[&name].to_kind(Kind::Double), "{name}");
    }
}

#[test]
fn a_plain_reader_finds_tensors_cfg_and_plan() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let (mut net, vs) = net();
    let slimmed = net.slim(0.5).unwrap();
    checkpoint::save(&file, &vs, &slimmed).unwrap();
    let (tensors, metadata) = (plain(&file), metadata(&file));
    for (name, value) in values(&vs) {
        let size = value.size().iter().map(|&size| size as usize).collect();
        assert_eq!(tensors[&name], (size, Vec::try_from(value.flatten(0, -1)).unwrap()), "{name}");
    }
    let mut keys: Vec<_> = metadata.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["cfg", "plan", "slim_format"]);
    assert_eq!(metadata["cfg"], slimmed.cfg().to_string());
    let plan: serde_json::Value = serde_json::from_str(&metadata["plan"]).unwrap();
    assert_eq!(plan["layers"][0]["tensors"][0]["variable"], "conv1.weight");
}

#[test]
fn one_that_is_slim_already_takes_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let (mut net, mut vs) = net();
    let slimmed = net.slim(0.5).unwrap();
    checkpoint::save(&file, &vs, &slimmed).unwrap();
    let best = values(&vs);

    // The same network after some epochs of training.
    tch::no_grad(|| vs.variables().values_mut().for_each(|variable| _ = variable.fill_(7.)));
    assert_eq!(checkpoint::load(&file, &mut vs, &mut net).unwrap(), slimmed);
    assert_same(&values(&vs), &best);

    // A network built from the cfg alone: its first channels stayed, and the file's values replace
    // theirs.
    let (other, mut other_vs) = self::net();
    let mut other = checkpoint::cfg(&file).unwrap().narrowed(other).unwrap();
    checkpoint::load(&file, &mut other_vs, &mut other).unwrap();
    assert_same(&values(&other_vs), &best);
}

#[test]
fn slimmed_twice_and_loaded_it_still_knows_its_original_channels() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let vs = VarStore::new(device());
    let mut net = Net::with_known_scores(&vs.root());
    let first = net.slim(0.2).unwrap();
    checkpoint::save(&file, &vs, &first).unwrap();

    let (mut other, mut other_vs) = self::net();
    let loaded = checkpoint::load(&file, &mut other_vs, &mut other).unwrap();
    let both = loaded.then(&other.slim(0.2).unwrap()).unwrap();
    checkpoint::save(&file, &other_vs, &both).unwrap();

    let (mut third, mut third_vs) = self::net();
    let read = checkpoint::load(&file, &mut third_vs, &mut third).unwrap();
    assert_same(&values(&third_vs), &values(&other_vs));
    assert_eq!(read, both);
    // γ is 0.01, 0.02, … over 8 and 6 channels. The first pass removes 3 channels, the second 3 of
    // the other 11.
    assert_eq!(read.plan().original_channels("conv1").unwrap().to_string(), "6-7");
    assert_eq!(read.plan().original_channels("bn2").unwrap().to_string(), "0-5");
    assert_eq!(read.plan().passes().len(), 1);
    assert_eq!(read.plan().passes()[0].threshold, first.plan().threshold());
}

#[test]
fn a_file_is_not_saved_of_another_model_or_of_a_part_of_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let (mut net, vs) = net();
    let (_other, other_vs) = self::net();
    let first = net.slim(0.2).unwrap();
    insta::assert_snapshot!(checkpoint::save(&file, &other_vs, &first).unwrap_err(), @"`conv1.weight` is no variable of this store; pass the store that the model was built with");
    let second = net.slim(0.5).unwrap();
    let error = checkpoint::save(&file, &vs, &first).unwrap_err().to_string();
    assert!(error.contains("`first.then(&second)`"), "{error}");
    assert!(!file.exists());
    checkpoint::save(&file, &vs, &first.then(&second).unwrap()).unwrap();
}

#[test]
fn another_network_is_refused_with_the_first_difference_from_each() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let vs = VarStore::new(device());
    let mut net = Net::with_known_scores(&vs.root());
    let slimmed = net.slim(0.25).unwrap();
    checkpoint::save(&file, &vs, &slimmed).unwrap();

    let mut other_vs = VarStore::new(device());
    let mut other = Net::with_known_scores(&other_vs.root());
    other.slim(0.7).unwrap();
    let before = values(&other_vs);
    insta::assert_snapshot!(text(checkpoint::load(&file, &mut other_vs, &mut other).unwrap_err(), &folder), @r"
    FOLDER/slim.safetensors: the model is neither the network that the file's was slimmed from nor the slimmed one; build it as the file's network was built; if that was slimmed twice, save it with both slimmings, `first.then(&second)`:
      dense: `conv1` has the channels (in 3, out 1) in the model, (in 3, out 8) in the plan
      slim: `conv1` has the channels (in 3, out 1) in the model, (in 3, out 4) in what the plan leaves
    ");
    // A store of another model.
    let (mut dense, dense_vs) = self::net();
    let error = checkpoint::load(&file, &mut other_vs, &mut dense).unwrap_err();
    assert!(matches!(error, Error::Plan(PlanError::NotInStore { .. })), "{error}");
    assert_same(&values(&other_vs), &before);
    assert_eq!(dense_vs.variables()["conv1.weight"].size(), [8, 3, 3, 3]);

    // A second slimming, saved without the first.
    let second = net.slim(0.25).unwrap();
    checkpoint::save(&file, &vs, &second).unwrap();
    insta::assert_snapshot!(text(checkpoint::load(&file, &mut self::net().1, &mut dense).unwrap_err(), &folder), @r"
    FOLDER/slim.safetensors: the model is neither the network that the file's was slimmed from nor the slimmed one; build it as the file's network was built; if that was slimmed twice, save it with both slimmings, `first.then(&second)`:
      dense: `conv1` has the channels (in 3, out 8) in the model, (in 3, out 4) in the plan
      slim: `conv1` has the channels (in 3, out 8) in the model, (in 3, out 1) in what the plan leaves
    ");
}

#[test]
fn a_file_without_a_plan_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    let (mut net, mut vs) = net();
    checkpoint::save_weights(&file, &vs).unwrap();
    insta::assert_snapshot!(text(checkpoint::load(&file, &mut vs, &mut net).unwrap_err(), &folder), @"FOLDER/weights.safetensors: its metadata has no plan; `checkpoint::save` writes one, and `checkpoint::load_weights` needs none");
    insta::assert_snapshot!(text(checkpoint::cfg(&file).unwrap_err(), &folder), @"FOLDER/weights.safetensors: its metadata has no cfg; `checkpoint::save` writes one, and `checkpoint::load_weights` needs none");
    checkpoint::load_weights(&file, &mut vs).unwrap();
    for (key, value) in [("plan", "{}"), ("plan", ""), ("plan", "[[[[")] {
        with_metadata(&file, key, value);
        assert!(
            matches!(
                checkpoint::load(&file, &mut vs, &mut net),
                Err(Error::File(FileError::Format { .. }))
            ),
            "{value}"
        );
    }
}

/// A network with two layers of the same shape.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Twins {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    last: nn::Conv2D,
}

fn twins(names: [&str; 2]) -> (Twins, VarStore) {
    let vs = VarStore::new(device());
    let p = vs.root();
    let conv = |name, outputs| nn::conv2d(&p / name, 4, outputs, 3, Default::default());
    let norm = |name| nn::batch_norm2d(&p / name, 4, Default::default());
    let (conv1, conv2) = (conv(names[0], 4), conv(names[1], 4));
    (Twins { conv1, bn1: norm("bn1"), conv2, bn2: norm("bn2"), last: conv("last", 2) }, vs)
}

#[test]
fn layers_that_have_swapped_their_names_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let (mut net, vs) = twins(["a", "b"]);
    let slimmed = net.apply(&net.plan(&Slimming::ratio(0.)).unwrap()).unwrap();
    checkpoint::save(&file, &vs, &slimmed).unwrap();
    let (mut swapped, mut swapped_vs) = twins(["b", "a"]);
    let before = values(&swapped_vs);
    insta::assert_snapshot!(text(checkpoint::load(&file, &mut swapped_vs, &mut swapped).unwrap_err(), &folder), @r"
    FOLDER/slim.safetensors: 4 tensors do not fit the store; build the network as the file's was (`checkpoint::load` then slims it by the file's plan):
      `conv1.weight` is `b.weight` in the store, `a.weight` in the file
      `conv1.bias` is `b.bias` in the store, `a.bias` in the file
      `conv2.weight` is `a.weight` in the store, `b.weight` in the file
      `conv2.bias` is `a.bias` in the store, `b.bias` in the file
    ");
    assert_same(&values(&swapped_vs), &before);
}

/// A network with a selection and a shuffle, which store channel numbers, a layer outside the flow,
/// and a variable of no layer.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 8)]
struct Numbered {
    select: own::ChannelSelect,
    bn1: nn::BatchNorm,
    conv1: nn::Conv2D,
    bn2: nn::BatchNorm,
    shuffle: own::Shuffle,
    conv2: nn::Conv2D,
    #[prune(skip)]
    unused: nn::Linear,
}

impl Numbered {
    fn new(p: &nn::Path, groups: i64) -> Self {
        let _temperature = p.var("temperature", &[1], nn::Init::Randn { mean: 0., stdev: 1. });
        Numbered {
            select: own::channel_select(8),
            bn1: nn::batch_norm2d(p / "bn1", 8, Default::default()),
            conv1: nn::conv2d(p / "conv1", 8, 8, 1, Default::default()),
            bn2: nn::batch_norm2d(p / "bn2", 8, Default::default()),
            shuffle: own::shuffle(8, groups),
            conv2: nn::conv2d(p / "conv2", 8, 2, 1, Default::default()),
            unused: nn::linear(p / "unused", 3, 3, Default::default()),
        }
    }

    /// Slims so that the channels `gone` of each norm are removed.
    fn slim_away(&mut self, gone: [usize; 4]) -> slim_runtime::Slimmed {
        for bn in [&self.bn1, &self.bn2] {
            let scores: Vec<f64> =
                (0..8).map(|channel| if gone.contains(&channel) { 0.1 } else { 1. }).collect();
            set(bn, &scores);
        }
        self.slim(0.4).unwrap()
    }

    fn forward(&self, xs: &Tensor) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let xs = xs
            .apply(&self.select)
            .apply_t(&self.bn1, false)
            .relu()
            .apply(&self.conv1)
            .apply_t(&self.bn2, false)
            .relu();
        xs.apply(&self.shuffle).apply(&self.conv2)
    }
}

#[test]
fn stored_positions_come_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let (vs, mut other_vs) = (VarStore::new(device()), VarStore::new(device()));
    let (mut net, mut other) = (Numbered::new(&vs.root(), 2), Numbered::new(&other_vs.root(), 2));
    let slimmed = net.slim_away([0, 3, 6, 7]);
    checkpoint::save(&file, &vs, &slimmed).unwrap();
    assert_eq!(
        metadata(&file)["positions"],
        r#"{"select.kept":[1,2,4,5],"shuffle.order":[2,0,3,1]}"#
    );

    let images = Tensor::randn([2, 8, 3, 3], (Kind::Float, device()));
    for _ in 0..2 {
        assert_eq!(checkpoint::load(&file, &mut other_vs, &mut other).unwrap(), slimmed);
        assert_same(&values(&other_vs), &values(&vs));
        assert_eq!(other.forward(&images), net.forward(&images));
        assert_eq!(other.unused.ws, net.unused.ws);
    }

    // Same widths, but other channels: the weights would fit and be wrong.
    let mut elsewhere_vs = VarStore::new(device());
    let mut elsewhere = Numbered::new(&elsewhere_vs.root(), 2);
    elsewhere.slim_away([0, 1, 2, 5]);
    let before = values(&elsewhere_vs);
    insta::assert_snapshot!(text(checkpoint::load(&file, &mut elsewhere_vs, &mut elsewhere).unwrap_err(), &folder), @"FOLDER/slim.safetensors: `select.kept` picks other channels in the model than in the file; build the network as the file's was built, and leave it dense or slim it by the plan of this file");
    // Dense, but with another shuffle order.
    let mut shuffled_vs = VarStore::new(device());
    let mut shuffled = Numbered::new(&shuffled_vs.root(), 4);
    let error = checkpoint::load(&file, &mut shuffled_vs, &mut shuffled).unwrap_err();
    assert!(
        matches!(&error, Error::File(FileError::Positions { state, .. }) if state == "shuffle.order"),
        "{error}"
    );
    assert_eq!((shuffled.shuffle.order().len(), shuffled.conv1.ws.size()), (8, vec![8, 8, 1, 1]));
    assert_same(&values(&elsewhere_vs), &before);
}

/// A layer that stores its channel count, and fails once the count is written.
#[derive(Debug)]
struct Failing {
    channels: i64,
}

impl Prunable for Failing {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::other("counter"));
        let channels: Axis = layer.follow("channels", &input, self.channels)?;
        layer.size("channels", channels)?;
        layer.pass(channels)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.size("channels", &mut self.channels)?;
        if self.channels == 6 { Ok(()) } else { Err(Error::Custom("failed on purpose".to_owned())) }
    }
}

/// A chain with a counter as a type parameter: one counter counts, the other fails.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Counted<C> {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    counter: C,
    last: nn::Conv2D,
}

fn counted<C>(counter: C) -> (Counted<C>, VarStore) {
    let vs = VarStore::new(device());
    let p = vs.root();
    let (conv, bn) = (
        nn::conv2d(&p / "conv", 3, 6, 1, nn::no_bias()),
        nn::batch_norm2d(&p / "bn", 6, Default::default()),
    );
    (Counted { conv, bn, counter, last: nn::conv2d(&p / "last", 6, 2, 1, nn::no_bias()) }, vs)
}

#[test]
fn a_failure_behind_the_commit_takes_weights_and_surgery_back() {
    struct Sound(i64);
    impl Prunable for Sound {
        fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
            Failing { channels: self.0 }.trace(cx, input)
        }
        fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
            visit.size("channels", &mut self.0)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let (mut net, vs) = counted(Sound(6));
    let slimmed = net.slim(0.5).unwrap();
    checkpoint::save(&file, &vs, &slimmed).unwrap();

    let (mut failing, mut failing_vs) = counted(Failing { channels: 6 });
    let before = values(&failing_vs);
    let pointers = |vs: &VarStore| -> Vec<_> {
        vs.variables().into_iter().map(|(name, variable)| (name, variable.data_ptr())).collect()
    };
    let mut memory = pointers(&failing_vs);
    assert!(
        checkpoint::load(&file, &mut failing_vs, &mut failing)
            .unwrap_err()
            .to_string()
            .contains("on purpose")
    );
    assert_same(&values(&failing_vs), &before);
    let mut after = pointers(&failing_vs);
    memory.sort();
    after.sort();
    assert_eq!(after, memory);
    assert_eq!(failing.counter.channels, 6);
}

#[test]
fn training_goes_on_while_an_old_loss_is_alive() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let (mut net, vs) = net();
    checkpoint::save(&file, &vs, &net.slim(0.5).unwrap()).unwrap();
    let (mut other, mut other_vs) = self::net();
    let images = images(2);
    let loss = |net: &Net| net.forward_t(&images, true).square().mean(Kind::Float);
    loss(&other).backward();
    let old_loss = loss(&other);
    for _ in 0..2 {
        checkpoint::load(&file, &mut other_vs, &mut other).unwrap();
        loss(&other).backward();
        assert!(
            other_vs
                .trainable_variables()
                .iter()
                .all(|variable| variable.grad().size() == variable.size())
        );
    }
    drop(old_loss);
}

#[test]
fn a_plan_and_its_file_are_equal_whatever_the_names() {
    let (net, vs) = net();
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    let named = plan.with_variables(&net, &vs).unwrap();
    assert!(plan.tensors().all(|(_, variable)| variable.is_none()));
    assert!(
        named.tensors().all(|(path, variable)| variable == Some(&path)),
        "here the two are alike"
    );
    assert_eq!(named, plan);
    let read = Plan::from_json(&named.to_json().unwrap()).unwrap();
    assert!(read.tensors().eq(named.tensors()));
}
