//! Features and positions: flatten, unflatten, and one channel that multiplies all others.

use slim_runtime::nn::{
    AdaptiveAvgPool2d, MaxPool1d, MaxPool3d, adaptive_avg_pool2d, max_pool1d, max_pool3d,
};

use super::*;

/// A decoder, which turns features into an image.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = conv)]
struct Decoder {
    fc: own::Linear,
    bn: own::BatchNorm,
    #[prune(from = unflatten(bn, 4))]
    image_bn: own::BatchNorm,
    conv: own::Conv2D,
}

#[test]
fn a_decoders_features_become_channels_in_blocks() {
    let form = Form::<Decoder> {
        inputs: &[5],
        new: |p| Decoder {
            fc: linear(p / "fc", 5, 24),
            bn: own::batch_norm1d(p / "bn", 24, Default::default()),
            image_bn: norm(p / "image_bn", 6),
            conv: conv(p / "conv", 6, 2),
        },
        forward: |net, inputs| {
            let features = mean(&inputs[0]).apply(&net.fc).apply_t(&net.bn, false).relu();
            vec![
                features
                    .view([-1, net.image_bn.running_mean.size()[0], 2, 2])
                    .apply_t(&net.image_bn, false)
                    .apply(&net.conv),
            ]
        },
        scales: &[],
    };
    let plan = form.check().0;
    let channels = plan.layer("image_bn").unwrap().axes[0].keep.len();
    assert!(channels < 6);
    assert_eq!(plan.layer("fc").unwrap().axis("out").unwrap().keep.len(), 4 * channels);
}

/// Two scales, flattened and concatenated.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3, output = head)]
struct Pyramid {
    fine: Unit,
    #[prune(from = input)]
    coarse: Unit,
    #[prune(from = [flatten(fine, 4), flatten(coarse, 1)])]
    features: own::BatchNorm,
    head: own::Linear,
}

#[test]
fn two_scales_are_flattened_beside_each_other() {
    let form = Form::<Pyramid> {
        inputs: &[3],
        new: |p| Pyramid {
            fine: unit(p / "fine", 3, 6),
            coarse: unit(p / "coarse", 3, 5),
            features: own::batch_norm1d(p / "features", 6 * 4 + 5, Default::default()),
            head: linear(p / "head", 6 * 4 + 5, 2),
        },
        forward: |net, inputs| {
            let fine = inputs[0].apply(&net.fine).adaptive_avg_pool2d([2, 2]).flatten(1, -1);
            let coarse = mean(&inputs[0].apply(&net.coarse));
            vec![Tensor::cat(&[fine, coarse], 1).apply_t(&net.features, false).apply(&net.head)]
        },
        scales: &[],
    };
    let plan = form.check().0;
    let kept = |path: &str| {
        plan.layer(path).unwrap().axes.iter().find(|axis| axis.name != "in").unwrap().keep.len()
    };
    assert_eq!(kept("features"), 4 * kept("fine.bn") + kept("coarse.bn"));
}

/// A spatial gate: one channel multiplies all channels.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = last)]
struct Spatial {
    body: Unit,
    #[prune(from = body)]
    gate: Unit,
    #[prune(from = body * gate)]
    last: own::Conv2D,
}

#[test]
fn one_channel_multiplies_all_and_stays() {
    let form = Form::<Spatial> {
        inputs: &[3],
        new: |p| Spatial {
            body: unit(p / "body", 3, 8),
            gate: unit(p / "gate", 8, 1),
            last: conv(p / "last", 8, 2),
        },
        forward: |net, inputs| {
            let body = inputs[0].apply(&net.body).relu();
            vec![(&body * body.apply(&net.gate).sigmoid()).apply(&net.last)]
        },
        scales: &[],
    };
    let plan = form.check_at(0.7).0;
    assert!(plan.layer("body.bn").unwrap().axes[0].keep.len() < 8);
    assert_eq!(plan.layer("gate.bn").unwrap().axes[0].keep.len(), 1);
    assert!(plan.to_string().contains("multiplies every channel of another flow"), "{plan}");
}

/// Pools of other ranks, as fields.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Pools(MaxPool1d, MaxPool3d, AdaptiveAvgPool2d);

