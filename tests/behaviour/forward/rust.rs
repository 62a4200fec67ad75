//! Rust as people write it: loops, closures, matches, generics, trait objects.

use slim_runtime::{Prunable, Slimming, forward, nn as own};
use tch::nn::{self, Module, ModuleT, VarStore};
use tch::{IndexOp, Tensor, Tensor as T};

use super::{bn, built, conv, images, left, net, refusal, slimmed_is_masked};

/// A network of conv1, bn1, the given body, and a consumer. `$left` of the eight channels stay at a
/// ratio of one half.
macro_rules! between {
    ($($test:ident $left:literal $reader:literal |$xs:ident| $body:expr;)+) => {$(
        #[test]
        fn $test() {
            net! { Net {
                conv1: nn::Conv2D = |p| conv(p, 3, 8),
                bn1: nn::BatchNorm = |p| bn(p, 8),
                conv2: nn::Conv2D = |p| conv(p, $reader, 4),
            } |net, xs, train| {
                let $xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
                let $xs = $body;
                $xs.apply(&net.conv2)
            } }
            let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
            assert_eq!(left(&plan, "bn1"), $left);
        }
    )+};
}

between! {
    permuted_back 3 8 |xs| xs.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
    blocks_by_a_literal 2 8 |xs| {
        let (n, c, h, w) = xs.size4().unwrap();
        xs.view([n, c / 2, 2, h, w]).transpose(1, 2).contiguous().view([n, c, h, w])
    };
    parts_by_a_literal 2 8 |xs| {
        let (n, c, h, w) = xs.size4().unwrap();
        xs.view([n, 2, c / 2, h, w]).transpose(1, 2).contiguous().view([n, c, h, w])
    };
    sizes_by_index 3 8 |xs| {
        let s = xs.size();
        xs.reshape([s[0], s[1], s[2] * s[3], 1]).reshape([s[0], -1, s[2], s[3]])
    };
    sums_with_numbers 3 8 |xs| (&xs * 2. + xs.mean_dim([2i64, 3].as_slice(), true, tch::Kind::Double) * 3.).tanh();
    in_place_on_a_copy 3 8 |xs| { let mut ys = xs.copy(); let _ = ys.sigmoid_(); xs };
    a_closure_with_types 3 8 |xs| { let f = |xs: &Tensor| -> Tensor { xs.relu() }; f(&xs) };
    a_closure_with_paths 3 8 |xs| { let f = |xs: &tch::Tensor| -> ::tch::Tensor { xs.relu() }; f(&xs) };
    an_inner_function 3 8 |xs| { fn f(xs: &Tensor) -> Tensor { xs.relu() } f(&xs) };
    vectors 3 8 |xs| {
        let all: Vec<Tensor> = (0..3).map(|_| xs.shallow_clone()).collect();
        let mut sum = all[0].copy();
        for x in &all[1..] { sum += x; }
        sum
    };
    macros 3 8 |xs| {
        assert_eq!(xs.dim(), 4, "{xs:?}");
        let v = vec![xs.relu(), xs.relu()];
        Tensor::cat(&v, 1).chunk(2, 1).swap_remove(0)
    };
    options 3 8 |xs| { let o: Option<&Tensor> = Some(&xs); o.map(tch::Tensor::relu).unwrap_or_else(|| xs.shallow_clone()) };
    an_early_return 3 8 |xs| { let f = |xs: &Tensor| { if xs.dim() == 4 { return xs.relu(); } xs.tanh() }; f(&xs) };
    compound_assignment 3 8 |xs| { let mut ys = xs.relu(); ys += &xs; ys *= 0.5; ys };
    an_unknown_function_that_keeps_zero 3 8 |xs| slim_runtime::functional::map(&xs, |xs| xs.erf() * 3.);
    indexing 3 8 |xs| xs.i((.., .., 1..7, ..)).i((.., .., .., ..6));
    gates 3 8 |xs| &xs * xs.mean_dim([2i64, 3].as_slice(), true, tch::Kind::Double).sigmoid();
    halves 2 8 |xs| { let mut halves = xs.chunk(2, 1); let b = halves.pop().unwrap(); Tensor::cat(&[b, halves.pop().unwrap()], 1) };
    pads 3 8 |xs| xs.zero_pad2d(1, 1, 1, 1).constant_pad_nd([0, 1]);
    zeros_beside 3 16 |xs| Tensor::cat(&[xs.zeros_like(), xs.shallow_clone()], 1);
    ones_beside 3 16 |xs| Tensor::cat(&[xs.shallow_clone(), xs.shallow_clone()], 1) * 2.;
    resized 3 8 |xs| { let (_, _, h, w) = xs.size4().unwrap(); xs.upsample_nearest2d([h * 2, w * 2], None, None) };
    tokens 3 8 |xs| { let (n, c, h, w) = xs.size4().unwrap(); xs.flatten(2, -1).transpose(1, 2).transpose(1, 2).reshape([n, c, h, w]) };
}

