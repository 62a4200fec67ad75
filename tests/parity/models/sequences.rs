//! The words of `model!` for sequences and norms: slimmed = masked in double precision.

use std::collections::BTreeMap;

use slim_runtime::{Plan, Prunable, Slimming, criterion, model, nn};
use slim_tests::check::assert_slimmed_is_masked;
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{ModuleT, VarStore};
use tch::{Kind, Tensor};

const WIDE: i64 = 16;

fn by_weights() -> Slimming {
    Slimming::ratio(0.5).criterion(criterion::L2).local()
}

fn built<M>(new: impl Fn(&VarStore) -> M) -> (M, VarStore) {
    let mut vs = VarStore::new(device());
    let model = new(&vs);
    fill(&vs);
    vs.double();
    (model, vs)
}

fn check<M: ModuleT + Prunable>(new: impl Fn(&VarStore) -> M, xs: &Tensor) -> Plan {
    let plan = assert_slimmed_is_masked(|| built(&new), xs, &by_weights(), 1e-9);
    let (net, _vs) = built(&new);
    assert!(super::cost(&net, xs).macs().unwrap() > 0);
    plan
}

/// How many channels of this axis stay, and of how many.
fn kept(plan: &Plan, path: &str, axis: &str) -> (usize, usize) {
    let axis = plan.layer(path).unwrap().axis(axis).unwrap();
    (axis.keep.len(), axis.width)
}

fn loses(plan: &Plan, path: &str, axis: &str) -> bool {
    let (kept, width) = kept(plan, path, axis);
    kept < width
}

fn shapes(vs: &VarStore) -> BTreeMap<String, Vec<i64>> {
    vs.variables().into_iter().map(|(name, tensor)| (name, tensor.size())).collect()
}

fn indices() -> Tensor {
    slim_tests::tensor(&[3_i64, 1, 4, 1, 5, 0, 2, 6]).view([2, 4])
}

model! {
    #[derive(Debug)]
    struct Encoder(classes: i64) {
        embed = embedding(7 => 16, padding_idx = 0) at "transformer.wte";
        ln1 = layer_norm(WIDE, eps = 1e-6);
        attention = multi_head_attention(16, heads = 4, bias = false);
        residual = embed + attention;
        ln2 = rms_norm(16, eps = 1e-5) at "transformer.norm";
        up = linear(16 => 32);
        gelu;
        down = linear(32 => 16);
        stream = residual + down;
        last = layer_norm(16, affine = false);
        mean(1);
        head = linear(16 => classes);
    }
}

#[test]
fn a_transformer_over_tokens() {
    let plan = check(|vs| Encoder::new(vs.root(), 3), &indices());
    assert!(loses(&plan, "attention.in_proj", "out") && loses(&plan, "up", "out"), "{plan}");
    assert!(!loses(&plan, "embed", "out"), "the layer norm holds the stream: {plan}");

    let (net, vs) = built(|vs| Encoder::new(vs.root(), 3));
    assert_eq!((net.embed.config.padding_idx, net.ln1.config.eps), (0, 1e-6));
    assert_eq!((net.ln2.eps, net.attention.num_heads()), (1e-5, 4));
    assert_eq!(net.forward_t(&indices(), false).size(), [2, 3]);
    let names: Vec<_> = shapes(&vs).into_keys().collect();
    let expected = [
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "down.bias",
        "down.weight",
        "head.bias",
        "head.weight",
        "ln1.bias",
        "ln1.weight",
        "transformer.norm.weight",
        "transformer.wte.weight",
        "up.bias",
        "up.weight",
    ];
    assert_eq!(names, expected);
}

model! {
    #[derive(Debug)]
    struct HeadDims {
        embed = linear(5 => 12);
        attention = multi_head_attention(12, heads = 3, removal = nn::Removal::HeadDims);
        head = linear(12 => 2);
    }
}

#[test]
fn dimensions_of_heads() {
    let xs = images(&[2, 7, 5]).to_kind(Kind::Double);
    check(|vs| HeadDims::new(vs.root()), &xs);
    let (mut net, _vs) = built(|vs| HeadDims::new(vs.root()));
    net.apply(&net.plan(&by_weights()).unwrap()).unwrap();
    assert!(net.attention.num_heads() == 3 && net.attention.head_dim() < 4);
}

model! {
    #[derive(Debug)]
    struct Groups {
        embed = linear(5 => 12);
        attention = grouped_query_attention(12, heads = 8, kv_heads = 4, head_dim = 3, bias = false);
        head = linear(12 => 2);
    }
}

#[test]
fn heads_that_share_key_and_value() {
    let xs = images(&[2, 7, 5]).to_kind(Kind::Double);
    check(|vs| Groups::new(vs.root()), &xs);
    let (mut net, vs) = built(|vs| Groups::new(vs.root()));
    assert!(!vs.variables().contains_key("attention.q_proj.bias"));
    net.apply(&net.plan(&by_weights()).unwrap()).unwrap();
    let attention = &net.attention;
    assert!(attention.num_kv_heads() < 4 && attention.num_heads() == 2 * attention.num_kv_heads());
}