#[test]
fn pools_of_other_ranks() {
    let pools = Pools(max_pool1d(2, 2), max_pool3d(2, 2), adaptive_avg_pool2d(1));
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, device()));
    assert_eq!(zeros(&[1, 2, 8]).apply(&pools.0).size(), [1, 2, 4]);
    assert_eq!(zeros(&[1, 2, 8, 8, 8]).apply(&pools.1).size(), [1, 2, 4, 4, 4]);
    assert_eq!(zeros(&[1, 2, 8, 8]).apply(&pools.2).size(), [1, 2, 1, 1]);
    let vs = VarStore::new(device());
    let p = vs.root();
    let net = (
        nn::conv1d(&p / 0, 3, 4, 1, Default::default()),
        nn::batch_norm1d(&p / 1, 4, Default::default()),
        pools,
        nn::conv1d(&p / 3, 4, 2, 1, Default::default()),
    );
    assert_eq!(net.plan(&Slimming::ratio(0.)).unwrap().cfg().to_string(), "[4, 'M', 'M']");
}

/// Attributes with numbers from a macro, a part of a tuple struct's field (`0.1`), and a function
/// with a qualified path.
macro_rules! cut {
    ($name:ident, $chunks:expr, $width:literal) => {
        #[derive(Debug, Prunable)]
        #[prune(sequential)]
        #[prune(input = $width, output = chunk(bn, $chunks, 0))]
        struct $name {
            conv: own::Conv2D,
            bn: own::BatchNorm,
        }
    };
}

cut!(Cut, 2, 3);

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = 0.1)]
struct SecondPart(own::Split);

trait Traced {
    fn traced(
        &self,
        cx: &mut slim_runtime::Tracer,
        input: slim_runtime::Flow,
    ) -> slim_runtime::Result<slim_runtime::Flow>;
}

impl Traced for own::Conv2D {
    fn traced(
        &self,
        cx: &mut slim_runtime::Tracer,
        input: slim_runtime::Flow,
    ) -> slim_runtime::Result<slim_runtime::Flow> {
        self.trace(cx, input)
    }
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Qualified(#[prune(with = <own::Conv2D as Traced>::traced)] own::Conv2D);

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3)]
enum Narrow {
    Conv(own::Conv2D),
}

#[test]
fn tokens_that_are_easily_mistaken() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let cut = Cut { conv: conv(p / "a", 3, 4), bn: norm(p / "b", 4) };
    let halves = Slimming::ratio(0.);
    let tied =
        (cut, conv(p / "c", 2, 2), norm(p / "d", 2), conv(p / "e", 2, 1)).plan(&halves).unwrap();
    assert_eq!(tied.layer("0.bn").unwrap().scored.as_ref().unwrap().removable, 4);

    let split = (
        Qualified(conv(p / "f", 3, 6)),
        norm(p / "g", 6),
        SecondPart(own::split([2, 4])),
        conv(p / "h", 4, 1),
    );
    assert_eq!(split.plan(&halves).unwrap().layer("3").unwrap().axis("in").unwrap().width, 4);

    let error = Narrow::Conv(conv(p / "i", 4, 2)).plan(&halves).unwrap_err();
    insta::assert_snapshot!(error, @"`model` takes 4 channels, but the model's input gives 3; a field reads the one declared before it, unless `from` says otherwise");
}

/// A spatial gate on channels that no batch norm ranks: the gate's batch norm can only set all
/// eight channels to zero together.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = last)]
struct RawSpatial {
    body: Unit,
    #[prune(from = body)]
    wide: own::Conv2D,
    #[prune(from = body)]
    gate: Unit,
    #[prune(from = [body, wide * gate])]
    last: own::Conv2D,
}

#[test]
fn one_channel_ranks_none_of_those_that_it_multiplies() {
    let form = Form::<RawSpatial> {
        inputs: &[3],
        new: |p| RawSpatial {
            body: unit(p / "body", 3, 8),
            wide: conv(p / "wide", 8, 8),
            gate: unit(p / "gate", 8, 1),
            last: conv(p / "last", 16, 2),
        },
        forward: |net, inputs| {
            let body = inputs[0].apply(&net.body).relu();
            let gated = body.apply(&net.wide) * body.apply(&net.gate).sigmoid();
            vec![Tensor::cat(&[body, gated], 1).apply(&net.last)]
        },
        scales: &[],
    };
    let plan = form.check_at(0.7).0;
    assert!(plan.layer("body.bn").unwrap().axes[0].keep.len() < 8);
    assert_eq!(plan.layer("wide").unwrap().axis("out").unwrap().keep.len(), 8);
    assert_eq!(plan.layer("gate.bn").unwrap().axes[0].keep.len(), 1);
}
