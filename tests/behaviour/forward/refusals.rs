//! Refused forward passes: the error states the line, the rule and the fix.

use slim_runtime::{Prunable, Slimming, forward};
use tch::Tensor;
use tch::nn::{self, VarStore};

use super::{bn, built, conv, images, left, linear, net, refusal, slimmed_is_masked};

/// A network of conv1, bn1, a body that is refused, and a consumer. The texts start with file and
/// line.
macro_rules! refused {
    ($($test:ident $reader:literal |$xs:ident| $body:expr => $expected:expr;)+) => {$(
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
            let text = refusal(Net::new);
            assert!(text.contains($expected), "{text}");
        }
    )+};
}

refused! {
    channels_in_another_place 8 |xs| xs.permute([0, 2, 3, 1]) => "it reads channels from dimension 1, and is given [?, ?, ?, 8 channels]";
    a_literal_view 8 |xs| { let (n, _, h, w) = xs.size4().unwrap(); xs.view([n, 2, 4, h, w]).transpose(1, 2).contiguous().view([n, 8, h, w]) } => "names a number of channels that would be wrong once some are gone";
    a_literal_width 8 |xs| xs.view([-1, 8, 8, 8]) => "`view` cannot make [-1, 8, 8, 8]";
    a_branch_on_channels 8 |xs| { let c = xs.size()[1]; if c > 15 { xs.relu() } else { xs.sigmoid() } } => "depends on numbers of channels that it asks for";
    a_branch_on_a_size 8 |xs| { let (_, _, h, _) = xs.size4().unwrap(); if h % 2 == 0 { xs.relu() } else { xs.sigmoid() } } => "depends on the size of its input";
    a_number_made_of_a_size 8 |xs| { let (_, _, h, _) = xs.size4().unwrap(); xs / h as f64 } => "depends on the size of its input";
    a_branch_far_away 8 |xs| { let (_, _, h, _) = xs.size4().unwrap(); if h > 300 { xs.sigmoid() } else { xs } } => "depends on the size of its input";
    one_minus 8 |xs| { let ys: Tensor = 1. - xs; ys } => "nothing to prune";
    an_unknown_function_that_moves_zero 8 |xs| slim_runtime::functional::map(&xs, |xs| xs.erf() + 3.) => "nothing to prune";
    a_wrong_width 8 |xs| Tensor::cat(&[&xs, &xs], 1) => "`conv2` takes 8 channels, but `model` gives 16";
    thirds 8 |xs| { let parts = xs.chunk(3, 1); &parts[0] + &parts[2] } => "8 channels";
    a_range_of_channels 4 |xs| xs.narrow(1, 2, 4) => "`narrow` of [?, 8 channels, ?, ?] by numbers that are written out";
    one_channel 8 |xs| xs.select(1, 0).unsqueeze(1).expand([-1, 8, -1, -1], false) => "`select` of [?, 8 channels, ?, ?]";
    channels_rolled 8 |xs| xs.roll(1, 1) => "`roll` of [?, 8 channels, ?, ?]";
    channels_picked 8 |xs| xs.index_select(1, &Tensor::from_slice(&[1i64, 0])) => "`index_select` of";
    a_layer_of_the_moment 8 |xs| { let vs = nn::VarStore::new(tch::Device::Cpu); xs.apply(&nn::conv2d(vs.root(), 8, 8, 1, Default::default())) } => "is applied that is no field of the model";
    in_place_on_a_view 8 |xs| { let ys = xs.flatten(2, -1); let mut zs = xs.shallow_clone(); zs += &xs; drop(ys); zs } => "changes a tensor in place that others are views of";
    a_panic 8 |xs| { assert_eq!(xs.size()[2], 3, "images of 3"); xs } => "its `forward` panics when it is run without data: assertion `left == right` failed: images of 3";
    a_negative_number_of_repeats 8 |xs| xs.repeat([1, -1, 1, 1]) => "`repeat` is given the number -1; give at least 1";
    a_negative_number_of_copies 8 |xs| xs.repeat_interleave_self_int(-2, 1, None) => "`repeat_interleave_self_int` is given the number -2; give at least 1";
    heads_that_are_repeated 8 |xs| { let (n, _, h, w) = xs.size4().unwrap(); xs.view([n, -1, 2, h, w]).repeat([1, 2, 1, 1, 1]).flatten(1, 2) } => "heads can, with `repeat_interleave_self_int`, or with `unsqueeze` and `expand`";
    an_equation 8 |xs| Tensor::einsum("nchw->nhwc", &[xs], None::<i64>) => "`einsum` of `nchw->nhwc` is not understood";
}

