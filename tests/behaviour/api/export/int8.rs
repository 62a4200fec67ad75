//! ONNX files in 8 bits: what ONNX Runtime computes from them, which layers stay in floats, and
//! which calibrations are refused.

use slim_runtime::export::{Calibration, Int8, OnnxExport};
use slim_runtime::{Prunable, Result, Slimming, criterion, forward, model, nn};
use slim_tests::fill::fill;
use slim_tests::onnx::{assert_computes, run};
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

fn drawn(sizes: &[i64]) -> Tensor {
    Tensor::randn(sizes, (Kind::Float, Device::Cpu))
}

fn recorded<M: Prunable + ModuleT>(net: &M, batches: &[&Tensor]) -> Result<Calibration> {
    Calibration::record(net, batches, |net, xs| net.forward_t(xs, false))
}

/// The output in 8 bits, and the report.
fn quantised<M: Prunable + ModuleT>(
    net: &M,
    calibration: &Calibration,
    xs: &Tensor,
    full_range: bool,
) -> (Tensor, Int8) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let export = OnnxExport::new().int8(calibration).full_range(full_range);
    let written = export.write(&file, net, &[&xs.size()[1..]]).unwrap();
    (run(&file, &[("input", xs)]).remove(0), written.int8.unwrap())
}

/// The root mean square of the difference, as a share of the output's.
fn relative(output: &Tensor, expected: &Tensor) -> f64 {
    ((output - expected).norm() / expected.norm()).double_value(&[])
}

/// Rounds the values of a range to 256 levels, one of which is 0.
fn activation(xs: &Tensor, least: f64, most: f64) -> Tensor {
    let scale = (most.max(0.) - least.min(0.)) / 255.;
    let zero = (-least.min(0.) / scale).round();
    (((xs / scale).round() + zero).clamp(0., 255.) - zero) * scale
}

/// Rounds each output channel to levels up to its largest magnitude.
fn weight(ws: &Tensor, levels: f64) -> Tensor {
    let rows = ws.flatten(1, -1);
    let scale = rows.abs().amax([1].as_slice(), true) / levels;
    ((&rows / &scale).round() * scale).view_as(ws)
}

model! {
    #[derive(Debug)]
    struct Perceptron {
        first = linear(6 => 8);
        relu;
        second = linear(8 => 3);
    }
}

model! {
    #[derive(Debug)]
    struct One {
        fc = linear(6 => 8);
    }
}

#[test]
fn weights_have_a_scale_for_each_channel_and_activations_one_for_all() {
    let vs = VarStore::new(Device::Cpu);
    let net = One::new(vs.root());
    // Channels of different magnitudes, which one scale for all would round to zero.
    let magnitudes = Tensor::from_slice(&[1e-3_f32, 1., 1e3, 1e-2, 0.1, 10., 1., 1.]);
    tch::no_grad(|| {
        let parameters = [Some(&net.fc.ws), net.fc.bs.as_ref()].into_iter().flatten();
        let magnitudes = [magnitudes.unsqueeze(1), magnitudes.view([-1])];
        for (parameter, times) in parameters.zip(magnitudes) {
            parameter.shallow_clone().copy_(&(parameter * times));
        }
    });
    // From -1 to 1.55, with values between the steps of 0.01 that are well away from the middle.
    let steps = Tensor::arange(384, (Kind::Float, Device::Cpu)) * 37.;
    let steps = steps.remainder(256.) - 100.;
    let xs = ((&steps + steps.remainder(5.) * 0.05) * 0.01).view([64, 6]);
    let calibration = recorded(&net, &[&xs]).unwrap();
    for (full, levels) in [(false, 63.), (true, 127.)] {
        let expected = tch::no_grad(|| {
            let bias = net.fc.bs.as_ref();
            activation(&xs, -1., 1.55).linear(&weight(&net.fc.ws, levels), bias)
        });
        let (output, int8) = quantised(&net, &calibration, &xs, full);
        assert_eq!(int8.layers, ["fc"]);
        if !full || has_wide_sums() {
            let difference = (&output - &expected).abs().amax([0].as_slice(), false);
            let share = difference / expected.abs().amax([0].as_slice(), false);
            let worst = share.max().double_value(&[]);
            assert!(worst < 1e-4, "{levels} levels: {worst:e}");
        }
    }
}

