//! Every network passes `verify` in normal use: at full size, in single precision, at the default
//! tolerance, and to rounding.

use slim_runtime::{Prunable, Slimming};
use slim_tests::check::rounding;
use slim_tests::fill::images;
use slim_zoo::mobilenet_v2::MobileNetV2;
use slim_zoo::mobilenet_v3::MobileNetV3;
use slim_zoo::preresnet::PreResNet;
use slim_zoo::shufflenet_v2::ShuffleNetV2;
use slim_zoo::unet::UNet;
use slim_zoo::{densenet, densenet_cifar, googlenet, resnet, vgg, vgg_imagenet};
use tch::nn::{self, ModuleT};

use crate::oracle::filled;

fn verifies<M: ModuleT + Prunable>(build: impl Fn(&nn::Path) -> M, image: i64) {
    let (mut net, vs) = filled(build);
    // One standard deviation: the slimmed network takes most of its sums in the same order as the
    // masked network.
    let tolerance = rounding(&vs) / 8.;
    let images = images(&[1, 3, image, image]);
    let verify =
        Slimming::ratio(0.4).verify(&images, |net: &M, images| net.forward_t(images, false));
    let verified = verify.slim(&mut net).unwrap_or_else(|error| panic!("{error}"));
    assert!(verified.closeness.difference < tolerance * verified.closeness.magnitude, "{verified}");
    assert!(verified.slimmed.plan().channels().removed() > 0.3);
}

#[test]
fn networks_for_cifar() {
    verifies(|p| vgg::Vgg::new(p, &vgg::cfg(19).unwrap(), 10).unwrap(), 32);
    verifies(|p| PreResNet::new(p, 164, 10).unwrap(), 32);
    verifies(|p| densenet_cifar::DenseNet::new(p, 40, 10).unwrap(), 32);
}

#[test]
fn networks_for_imagenet() {
    verifies(|p| vgg_imagenet::vgg16_bn(p, 10), 32);
    verifies(|p| resnet::resnet18(p, 10), 64);
    verifies(|p| resnet::resnet50(p, 10), 64);
    verifies(|p| resnet::resnet152(p, 10), 64);
    verifies(|p| resnet::resnext50_32x4d(p, 10), 64);
    verifies(|p| densenet::densenet121(p, 10), 64);
    verifies(|p| googlenet::googlenet(p, 10), 64);
}

#[test]
fn networks_for_phones_and_segmentation() {
    verifies(|p| MobileNetV2::new(p, 10), 64);
    verifies(|p| MobileNetV3::large(p, 10), 64);
    verifies(|p| ShuffleNetV2::x1_0(p, 10), 64);
    verifies(|p| UNet::new(p, 8, 2), 32);
}
