//! Sums, gates, concatenations.

use slim_runtime::{Prunable, nn as own};
use tch::Tensor;
use tch::nn::{self, Module};

use super::{Form, Unit, conv, keep, kept, linear, mean, norm, unit};

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = bn2 + downsample)]
struct BasicBlock {
    conv1: own::Conv2D,
    bn1: own::BatchNorm,
    conv2: own::Conv2D,
    bn2: own::BatchNorm,
    #[prune(from = input)]
    downsample: Option<Unit>,
}

impl BasicBlock {
    fn new(p: nn::Path, inputs: i64, width: i64) -> Self {
        BasicBlock {
            conv1: conv(&p / "conv1", inputs, width),
            bn1: norm(&p / "bn1", width),
            conv2: conv(&p / "conv2", width, width),
            bn2: norm(&p / "bn2", width),
            downsample: (inputs != width).then(|| unit(&p / "downsample", inputs, width)),
        }
    }
}

impl Module for BasicBlock {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let main = xs.apply(&self.conv1).apply_t(&self.bn1, false).relu();
        let main = main.apply(&self.conv2).apply_t(&self.bn2, false);
        let shortcut = self
            .downsample
            .as_ref()
            .map_or_else(|| xs.shallow_clone(), |downsample| xs.apply(downsample));
        (main + shortcut).relu()
    }
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct ResNet {
    stem: Unit,
    blocks: Vec<BasicBlock>,
    fc: own::Linear,
}

#[test]
fn a_residual_stream_with_and_without_a_downsample() {
    let form = Form {
        inputs: &[3],
        new: |p| ResNet {
            stem: unit(p / "stem", 3, 4),
            blocks: vec![
                BasicBlock::new(p / "blocks" / 0, 4, 4),
                BasicBlock::new(p / "blocks" / 1, 4, 6),
            ],
            fc: linear(p / "fc", 6, 2),
        },
        forward: |net, xs| {
            let xs =
                net.blocks.iter().fold(xs[0].apply(&net.stem).relu(), |xs, block| xs.apply(block));
            vec![mean(&xs).apply(&net.fc)]
        },
        scales: &[
            ("stem.bn", &[0.1, 0.1, 2.0, 0.1]),
            ("blocks.0.bn2", &[2.0, 0.1, 0.1, 0.1]),
            ("blocks.1.bn2", &[0.1, 0.1, 0.1, 0.1, 2.0, 2.0]),
            ("blocks.1.downsample.bn", &[2.0, 0.1, 0.1, 0.1, 0.1, 0.1]),
        ],
    };
    let (plan, _) = form.check();
    // A channel stays if one norm of its stream scores it high.
    assert_eq!([kept(&plan, "stem.bn"), kept(&plan, "blocks.0.bn2")], ["0,2", "0,2"]);
    assert_eq!(
        [
            kept(&plan, "blocks.1.bn2"),
            kept(&plan, "blocks.1.downsample.bn"),
            keep(&plan, "fc", "in")
        ],
        ["0,4-5"; 3]
    );
}

/// `bn * sigmoid(…)`: the gate has the channels of the flow that it multiplies.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = bn * excite)]
struct SqueezeExcite {
    conv: own::Conv2D,
    bn: own::BatchNorm,
    squeeze: own::Linear,
    excite: own::Linear,
}

#[test]
fn a_squeeze_and_excitation_gate() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            let q = &(p / 0);
            let se = SqueezeExcite {
                conv: conv(q / "conv", 3, 6),
                bn: norm(q / "bn", 6),
                squeeze: linear(q / "squeeze", 6, 3),
                excite: linear(q / "excite", 3, 6),
            };
            (se, conv(p / 1, 6, 2))
        },
        forward: |(se, out), xs| {
            let xs = xs[0].apply(&se.conv).apply_t(&se.bn, false);
            let gate = mean(&xs).apply(&se.squeeze).relu().apply(&se.excite).sigmoid();
            vec![(&xs * gate.unsqueeze(-1).unsqueeze(-1)).apply(out)]
        },
        scales: &[("0.bn", &[1., 6., 2., 5., 3., 4.])],
    };
    let (plan, (se, _)) = form.check();
    assert_eq!(
        [kept(&plan, "0.bn"), keep(&plan, "0.squeeze", "in"), keep(&plan, "0.excite", "out")],
        ["1,3"; 3]
    );
    // The gate's hidden features have no batch norm, so they stay.
    assert_eq!((se.squeeze.ws.size(), se.excite.ws.size()), (vec![3, 2], vec![2, 3]));
}