/// Whether the processor adds products of 8 bits in 32 bits.
fn has_wide_sums() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

/// A residual block, a depthwise and a grouped convolution, a pool and a linear layer.
#[derive(Debug, Prunable)]
struct Blocks {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    depthwise: nn::Conv2D,
    bn3: nn::BatchNorm,
    grouped: nn::Conv2D,
    fc: nn::Linear,
}

impl Blocks {
    fn new(vs: &VarStore) -> Self {
        let p = &vs.root();
        let conv = |name, read, groups| {
            let config = nn::ConvConfig {
                padding: 1,
                groups,
                bias: name == "grouped",
                ..Default::default()
            };
            nn::conv2d(p / name, read, 16, 3, config)
        };
        let norm = |name| nn::batch_norm2d(p / name, 16, Default::default());
        let net = Blocks {
            conv1: conv("conv1", 3, 1),
            bn1: norm("bn1"),
            conv2: conv("conv2", 16, 1),
            bn2: norm("bn2"),
            depthwise: conv("depthwise", 16, 16),
            bn3: norm("bn3"),
            grouped: conv("grouped", 16, 4),
            fc: nn::linear(p / "fc", 16, 5, Default::default()),
        };
        fill(vs);
        net
    }
}

#[forward]
impl ModuleT for Blocks {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu().max_pool2d_default(2);
        let ys = xs.apply(&self.conv2).apply_t(&self.bn2, train);
        let xs = (xs + ys).relu();
        let xs = xs.apply(&self.depthwise).apply_t(&self.bn3, train).clamp(0., 6.);
        let xs = xs.apply(&self.grouped).relu();
        xs.mean_dim([2, 3].as_slice(), false, None).apply(&self.fc)
    }
}

#[test]
fn residual_depthwise_and_grouped_layers_are_close_before_and_after_slimming() {
    for slims in [false, true] {
        let vs = VarStore::new(Device::Cpu);
        let mut net = Blocks::new(&vs);
        if slims {
            let by_weights = Slimming::ratio(0.4).criterion(criterion::L2).local();
            net.apply(&net.plan(&by_weights).unwrap()).unwrap();
        }
        let batches = [drawn(&[8, 3, 16, 16]), drawn(&[8, 3, 16, 16])];
        let calibration = recorded(&net, &[&batches[0], &batches[1]]).unwrap();
        assert_eq!(calibration.batches(), 2);
        let (output, int8) = quantised(&net, &calibration, &batches[0], false);
        assert_eq!(int8.layers, ["conv1", "conv2", "depthwise", "grouped", "fc"]);
        assert!(int8.floats.is_empty(), "{int8:?}");
        let expected = tch::no_grad(|| net.forward_t(&batches[0], false));
        // Each of five layers rounds its weights to 1/126 and its input to 1/510 of their ranges.
        let difference = relative(&output, &expected);
        assert!(difference < 5. * (1. / 126. + 1. / 510.), "slimmed {slims}: {difference:e}");
        assert!(difference > 1e-5, "nothing was rounded: {difference:e}");
    }
}

#[test]
fn values_beyond_the_calibration_are_clipped() {
    let vs = VarStore::new(Device::Cpu);
    let net = Perceptron::new(vs.root());
    let xs = Tensor::linspace(0., 1., 192, (Kind::Float, Device::Cpu)).view([32, 6]);
    let calibration = recorded(&net, &[&xs]).unwrap();
    let [within, beyond] = [1., 9.].map(|value| {
        let xs = Tensor::full([4, 6], value, (Kind::Float, Device::Cpu));
        quantised(&net, &calibration, &xs, false).0
    });
    assert_eq!(relative(&beyond, &within), 0.);
}

/// Layers that stay in floats: tch's own, a transposed convolution, padding by values, the output.
#[derive(Debug, Prunable)]
struct Mixed {
    conv: nn::Conv2D,
    own: tch::nn::Conv2D,
    reflected: nn::Conv2D,
    up: nn::ConvTranspose2D,
    last: nn::Conv2D,
}

#[forward]
impl ModuleT for Mixed {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = xs.apply(&self.conv).relu().apply(&self.own).relu();
        xs.apply(&self.reflected).relu().apply(&self.up).relu().apply(&self.last)
    }
}