#[test]
fn tensors_under_another_name() {
    #[derive(Debug, Prunable)]
    struct Net {
        conv1: nn::Conv2D,
        bn1: nn::BatchNorm,
        conv2: nn::Conv2D,
    }

    #[forward]
    impl ModuleT for Net {
        fn forward_t(&self, xs: &T, train: bool) -> T {
            let f = |xs: &T| -> T { xs.relu() };
            f(&self.bn1.forward_t(&self.conv1.forward(xs), train)).apply(&self.conv2)
        }
    }

    let build = |vs: &VarStore| {
        let p = vs.root();
        Net {
            conv1: conv(&(&p / "a"), 3, 8),
            bn1: bn(&(&p / "b"), 8),
            conv2: conv(&(&p / "c"), 8, 4),
        }
    };
    let plan = slimmed_is_masked(build, &Slimming::ratio(0.5), &images());
    assert_eq!(left(&plan, "bn1"), 3);
}

trait Layer: ModuleT + Prunable {}
impl<M: ModuleT + Prunable> Layer for M {}

#[derive(Debug, Prunable)]
struct Dynamic {
    layers: Vec<Box<dyn Layer>>,
    shared: nn::Conv2D,
}

#[forward]
impl Module for Dynamic {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let mut xs = xs.shallow_clone();
        for layer in &self.layers {
            xs = layer.forward_t(&xs, false);
        }
        self.twice(&xs, 2).unwrap()
    }
}

#[forward]
impl Dynamic {
    const FACTOR: f64 = 2.;

    /// Applies one layer repeatedly.
    fn twice(&self, xs: &Tensor, times: i64) -> Result<Tensor, tch::TchError> {
        let (_, c, ..) = xs.size4()?;
        assert!(c > 0);
        Ok((0..times).fold(xs.shallow_clone(), |xs, _| {
            Self::scaled(&xs, Self::FACTOR).apply(&self.shared).relu()
        }))
    }

    fn scaled(xs: &Tensor, by: f64) -> Tensor {
        xs * by
    }

    fn untouched(&self) -> usize {
        self.layers.len()
    }
}

#[test]
fn trait_objects_and_methods() {
    let build = |vs: &VarStore| {
        let p = vs.root();
        Dynamic {
            layers: vec![
                Box::new(conv(&(&p / "d"), 3, 8)),
                Box::new(bn(&(&p / "e"), 8)),
                Box::new(conv(&(&p / "f"), 8, 8)),
            ],
            shared: conv(&(&p / "g"), 8, 8),
        }
    };
    let (net, _vs) = built(build);
    assert_eq!(net.untouched(), 3);
    let paths: Vec<_> =
        net.dependencies().unwrap().layers.into_iter().map(|layer| layer.path).collect();
    assert_eq!(paths, ["layers.0", "layers.1", "layers.2", "shared", "shared"]);
    let plan = slimmed_is_masked(build, &Slimming::ratio(0.5), &images());
    assert_eq!(left(&plan, "layers.1"), 3);
}

#[derive(Debug, Prunable)]
struct Generic<B, const N: usize> {
    blocks: [B; N],
    head: Option<B>,
}

#[forward]
impl<B, const N: usize> ModuleT for Generic<B, N>
where
    B: ModuleT,
{
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        chain(&self.blocks, xs, train, Tensor::relu).apply_opt_t(&self.head, train)
    }
}

