//! ONNX files: what ONNX Runtime computes from them, which sizes they take, and what is refused.

use std::fs;

use slim_runtime::export::{Onnx, OnnxExport, Port, onnx};
use slim_runtime::{
    Flow, LayerKind, Plan, Prunable, Result, Slimming, Tracer, criterion, deploy, forward,
    functional, model, nn,
};
use slim_tests::fill::fill;
use slim_tests::onnx::{assert_computes, metadata};
use tch::nn::{Module, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

use super::layers::{Decoder, Encoder, Pictures, tokens};
use crate::common::images;

/// Single precision.
const TOLERANCE: f64 = 1e-5;

fn dims(ports: &[Port]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Writes the network dense and slimmed, and runs it for each input.
fn check<M: Prunable + ModuleT>(
    new: impl Fn(&VarStore) -> M,
    shape: &[i64],
    inputs: &[Tensor],
) -> Onnx {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let mut written = None;
    for slims in [false, true] {
        let vs = VarStore::new(Device::Cpu);
        let mut net = new(&vs);
        fill(&vs);
        if slims {
            let by_weights = Slimming::ratio(0.4).criterion(criterion::L2).local();
            net.apply(&net.plan(&by_weights).unwrap()).unwrap();
        }
        written = Some(onnx(&file, &net, &[shape]).unwrap());
        for xs in inputs {
            let expected = tch::no_grad(|| net.forward_t(xs, false));
            assert_computes(&file, &[("input", xs)], &[expected], TOLERANCE);
        }
    }
    written.unwrap()
}

#[test]
fn attention_norms_and_embeddings_take_any_batch_and_length() {
    let longer = Tensor::arange(18, (Kind::Int64, Device::Cpu)).remainder(7).view([2, 9]);
    let inputs = [tokens(1), tokens(4), longer];
    let written = check(|vs| Encoder::new(vs.root()), &[5], &inputs);
    assert_eq!(dims(&written.inputs), "input [batch, length]");
    check(|vs| Decoder::new(&vs.root()), &[5], &inputs);
}

model! {
    #[derive(Debug)]
    struct Recurrences {
        embed = embedding(7 => 6);
        first = lstm(6 => 8, layers = 2, bidirectional = true);
        second = gru(16 => 8);
        third = rnn_tanh(8 => 8, bias = false);
        fourth = rnn_relu(8 => 8);
        head = linear(8 => 2);
    }
}

#[test]
fn recurrent_layers() {
    check(|vs| Recurrences::new(vs.root()), &[5], &[tokens(1), tokens(3)]);
}

#[test]
fn norms_and_slopes_over_images() {
    let written =
        check(|vs| Pictures::new(vs.root()), &images(1).size()[1..], &[images(1), images(3)]);
    assert_eq!(written.folded, 1);
}

fn drawn(sizes: &[i64]) -> Tensor {
    Tensor::randn(sizes, (Kind::Float, Device::Cpu))
}

/// tch's own layers, whose settings are read from what they print.
#[derive(Debug, Prunable)]
struct Own {
    conv: tch::nn::Conv2D,
    bn: tch::nn::BatchNorm,
    grouped: tch::nn::Conv2D,
    norm: tch::nn::GroupNorm,
    up: tch::nn::ConvTranspose2D,
    up_bn: tch::nn::BatchNorm,
    fc: tch::nn::Linear,
    ln: tch::nn::LayerNorm,
}

impl Own {
    fn new(vs: &VarStore) -> Self {
        let p = &vs.root();
        let strided =
            tch::nn::ConvConfig { stride: 2, padding: 2, dilation: 2, ..Default::default() };
        let reflected = tch::nn::ConvConfigND {
            padding: [1, 1],
            padding_mode: tch::nn::PaddingMode::Reflect,
            groups: 2,
            ..tch::nn::ConvConfigND {
                stride: [1, 1],
                padding: [0, 0],
                dilation: [1, 1],
                groups: 1,
                bias: true,
                ws_init: tch::nn::init::DEFAULT_KAIMING_UNIFORM,
                bs_init: tch::nn::Init::Const(0.),
                padding_mode: tch::nn::PaddingMode::Zeros,
            }
        };
        let up = tch::nn::ConvTransposeConfig {
            stride: 2,
            padding: 1,
            output_padding: 1,
            ..Default::default()
        };
        let eps = tch::nn::BatchNormConfig { eps: 1e-2, ..Default::default() };
        let wide = tch::nn::LayerNormConfig { eps: 1e-3, ..Default::default() };
        Own {
            conv: tch::nn::conv2d(p / "conv", 3, 8, 3, strided),
            bn: tch::nn::batch_norm2d(p / "bn", 8, eps),
            grouped: tch::nn::conv(p / "grouped", 8, 8, [3, 5], reflected),
            norm: tch::nn::group_norm(p / "norm", 4, 8, Default::default()),
            up: tch::nn::conv_transpose2d(p / "up", 8, 6, 3, up),
            up_bn: tch::nn::batch_norm2d(p / "up_bn", 6, eps),
            fc: tch::nn::linear(p / "fc", 6, 5, Default::default()),
            ln: tch::nn::layer_norm(p / "ln", vec![5], wide),
        }
    }
}

#[forward]
impl ModuleT for Own {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv).apply_t(&self.bn, train).relu();
        let xs = xs.apply(&self.grouped).apply(&self.norm).relu();
        let xs = xs.apply(&self.up).apply_t(&self.up_bn, train).relu();
        xs.mean_dim([2, 3].as_slice(), false, None).apply(&self.fc).apply(&self.ln)
    }
}