fn mixed(vs: &VarStore) -> Mixed {
    let p = &vs.root();
    let reflect = nn::ConvConfigND {
        padding: [1, 1],
        padding_mode: tch::nn::PaddingMode::Reflect,
        stride: [1, 1],
        dilation: [1, 1],
        groups: 1,
        bias: true,
        ws_init: tch::nn::init::DEFAULT_KAIMING_UNIFORM,
        bs_init: tch::nn::Init::Const(0.),
    };
    Mixed {
        conv: nn::conv2d(p / "conv", 3, 4, 3, Default::default()),
        own: tch::nn::conv2d(p / "own", 4, 4, 3, Default::default()),
        reflected: nn::conv(p / "reflected", 4, 4, [3, 3], reflect),
        up: nn::conv_transpose2d(p / "up", 4, 4, 3, Default::default()),
        last: nn::conv2d(p / "last", 4, 2, 3, Default::default()),
    }
}

#[test]
fn a_layer_without_ranges_stays_in_floats_and_says_why() {
    let vs = VarStore::new(Device::Cpu);
    let net = mixed(&vs);
    let xs = drawn(&[4, 3, 12, 12]);
    let calibration = recorded(&net, &[&xs]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let written = OnnxExport::new().int8(&calibration).write(&file, &net, &[&[3, 12, 12]]).unwrap();
    let expected = tch::no_grad(|| net.forward_t(&xs, false));
    // One layer of five is rounded.
    assert_computes(&file, &[("input", &xs)], &[expected], 0.05);
    let report = written.to_string();
    insta::assert_snapshot!(report.split_once("; ").unwrap().1);
}

#[derive(Debug, Prunable)]
struct Own {
    fc: tch::nn::Linear,
}

#[forward]
impl ModuleT for Own {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        xs.apply(&self.fc)
    }
}

#[test]
fn calibrations_that_do_not_fit_are_refused_with_the_fix() {
    let vs = VarStore::new(Device::Cpu);
    let mut net = Blocks::new(&vs);
    let xs = drawn(&[2, 3, 16, 16]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let without_file = |error: slim_runtime::Error| {
        error.to_string().replace(&format!("{}: ", file.display()), "")
    };
    let mut refusals = Vec::new();
    let mut refuse = |given: Result<Calibration>| refusals.push(without_file(given.unwrap_err()));

    refuse(recorded(&net, &[]));
    refuse(recorded(&net, &[&xs, &(&xs / 0.)]));
    refuse(Calibration::record(&net, [&xs], |net, xs| net.forward_t(xs, true)));
    refuse(Calibration::record(&net, [&xs], |_, xs| xs.relu()));
    refuse(Calibration::record(&net, [1, 2], |net, &times| {
        for _ in 0..times {
            let _ = xs.apply(&net.conv1);
        }
    }));
    let other = VarStore::new(Device::Cpu);
    let own = Own { fc: tch::nn::linear(other.root() / "fc", 4, 2, Default::default()) };
    refuse(recorded(&own, &[&drawn(&[2, 4])]));

    let write = |net: &Blocks, calibration: &Calibration| {
        let export = OnnxExport::new().int8(calibration);
        export.write(&file, net, &[&[3, 16, 16]]).unwrap_err()
    };
    let calibration = recorded(&net, &[&xs]).unwrap();
    let by_weights = Slimming::ratio(0.4).criterion(criterion::L2).local();
    net.apply(&net.plan(&by_weights).unwrap()).unwrap();
    let mut refuse = |error| refusals.push(without_file(error));
    refuse(write(&net, &calibration));
    let perceptron = Perceptron::new(other.root() / "perceptron");
    refuse(write(&net, &recorded(&perceptron, &[&drawn(&[2, 6])]).unwrap()));
    let twice = Calibration::record(&net, [&xs], |net, xs| {
        let _ = xs.apply(&net.conv1);
        net.forward_t(xs, false)
    });
    refuse(write(&net, &twice.unwrap()));
    let calibration = recorded(&net, &[&xs]).unwrap();
    let mut vs = vs;
    vs.double();
    refuse(write(&net, &calibration));
    assert!(!file.exists());
    insta::assert_snapshot!(refusals.join("\n"));
}
