//! Costs of the networks, recorded and read from `forward`. They equal PyTorch's to the last MAC,
//! layer by layer, and the published ones. `tests/fixtures/cost.py` is the oracle.

use slim_runtime::{Cost, Prunable, Slimming, criterion};
use slim_tests::device;
use slim_zoo::{
    convnext, crnn, densenet, densenet_cifar, efficientnet, googlenet, inception_v3, mobilenet_v2,
    mobilenet_v3, preresnet, regnet, resnet, shufflenet_v2, squeezenet, unet, vgg, vgg_imagenet,
    vision_transformer, yolov8,
};
use tch::nn::{self, ModuleT, VarStore};
use tch::{Kind, Tensor};

/// The fixture's entry for one network.
fn oracle(name: &str) -> serde_json::Value {
    let file = slim_tests::place::path("fixtures/zoo/cost.json");
    let all: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    all[name].clone()
}

/// Asserts that the counts equal PyTorch's, and that the slimmed network has the cost that was
/// computed from the plan alone.
fn assert_counted<M: ModuleT + Prunable>(name: &str, build: impl Fn(&nn::Path) -> M) -> Cost {
    assert_counted_by(name, build, &Slimming::ratio(0.5))
}

fn assert_counted_by<M: ModuleT + Prunable>(
    name: &str,
    build: impl Fn(&nn::Path) -> M,
    slimming: &Slimming,
) -> Cost {
    tch::set_num_threads(1);
    let vs = VarStore::new(device());
    let mut net = build(&vs.root());
    let oracle = oracle(name);
    let image: Vec<i64> = serde_json::from_value(oracle["image"].clone()).unwrap();
    let sample = Tensor::zeros([&[1], &image[..]].concat(), (Kind::Float, device()));
    let count = |net: &M| net.cost(|net| net.forward_t(&sample, false)).unwrap();
    let cost = count(&net);
    // The same cost without running anything.
    let read = |net: &M| net.cost_by_shape(&[&image]).unwrap();
    assert_eq!(read(&net), cost);

    assert_eq!(cost.parameters(), oracle["parameters"].as_i64().unwrap());
    // Products of attention, in which no weight takes part, are counted by neither.
    assert_eq!(cost.macs().unwrap(), oracle["macs"].as_i64().unwrap());
    let layers = cost.layers().iter().filter(|layer| layer.macs != Some(0));
    let mut layers: Vec<_> =
        layers.map(|layer| (layer.tensors[0].shape.clone(), layer.macs.unwrap())).collect();
    layers.sort();
    assert_eq!(serde_json::to_value(&layers).unwrap(), oracle["layers"]);

    let mut random = fastrand::Rng::with_seed(0);
    for (_, mut scale) in vs
        .variables()
        .into_iter()
        .filter(|(name, variable)| name.ends_with("weight") && variable.dim() == 1)
    {
        let scores: Vec<f32> = (0..scale.numel()).map(|_| random.f32()).collect();
        tch::no_grad(|| scale.copy_(&Tensor::from_slice(&scores)));
    }
    let plan = net.plan(slimming).unwrap();
    let after = cost.after(&plan).unwrap();
    assert_eq!(after.parameters(), plan.parameters().after);
    assert!(after.macs().unwrap() < cost.macs().unwrap() * 3 / 4);
    net.apply(&plan).unwrap();
    assert_eq!(after, count(&net));
    assert_eq!(after, read(&net));
    cost
}

/// `published` is in GMACs, rounded to three decimal places.
fn assert_torchvisions<M: ModuleT + Prunable>(
    name: &str,
    published: f64,
    build: impl Fn(&nn::Path) -> M,
) {
    let macs = assert_counted(name, build).macs().unwrap() as f64;
    assert_eq!((macs / 1e6).round() / 1e3, published);
}

