//! Which convolutions lose the same output channels: the partition equals Torch-Pruning's.
//! `tests/fixtures/coupling.py` is the oracle.
//!
//! Torch-Pruning traces autograd's graph; slim reads annotations. Only output channels of
//! convolutions are compared: for them, a group means the same in both.

use std::collections::{BTreeMap, BTreeSet};

use slim_runtime::{Coupling, LayerKind, Plan, Prunable, Slimming};
use slim_tests::device;
use slim_zoo::{densenet, resnet};
use tch::Tensor;
use tch::nn::{self, VarStore};

type Partition = BTreeSet<BTreeSet<String>>;

fn torch_prunings(network: &str) -> Partition {
    let file = slim_tests::place::path(format!("fixtures/zoo/{network}.coupling.json"));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// Convolutions that keep the same output channels for any scores: in five plans with random
/// scores, each of which removes half.
fn slims<M: Prunable>(build: impl Fn(nn::Path) -> M) -> Partition {
    let vs = VarStore::new(device());
    let net = build(vs.root());
    let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for seed in 0..5 {
        for (path, outputs) in convolutions(&plan(&net, &vs, seed)) {
            kept.entry(path).or_default().push(outputs);
        }
    }
    let mut parts: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (path, kept) in kept {
        parts.entry(kept).or_default().insert(path);
    }
    parts.into_values().collect()
}

/// The same partition from `dependencies`: convolutions whose outputs are the same channel groups,
/// position by position.
fn said<M: Prunable>(build: impl Fn(nn::Path) -> M) -> Partition {
    let dependencies = build(VarStore::new(device()).root()).dependencies().unwrap();
    let mut parts: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for layer in dependencies.layers.iter().filter(|layer| layer.kind == LayerKind::Conv) {
        parts
            .entry(layer.axis("out").unwrap().channel_groups().to_vec())
            .or_default()
            .insert(torchvisions_name(&layer.path));
    }
    parts.into_values().collect()
}

fn plan<M: Prunable>(net: &M, vs: &VarStore, seed: u64) -> Plan {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut variables: Vec<_> = vs.variables().into_iter().collect();
    variables.sort_by(|(a, _), (b, _)| a.cmp(b));
    let _no_grad = tch::no_grad_guard();
    for (_, scale) in variables
        .iter_mut()
        .filter(|(name, variable)| name.ends_with("weight") && variable.dim() == 1)
    {
        let scores: Vec<f32> = (0..scale.numel()).map(|_| random.f32()).collect();
        scale.copy_(&Tensor::from_slice(&scores));
    }
    // The mean, so that channels with many norms are removed as often as others.
    net.plan(&Slimming::ratio(0.5).coupling(Coupling::Mean)).unwrap()
}

/// Name and remaining output channels of every convolution. Asserts that each loses some, since the
/// partition is found from the lost channels.
fn convolutions(plan: &Plan) -> Vec<(String, String)> {
    let convolutions = plan.layers().iter().filter(|layer| layer.kind == LayerKind::Conv);
    let named = convolutions.map(|layer| {
        let outputs = layer.axis("out").unwrap();
        assert!(outputs.keep.len() < outputs.width, "{} loses nothing", layer.path);
        (torchvisions_name(&layer.path), outputs.keep.to_string())
    });
    named.collect()
}

/// torchvision's name of a layer: `features.denseblock1.0` is `features.denseblock1.denselayer1`.
fn torchvisions_name(path: &str) -> String {
    let mut parts: Vec<_> = path.split('.').map(str::to_owned).collect();
    if let ["features", block, layer, _] = path.split('.').collect::<Vec<_>>()[..]
        && block.starts_with("denseblock")
    {
        parts[2] = format!("denselayer{}", layer.parse::<usize>().unwrap() + 1);
    }
    parts.join(".")
}

#[test]
fn resnet50_has_a_part_for_each_stage() {
    let found = slims(|p| resnet::resnet50(p, 1000));
    assert_eq!(found, torch_prunings("resnet50"));
    assert_eq!(said(|p| resnet::resnet50(p, 1000)), found);
    let mut sizes: Vec<_> = found.iter().map(BTreeSet::len).filter(|&size| size > 1).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [4, 4, 5, 7], "a block's last convolution each, and the downsampling one");
}

#[test]
fn densenet121_ties_nothing() {
    let found = slims(|p| densenet::densenet121(p, 1000));
    assert_eq!(found, torch_prunings("densenet121"));
    assert_eq!(said(|p| densenet::densenet121(p, 1000)), found);
    assert_eq!(found.len(), 120);
}
