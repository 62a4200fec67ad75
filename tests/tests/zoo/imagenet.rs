//! Networks for ImageNet: torchvision's to the parameter name. `tests/fixtures/imagenet.py` is the oracle.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use slim_examples::zoo::densenet::{self, DenseNet};
use slim_examples::zoo::googlenet;
use slim_examples::zoo::resnet::{self, BasicBlock, Bottleneck, ResNet};
use slim_examples::zoo::vgg_imagenet::{self, Vgg};
use slim_runtime::{Prunable, Slimming, channels};
use slim_tests::check::{assert_close, assert_slimmed_is_masked};
use slim_tests::fill;
use tch::nn::{self, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// What torchvision's network is, and computes.
struct Oracle {
    metadata: HashMap<String, String>,
    output: Tensor,
}

impl Oracle {
    fn read(name: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/zoo").join(name).with_extension("safetensors");
        let buffer = std::fs::read(file).unwrap();
        let tensors = SafeTensors::deserialize(&buffer).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&buffer).unwrap();
        let output = tensors.tensor("output").unwrap();
        let size: Vec<_> = output.shape().iter().map(|&size| size as i64).collect();
        let output = Tensor::from_data_size(output.data(), &size, Kind::Float);
        Oracle { metadata: metadata.metadata().clone().unwrap(), output }
    }

    fn images(&self) -> Tensor {
        let shape: Vec<_> = self.metadata["images"].split(' ').map(|size| size.parse().unwrap()).collect();
        fill::images(&shape)
    }

    /// `name shape` of every parameter and buffer, sorted.
    fn state(&self) -> Vec<String> {
        let mut state: Vec<_> = self.metadata["state"].lines().map(str::to_owned).collect();
        state.sort();
        state
    }
}

/// The full-size network has torchvision's names, shapes and function; the plan at 0.5 is the snapshot.
fn assert_is_torchvisions<M: ModuleT + Prunable>(name: &str, build: impl Fn(nn::Path) -> M) {
    tch::set_num_threads(1);
    let oracle = Oracle::read(name);
    let vs = VarStore::new(Device::Cpu);
    let net = build(vs.root());

    let mut state: Vec<_> = vs.variables().iter().map(|(name, variable)| format!("{name} {:?}", variable.size())).collect();
    state.sort();
    assert_eq!(state, oracle.state());
    let parameters: usize = vs.trainable_variables().iter().map(Tensor::numel).sum();
    assert_eq!(parameters.to_string(), oracle.metadata["parameters"]);

    fill::fill(&vs);
    let output = tch::no_grad(|| net.forward_t(&oracle.images(), false));
    assert_close(&output, &oracle.output, 1e-4);

    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    assert_eq!(plan.parameters().before, parameters as i64, "every parameter is reached");
    insta::assert_snapshot!(name, plan);
}

/// `build` is given the full-size network's code and may make it narrow.
fn assert_slims<M: ModuleT + Prunable>(side: i64, build: impl Fn(nn::Path) -> M) {
    tch::set_num_threads(1);
    let build = || {
        let mut vs = VarStore::new(Device::Cpu);
        let net = build(vs.root());
        fill::fill(&vs);
        vs.double();
        (net, vs)
    };
    let images = fill::images(&[2, 3, side, side]).to_kind(Kind::Double);
    for ratio in [0.3, 0.5, 0.7] {
        assert_slimmed_is_masked(build, &images, ratio, 1e-9);
    }
}

#[test]
fn vgg16_bn() {
    assert_is_torchvisions("vgg16_bn", |p| vgg_imagenet::vgg16_bn(p, 1000));
    let cfg = channels![8, 8, M, 16, 16, M, 32, 32, 32, M, 64, 64, 64, M, 64, 64, 64, M];
    assert_slims(32, |p| Vgg::new(p, &cfg, 32, 10));
}

#[test]
fn a_slim_vgg_is_built_again_from_its_cfg() {
    let cfg = channels![8, 8, M, 16, M];
    let vs = VarStore::new(Device::Cpu);
    let mut net = Vgg::new(vs.root(), &cfg, 32, 10);
    fill::fill(&vs);
    let slimmed = net.slim(0.5).unwrap();
    let again = VarStore::new(Device::Cpu);
    Vgg::new(again.root(), &slimmed.cfg(), 32, 10);
    let sizes = |vs: &VarStore| vs.variables().into_iter().map(|(name, variable)| (name, variable.size())).collect::<HashMap<_, _>>();
    assert_eq!(sizes(&again), sizes(&vs));
}

#[test]
fn resnet18() {
    assert_is_torchvisions("resnet18", |p| resnet::resnet18(p, 1000));
    let narrow = resnet::Config { depths: [2, 2, 2, 2], width: 16, ..Default::default() };
    assert_slims(64, |p| ResNet::<BasicBlock>::new(p, &narrow, 10));
}

#[test]
fn resnet50() {
    assert_is_torchvisions("resnet50", |p| resnet::resnet50(p, 1000));
    let narrow = resnet::Config { depths: [3, 4, 6, 3], width: 16, ..Default::default() };
    assert_slims(64, |p| ResNet::<Bottleneck>::new(p, &narrow, 10));
}

#[test]
fn resnet152() {
    assert_is_torchvisions("resnet152", |p| resnet::resnet152(p, 1000));
    let narrow = resnet::Config { depths: [3, 8, 36, 3], width: 8, ..Default::default() };
    assert_slims(32, |p| ResNet::<Bottleneck>::new(p, &narrow, 10));
}

#[test]
fn resnext50_32x4d() {
    assert_is_torchvisions("resnext50_32x4d", |p| resnet::resnext50_32x4d(p, 1000));
    let narrow = resnet::Config { depths: [3, 4, 6, 3], width: 16, groups: 8, group_width: 8 };
    assert_slims(64, |p| ResNet::<Bottleneck>::new(p, &narrow, 10));
}

#[test]
fn densenet121() {
    assert_is_torchvisions("densenet121", |p| densenet::densenet121(p, 1000));
    let narrow = densenet::Config { depths: [6, 12, 24, 16], growth: 8, stem: 16 };
    assert_slims(32, |p| DenseNet::new(p, &narrow, 10));
}

#[test]
fn googlenet() {
    assert_is_torchvisions("googlenet", |p| googlenet::googlenet(p, 1000));
    assert_slims(32, |p| googlenet::googlenet(p, 10));
}
