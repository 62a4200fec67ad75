//! Where the activation is declared: in attributes, in expressions, in `absorb_after`, in a
//! hand-written trace. Layers of tch absorb, too.

use slim_runtime::{Activation, Flow, Prunable, Result, Slimming, Tracer};
use tch::nn::{self, ModuleT};
use tch::{Kind, Tensor};

use super::{assert_exact, half, lines, outputs};

fn conv(p: nn::Path, inputs: i64, outputs: i64, kernel: i64, bias: bool) -> nn::Conv2D {
    nn::conv2d(p, inputs, outputs, kernel, nn::ConvConfig { bias, ..Default::default() })
}

fn norm(p: nn::Path, width: i64) -> nn::BatchNorm {
    nn::batch_norm2d(p, width, Default::default())
}

/// A leaky ReLU as a `forward` writes it by hand.
fn leaky(xs: &Tensor, slope: f64) -> Tensor {
    xs.clamp_min(0.) + xs.clamp_max(0.) * slope
}

/// A residual block. `downsample: None` is the identity: the shortcut is then the block's input.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = leaky_relu(bn2 + downsample, 0.2))]
struct Block {
    conv1: nn::Conv2D,
    #[prune(act = leaky_relu(0.2))]
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    #[prune(from = input)]
    downsample: Option<(nn::Conv2D, nn::BatchNorm)>,
}

impl Block {
    fn new(p: &nn::Path, inputs: i64, width: i64) -> Self {
        Block {
            conv1: conv(p / "conv1", inputs, width, 1, false),
            bn1: norm(p / "bn1", width),
            conv2: conv(p / "conv2", width, width, 1, false),
            bn2: norm(p / "bn2", width),
            downsample: (inputs != width).then(|| {
                (
                    conv(p / "downsample" / 0, inputs, width, 1, false),
                    norm(p / "downsample" / 1, width),
                )
            }),
        }
    }
}

impl ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let shortcut = match &self.downsample {
            Some((conv, bn)) => xs.apply(conv).apply_t(bn, train),
            None => xs.shallow_clone(),
        };
        let ys = leaky(&xs.apply(&self.conv1).apply_t(&self.bn1, train), 0.2);
        leaky(&(ys.apply(&self.conv2).apply_t(&self.bn2, train) + shortcut), 0.2)
    }
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct ResNet {
    conv1: nn::Conv2D,
    #[prune(act = elu(0.5))]
    bn1: nn::BatchNorm,
    blocks: Vec<Block>,
    fc: nn::Linear,
}

impl ModuleT for ResNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train);
        let xs = xs.clamp_min(0.) + xs.clamp_max(0.).expm1() * 0.5;
        let xs = self.blocks.iter().fold(xs, |xs, block| xs.apply_t(block, train));
        xs.mean_dim([2_i64, 3].as_slice(), false, Kind::Double).apply(&self.fc)
    }
}

#[test]
fn attributes_and_expressions() {
    let new = |p: &nn::Path| ResNet {
        conv1: conv(p / "conv1", 3, 12, 3, false),
        bn1: norm(p / "bn1", 12),
        blocks: [(12, 12), (12, 10), (10, 10)]
            .iter()
            .enumerate()
            .map(|(i, &(inputs, width))| Block::new(&(p / "blocks" / i), inputs, width))
            .collect(),
        fc: nn::linear(p / "fc", 10, 4, Default::default()),
    };
    assert_exact(|vs| new(&vs.root()), half(), &[2, 3, 6, 6]);
}

/// A chain that declares no activation.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Chain {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    fc: nn::Linear,
}

impl Chain {
    fn new(p: &nn::Path) -> Self {
        Chain {
            conv1: conv(p / "conv1", 3, 12, 3, false),
            bn1: norm(p / "bn1", 12),
            conv2: conv(p / "conv2", 12, 10, 3, false),
            bn2: norm(p / "bn2", 10),
            fc: nn::linear(p / "fc", 40, 4, Default::default()),
        }
    }
}

impl ModuleT for Chain {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).gelu("none");
        let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).gelu("none");
        xs.flatten(1, -1).apply(&self.fc)
    }
}

#[test]
fn the_call_says_it_for_all() {
    let slimmed = assert_exact(
        |vs| Chain::new(&vs.root()),
        Slimming::ratio(0.5).absorb_after(Activation::Gelu),
        &[2, 3, 6, 6],
    );
    insta::assert_snapshot!(lines(&slimmed), @"
    `conv2`: 5 channels into `bn2.running_mean`, exact
    `fc`: 28 channels into `fc.bias`, exact
    ");
}

#[test]
fn what_nothing_is_said_of_is_dropped() {
    let outputs = outputs(|vs| Chain::new(&vs.root()), half(), &[2, 3, 6, 6]);
    assert_eq!(outputs.absorbed, outputs.dropped);
    insta::assert_snapshot!(lines(&outputs.slimmed), @"
    `conv2`: 5 channels dropped: the activation between them and their batch norm is not declared; write `#[prune(act = relu)]` on its field, or use `absorb_after`
    `fc`: 28 channels dropped: the activation between them and their batch norm is not declared; write `#[prune(act = relu)]` on its field, or use `absorb_after`
    ");
}

/// A network with an activation and a dropout as fields.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Fields {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    #[prune(elementwise, act = silu)]
    activation: fn(&Tensor) -> Tensor,
    #[prune(elementwise, act = identity)]
    dropout: f64,
    conv2: nn::Conv2D,
}

impl ModuleT for Fields {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        (self.activation)(&xs.apply(&self.conv1).apply_t(&self.bn1, train))
            .dropout(self.dropout, train)
            .apply(&self.conv2)
    }
}

#[test]
fn activations_that_are_fields() {
    let new = |p: &nn::Path| Fields {
        conv1: conv(p / "conv1", 3, 12, 3, true),
        bn1: norm(p / "bn1", 12),
        activation: Tensor::silu,
        dropout: 0.5,
        conv2: conv(p / "conv2", 12, 4, 2, true),
    };
    assert_exact(|vs| new(&vs.root()), half(), &[2, 3, 6, 6]);
}

/// A network with a hand-written trace.
#[derive(Debug)]
struct ByHand(Chain);

impl Prunable for ByHand {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        cx.explicit();
        let flow = cx.field("conv1", |cx| self.0.conv1.trace(cx, input))?;
        let flow = cx.field("bn1", |cx| self.0.bn1.trace(cx, flow))?;
        let flow = cx.activation(&flow, Activation::Gelu)?;
        let flow = cx.field("conv2", |cx| self.0.conv2.trace(cx, flow))?;
        let flow = cx.field("bn2", |cx| self.0.bn2.trace(cx, flow))?;
        let flow = cx.activation(&flow, Activation::Gelu)?;
        cx.field("fc", |cx| self.0.fc.trace(cx, flow))
    }
}

impl ModuleT for ByHand {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        self.0.forward_t(xs, train)
    }
}

#[test]
fn a_trace_by_hand() {
    assert_exact(|vs| ByHand(Chain::new(&vs.root())), half(), &[2, 3, 6, 6]);
}
