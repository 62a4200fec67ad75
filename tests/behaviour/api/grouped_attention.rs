//! Grouped-query and cross-attention: a head of key and value goes with the heads that read it,
//! however the attention is written.

use slim_runtime::nn::{
    AttentionConfig, GroupedQueryAttention, MultiHeadAttention, Removal, grouped_query_attention,
    multi_head_attention,
};
use slim_runtime::{KeepList, Plan, Prunable, Slimming, criterion, forward, nn};
use slim_tests::check::{assert_close, assert_slimmed_is_masked};
use slim_tests::device;
use slim_tests::fill::fill;
use tch::nn::{ModuleT, VarStore};
use tch::{Kind, Tensor};

const WIDTH: i64 = 10;

/// How the attention is written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    DropIn,
    Broadcast,
    RepeatInterleave,
    Expand,
    ScaledDotProduct,
    /// One head of key and value, which is broadcast to all heads of the query.
    Shared,
}

#[derive(Debug, Prunable)]
struct Net {
    embed: nn::Linear,
    attention: GroupedQueryAttention,
    head: nn::Linear,
    form: Form,
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = xs.apply(&self.embed);
        let ys = match self.form {
            Form::DropIn => self.attention.forward(&xs, None),
            form => written_out(&self.attention, &xs, form),
        };
        ys.apply(&self.head)
    }
}

/// Attention of heads of four dimensions, three of the query for each of key and value.
#[forward]
fn written_out(layers: &GroupedQueryAttention, xs: &Tensor, form: Form) -> Tensor {
    let (n, t, _) = xs.size3().unwrap();
    let key = xs.apply(&layers.k_proj).view([n, t, -1, 4]).transpose(1, 2);
    let value = xs.apply(&layers.v_proj).view([n, t, -1, 4]).transpose(1, 2);
    let query = xs.apply(&layers.q_proj);
    if form == Form::Broadcast {
        let query = query.view([n, t, -1, 3, 4]).permute([0, 2, 3, 1, 4]);
        let scores = query.matmul(&key.unsqueeze(2).transpose(-2, -1)) / 2.;
        let ys = scores.softmax(-1, None).matmul(&value.unsqueeze(2));
        return ys.permute([0, 3, 1, 2, 4]).reshape([n, t, -1]).apply(&layers.o_proj);
    }
    let query = query.view([n, t, -1, 4]).transpose(1, 2);
    let ys = if form == Form::ScaledDotProduct {
        let mask = None::<&Tensor>;
        Tensor::scaled_dot_product_attention(&query, &key, &value, mask, 0., false, 0.5, true)
    } else {
        let (key, value) = (repeated(&key, form), repeated(&value, form));
        (query.matmul(&key.transpose(-2, -1)) * 0.5).softmax(-1, None).matmul(&value)
    };
    ys.transpose(1, 2).reshape([n, t, -1]).apply(&layers.o_proj)
}

/// Each head of `[N, heads, T, 4]` three times.
#[forward]
fn repeated(xs: &Tensor, form: Form) -> Tensor {
    if form == Form::RepeatInterleave {
        return xs.repeat_interleave_self_int(3, 1, None);
    }
    if form == Form::Shared {
        return xs.shallow_clone();
    }
    let (n, heads, t, dim) = xs.size4().unwrap();
    xs.unsqueeze(2).expand([n, heads, 3, t, dim], false).reshape([n, heads * 3, t, dim])
}

fn filled(form: Form, kv_heads: i64, removal: Removal) -> (Net, VarStore) {
    let mut vs = VarStore::new(device());
    let p = &vs.root();
    let config = AttentionConfig { removal, ..Default::default() };
    let net = Net {
        embed: nn::linear(p / "embed", 5, WIDTH, Default::default()),
        attention: grouped_query_attention(
            p / "attention",
            WIDTH,
            [3 * kv_heads, kv_heads],
            4,
            config,
        ),
        head: nn::linear(p / "head", WIDTH, 3, Default::default()),
        form,
    };
    fill(&vs);
    vs.double();
    (net, vs)
}

fn tokens() -> Tensor {
    slim_tests::fill::images(&[2, 7, 5]).to_kind(Kind::Double)
}

fn by_weights(ratio: f64) -> Slimming {
    Slimming::ratio(ratio).criterion(criterion::L2).local()
}