model! {
    #[derive(Debug)]
    struct Recurrences {
        embed = embedding(7 => 6);
        first = lstm(6 => WIDE, layers = 2, bidirectional = true, bias = false);
        second = gru(32 => 8, dropout = 0.5) at "rnn.second";
        third = rnn(8 => 8, bidirectional = false, bias_init = nn::Init::Const(0.5));
        fourth = rnn_relu(8 => 8);
        fifth = rnn_tanh(8 => 8, weight_init = nn::Init::Const(0.25));
        sixth = lstm(8 => 8, proj = 3, bidirectional = true);
        head = linear(6 => 2);
    }
}

#[test]
fn recurrent_layers() {
    let plan = check(|vs| Recurrences::new(vs.root()), &indices());
    for layer in ["first.levels.1.reverse", "second.levels.0.forward", "third.levels.0.forward"] {
        assert!(loses(&plan, &format!("{layer}.hh"), "in"), "{layer}: {plan}");
    }
    let vs = VarStore::new(device());
    let _net = Recurrences::new(vs.root());
    let shapes = shapes(&vs);
    assert_eq!(shapes["first.weight_ih_l1_reverse"], [64, 32]);
    assert!(!shapes.contains_key("first.bias_ih_l0"));
    assert_eq!(shapes["rnn.second.weight_hh_l0"], [24, 8]);
    assert_eq!(shapes["sixth.weight_hr_l0"], [3, 8]);
    let value = |name: &str| vs.variables()[name].mean(Kind::Float).double_value(&[]);
    assert_eq!((value("third.bias_hh_l0"), value("fifth.weight_ih_l0")), (0.5, 0.25));
}

model! {
    #[derive(Debug)]
    struct TimeFirst {
        embed = linear(5 => 6);
        lstm = lstm(6 => 8, batch_first = false);
        head = linear(8 => 2);
    }
}

#[test]
fn positions_may_come_first() {
    let xs = images(&[7, 2, 5]).to_kind(Kind::Double);
    let (net, _vs) = built(|vs| TimeFirst::new(vs.root()));
    let (whole, first) = (net.forward_t(&xs, false), net.forward_t(&xs.narrow(1, 0, 1), false));
    assert!(whole.narrow(1, 0, 1).allclose(&first, 0., 1e-12, false), "samples are independent");
    let start = net.forward_t(&xs.narrow(0, 0, 1), false);
    assert!(whole.narrow(0, 0, 1).allclose(&start, 0., 1e-12, false), "positions are causal");
}

model! {
    #[derive(Debug)]
    struct Images {
        conv1 = conv2d(3 => 12, kernel = 3);
        groups = group_norm(12, groups = 4, eps = 1e-3, gamma_init = nn::Init::Const(0.5));
        slopes = prelu(12);
        conv2 = conv2d(12 => 8, kernel = 3);
        instance_norm(8);
        slope = prelu(1);
        conv3 = conv2d(8 => 8, kernel = 1);
        affine = instance_norm(8, eps = 1e-3, affine = true);
        relu;
        conv4 = conv2d(8 => 2, kernel = 1);
        planes = layer_norm([5, 5]);
    }
}

#[test]
fn norms_over_images() {
    let xs = images(&[2, 3, 9, 9]).to_kind(Kind::Double);
    let plan = check(|vs| Images::new(vs.root()), &xs);
    let (groups, of) = kept(&plan, "groups", "groups");
    assert!(groups < of && of == 4, "{plan}");
    assert_eq!(kept(&plan, "conv1", "out"), (3 * groups, 12));
    assert!(loses(&plan, "conv2", "out") && loses(&plan, "conv3", "out"), "{plan}");

    let (net, vs) = built(|vs| Images::new(vs.root()));
    assert_eq!((net.groups.num_groups, net.groups.config.eps), (4, 1e-3));
    assert_eq!((net.affine.eps, net.instance_norm_4.eps), (1e-3, 1e-5));
    let shapes = shapes(&vs);
    assert_eq!((&shapes["slope.weight"], &shapes["planes.weight"]), (&vec![1], &vec![5, 5]));
    assert!(shapes.contains_key("affine.weight") && net.instance_norm_4.ws.is_none());
}

model! {
    #[derive(Debug)]
    struct Lines {
        conv = conv1d(3 => 8, kernel = 3);
        bn = batch_norm1d(8);
        relu;
        transpose(1, 2);
        lstm = lstm(8 => 8);
        head = linear(8 => 2);
    }
}

#[test]
fn a_convolution_in_front_of_a_recurrent_layer() {
    let xs = images(&[2, 3, 9]).to_kind(Kind::Double);
    let plan = check(|vs| Lines::new(vs.root()), &xs);
    assert_eq!(kept(&plan, "lstm.levels.0.forward.ih", "in"), kept(&plan, "conv", "out"));
    assert!(loses(&plan, "conv", "out"), "{plan}");
}
