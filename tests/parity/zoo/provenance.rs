//! Networks that are slimmed twice: composed, saved, loaded and expanded.

use slim_runtime::{Prunable, checkpoint};
use slim_tests::check::assert_close;
use slim_tests::fill::images;
use slim_zoo::densenet_cifar::DenseNet;
use slim_zoo::mobilenet_v3::MobileNetV3;
use slim_zoo::preresnet::PreResNet;
use slim_zoo::resnet::{self, Bottleneck, ResNet};
use slim_zoo::shufflenet_v2::ShuffleNetV2;
use slim_zoo::unet::UNet;
use tch::Kind;
use tch::nn::{self, ModuleT, VarStore};

use crate::oracle::{filled, forward};

fn assert_same_bits(a: &VarStore, b: &VarStore) {
    let (a, b) = (a.variables(), b.variables());
    assert_eq!(a.len(), b.len());
    for (name, a) in a {
        assert_eq!(a.size(), b[&name].size(), "{name}");
        assert!(a.equal(&b[&name]), "{name}");
    }
}

/// Slims twice. Then a replica applies the composed plan, a dense network loads the file, and
/// another takes the weights in the dense shape.
fn assert_keeps_its_provenance<M: ModuleT + Prunable>(build: impl Fn(&nn::Path) -> M, image: i64) {
    let double = || {
        let (net, mut vs) = filled(&build);
        vs.double();
        (net, vs)
    };
    let input = images(&[2, 3, image, image]).to_kind(Kind::Double);
    let (mut net, vs) = double();
    let first = net.slim(0.4).unwrap();
    let both = first.then(&net.slim(0.4).unwrap()).unwrap();
    assert!(both.plan().channels().after < first.plan().channels().after);
    let output = forward(&net, &input);

    let (mut replica, replica_vs) = double();
    assert_eq!(replica.apply(both.plan()).unwrap(), both);
    assert_same_bits(&replica_vs, &vs);
    assert_eq!(forward(&replica, &input), output);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    checkpoint::save(&file, &vs, &both).unwrap();
    let (mut loaded, mut loaded_vs) = double();
    // All values must come from the file.
    tch::no_grad(|| {
        loaded_vs.variables().values_mut().for_each(|variable| _ = variable.fill_(0.5));
    });
    assert_eq!(checkpoint::load(&file, &mut loaded_vs, &mut loaded).unwrap(), both);
    assert_same_bits(&loaded_vs, &vs);
    assert_eq!(forward(&loaded, &input), output);
    let named = checkpoint::plan(&file).unwrap();
    assert!(
        named.tensors().all(|(_, name)| name.is_some_and(|name| vs.variables().contains_key(name)))
    );

    let (mut dense, dense_vs) = double();
    both.plan().expand(&net, &mut dense).unwrap();
    assert_close(&forward(&dense, &input), &output, 1e-9);
    dense.apply(both.plan()).unwrap();
    assert_same_bits(&dense_vs, &vs);
}

#[test]
fn of_a_resnet() {
    let narrow = resnet::Config { depths: [2, 2, 2, 2], width: 16, groups: 8, group_width: 8 };
    assert_keeps_its_provenance(|p| ResNet::<Bottleneck>::new(p, &narrow, 10), 32);
}

#[test]
fn of_networks_with_channel_selection() {
    assert_keeps_its_provenance(|p| PreResNet::new(p, 20, 10).unwrap(), 32);
    assert_keeps_its_provenance(|p| DenseNet::new(p, 13, 10).unwrap(), 32);
}

#[test]
fn of_a_shufflenet() {
    assert_keeps_its_provenance(|p| ShuffleNetV2::x1_0(p, 10), 32);
}

#[test]
fn of_a_mobilenet() {
    assert_keeps_its_provenance(|p| MobileNetV3::large(p, 10), 32);
}

#[test]
fn of_a_unet() {
    assert_keeps_its_provenance(|p| UNet::new(p, 8, 2), 32);
}
