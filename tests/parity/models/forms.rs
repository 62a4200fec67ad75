//! Each form of a statement in `model!`: slimmed = masked in double precision.

use slim_runtime::{Plan, Prunable, Slimming, model, nn};
use slim_tests::check::assert_slimmed_is_masked;
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{ModuleT, VarStore};
use tch::{Kind, Tensor};

const WIDE: i64 = 8;

fn check<M: ModuleT + Prunable>(new: impl Fn(&VarStore) -> M, input: &[i64]) -> Plan {
    let build = || {
        let mut vs = VarStore::new(device());
        let model = new(&vs);
        fill(&vs);
        vs.double();
        (model, vs)
    };
    let images = images(input).to_kind(Kind::Double);
    let plan = assert_slimmed_is_masked(build, &images, &Slimming::ratio(0.5), 1e-9);
    let (net, _vs) = build();
    assert!(super::cost(&net, &images).macs().unwrap() > 0, "every layer is counted");
    assert!(plan.channels().removed() > 0.3, "{plan}");
    plan
}

model! {
    #[derive(Debug)]
    struct Gated {
        conv = conv2d(3 => WIDE, kernel = 3, padding = 1);
        bn = batch_norm(WIDE, eps = 1e-3, gamma_init = nn::Init::Const(0.5));
        squeeze = adaptive_avg_pool(1);
        fc1 = conv2d(WIDE => 2, kernel = 1);
        relu;
        fc2 = conv2d(2 => WIDE, kernel = 1);
        scaled = bn.silu() * fc2.sigmoid();
        last = conv2d(WIDE => 2, kernel = 1);
    }
}

#[test]
fn gates_methods_and_constants() {
    let plan = check(|vs| Gated::new(vs.root()), &[2, 3, 4, 4]);
    let kept = plan.layer("bn").unwrap().axes[0].keep.clone();
    assert_eq!(plan.layer("fc2").unwrap().axis("out").unwrap().keep, kept);
    assert_eq!(plan.layer("last").unwrap().axis("in").unwrap().keep, kept);
}

model! {
    #[derive(Debug)]
    struct Sigmoid {
        conv = conv2d(3 => 8, kernel = 3);
        bn = batch_norm(8);
        sigmoid;
        conv2 = conv2d(8 => 8, kernel = 1);
        bn2 = batch_norm(8);
        leaky_relu;
        last = conv2d(8 => 2, kernel = 1);
    }
}

#[test]
fn who_reads_a_sigmoid_keeps_its_channels() {
    let plan = check(|vs| Sigmoid::new(vs.root()), &[1, 3, 4, 4]);
    assert_eq!(plan.layer("bn").unwrap().axes[0].keep.len(), 8);
    assert!(plan.layer("bn2").unwrap().axes[0].keep.len() < 8);
}

model! {
    #[derive(Debug)]
    struct Cuts {
        conv = conv2d(3 => 16, kernel = 3, padding = 1);
        bn = batch_norm(16);
        glu = bn.chunk(2, 0) * bn.chunk(2, 1).sigmoid();
        shuffle(2);
        mixed = conv2d(8 => 16, kernel = 1, groups = 4, whole_groups = true);
        mixed_bn = batch_norm(16);
        up = mixed_bn.relu().pixel_shuffle(2).interpolate(2);
        both = [up, up.map(|xs: &Tensor| xs.sin())];
        last = conv2d(8 => 2, kernel = 1);
    }
}

#[test]
fn cuts_joins_and_closures() {
    check(|vs| Cuts::new(vs.root()), &[1, 3, 4, 4]);
}

model! {
    #[derive(Debug)]
    struct Sound {
        conv1 = conv1d(2 => 6, kernel = 3, padding = 1);
        bn1 = batch_norm1d(6);
        gelu;
        max_pool1d(2);
        conv2 = conv_transpose1d(6 => 8, kernel = 2, stride = 2);
        bn2 = batch_norm1d(8);
        tanh;
        flatten;
        hidden = linear(64 => 6);
        bn3 = batch_norm1d(6);
        elu;
        fc = linear(6 => 2, bias = false);
    }
}