#[test]
fn errors_stand_at_the_line_and_column_of_the_call() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train);
        xs.roll(1, 1).apply(&net.conv2)
    } }
    let line = line!() - 2;
    let text = refusal(Net::new);
    assert!(
        text.starts_with(&format!(
            "tests/behaviour/forward/refusals.rs:{line}:12: `model`: `roll`"
        )),
        "{text}"
    );
}

#[test]
fn a_flatten_by_a_literal_is_refused() {
    // 64 · 8 · 8 is 64², which must not be taken for the positions of a square image.
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 64),
        bn1: nn::BatchNorm = |p| bn(p, 64),
        fc: nn::Linear = |p| linear(p, 64 * 8 * 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu().max_pool2d_default(4);
        xs.view([-1, 64 * 8 * 8]).apply(&net.fc)
    } }
    let text = refusal(Net::new);
    assert!(text.contains("`view` cannot make [-1, 4096]"), "{text}");
}

#[test]
fn an_opaque_operation_has_its_place() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train);
        slim_runtime::functional::opaque(&xs, |xs| xs.roll(1, 1)).apply(&net.conv2)
    } }
    let line = line!() - 2;
    let text = refusal(Net::new);
    assert!(text.contains(&format!("refusals.rs:{line}:")), "{text}");
}

#[test]
fn a_loop_that_waits_for_a_size_ends_behind_an_error() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let mut xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).roll(1, 1);
        while xs.size()[2] < 100 {
            xs = xs.upsample_nearest2d([200, 200], None, None);
        }
        xs.apply(&net.conv2)
    } }
    let text = refusal(Net::new);
    assert!(text.contains("`roll`"), "{text}");
}

#[test]
fn a_shape_on_the_struct_answers_what_depends_on_sizes() {
    #[derive(Debug, Prunable)]
    #[prune(input = [3, 8, 8])]
    struct Net {
        conv1: nn::Conv2D,
        bn1: nn::BatchNorm,
        conv2: nn::Conv2D,
    }

    #[forward]
    impl nn::ModuleT for Net {
        fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
            let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
            let h = xs.size()[2];
            assert_eq!(h, 8);
            let xs = if h > 7 { xs.relu() } else { xs.sigmoid() };
            (xs / h as f64).apply(&self.conv2)
        }
    }

    let build = |vs: &VarStore| {
        let p = vs.root();
        Net {
            conv1: conv(&(&p / "conv1"), 3, 8),
            bn1: bn(&(&p / "bn1"), 8),
            conv2: conv(&(&p / "conv2"), 8, 4),
        }
    };
    let plan = slimmed_is_masked(build, &Slimming::ratio(0.5), &images());
    assert_eq!(left(&plan, "bn1"), 3);
}

#[test]
fn a_branch_that_flips_at_the_new_width_is_undone() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        // The branch depends on a number that no run of the symbolic pass is given.
        let xs = if net.conv1.ws.size()[0] < 8 { xs.tanh() } else { xs };
        xs.apply(&net.conv2)
    } }
    let (mut net, vs) = built(Net::new);
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    let before: Vec<_> =
        vs.variables().into_iter().map(|(name, value)| (name, value.copy())).collect();
    let text = net.apply(&plan).unwrap_err().to_string();
    assert!(text.contains("slimming was undone"), "{text}");
    assert!(text.contains("`tanh`"), "{text}");
    for (name, value) in before {
        assert!(vs.variables()[&name].equal(&value), "{name}");
    }
}

#[test]
fn a_number_that_shrinks_with_the_width_is_undone() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        let width = xs.size()[1] as f64;
        (xs / width.sqrt()).apply(&net.conv2)
    } }
    let (mut net, _vs) = built(Net::new);
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    let text = net.apply(&plan).unwrap_err().to_string();
    assert!(text.contains("slimming was undone"), "{text}");
    assert!(text.contains("2.828") && text.contains("1.732"), "{text}");
}

#[test]
fn in_place_behind_a_selection_that_may_be_the_stream_itself_is_refused() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        select: slim_runtime::nn::ChannelSelect = |_| slim_runtime::nn::channel_select(8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 8),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1);
        let mut picked = xs.apply(&net.select);
        picked += 1.;
        picked.apply_t(&net.bn1, train).relu().apply(&net.conv2) + xs
    } }
    let text = refusal(Net::new);
    assert!(text.contains("`add_` changes a tensor in place that others are views of"), "{text}");
}
