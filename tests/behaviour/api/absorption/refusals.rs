//! Channels that are not absorbed, and the reported reasons. Their constants are dropped, as
//! without absorption, and never added in a wrong place.

use slim_runtime::error::SelectionError;
use slim_runtime::{
    Activation, Error, Flow, LayerKind, Prunable, Result, Slimming, Tracer, model, nn,
};
use tch::Tensor;
use tch::nn::{ModuleT, VarStore};

use super::{assert_exact, build, half, lines, outputs};

/// Asserts that nothing is absorbed, and returns the report with the reasons.
fn assert_dropped<M: ModuleT + Prunable>(new: impl Fn(&VarStore) -> M, input: &[i64]) -> String {
    let outputs = outputs(new, half(), input);
    assert_eq!(outputs.absorbed, outputs.dropped);
    lines(&outputs.slimmed)
}

model! {
    #[derive(Debug)]
    struct NoPlace {
        conv1 = conv2d(3 => 12, kernel = 3);
        bn1 = batch_norm(12);
        relu;
        conv2 = conv2d(12 => 4, kernel = 1, bias = false);
    }
}

model! {
    #[derive(Debug)]
    struct NotDirectly {
        conv1 = conv2d(3 => 12, kernel = 3);
        bn1 = batch_norm(12);
        relu;
        conv2 = conv2d(12 => 4, kernel = 1, bias = false);
        relu;
        bn2 = batch_norm(4);
    }
}

model! {
    #[derive(Debug)]
    struct NotAlone {
        conv1 = conv2d(3 => 12, kernel = 3);
        bn1 = batch_norm(12);
        relu;
        conv2 = conv2d(12 => 4, kernel = 1, bias = false);
        bn2 = batch_norm(4);
        sum = bn2 + conv2;
    }
}

#[test]
fn readers_without_a_place_for_it() {
    insta::assert_snapshot!(assert_dropped(|vs| NoPlace::new(vs.root()), &[2, 3, 6, 6]), @"`conv2`: 3 channels dropped: it has no bias, and no batch norm is directly and alone behind it");
    insta::assert_snapshot!(assert_dropped(|vs| NotDirectly::new(vs.root()), &[2, 3, 6, 6]), @"`conv2`: 3 channels dropped: it has no bias, and no batch norm is directly and alone behind it");
    insta::assert_snapshot!(assert_dropped(|vs| NotAlone::new(vs.root()), &[2, 3, 6, 6]), @"`conv2`: 3 channels dropped: it has no bias, and no batch norm is directly and alone behind it");
}

model! {
    #[derive(Debug)]
    struct Gate {
        conv1 = conv2d(3 => 12, kernel = 3);
        bn1 = batch_norm(12);
        a = relu;
        gate = conv2d(12 => 12, kernel = 1);
        gated = a * gate.sigmoid();
        conv2 = conv2d(12 => 4, kernel = 1);
    }
}

model! {
    #[derive(Debug)]
    struct BareDepthwise {
        conv1 = conv2d(3 => 12, kernel = 3);
        bn1 = batch_norm(12);
        relu;
        depthwise = conv2d(12 => 12, kernel = 3, groups = 12, bias = false);
        conv2 = conv2d(12 => 4, kernel = 1);
    }
}

model! {
    #[derive(Debug)]
    struct Strided {
        conv1 = conv2d(3 => 12, kernel = 3);
        bn1 = batch_norm(12);
        relu;
        up = conv_transpose2d(12 => 4, kernel = 2, stride = 2);
    }
}

model! {
    #[derive(Debug)]
    struct PaddedAverage {
        conv1 = conv2d(3 => 12, kernel = 3);
        bn1 = batch_norm(12);
        relu;
        avg_pool(3, padding = 1);
        conv2 = conv2d(12 => 4, kernel = 1);
    }
}