#[forward]
fn chain<M: ModuleT>(
    layers: &[M],
    xs: &Tensor,
    train: bool,
    act: impl Fn(&Tensor) -> Tensor,
) -> Tensor {
    layers.iter().fold(xs.shallow_clone(), |xs, layer| act(&xs.apply_t(layer, train)))
}

#[test]
fn generics_and_helper_functions() {
    let (net, _vs) = built(|vs| {
        let p = vs.root();
        Generic {
            blocks: [conv(&(&p / "g"), 3, 8), conv(&(&p / "h"), 8, 8)],
            head: Some(conv(&(&p / "i"), 8, 4)),
        }
    });
    let paths: Vec<_> =
        net.dependencies().unwrap().layers.into_iter().map(|layer| layer.path).collect();
    assert_eq!(paths, ["blocks.0", "blocks.1", "head"]);
    assert_eq!(net.forward_t(&images(), false).size(), [2, 4, 8, 8]);
    assert_eq!(chain(&net.blocks, &images(), false, Tensor::relu).size(), [2, 8, 8, 8]);
}

#[derive(Debug, Prunable)]
struct Block {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    downsample: Option<(nn::Conv2D, nn::BatchNorm)>,
}

#[forward]
impl nn::ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let ys = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let ys = ys.apply(&self.conv2).apply_t(&self.bn2, train);
        let shortcut = match &self.downsample {
            Some((conv, bn)) => xs.apply(conv).apply_t(bn, train),
            None => xs.shallow_clone(),
        };
        (ys + shortcut).relu()
    }
}

fn block(p: &nn::Path, inputs: i64, width: i64) -> Block {
    let downsample = (inputs != width).then(|| {
        (conv(&(p / "downsample" / 0), inputs, width), bn(&(p / "downsample" / 1), width))
    });
    Block {
        conv1: conv(&(p / "conv1"), inputs, width),
        bn1: bn(&(p / "bn1"), width),
        conv2: conv(&(p / "conv2"), width, width),
        bn2: bn(&(p / "bn2"), width),
        downsample,
    }
}

#[derive(Debug, Prunable)]
enum Stage {
    Blocks { first: Block, others: Vec<Block> },
    Conv(nn::Conv2D),
    Nothing,
}

#[forward]
impl nn::ModuleT for Stage {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        match self {
            Stage::Blocks { first, others } => {
                others.iter().fold(xs.apply_t(first, train), |xs, block| xs.apply_t(block, train))
            }
            Stage::Conv(conv) => xs.apply(conv),
            Stage::Nothing => xs.shallow_clone(),
        }
    }
}

#[test]
fn nested_structs_and_enums_of_any_form() {
    net! { Net {
        stem: Stage = |p| Stage::Conv(conv(p, 3, 8)),
        body: Stage = |p| Stage::Blocks {
            first: block(&(p / "first"), 8, 12),
            others: vec![block(&(p / "others" / 0), 12, 12)]
        },
        end: Stage = |_| Stage::Nothing,
        own: own::Conv2D = |p| own::conv2d(p, 12, 5, 1, Default::default()),
    } |net, xs, train| {
        let stages = [&net.stem, &net.body, &net.end];
        stages
            .iter()
            .fold(xs.shallow_clone(), |xs, stage| stage.forward_t(&xs, train))
            .apply(&net.own)
    } }
    let (net, _vs) = built(Net::new);
    let paths: Vec<_> =
        net.dependencies().unwrap().layers.into_iter().map(|layer| layer.path).collect();
    assert_eq!(
        paths,
        [
            "stem",
            "body.first.conv1",
            "body.first.bn1",
            "body.first.conv2",
            "body.first.bn2",
            "body.first.downsample.0",
            "body.first.downsample.1",
            "body.others.0.conv1",
            "body.others.0.bn1",
            "body.others.0.conv2",
            "body.others.0.bn2",
            "own",
        ]
    );
    slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
}