#[test]
fn one_dimension() {
    let plan = check(|vs| Sound::new(vs.root()), &[2, 2, 8]);
    assert_eq!(plan.cfg().to_string().matches("'M'").count(), 1);
}

model! {
    /// Spatial pyramid pooling: two scales, flattened and concatenated.
    #[derive(Debug)]
    struct Pyramid {
        conv = conv2d(3 => 8, kernel = 3, padding = 1);
        bn = batch_norm(8);
        relu;
        fine = adaptive_avg_pool(2);
        coarse = fine.adaptive_avg_pool(1);
        both = [fine.flatten(4), coarse.flatten];
        fc = linear(40 => 2);
    }
}

#[test]
fn a_flatten_in_words() {
    let plan = check(|vs| Pyramid::new(vs.root()), &[1, 3, 4, 4]);
    assert_eq!(
        plan.layer("fc").unwrap().axis("in").unwrap().keep.len(),
        5 * plan.layer("bn").unwrap().axes[0].keep.len()
    );
}

model! {
    /// Two inputs and two outputs.
    #[derive(Debug)]
    struct Pair {
        left = input.0.conv2d(3 => 4, kernel = 1);
        left_bn = batch_norm(4);
        right = input.1.conv2d(1 => 6, kernel = 1);
        right_bn = batch_norm(6);
        both = [left_bn, right_bn].relu();
        head = conv2d(10 => 2, kernel = 1);
        (head, both.map(|xs: &Tensor| xs * 2));
    }
}

#[test]
fn several_inputs_and_outputs() {
    let vs = VarStore::new(device());
    let net = Pair::new(vs.root());
    let (head, both): (Tensor, Tensor) =
        net.forward_t(&images(&[1, 3, 2, 2]), &images(&[1, 1, 2, 2]), false);
    assert_eq!((head.size(), both.size()), (vec![1, 2, 2, 2], vec![1, 10, 2, 2]));
    let cost = net
        .cost(|net| net.forward_t(&images(&[1, 3, 2, 2]), &images(&[1, 1, 2, 2]), false))
        .unwrap();
    assert_eq!(cost.macs().unwrap(), 4 * (3 * 4 + 6 + 10 * 2));
    // Every channel is part of an output.
    assert!(net.plan(&Slimming::ratio(0.5)).is_err());
}

model! {
    #[derive(Debug)]
    struct Fitted(inputs: i64, width: i64) {
        conv = conv2d(3 => width, kernel = 1);
        bn = batch_norm(inputs);
        last = conv2d(inputs => 2, kernel = 1);
    }
}

#[test]
fn widths_that_are_parameters_are_compared_in_new() {
    let vs = VarStore::new(device());
    Fitted::new(vs.root() / "fits", 8, 8);
    let wrong =
        std::panic::catch_unwind(|| drop(Fitted::new(VarStore::new(device()).root(), 8, 4)))
            .unwrap_err();
    assert_eq!(
        wrong.downcast_ref::<String>().unwrap(),
        "`bn` takes 8 channels, but `conv` gives 4"
    );
}

model! {
    #[derive(Debug)]
    struct Summed(width: i64) {
        a = conv2d(3 => 8, kernel = 1);
        b = input.conv2d(3 => width, kernel = 1);
        sum = a + b;
    }
}

#[test]
fn the_sides_of_a_sum_are_compared_in_new() {
    let vs = VarStore::new(device());
    Summed::new(vs.root() / "fits", 8);
    let wrong = std::panic::catch_unwind(|| drop(Summed::new(VarStore::new(device()).root(), 1)))
        .unwrap_err();
    assert_eq!(
        wrong.downcast_ref::<String>().unwrap(),
        "`a` (8 channels) + `b` (1 channels): widths differ"
    );
}