model! {
    #[derive(Debug)]
    struct AnyFunction {
        conv1 = conv2d(3 => 12, kernel = 3);
        bn1 = batch_norm(12);
        map(|xs: &Tensor| xs.sin());
        conv2 = conv2d(12 => 4, kernel = 1);
    }
}

#[test]
fn numbers_that_are_not_known() {
    // The inputs of `gate` are known constants, so `gate` absorbs them.
    let gated = outputs(|vs| Gate::new(vs.root()), half(), &[2, 3, 6, 6]);
    insta::assert_snapshot!(lines(&gated.slimmed), @"
    `gate`: 3 channels into `gate.bias`, exact
    `conv2`: 3 channels dropped: what `gate` gives depends on the input
    ");
    insta::assert_snapshot!(assert_dropped(|vs| BareDepthwise::new(vs.root()), &[2, 3, 8, 8]), @"`conv2`: 3 channels dropped: how `depthwise` changes their value is unknown");
    insta::assert_snapshot!(assert_dropped(|vs| Strided::new(vs.root()), &[2, 3, 6, 6]), @"`up`: 3 channels dropped: it is a transposed convolution with a stride, which turns a constant into a pattern that no bias can hold");
    insta::assert_snapshot!(assert_dropped(|vs| PaddedAverage::new(vs.root()), &[2, 3, 8, 8]), @"`conv2`: 3 channels dropped: how `avg_pool_3` changes their value is unknown");
    insta::assert_snapshot!(assert_dropped(|vs| AnyFunction::new(vs.root()), &[2, 3, 6, 6]), @"`conv2`: 7 channels dropped: the activation between them and their batch norm is not declared; write `#[prune(act = relu)]` on its field, or use `absorb_after`");
}

/// Applies one head to two branches. Their removed channels send different constants, or the same
/// if the branches share β.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = head + head(right))]
struct Siamese {
    #[prune(act = relu)]
    left: (nn::Conv2D, nn::BatchNorm),
    #[prune(from = input, act = relu)]
    right: (nn::Conv2D, nn::BatchNorm),
    #[prune(from = left)]
    head: nn::Conv2D,
}

impl ModuleT for Siamese {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let branch = |branch: &(nn::Conv2D, nn::BatchNorm)| {
            xs.apply(&branch.0).apply_t(&branch.1, train).relu().apply(&self.head)
        };
        branch(&self.left) + branch(&self.right)
    }
}

#[test]
fn one_bias_for_two_places_must_suit_both() {
    let branch = |p: nn::Path| {
        (
            nn::conv2d(&p / 0, 3, 12, 3, Default::default()),
            nn::batch_norm2d(&p / 1, 12, Default::default()),
        )
    };
    let siamese = |vs: &VarStore| {
        let p = &vs.root();
        Siamese {
            left: branch(p / "left"),
            right: branch(p / "right"),
            head: nn::conv2d(p / "head", 12, 4, 1, Default::default()),
        }
    };
    insta::assert_snapshot!(assert_dropped(siamese, &[2, 3, 6, 6]), @"
    `head`: 3 channels dropped: `head.bias` is used elsewhere too, where another value is needed
    `head`: 3 channels dropped: `head.bias` is used elsewhere too, where another value is needed
    ");
    let twins = |vs: &VarStore| {
        let mut net = siamese(vs);
        // Both branches share one β, so they send the same constants.
        net.right.1.bs = net.left.1.bs.as_ref().map(Tensor::shallow_clone);
        net
    };
    insta::assert_snapshot!(lines(&assert_exact(twins, half(), &[2, 3, 6, 6])), @"
    `head`: 3 channels into `head.bias`, exact
    `head`: 3 channels into `head.bias`, exact
    ");
}

/// A layer from another crate: the library does not know what output a constant input gives.
#[derive(Debug)]
struct LowRank {
    down: Tensor,
    up: Tensor,
}

impl Prunable for LowRank {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::other("low rank"));
        let inputs = layer.read("in", &input, self.down.size()[1])?;
        let outputs = layer.write("out", self.up.size()[0])?;
        layer.parameter("down", &self.down, &[(1, inputs)])?;
        layer.parameter("up", &self.up, &[(0, outputs)])?;
        layer.pass(outputs)
    }
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct OfYourOwn {
    conv: nn::Conv2D,
    #[prune(act = relu)]
    bn: nn::BatchNorm,
    low_rank: LowRank,
}

impl ModuleT for OfYourOwn {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv).apply_t(&self.bn, train).relu().transpose(1, 3);
        xs.linear(&self.low_rank.down, None::<&Tensor>).linear(&self.low_rank.up, None::<&Tensor>)
    }
}