fn kept(plan: &Plan, layer: &str, axis: &str) -> Vec<usize> {
    plan.layer(layer).unwrap().axis(axis).map_or_else(Vec::new, |axis| {
        let keep: &KeepList = &axis.keep;
        keep.iter().collect()
    })
}

#[test]
fn a_head_of_key_and_value_goes_with_the_heads_that_read_it() {
    let build = || filled(Form::DropIn, 4, Removal::Heads);
    let plan = assert_slimmed_is_masked(build, &tokens(), &by_weights(0.5), 1e-9);
    let rows = kept(&plan, "attention.k_proj", "out");
    let heads: Vec<usize> = rows.iter().step_by(4).map(|row| row / 4).collect();
    assert!((1..4).contains(&heads.len()));
    assert_eq!(rows, heads.iter().flat_map(|h| 4 * h..4 * (h + 1)).collect::<Vec<_>>());
    assert_eq!(rows, kept(&plan, "attention.v_proj", "out"));
    let of_query: Vec<_> = heads.iter().flat_map(|h| 12 * h..12 * (h + 1)).collect();
    assert_eq!(of_query, kept(&plan, "attention.q_proj", "out"));
    assert_eq!(of_query, kept(&plan, "attention.o_proj", "in"));

    let (mut net, _vs) = build();
    let sizes = |net: &Net| {
        let attention = &net.attention;
        [attention.num_heads(), attention.num_kv_heads(), attention.head_dim()]
    };
    assert_eq!(sizes(&net), [12, 4, 4]);
    net.apply(&plan).unwrap();
    assert_eq!(sizes(&net), [3 * heads.len() as i64, heads.len() as i64, 4]);
    assert_eq!(net.attention.scale, 0.5, "that of the dense network");
}

#[test]
fn dimensions_of_all_heads_go() {
    let build = || filled(Form::DropIn, 4, Removal::HeadDims);
    let plan = assert_slimmed_is_masked(build, &tokens(), &by_weights(0.5), 1e-9);
    let dims = |layer: &str, axis: &str| -> Vec<usize> {
        let rows = kept(&plan, layer, axis);
        let first: Vec<_> = rows.iter().copied().filter(|row| *row < 4).collect();
        let heads = if ["attention.q_proj", "attention.o_proj"].contains(&layer) { 12 } else { 4 };
        let all = (0..heads).flat_map(|head| first.iter().map(move |dim| 4 * head + dim));
        assert_eq!(rows, all.collect::<Vec<_>>(), "the same in each head");
        first
    };
    assert_eq!(dims("attention.q_proj", "out"), dims("attention.k_proj", "out"));
    assert_eq!(dims("attention.v_proj", "out"), dims("attention.o_proj", "in"));
    let (mut net, _vs) = build();
    net.apply(&plan).unwrap();
    assert_eq!((net.attention.num_heads(), net.attention.num_kv_heads()), (12, 4));
    assert_eq!(net.attention.head_dim(), dims("attention.v_proj", "out").len() as i64);
}

#[test]
fn attention_that_is_written_out_has_the_same_plan() {
    let (net, vs) = filled(Form::DropIn, 4, Removal::Heads);
    let forward = |net: &Net| tch::no_grad(|| net.forward_t(&tokens(), false));
    for form in [Form::Broadcast, Form::RepeatInterleave, Form::Expand, Form::ScaledDotProduct] {
        let (written, mut written_vs) = filled(form, 4, Removal::Heads);
        written_vs.copy(&vs).unwrap();
        assert_close(&forward(&written), &forward(&net), 1e-12);
        for ratio in [0.2, 0.5, 0.8] {
            let [plan, other] = [net.plan(&by_weights(ratio)), written.plan(&by_weights(ratio))]
                .map(|plan| plan.unwrap());
            for layer in plan.layers() {
                let other = other.layer(&layer.path).map(|layer| &layer.axes);
                assert_eq!(Some(&layer.axes), other, "{form:?}");
            }
        }
        let build = || filled(form, 4, Removal::Heads);
        assert_slimmed_is_masked(build, &tokens(), &by_weights(0.5), 1e-9);
    }
}