#[test]
fn several_inputs_and_outputs() {
    #[derive(Debug, Prunable)]
    #[prune(input = (3, 3))]
    struct Two {
        a: nn::Conv2D,
        bn: nn::BatchNorm,
        b: nn::Conv2D,
        c: nn::Conv2D,
    }

    #[forward]
    impl Two {
        fn forward_t(&self, image: &Tensor, mask: &Tensor, train: bool) -> (Tensor, Tensor) {
            let xs = nn::Module::forward(&self.a, image) + ModuleT::forward_t(&self.b, mask, train);
            let xs = xs.apply_t(&self.bn, train).relu();
            (xs.apply(&self.c), xs.apply(&self.c).relu())
        }
    }

    let (mut net, _vs) = built(|vs| {
        let p = vs.root();
        Two {
            a: conv(&(&p / "a"), 3, 8),
            bn: bn(&(&p / "bn"), 8),
            b: conv(&(&p / "b"), 3, 8),
            c: conv(&(&p / "c"), 8, 4),
        }
    });
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    net.mask(&plan).unwrap();
    let before = net.forward_t(&images(), &images(), false);
    net.apply(&plan).unwrap();
    let after = net.forward_t(&images(), &images(), false);
    assert_eq!(net.a.ws.size(), [3, 3, 3, 3]);
    assert!(before.0.allclose(&after.0, 1e-12, 1e-12, false));
    assert!(before.1.allclose(&after.1, 1e-12, 1e-12, false));
}

#[test]
fn a_u_net_of_any_number_of_levels() {
    #[derive(Debug, Prunable)]
    struct Level {
        conv: nn::Conv2D,
        bn: nn::BatchNorm,
    }

    #[forward]
    impl nn::ModuleT for Level {
        fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
            xs.apply(&self.conv).apply_t(&self.bn, train).relu()
        }
    }

    #[derive(Debug, Prunable)]
    struct Up {
        conv: nn::ConvTranspose2D,
        bn: nn::BatchNorm,
    }

    #[forward]
    impl nn::ModuleT for Up {
        fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
            self.bn.forward_t(&self.conv.forward(xs), train).relu()
        }
    }

    net! { UNet {
        down: Vec<Level> = |p| [(3, 8), (8, 16), (16, 32)].iter().enumerate().map(|(i, &(a, b))| {
            Level { conv: conv(&(p / i / "conv"), a, b), bn: bn(&(p / i / "bn"), b) }
        }).collect(),
        up: Vec<(Up, Level)> = |p| [(32, 16), (16, 8)].iter().enumerate().map(|(i, &(a, b))| {
            let config = nn::ConvTransposeConfig { stride: 2, ..Default::default() };
            let up = Up { conv: nn::conv_transpose2d(p / i / 0 / "conv", a, b, 2, config), bn: bn(&(p / i / 0 / "bn"), b) };
            (up, Level { conv: conv(&(p / i / 1 / "conv"), 2 * b, b), bn: bn(&(p / i / 1 / "bn"), b) })
        }).collect(),
        head: nn::Conv2D = |p| conv(p, 8, 2),
    } |net, xs, train| {
        let (mut xs, mut skips) = (xs.shallow_clone(), Vec::new());
        for (i, level) in net.down.iter().enumerate() {
            if i > 0 {
                xs = xs.max_pool2d_default(2);
            }
            xs = level.forward_t(&xs, train);
            skips.push(xs.shallow_clone());
        }
        skips.pop();
        for (up, level) in &net.up {
            let Some(skip) = skips.pop() else { return xs };
            xs = tch::Tensor::cat(&[skip, up.forward_t(&xs, train)], 1).apply_t(level, train);
        }
        xs.apply(&net.head)
    } }
    slimmed_is_masked(UNet::new, &Slimming::ratio(0.5), &images());
}

#[test]
fn layers_that_only_training_applies_are_slimmed_too() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        aux: nn::Conv2D = |p| conv(p, 8, 8),
        aux_bn: nn::BatchNorm = |p| bn(p, 8),
        aux_head: nn::Conv2D = |p| conv(p, 8, 4),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        if train {
            let aux =
                xs.apply(&net.aux).apply_t(&net.aux_bn, train).relu().apply(&net.aux_head);
            return xs.apply(&net.conv2) + aux;
        }
        xs.apply(&net.conv2)
    } }
    let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
    let paths: Vec<_> = plan.layers().iter().map(|layer| layer.path.as_str()).collect();
    assert_eq!(paths, ["conv1", "bn1", "conv2", "aux", "aux_bn", "aux_head"]);
    let (mut net, _vs) = built(Net::new);
    net.apply(&plan).unwrap();
    assert_eq!(net.forward_t(&images(), true).size(), [2, 4, 8, 8]);
    assert!(left(&plan, "aux_bn") < 8);
}

