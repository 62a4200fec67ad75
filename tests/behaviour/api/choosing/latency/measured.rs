//! Measured tables: the shapes that are timed, and the plans that the times lead to.

use slim_runtime::error::ArgumentError;
use slim_runtime::{
    Benchmark, Error, LatencyOptions, LatencyTable, LayerOperation, Prunable, Slimming, model,
};
use slim_tests::fill::{fill, images};
use slim_tests::networks::Residual;
use slim_zoo::{mobilenet_v2, unet};
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

use super::quick;

model! {
    /// A residual sum around a convolution that is wide enough for its time to depend on its width.
    #[derive(Debug)]
    struct Wide {
        conv1 = conv2d(3 => 64, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(64);
        a = relu;
        conv2 = conv2d(64 => 64, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(64);
        bn2 + a;
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(64 => 5);
    }
}

#[test]
fn a_measured_table_leads_to_a_plan_and_a_check() {
    tch::set_num_threads(1); // other tests run beside this one
    let (first, second) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    let (dense, mut slim) = (Wide::new(first.root()), Wide::new(second.root()));
    fill(&first);
    fill(&second);
    let image = images(&[2, 3, 16, 16]).to_device(Device::Cpu);
    let pass = |net: &Wide| net.forward_t(&image, false);
    let mut table = LatencyTable::measure(&dense, pass, &quick()).unwrap();
    // Two convolutions, since the inputs of the first are the same in any plan; one batch norm.
    assert_eq!(table.shapes().count(), 4);
    let paths: Vec<_> = table.layers().collect();
    assert_eq!(
        paths,
        ["bn1.running_mean", "bn2.running_mean", "conv1.weight", "conv2.weight", "fc.weight"]
    );
    let conv = table.shapes().find(|shape| shape.operation == LayerOperation::Conv).unwrap();
    assert_eq!(
        (conv.batch, &conv.sides[..], &conv.kernel[..]),
        (Some(2), &[16, 16][..], &[3, 3][..])
    );
    assert_eq!((&conv.padding[..], conv.bias), (&[1, 1][..], false));
    assert_eq!(LatencyTable::from_json(&table.to_json().unwrap()).unwrap(), table);

    let plan = slim.plan(&Slimming::latency(0.7, &table).unwrap()).unwrap();
    let predicted = table.predict(&plan).unwrap();
    assert!(predicted.share() <= 0.7 && predicted.after.median > 0.);
    assert!(predicted.after.lower <= predicted.after.median);
    assert!(predicted.after.median <= predicted.after.upper);
    slim.apply(&plan).unwrap();
    let compared = Benchmark::new()
        .runs(15)
        .in_turn()
        .case("dense", || pass(&dense))
        .case("slimmed", || pass(&slim))
        .run()
        .unwrap();
    let [before, after] = ["dense", "slimmed"].map(|name| compared.case(name).unwrap());
    let check = table.check(&plan, before, after).unwrap();
    let error = predicted.after.median / after.seconds.median - 1.;
    assert_eq!((check.predicted, check.errors()[1]), (predicted, error));

    // The slimmed network has no shape that is missing, and a larger image has all of them.
    assert_eq!(table.extend(&slim, pass, &quick()).unwrap(), 0);
    assert!(slim.plan(&Slimming::latency(1., &table).unwrap()).is_ok());
    let larger = images(&[2, 3, 20, 20]).to_device(Device::Cpu);
    assert_eq!(table.extend(&dense, |net| net.forward_t(&larger, false), &quick()).unwrap(), 3);
    assert_eq!(table.shapes().count(), 7);
    let before = table.clone();
    // A network in doubles has no times here.
    let mut doubles = VarStore::new(Device::Cpu);
    let net = Wide::new(doubles.root());
    doubles.double();
    let larger = larger.to_kind(Kind::Double);
    let refused = table.extend(&net, |net| net.forward_t(&larger, false), &quick());
    assert!(matches!(refused, Err(Error::Argument(ArgumentError::LatencyTable { .. }))));
    assert_eq!(table, before);
}

model! {
    /// Layers of one, two and three dimensions, transposed, grouped and depthwise.
    #[derive(Debug)]
    struct Kinds {
        conv1 = conv2d(3 => 12, kernel = 3, stride = 2, padding = 1, padding_mode = tch::nn::PaddingMode::Reflect);
        bn1 = batch_norm(12);
        relu;
        grouped = conv2d(12 => 24, kernel = 3, dilation = 2, padding = 2, groups = 3, bias = false);
        bn2 = batch_norm(24);
        relu;
        depthwise = conv2d(24 => 48, kernel = 3, padding = 1, groups = 24);
        bn3 = batch_norm(48);
        relu;
        up = conv_transpose2d(48 => 6, kernel = 2, stride = 2);
        bn4 = batch_norm(6);
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(6 => 5);
    }
}

#[test]
fn layers_of_all_kinds_are_measured_up_to_their_own_widths() {
    fn dense_is_covered<M: Prunable + ModuleT>(net: &M, image: &Tensor, ratio: f64) {
        tch::set_num_threads(1); // other tests run beside this one
        let options = LatencyOptions::new().points(2).runs(1);
        let table =
            LatencyTable::measure(net, |net| net.forward_t(image, false), &options).unwrap();
        let plan = net.plan(&Slimming::ratio(ratio)).unwrap();
        let predicted = table.predict(&plan).unwrap();
        assert!(predicted.after.median > 0. && predicted.share() <= 1., "{predicted}");
        let all = net.plan(&Slimming::latency(1., &table).unwrap()).unwrap();
        assert_eq!(table.predict(&all).unwrap().after, predicted.before);
    }
    let vs = VarStore::new(Device::Cpu);
    let image = |side| Tensor::zeros([1, 3, side, side], (Kind::Float, Device::Cpu));
    let net = Kinds::new(vs.root());
    fill(&vs);
    dense_is_covered(&net, &image(16), 0.5);
    let vs = VarStore::new(Device::Cpu);
    let net = unet::UNet::new(vs.root(), 8, 2);
    fill(&vs);
    dense_is_covered(&net, &image(16), 0.3);
    let vs = VarStore::new(Device::Cpu);
    let net = mobilenet_v2::MobileNetV2::new(vs.root(), 10);
    fill(&vs);
    dense_is_covered(&net, &image(32), 0.3);
}

#[test]
fn what_cannot_be_timed_is_named() {
    let vs = VarStore::new(Device::Cpu);
    let net = crate::common::Net::new(&vs.root());
    let image = images(&[1, 3, 8, 8]).to_device(Device::Cpu);
    let error = |result: Result<LatencyTable, Error>| result.unwrap_err().to_string();
    let tchs = error(LatencyTable::measure(&net, |net| net.forward_t(&image, false), &quick()));
    let net = Residual::new(vs.root());
    let partly = error(LatencyTable::measure(&net, |_| (), &quick()));
    let outside = error(LatencyTable::measure(
        &net,
        |net| {
            let vs = VarStore::new(Device::Cpu);
            let _ = Residual::new(vs.root()).forward_t(&image, false);
            net.forward_t(&image, false)
        },
        &quick(),
    ));
    insta::assert_snapshot!([tchs, partly, outside].join("\n"));
}
