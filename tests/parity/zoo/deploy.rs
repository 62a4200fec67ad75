//! Every network computes the same once it is deployed, slimmed or not, and every batch norm that
//! can be folded is folded.

use slim_runtime::{Deployed, Layout, NormOutcome, Prunable, deploy};
use slim_tests::check::assert_close;
use slim_tests::fill::images;
use slim_zoo::mobilenet_v2::MobileNetV2;
use slim_zoo::mobilenet_v3::MobileNetV3;
use slim_zoo::preresnet::PreResNet;
use slim_zoo::shufflenet_v2::ShuffleNetV2;
use slim_zoo::unet::UNet;
use slim_zoo::{densenet, densenet_cifar, googlenet, resnet, vgg, vgg_imagenet};
use tch::nn::{self, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

use crate::oracle::{filled, forward};

/// Deploys the network in double precision, and the slimmed one in single precision. Returns how
/// many batch norms stay, and the report of the slimmed network.
fn deploys<M: ModuleT + Prunable>(build: impl Fn(&nn::Path) -> M, image: i64) -> (usize, Deployed) {
    let images = images(&[1, 3, image, image]);
    let (mut net, vs) = filled(&build);
    let mut double_vs = VarStore::new(Device::Cpu);
    let mut double = build(&double_vs.root());
    double_vs.copy(&vs).unwrap();
    double_vs.double();
    let deployed = deployed(&mut double, &images.to_kind(Kind::Double), 1e-9);
    net.slim(0.4).unwrap_or_else(|error| panic!("{error}"));
    let slim = self::deployed(&mut net, &images, 1e-5);
    let left = |deployed: &Deployed| {
        deployed.norms.iter().filter(|norm| matches!(norm.fate, NormOutcome::Left { .. })).count()
    };
    assert_eq!((slim.norms.len(), left(&slim)), (deployed.norms.len(), left(&deployed)));
    assert_eq!(slim.folded() + left(&slim), slim.norms.len());
    (left(&slim), slim)
}

fn deployed<M: ModuleT + Prunable>(net: &mut M, sample: &Tensor, tolerance: f64) -> Deployed {
    let before = forward(net, sample);
    let deployed = deploy(net, sample, |net, xs| net.forward_t(xs, false))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_close(&forward(net, sample), &before, tolerance);
    deployed
}

/// Whether the layout can be chosen.
fn runs(deployed: &Deployed, layout: Layout) -> bool {
    deployed.layouts.iter().any(|trial| trial.layout == layout && trial.out.is_none())
}

#[test]
fn networks_of_convolution_and_batch_norm() {
    for (left, deployed) in [
        deploys(|p| vgg::Vgg::new(p, &vgg::cfg(19).unwrap(), 10).unwrap(), 32),
        deploys(|p| resnet::resnet18(p, 10), 32),
        deploys(|p| resnet::resnet50(p, 10), 32),
        deploys(|p| resnet::resnext50_32x4d(p, 10), 32),
    ] {
        assert_eq!(left, 0, "{deployed}");
        assert!(
            runs(&deployed, Layout::ChannelsLast) && runs(&deployed, Layout::Packed),
            "{deployed}"
        );
    }
    // This network is not filled: its linear layers are too large for that.
    let vs = VarStore::new(Device::Cpu);
    let deployed =
        deployed(&mut vgg_imagenet::vgg16_bn(vs.root(), 10), &images(&[1, 3, 32, 32]), 1e-5);
    assert_eq!(deployed.folded(), 13);
    assert!(runs(&deployed, Layout::ChannelsLast) && runs(&deployed, Layout::Packed), "{deployed}");
}

#[test]
fn networks_that_concatenate_or_gate() {
    for (left, deployed) in [
        deploys(|p| googlenet::googlenet(p, 10), 32),
        deploys(|p| MobileNetV2::new(p, 10), 32),
        deploys(|p| MobileNetV3::large(p, 10), 32),
        deploys(|p| ShuffleNetV2::x1_0(p, 10), 32),
        deploys(|p| UNet::new(p, 8, 2), 32),
    ] {
        assert_eq!(left, 0, "{deployed}");
        assert!(
            runs(&deployed, Layout::ChannelsLast) && runs(&deployed, Layout::Packed),
            "{deployed}"
        );
    }
}

#[test]
fn batch_norms_in_front_of_convolutions_stay() {
    // The first batch norm of each block, which reads the stream, and the one behind the last
    // block.
    let (left, deployed) = deploys(|p| PreResNet::new(p, 20, 10).unwrap(), 32);
    assert_eq!((left, deployed.norms.len()), (6 + 1, 19), "{deployed}");
    // The batch norms that read a concatenation, the last of them in front of the classifier.
    let (left, deployed) = deploys(|p| densenet::densenet121(p, 10), 32);
    assert_eq!((left, deployed.norms.len()), (58 + 3 + 1, 121), "{deployed}");
    let (left, deployed) = deploys(|p| densenet_cifar::DenseNet::new(p, 40, 10).unwrap(), 32);
    assert_eq!(left, deployed.norms.len(), "{deployed}");
}