#[test]
fn the_papers_networks() {
    let vgg =
        assert_counted("vgg19_cifar", |p| vgg::Vgg::new(p, &vgg::cfg(19).unwrap(), 10).unwrap());
    assert_eq!((vgg.parameters(), vgg.macs().unwrap()), (20_035_018, 398_136_320));
    let resnet = assert_counted("preresnet164", |p| preresnet::PreResNet::new(p, 164, 10).unwrap());
    assert_eq!(resnet.parameters(), 1_703_258);
    // The paper's FLOPs, two for each MAC, count slightly more than convolutions and linear layers.
    for (cost, flops) in [(&vgg, 7.97e8), (&resnet, 4.99e8)] {
        let macs = cost.macs().unwrap() as f64;
        assert!((0.99..1.).contains(&(2. * macs / flops)), "{macs}");
    }
    // The network of the authors' repository. The paper's has 1.02 million parameters, with 16
    // channels in the stem.
    let densenet =
        assert_counted("densenet40", |p| densenet_cifar::DenseNet::new(p, 40, 10).unwrap());
    assert_eq!(densenet.parameters(), 1_059_298);
}

#[test]
fn a_unet() {
    assert_counted("unet", |p| unet::UNet::new(p, 8, 2));
}

#[test]
fn torchvisions_vgg() {
    assert_torchvisions("vgg16_bn", 15.470, |p| vgg_imagenet::vgg16_bn(p, 1000));
}

#[test]
fn torchvisions_resnets() {
    assert_torchvisions("resnet18", 1.814, |p| resnet::resnet18(p, 1000));
    assert_torchvisions("resnet50", 4.089, |p| resnet::resnet50(p, 1000));
    assert_torchvisions("resnext50_32x4d", 4.230, |p| resnet::resnext50_32x4d(p, 1000));
}

#[test]
fn torchvisions_deep_resnet() {
    assert_torchvisions("resnet152", 11.514, |p| resnet::resnet152(p, 1000));
}

#[test]
fn torchvisions_concatenating_networks() {
    assert_torchvisions("densenet121", 2.834, |p| densenet::densenet121(p, 1000));
    assert_torchvisions("googlenet", 1.498, |p| googlenet::googlenet(p, 1000));
    assert_torchvisions("inception_v3", 5.713, |p| inception_v3::inception_v3(p, 1000));
}

#[test]
fn torchvisions_mobile_networks() {
    assert_torchvisions("mobilenet_v2", 0.301, |p| mobilenet_v2::MobileNetV2::new(p, 1000));
    assert_torchvisions("mobilenet_v3_large", 0.217, |p| mobilenet_v3::MobileNetV3::large(p, 1000));
    assert_torchvisions("shufflenet_v2_x1_0", 0.145, |p| {
        shufflenet_v2::ShuffleNetV2::x1_0(p, 1000)
    });
}

#[test]
fn torchvisions_efficient_networks() {
    assert_torchvisions("efficientnet_b0", 0.386, |p| efficientnet::EfficientNet::b0(p, 1000));
    assert_torchvisions("regnet_y_400mf", 0.402, |p| regnet::RegNet::y_400mf(p, 1000));
}

#[test]
fn torchvisions_networks_without_batch_norms() {
    let by_weights = Slimming::ratio(0.5).criterion(criterion::L2).local();
    let squeezenet =
        assert_counted_by("squeezenet1_1", |p| squeezenet::SqueezeNet::v1_1(p, 1000), &by_weights);
    let convnext =
        assert_counted_by("convnext_tiny", |p| convnext::ConvNeXt::tiny(p, 1000), &by_weights);
    let vit = assert_counted_by("vit_b_16", |p| vision_transformer::vit_b_16(p, 1000), &by_weights);
    let giga = |cost: Cost| (cost.macs().unwrap() as f64 / 1e6).round() / 1e3;
    assert_eq!((giga(squeezenet), giga(convnext), giga(vit)), (0.349, 4.456, 16.849));
}

#[test]
fn a_detector_and_a_reader_of_text() {
    let yolo = assert_counted("yolov8n", |p| yolov8::YoloV8::new(p, 16, 80));
    assert_eq!(yolo.parameters(), 3_157_184);
    let by_weights = Slimming::ratio(0.5).criterion(criterion::L2).local();
    assert_counted_by("crnn", |p| crnn::Crnn::new(p, 256, 37), &by_weights);
}