#[test]
fn tchs_own_layers_take_any_batch_and_image() {
    let images = |n, side| drawn(&[n, 3, side, side + 2]);
    let written = check(Own::new, &[3, 32, 34], &[images(1, 32), images(3, 32), images(2, 40)]);
    assert_eq!(dims(&written.inputs), "input [batch, 3, height, width]");
    assert_eq!(dims(&written.outputs), "output [batch, 5]");
    assert_eq!(written.folded, 2);
}

#[derive(Debug, Prunable)]
struct Pooled {
    conv: nn::Conv2D,
    last: nn::Conv2D,
    /// Padded, so that windows are counted by libtorch's own rule.
    is_padded: bool,
}

#[forward]
impl ModuleT for Pooled {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let padding = if self.is_padded { [1, 1] } else { [0, 0] };
        xs.apply(&self.conv).max_pool2d([3, 2], [2, 2], padding, [1, 1], true).apply(&self.last)
    }
}

#[test]
fn windows_that_reach_beyond_the_image_are_counted_as_libtorch_counts_them() {
    let sizes = [[32, 32], [31, 33], [34, 37]];
    let images = |[height, width]: [i64; 2]| drawn(&[2, 3, height, width]);
    let new = |is_padded| {
        move |vs: &VarStore| Pooled {
            conv: nn::conv2d(vs.root() / "conv", 3, 4, 3, Default::default()),
            last: nn::conv2d(vs.root() / "last", 4, 2, 1, Default::default()),
            is_padded,
        }
    };
    let written = check(new(false), &[3, 32, 32], &sizes.map(images));
    assert_eq!(dims(&written.inputs), "input [batch, 3, height, width]");
    for size in sizes {
        let written = check(new(true), &[3, size[0], size[1]], &[images(size)]);
        assert!(dims(&written.inputs).ends_with(&format!("3, {}, {}]", size[0], size[1])));
    }
}

fn small() -> (Own, VarStore, Tensor) {
    let vs = VarStore::new(Device::Cpu);
    let net = Own::new(&vs);
    fill(&vs);
    (net, vs, drawn(&[2, 3, 32, 32]))
}