/// A dense layer, which passes on its input next to its own output.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = [input, conv])]
struct Dense {
    bn: own::BatchNorm,
    conv: own::Conv2D,
}

impl Module for Dense {
    fn forward(&self, xs: &Tensor) -> Tensor {
        Tensor::cat(&[xs, &xs.apply_t(&self.bn, false).relu().apply(&self.conv)], 1)
    }
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct DenseNet {
    stem: own::Conv2D,
    layers: Vec<Dense>,
    bn: own::BatchNorm,
    fc: own::Linear,
}

#[test]
fn a_dense_block() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            let layer = |i: i64| Dense {
                bn: norm(p / "layers" / i / "bn", 4 + 2 * i),
                conv: conv(p / "layers" / i / "conv", 4 + 2 * i, 2),
            };
            DenseNet {
                stem: conv(p / "stem", 3, 4),
                layers: (0..2).map(layer).collect(),
                bn: norm(p / "bn", 8),
                fc: linear(p / "fc", 8, 2),
            }
        },
        forward: |net, xs| {
            let xs = net.layers.iter().fold(xs[0].apply(&net.stem), |xs, layer| xs.apply(layer));
            vec![mean(&xs.apply_t(&net.bn, false).relu()).apply(&net.fc)]
        },
        scales: &[
            ("layers.0.bn", &[9., 1., 1., 1.]),
            ("layers.1.bn", &[1., 1., 1., 9., 1., 2.]),
            ("bn", &[1., 2., 1., 1., 8., 1., 7., 1.]),
        ],
    };
    let (plan, net) = form.check();
    // The last norm ranks all eight channels, the earlier norms the first four and six. The largest
    // score of a channel decides for all norms.
    assert_eq!(
        ["layers.0.bn", "layers.1.bn", "bn"].map(|bn| kept(&plan, bn)),
        ["0,3", "0,3-4", "0,3-4,6"]
    );
    assert_eq!(
        (net.stem.ws.size()[0], net.layers[0].conv.ws.size()[0], net.layers[1].conv.ws.size()[0]),
        (2, 1, 1)
    );
}

/// Parallel branches, concatenated.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = [one, three, pooled])]
struct Inception {
    one: Unit,
    #[prune(from = input)]
    three: (Unit, Unit),
    #[prune(from = input)]
    pooled: Unit,
}

#[test]
fn an_inception_module() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            let q = &(p / 1);
            let three = (unit(q / "three" / 0, 4, 3), unit(q / "three" / 1, 3, 3));
            let inception =
                Inception { one: unit(q / "one", 4, 3), three, pooled: unit(q / "pooled", 4, 3) };
            (unit(p / 0, 3, 4), inception, linear(p / 2, 9, 2))
        },
        forward: |(stem, inception, fc), xs| {
            let xs = xs[0].apply(stem).relu();
            let three = xs.apply(&inception.three.0).relu().apply(&inception.three.1);
            let pooled =
                xs.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false).apply(&inception.pooled);
            vec![mean(&Tensor::cat(&[xs.apply(&inception.one), three, pooled], 1).relu()).apply(fc)]
        },
        scales: &[
            ("0.bn", &[9., 1., 9., 1.]),
            ("1.one.bn", &[9., 1., 1.]),
            ("1.three.0.bn", &[1., 1., 9.]),
            ("1.three.1.bn", &[1., 9., 9.]),
            ("1.pooled.bn", &[1., 9., 1.]),
        ],
    };
    let (plan, _) = form.check();
    // The threshold is 1, so all channels with that score go.
    assert_eq!(
        ["1.one.bn", "1.three.1.bn", "1.pooled.bn"].map(|bn| kept(&plan, bn)),
        ["0", "1-2", "1"]
    );
    assert_eq!(
        (keep(&plan, "2", "in"), keep(&plan, "1.pooled.conv", "in")),
        ("0,4-5,7".to_owned(), "0,2".to_owned())
    );
}