#[test]
fn heads_that_read_one_head_lose_dimensions() {
    let build = || filled(Form::DropIn, 1, Removal::HeadDims);
    let plan = assert_slimmed_is_masked(build, &tokens(), &by_weights(0.5), 1e-9);
    let dims = kept(&plan, "attention.k_proj", "out").len();
    assert!(dims < 4 && kept(&plan, "attention.q_proj", "out").len() == 3 * dims, "{plan}");
    // The outputs of whole heads are zero only where the value is, and all of them read it.
    for form in [Form::DropIn, Form::Shared] {
        let build = || filled(form, 1, Removal::Heads);
        let plan = assert_slimmed_is_masked(build, &tokens(), &by_weights(0.5), 1e-9);
        assert_eq!(kept(&plan, "attention.q_proj", "out").len(), 12);
    }
    let (net, _vs) = filled(Form::Shared, 1, Removal::Heads);
    let held = net.plan(&by_weights(0.5)).unwrap().to_string();
    assert!(held.contains("`matmul` gives them to all heads (tests/behaviour/api/"), "{held}");
}

/// A decoder that attends to an encoder's output with packed weights.
#[derive(Debug, Prunable)]
struct Decoder {
    embed: nn::Linear,
    memory: nn::Linear,
    attention: MultiHeadAttention,
    grouped: GroupedQueryAttention,
    head: nn::Linear,
}

#[forward]
impl ModuleT for Decoder {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let (xs, memory) = (xs.apply(&self.embed), xs.apply(&self.memory).relu());
        let (n, _, width) = memory.size3().unwrap();
        let memory = memory.view([n, -1, width]).narrow(1, 0, 4);
        let ys = self.attention.cross(&xs, &memory, None) + &xs;
        let ys = self.grouped.cross(&ys, &memory, None) + ys;
        ys.apply(&self.head)
    }
}

fn decoder(removal: Removal) -> (Decoder, VarStore) {
    let mut vs = VarStore::new(device());
    let p = &vs.root();
    let config = AttentionConfig { removal, ..Default::default() };
    let net = Decoder {
        embed: nn::linear(p / "embed", 5, 12, Default::default()),
        memory: nn::linear(p / "memory", 5, 12, Default::default()),
        attention: multi_head_attention(p / "attention", 12, 4, config),
        grouped: grouped_query_attention(p / "grouped", 12, [4, 2], 3, config),
        head: nn::linear(p / "head", 12, 3, Default::default()),
    };
    fill(&vs);
    vs.double();
    (net, vs)
}

#[test]
fn cross_attention_reads_another_sequence() {
    for removal in [Removal::Heads, Removal::HeadDims] {
        let build = || decoder(removal);
        let plan = assert_slimmed_is_masked(build, &tokens(), &by_weights(0.5), 1e-9);
        for layer in ["attention.in_proj", "grouped.q_proj", "grouped.v_proj"] {
            let outputs = plan.layer(layer).unwrap().axis("out").unwrap();
            assert!(outputs.keep.len() < outputs.width, "{plan}");
        }
    }
    // With the sequence itself, it is self-attention.
    let (net, _vs) = decoder(Removal::Heads);
    let xs = tokens().apply(&net.embed);
    let [a, b] = [net.attention.forward(&xs, None), net.attention.cross(&xs, &xs, None)];
    assert_close(&a, &b, 1e-12);
}

/// The multiply-accumulates of [`Decoder`] for seven positions that attend to four, of embeddings
/// of `width`, by the number of features of the packed query, of the grouped query and of its key.
fn macs_by_hand(width: i64, packed: i64, query: i64, key: i64) -> i64 {
    let ends = 7 * 5 * width + 7 * 5 * width + 7 * width * 3;
    let attention = packed * width * (7 + 4 + 4) + 7 * packed * width;
    ends + attention + 7 * width * query + 2 * 4 * width * key + 7 * query * width
}

#[test]
fn each_third_of_a_packed_weight_is_counted_for_its_own_sequence() {
    let (mut net, _vs) = decoder(Removal::Heads);
    let recorded =
        |net: &Decoder| net.cost_of_batch(2, |net| net.forward_t(&tokens(), false)).unwrap();
    let cost = recorded(&net);
    assert_eq!(cost.macs().unwrap(), macs_by_hand(12, 12, 12, 6), "{cost}");
    assert_eq!(cost, net.cost_by_shape(&[&[7, 5]]).unwrap());
    let uses = cost.layer("attention.in_proj").unwrap().tensors[0].uses;
    assert_eq!((uses.times(), uses.parts()), (5, 1), "7 + 4 + 4 are 15 thirds");

    let slimming = Slimming::macs(0.6, &cost).unwrap().criterion(criterion::L2);
    let plan = net.plan(&slimming).unwrap();
    assert_eq!(Plan::from_json(&plan.to_json().unwrap()).unwrap(), plan);
    let after = cost.after(&plan).unwrap();
    net.apply(&plan).unwrap();
    let [packed, query, key, width] =
        [&net.attention.out_proj, &net.grouped.o_proj, &net.grouped.k_proj, &net.head]
            .map(|layer| layer.ws.size());
    let by_hand = macs_by_hand(width[1], packed[1], query[1], key[0]);
    assert!(packed[1] < 12, "{plan}");
    assert_eq!(after.macs().unwrap(), by_hand);
    assert!(by_hand * 10 <= cost.macs().unwrap() * 6, "{plan}");
    for slimmed in [recorded(&net), net.cost_by_shape(&[&[7, 5]]).unwrap()] {
        assert_eq!(slimmed, after);
    }
}