#[test]
fn the_options_change_the_file_and_not_what_it_computes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let (net, _vs, xs) = small();
    let shape = &xs.size()[1..];
    let expected = [tch::no_grad(|| net.forward_t(&xs, false))];
    let whole = onnx(&file, &net, &[shape]).unwrap();

    let unfolded = OnnxExport::new().fold(false).write(&file, &net, &[shape]).unwrap();
    assert_eq!((whole.folded, unfolded.folded), (2, 0));
    assert_computes(&file, &[("input", &xs)], &expected, TOLERANCE);

    let half = OnnxExport::new().half(true).write(&file, &net, &[shape]).unwrap();
    assert!(half.bytes < whole.bytes, "{half}, {whole}");
    assert_computes(&file, &[("input", &xs)], &expected, 1e-2);

    let outside = OnnxExport::new().external_data(true).write(&file, &net, &[shape]).unwrap();
    let data = outside.data.unwrap();
    assert!(fs::metadata(&data).unwrap().len() > 0);
    assert_computes(&file, &[("input", &xs)], &expected, TOLERANCE);
}

#[test]
fn the_metadata_says_how_the_network_was_slimmed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let (mut net, _vs, _) = small();
    let slimmed = net.slim(0.5).unwrap();
    let export = OnnxExport::new().metadata("trained on", "CIFAR-10");
    export.clone().slimmed(&slimmed).write(&file, &net, &[&[3, 32, 32]]).unwrap();
    assert_eq!(metadata(&file, "cfg").unwrap(), slimmed.cfg().to_string());
    assert_eq!(&Plan::from_json(&metadata(&file, "plan").unwrap()).unwrap(), slimmed.plan());
    assert_eq!(metadata(&file, "trained on").as_deref(), Some("CIFAR-10"));

    export.write(&file, &net, &[&[3, 32, 32]]).unwrap();
    assert_eq!(metadata(&file, "plan"), None);
    let taken = OnnxExport::new().metadata("plan", "{}").write(&file, &net, &[&[3, 32, 32]]);
    let words = taken.unwrap_err().to_string();
    assert!(words.ends_with("the metadata's key `plan` is taken; choose another"), "{words}");
}

model! {
    #[derive(Debug)]
    struct Perceptron {
        first = linear(6 => 8);
        relu;
        second = linear(8 => 3);
    }
}

#[test]
fn a_network_of_doubles_computes_in_doubles() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let mut vs = VarStore::new(Device::Cpu);
    let net = Perceptron::new(vs.root());
    vs.double();
    let xs = drawn(&[4, 6]).to_kind(Kind::Double);
    let expected = tch::no_grad(|| net.forward_t(&xs, false));
    onnx(&file, &net, &[&[6]]).unwrap();
    assert_computes(&file, &[("input", &xs)], &[expected], 1e-12);
}

/// Padding in each dimension by a border of its own.
#[derive(Debug, Prunable)]
struct Bordered {
    convs: Vec<nn::Conv2D>,
}

#[forward]
impl ModuleT for Bordered {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let mut xs = xs.shallow_clone();
        for conv in &self.convs {
            xs = xs.apply(conv).tanh();
        }
        xs
    }
}

#[test]
fn each_padding_mode() {
    use tch::nn::PaddingMode::{Circular, Reflect, Replicate, Zeros};
    let new = |vs: &VarStore| {
        let conv = |(index, padding_mode)| {
            let config = tch::nn::ConvConfigND {
                padding: [1, 2],
                padding_mode,
                stride: [1, 1],
                dilation: [1, 1],
                groups: 1,
                bias: true,
                ws_init: tch::nn::init::DEFAULT_KAIMING_UNIFORM,
                bs_init: tch::nn::Init::Const(0.),
            };
            nn::conv(vs.root() / index, 3, 3, [3, 5], config)
        };
        let modes = [Zeros, Reflect, Replicate, Circular];
        Bordered { convs: modes.into_iter().enumerate().map(conv).collect() }
    };
    check(new, &[3, 9, 7], &[drawn(&[2, 3, 9, 7]), drawn(&[1, 3, 12, 10])]);
}

#[derive(Debug, Prunable)]
struct Pair {
    a: nn::Conv2D,
    b: nn::Conv2D,
}

#[forward]
impl Pair {
    fn forward(&self, xs: &Tensor, ys: &Tensor) -> (Tensor, Tensor) {
        let xs = xs.apply(&self.a).relu();
        let ys = ys.apply(&self.b);
        (&xs + &ys, xs)
    }
}