#[test]
fn a_layer_of_your_own() {
    let new = |vs: &VarStore| {
        let p = &vs.root();
        OfYourOwn {
            conv: nn::conv2d(p / "conv", 3, 12, 3, Default::default()),
            bn: nn::batch_norm2d(p / "bn", 12, Default::default()),
            low_rank: LowRank {
                down: p.var("down", &[2, 12], nn::Init::Const(0.)),
                up: p.var("up", &[4, 2], nn::Init::Const(0.)),
            },
        }
    };
    insta::assert_snapshot!(assert_dropped(new, &[2, 3, 6, 6]), @"`low_rank`: 5 channels dropped: how a layer of the kind `low rank` changes a constant is not known");
}

/// A block whose shortcut comes from a part without a declared activation: the constant that the
/// shortcut adds is unknown.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Outer {
    stem: (nn::Conv2D, nn::BatchNorm),
    block: Inner,
    last: nn::Conv2D,
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = relu(bn + input))]
struct Inner {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
}

impl ModuleT for Outer {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.stem.0).apply_t(&self.stem.1, train).tanh();
        let ys = xs.apply(&self.block.conv).apply_t(&self.block.bn, train);
        (ys + xs).relu().apply(&self.last)
    }
}

#[test]
fn an_activation_says_nothing_of_other_parts() {
    let new = |vs: &VarStore| {
        let p = &vs.root();
        Outer {
            stem: (
                nn::conv2d(p / "stem" / 0, 3, 12, 3, Default::default()),
                nn::batch_norm2d(p / "stem" / 1, 12, Default::default()),
            ),
            block: Inner {
                conv: nn::conv2d(p / "block" / "conv", 12, 12, 1, Default::default()),
                bn: nn::batch_norm2d(p / "block" / "bn", 12, Default::default()),
            },
            last: nn::conv2d(p / "last", 12, 4, 1, Default::default()),
        }
    };
    insta::assert_snapshot!(assert_dropped(new, &[2, 3, 6, 6]), @"
    `block.conv`: 7 channels dropped: the activation between them and their batch norm is not declared; write `#[prune(act = relu)]` on its field, or use `absorb_after`
    `last`: 7 channels dropped: which activation they pass before the one in `block` is not known
    ");
}

#[test]
fn a_shift_that_is_not_finite_is_an_error_and_changes_nothing() {
    let (mut net, vs) = build(|vs| NoPlace::new(vs.root()));
    let plan = net.plan(&half()).unwrap();
    let _ = tch::no_grad(|| net.bn1.bs.as_ref().unwrap().get(3).fill_(f64::NAN));
    let error = net.apply(&plan).unwrap_err();
    assert!(
        matches!(error, Error::Selection(SelectionError::NonFinite { channel: 3, .. })),
        "{error}"
    );
    assert_eq!(vs.variables()["conv1.weight"].size(), [12, 3, 3, 3]);
}

#[test]
fn an_activation_has_a_finite_parameter() {
    let (net, _vs) = build(|vs| NoPlace::new(vs.root()));
    let error =
        net.plan(&Slimming::ratio(0.5).absorb_after(Activation::Elu(f64::NAN))).unwrap_err();
    insta::assert_snapshot!(error, @"an activation with the parameter NaN: it must be finite, for instance `Activation::LeakyRelu(0.01)`");
}