/// Attention that is given a sequence, or that sequence twice.
#[derive(Debug, Prunable)]
struct ToItself {
    attention: MultiHeadAttention,
    is_cross: bool,
}

#[forward]
impl ModuleT for ToItself {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        if self.is_cross {
            return self.attention.cross(xs, xs, None);
        }
        self.attention.forward(xs, None)
    }
}

#[test]
fn attention_to_itself_costs_the_same_in_both_forms() {
    let vs = VarStore::new(device());
    let attention = multi_head_attention(vs.root(), 12, 4, Default::default());
    let mut net = ToItself { attention, is_cross: false };
    let xs = Tensor::zeros([1, 5, 12], (Kind::Float, device()));
    let mut costs = |is_cross| {
        net.is_cross = is_cross;
        let recorded = net.cost(|net| net.forward_t(&xs, false)).unwrap();
        let by_shape = net.cost_by_shape(&[&[5, 12]]).unwrap();
        assert_eq!(recorded.macs().unwrap(), by_shape.macs().unwrap());
        (recorded.macs().unwrap(), recorded.layer("attention.in_proj").unwrap().tensors[0].uses)
    };
    assert_eq!(costs(true), costs(false));
}

#[test]
fn uses_of_thirds_are_kept_as_a_fraction() {
    let vs = VarStore::new(device());
    let config = AttentionConfig::default();
    let net = Between {
        embed: nn::linear(vs.root() / "embed", 5, 12, Default::default()),
        attention: multi_head_attention(vs.root() / "attention", 12, 4, config),
    };
    fill(&vs);
    let inputs = [[1, 7, 5], [1, 8, 5]].map(|size| slim_tests::fill::images(&size));
    let cost = net.cost(|net| net.forward(&inputs[0], &inputs[1])).unwrap();
    assert_eq!(cost, net.cost_by_shape(&[&[7, 5], &[8, 5]]).unwrap());
    assert_eq!(cost.layer("attention.in_proj").unwrap().tensors[0].uses.to_string(), "23/3");
    let products = (7 + 8) * 5 * 12 + 12 * 12 * (7 + 8 + 8) + 7 * 12 * 12;
    assert_eq!(cost.macs().unwrap(), products);

    let slimming = Slimming::macs(0.7, &cost).unwrap().criterion(criterion::L2);
    let plan = net.plan(&slimming).unwrap();
    let json = plan.to_json().unwrap();
    assert!(json.contains("\"format\": 4"), "{json}");
    assert_eq!(Plan::from_json(&json).unwrap(), plan);
    let schema = serde_json::from_str(Plan::JSON_SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&serde_json::from_str(&json).unwrap()), "{json}");
    let share = cost.after(&plan).unwrap().macs().unwrap() as f64 / products as f64;
    assert!((0.4..=0.7).contains(&share), "{share}");
    let stay = format!("{:.1} % stay", 100. * share);
    assert!(plan.to_string().contains(&stay), "{stay} {plan}");
}

/// Attends from one input to the other.
#[derive(Debug, Prunable)]
struct Between {
    embed: nn::Linear,
    attention: MultiHeadAttention,
}

#[forward]
impl Between {
    fn forward(&self, xs: &Tensor, memory: &Tensor) -> Tensor {
        self.attention.cross(&xs.apply(&self.embed), &memory.apply(&self.embed), None)
    }
}

#[test]
#[should_panic = "6 heads of 4 dimensions cannot read 4 heads of key and value in groups of one size"]
fn groups_of_different_sizes_are_refused() {
    let vs = VarStore::new(device());
    let _ = grouped_query_attention(vs.root(), 10, [6, 4], 4, AttentionConfig::default());
}