#[test]
fn several_inputs_and_outputs_are_named_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let vs = VarStore::new(Device::Cpu);
    let conv = |name| nn::conv2d(vs.root() / name, 3, 4, 3, Default::default());
    let net = Pair { a: conv("a"), b: conv("b") };
    let written = onnx(&file, &net, &[&[3, 8, 8], &[3, 8, 8]]).unwrap();
    assert_eq!(dims(&written.inputs), "input0 [batch, 3, 8, 8], input1 [batch, 3, 8, 8]");
    assert_eq!(dims(&written.outputs), "output0 [batch, 4, 6, 6], output1 [batch, 4, 6, 6]");
    let (xs, ys) = (drawn(&[3, 3, 8, 8]), drawn(&[3, 3, 8, 8]));
    let (sum, first) = tch::no_grad(|| net.forward(&xs, &ys));
    assert_computes(&file, &[("input0", &xs), ("input1", &ys)], &[sum, first], TOLERANCE);
}

/// A layer that says only what happens to channels.
#[derive(Debug)]
struct ByHand(nn::Conv2D);

impl Module for ByHand {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.apply(&self.0)
    }
}

impl Prunable for ByHand {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::other("by hand"));
        let read = layer.read("in", &input, 3)?;
        let written = layer.write("out", self.0.ws.size()[0])?;
        layer.parameter("weight", &self.0.ws, &[(0, written), (1, read)])?;
        layer.pass(written)
    }
}

#[derive(Debug, Prunable)]
#[prune(input = [3, 8, 8])]
struct WithIts {
    by_hand: ByHand,
    fc: nn::Linear,
    how: i64,
}

#[forward]
impl ModuleT for WithIts {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let ys = match self.how {
            0 => xs.apply(&self.by_hand).relu(),
            1 => functional::map(xs, |xs| xs.relu() * 2.),
            _ => xs * Tensor::rand([1, 1, 1, 1], (Kind::Float, Device::Cpu)),
        };
        ys.mean_dim([2, 3].as_slice(), false, None).apply(&self.fc)
    }
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Declared {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
}

impl ModuleT for Declared {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, train)
    }
}

/// The refusal, without the path of the file.
fn refusal(net: &(impl Prunable + ?Sized), shapes: &[&[i64]]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    fs::write(&file, "an earlier file").unwrap();
    let error = onnx(&file, net, shapes).unwrap_err().to_string();
    assert_eq!(fs::read_to_string(&file).unwrap(), "an earlier file");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
    let error = error.replace(&format!("{}: ", file.display()), "");
    let Some((before, behind)) = error.split_once("onnx.rs:") else { return error };
    let (place, reason) = behind.split_once(": ").unwrap();
    assert!(place.split(':').all(|number| number.parse::<u32>().is_ok()), "{error}");
    format!("{before}onnx.rs: {reason}")
}

#[test]
fn what_has_no_onnx_form_is_refused_with_its_line_and_the_fix() {
    let vs = VarStore::new(Device::Cpu);
    let p = &vs.root();
    let mut refusals = Vec::new();
    for how in 0..3 {
        let net = WithIts {
            by_hand: ByHand(nn::conv2d(p / how, 3, 3, 1, Default::default())),
            fc: nn::linear(p / "fc" / how, 3, 2, Default::default()),
            how,
        };
        refusals.push(refusal(&net, &[&[3, 8, 8]]));
    }
    let declared = Declared {
        conv: nn::conv2d(p / "conv", 3, 4, 3, Default::default()),
        bn: nn::batch_norm2d(p / "bn", 4, Default::default()),
    };
    refusals.push(refusal(&declared, &[&[3, 8, 8]]));

    let (net, mut vs, _) = small();
    refusals.push(refusal(&net, &[]));
    vs.bfloat16();
    refusals.push(refusal(&net, &[&[3, 32, 32]]));

    let vs = VarStore::new(Device::Cpu);
    let mut net = Pictures::new(vs.root());
    deploy(&mut net, &images(1), |net, xs| net.forward_t(xs, false)).unwrap();
    refusals.push(refusal(&net, &[&images(1).size()[1..]]));
    insta::assert_snapshot!(refusals.join("\n"));
}