model! {
    /// Two flattened flows with different numbers of positions.
    #[derive(Debug)]
    struct Unlike {
        conv = conv2d(3 => 8, kernel = 2, stride = 2);
        bn = batch_norm(8);
        conv2 = conv2d(8 => 4, kernel = 2);
        bn2 = batch_norm(4);
        both = [bn.flatten, bn2.flatten];
        fc = linear(36 => 2);
    }
}

#[test]
fn a_flatten_is_not_guessed_behind_a_concatenation() {
    let vs = VarStore::new(device());
    let error = Unlike::new(vs.root()).slim(0.2).unwrap_err();
    assert!(error.to_string().contains("depends on the size of the input"), "{error}");
}

model! {
    /// The same network, where the shape of the input determines the number of positions.
    #[derive(Debug)]
    #[prune(input = [3, 4, 4])]
    struct Shaped {
        conv = conv2d(3 => 8, kernel = 2, stride = 2);
        bn = batch_norm(8);
        conv2 = conv2d(8 => 4, kernel = 2);
        bn2 = batch_norm(4);
        both = [bn.flatten, bn2.flatten];
        fc = linear(36 => 2);
    }
}

#[test]
fn the_shape_of_the_input_says_what_is_flattened() {
    check(|vs| Shaped::new(vs.root()), &[2, 3, 4, 4]);
}

model! {
    /// Names that are taken elsewhere, and a gate of one channel whose width is a constant.
    #[derive(Debug)]
    #[allow(non_snake_case)]
    struct Names {
        WIDE = conv2d(3 => 8, kernel = 1);
        bn = batch_norm(8);
        max_pool(1);
        max_pool_2 = conv2d(8 => ONE, kernel = 1);
        gated = max_pool_2.sigmoid() * bn.map(|bn: &Tensor| bn.sin());
        last = conv2d(8 => 2, kernel = 1, groups = 2, whole_groups = false);
    }
}

const ONE: i64 = 1;

#[test]
fn names_of_constants_and_of_unnamed_layers() {
    let plan = check(|vs| Names::new(vs.root()), &[1, 3, 4, 4]);
    let keep = &plan.layer("bn").unwrap().axes[0].keep;
    let [front, back] =
        [0..4, 4..8].map(|group| keep.iter().filter(|&channel| group.contains(&channel)).count());
    assert!(front == back && front > 0, "{keep}");
}

model! {
    /// Sums that are operands.
    #[derive(Debug)]
    struct Nested {
        a = conv2d(3 => 8, kernel = 1);
        b = input.conv2d(3 => 8, kernel = 1);
        gated = (a + b) * b;
        last = (gated + (a * b)).conv2d(8 => 2, kernel = 1);
    }
}

#[test]
fn parentheses_group() {
    let mut vs = VarStore::new(device());
    let net = Nested::new(vs.root());
    vs.double();
    let xs = images(&[1, 3, 4, 4]).to_kind(Kind::Double);
    let (a, b) = (xs.apply(&net.a), xs.apply(&net.b));
    let expected = ((&a + &b) * &b + &a * &b).apply(&net.last);
    assert!(net.forward_t(&xs, false).allclose(&expected, 1e-12, 1e-12, false));
}

model! {
    #[derive(Debug)]
    struct Named(classes: i64) {
        conv = conv2d(3 => 8, kernel = 3) at "features.0.0";
        bn = batch_norm(8) at "features.0.1";
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(8 => classes) at "head";
    }
}

#[test]
fn variables_have_the_names_that_at_gives() {
    check(|vs| Named::new(vs.root(), 4), &[2, 3, 6, 6]);
    let vs = VarStore::new(device());
    let net = Named::new(vs.root(), 4);
    let mut names: Vec<_> = vs.variables().into_keys().collect();
    names.sort();
    assert_eq!(
        names,
        [
            "features.0.0.bias",
            "features.0.0.weight",
            "features.0.1.bias",
            "features.0.1.running_mean",
            "features.0.1.running_var",
            "features.0.1.weight",
            "head.bias",
            "head.weight"
        ]
    );
    assert_eq!(vs.variables()["head.weight"].size(), net.fc.ws.size());
}