#[derive(Debug, Prunable)]
struct Nothing;

#[forward]
impl Module for Nothing {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.shallow_clone()
    }
}

#[derive(Debug, Prunable)]
struct InPlace;

#[forward]
impl Module for InPlace {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.shallow_clone().sigmoid_()
    }
}

#[derive(Debug, Prunable)]
struct Transposed;

#[forward]
impl Module for Transposed {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.transpose(2, 3)
    }
}

/// A layer between a batch norm and its consumer, which shares memory with its input: a sigmoid in
/// place reaches the consumer, so no channel may go.
macro_rules! shared {
    ($($test:ident $ty:ident |$net:ident, $xs:ident| $body:expr;)+) => {$(
        #[test]
        fn $test() {
            net! { Net {
                conv1: nn::Conv2D = |p| conv(p, 3, 8),
                bn1: nn::BatchNorm = |p| bn(p, 8),
                layer: $ty = |_| $ty,
                conv2: nn::Conv2D = |p| conv(p, 8, 4),
            } |$net, xs, train| {
                let $xs = xs.apply(&$net.conv1).apply_t(&$net.bn1, train);
                $body;
                $xs.apply(&$net.conv2)
            } }
            let text = refusal(Net::new);
            assert!(text.contains("`conv2` reads them where no batch norm"), "{text}");
        }
    )+};
}

shared! {
    a_layer_that_changes_its_input InPlace |net, xs| { let _ = xs.apply(&net.layer); };
    a_layer_that_gives_its_input Nothing |net, xs| { let mut ys = xs.apply(&net.layer); let _ = ys.sigmoid_(); };
    a_layer_that_gives_a_view Transposed |net, xs| { let mut ys = xs.apply(&net.layer); let _ = ys.sigmoid_(); };
}

#[test]
fn a_layer_that_gives_a_view_of_something_else() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        layer: (Nothing, Transposed) = |_| (Nothing, Transposed),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train);
        let mut ys = (&xs * 2.).apply(&net.layer.0).apply(&net.layer.1);
        let _ = ys.sigmoid_();
        xs.apply(&net.conv2)
    } }
    let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
    assert_eq!(left(&plan, "bn1"), 3);
}

#[test]
fn a_gate_of_one_channel_over_the_only_one_that_is_left() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        gate: nn::Conv2D = |p| conv(p, 8, 1),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        let xs = xs.apply(&net.gate).sigmoid() * &xs;
        (&xs * xs.apply(&net.gate).sigmoid()).apply(&net.conv2)
    } }
    let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.99), &images());
    assert_eq!(left(&plan, "bn1"), 1);
}

#[test]
fn a_block_of_channels_that_is_gated_in_part() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 6),
        bn1: nn::BatchNorm = |p| bn(p, 6),
        conv2: nn::Conv2D = |p| conv(p, 3, 6),
        bn2: nn::BatchNorm = |p| bn(p, 6),
        conv3: nn::Conv2D = |p| conv(p, 3, 4),
    } |net, xs, train| {
        let gated = xs.apply(&net.conv1).apply_t(&net.bn1, train);
        let ungated = xs.apply(&net.conv2).apply_t(&net.bn2, train) + 1.0;
        // The second block of four channels has two gated and two ungated channels.
        Tensor::cat(&[gated, ungated], 1).pixel_shuffle(2).apply(&net.conv3)
    } }
    let (net, _vs) = built(Net::new);
    let scale = |norm: &nn::BatchNorm, values: &[f64]| {
        let _no_grad = tch::no_grad_guard();
        norm.ws.as_ref().unwrap().shallow_clone().copy_(&Tensor::from_slice(values));
    };
    scale(&net.bn1, &[0.9, 0.9, 0.9, 0.9, 0.1, 0.1]);
    scale(&net.bn2, &[0.1, 0.1, 0.9, 0.9, 0.9, 0.9]);
    // The second block has the lowest scores, and stays.
    let plan = net.plan(&Slimming::ratio(0.3)).unwrap();
    assert_eq!((left(&plan, "bn1"), left(&plan, "bn2")), (2, 6), "{plan}");
}
