//! Attention: heads and head dimensions, the same plan as when it is written out, and warnings.

use slim_runtime::nn::{AttentionConfig, MultiHeadAttention, Removal, multi_head_attention};
use slim_runtime::{KeepList, Plan, Prunable, Slimming, Warning, criterion, forward, nn};
use slim_tests::check::{assert_close, assert_slimmed_is_masked};
use slim_tests::device;
use slim_tests::fill::fill;
use tch::nn::{Module, ModuleT, Path, VarStore};
use tch::{Kind, Tensor};

const WIDTH: i64 = 24;

#[derive(Debug, Prunable)]
struct Net {
    embed: nn::Linear,
    ln: nn::LayerNorm,
    attention: MultiHeadAttention,
    head: nn::Linear,
}

impl Net {
    fn new(p: &Path, heads: i64, removal: Removal) -> Self {
        let config = AttentionConfig { removal, ..Default::default() };
        Self {
            embed: nn::linear(p / "embed", 5, WIDTH, Default::default()),
            ln: nn::layer_norm(p / "ln", vec![WIDTH], Default::default()),
            attention: multi_head_attention(p / "attention", WIDTH, heads, config),
            head: nn::linear(p / "head", WIDTH, 3, Default::default()),
        }
    }
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = xs.apply(&self.embed);
        let ys = self.attention.forward(&xs.apply(&self.ln), None);
        (xs + ys).apply(&self.head)
    }
}

/// The same network with the attention written out.
#[derive(Debug, Prunable)]
struct Written {
    embed: nn::Linear,
    ln: nn::LayerNorm,
    attention: Parts,
    head: nn::Linear,
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Parts {
    in_proj: nn::Linear,
    out_proj: nn::Linear,
}

#[forward]
impl ModuleT for Written {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = xs.apply(&self.embed);
        let (n, t, _) = xs.size3().unwrap();
        let qkv = xs.apply(&self.ln).apply(&self.attention.in_proj).view([n, t, 3, -1, 4]);
        let heads = |part| qkv.select(2, part).transpose(1, 2);
        let scores = heads(0).matmul(&heads(1).transpose(-2, -1)) / 2.;
        let ys = scores.softmax(-1, None).matmul(&heads(2)).transpose(1, 2);
        let ys = ys.reshape([n, t, -1]).apply(&self.attention.out_proj);
        (xs + ys).apply(&self.head)
    }
}

fn filled(heads: i64, removal: Removal) -> (Net, VarStore) {
    let mut vs = VarStore::new(device());
    let net = Net::new(&vs.root(), heads, removal);
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

fn kept(plan: &Plan, layer: &str, axis: &str) -> KeepList {
    plan.layer(layer).unwrap().axis(axis).unwrap().keep.clone()
}

#[test]
fn whole_heads_go() {
    let build = || filled(6, Removal::Heads);
    let plan = assert_slimmed_is_masked(build, &tokens(), &by_weights(0.5), 1e-9);
    let columns: Vec<_> = kept(&plan, "attention.out_proj", "in").iter().collect();
    assert!(columns.len() < 24 && columns.len().is_multiple_of(4));
    assert!(columns.chunks(4).all(|head| head[0] % 4 == 0 && head[3] == head[0] + 3));
    // Query, key and value of a head go together.
    let rows: Vec<_> = kept(&plan, "attention.in_proj", "out").iter().collect();
    let expected = (0..3).flat_map(|part| columns.iter().map(move |column| 24 * part + column));
    assert_eq!(rows, expected.collect::<Vec<_>>());

    let (mut net, _vs) = build();
    assert_eq!((net.attention.num_heads(), net.attention.head_dim()), (6, 4));
    net.apply(&plan).unwrap();
    let heads = columns.len() as i64 / 4;
    assert_eq!((net.attention.num_heads(), net.attention.head_dim()), (heads, 4));
    assert_eq!(net.attention.scale, 0.5, "that of the dense network");
}

#[test]
fn dimensions_of_all_heads_go() {
    let build = || filled(6, Removal::HeadDims);
    let plan = assert_slimmed_is_masked(build, &tokens(), &by_weights(0.5), 1e-9);
    let rows: Vec<_> = kept(&plan, "attention.in_proj", "out").iter().collect();
    let of_part = |part: usize| -> Vec<usize> {
        rows.iter().filter(|row| **row / 24 == part).map(|row| row % 24).collect()
    };
    assert_eq!(of_part(0), of_part(1), "query and key lose the same dimensions");
    assert_eq!(of_part(2), kept(&plan, "attention.out_proj", "in").iter().collect::<Vec<_>>());
    let first: Vec<_> = of_part(0).into_iter().filter(|row| *row < 4).collect();
    for head in 0..6 {
        let own = of_part(0).into_iter().filter(|row| row / 4 == head).map(|row| row % 4);
        assert_eq!(own.collect::<Vec<_>>(), first, "the same in each head");
    }
}

#[test]
fn attention_that_is_written_out_has_the_same_plan() {
    let (net, vs) = filled(6, Removal::Heads);
    let variables = vs.variables();
    let linear = |name: &str| nn::Linear {
        ws: variables[&format!("{name}weight")].shallow_clone(),
        bs: Some(variables[&format!("{name}bias")].shallow_clone()),
    };
    let mut ln = nn::layer_norm(vs.root() / "other", vec![WIDTH], Default::default());
    (ln.ws, ln.bs) =
        (Some(variables["ln.weight"].shallow_clone()), Some(variables["ln.bias"].shallow_clone()));
    let written = Written {
        embed: linear("embed."),
        ln,
        attention: Parts {
            in_proj: linear("attention.in_proj_"),
            out_proj: linear("attention.out_proj."),
        },
        head: linear("head."),
    };
    let forward = |net: &dyn ModuleT| tch::no_grad(|| net.forward_t(&tokens(), false));
    assert_close(&forward(&written), &forward(&net), 1e-12);
    for ratio in [0.2, 0.5, 0.8] {
        let [plan, other] = [net.plan(&by_weights(ratio)), written.plan(&by_weights(ratio))]
            .map(|plan| plan.unwrap());
        for layer in plan.layers() {
            assert_eq!(Some(&layer.axes), other.layer(&layer.path).map(|layer| &layer.axes));
        }
    }
}

#[test]
fn a_mask_is_added_to_the_scores() {
    let (net, _vs) = filled(6, Removal::Heads);
    let (xs, _no_grad) = (tokens().apply(&net.embed), tch::no_grad_guard());
    let mask = Tensor::full([7, 7], f64::NEG_INFINITY, (Kind::Double, device())).triu(1);
    let masked = net.attention.forward(&xs, Some(&mask));
    // The first position sees only itself, and the last one all.
    let alone = net.attention.forward(&xs.narrow(1, 0, 1), None);
    assert_close(&masked.narrow(1, 0, 1), &alone, 1e-12);
    assert_close(&masked.narrow(1, 6, 1), &net.attention.forward(&xs, None).narrow(1, 6, 1), 1e-12);
}

#[test]
fn a_ratio_that_groups_of_channels_overshoot_is_said() {
    let (net, _vs) = filled(3, Removal::Heads);
    let plan = net.plan(&by_weights(0.34)).unwrap();
    assert!(matches!(plan.warnings(), [Warning::Overshoot { asked: 0.34, .. }]));
    insta::assert_snapshot!(plan.warnings()[0], @"34.0 % of the channels were asked for and 66.7 % go: channels of one score, such as those of a head, are not told apart; ask for less, or for a number of channels (`top_k`)");
    let json = plan.to_json().unwrap();
    assert!(json.contains("\"format\": 4"), "{json}");
    assert_eq!(Plan::from_json(&json).unwrap(), plan);
    // As many as asked for, in an older format.
    let plan = net.plan(&by_weights(0.3)).unwrap();
    assert!(plan.warnings().is_empty() && plan.to_json().unwrap().contains("\"format\": 2"));
}

#[derive(Debug, Prunable)]
struct Mixed {
    narrow: nn::Linear,
    wide: nn::Linear,
    head: nn::Linear,
}

#[forward]
impl Module for Mixed {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.apply(&self.narrow).relu().apply(&self.wide).relu().apply(&self.head)
    }
}

#[test]
fn a_layer_that_falls_to_its_floor_by_scores_that_do_not_compare_is_said() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let weights =
        |value| nn::LinearConfig { ws_init: nn::Init::Const(value), ..Default::default() };
    let net = Mixed {
        narrow: nn::linear(p / "narrow", 2, 8, weights(0.1)),
        wide: nn::linear(p / "wide", 8, 8, weights(1.)),
        head: nn::linear(p / "head", 8, 3, Default::default()),
    };
    // Different scores in each layer.
    for layer in [&net.narrow, &net.wide] {
        let factors = Tensor::arange_start(1, 9, (Kind::Float, device())).view([8, 1]);
        tch::no_grad(|| layer.ws.shallow_clone().copy_(&(&layer.ws * (factors / 8 + 1))));
    }
    let global = Slimming::ratio(0.55).criterion(criterion::L2);
    let plan = net.plan(&global).unwrap();
    assert!(matches!(plan.warnings(), [Warning::Floor { .. }]), "{plan}");
    insta::assert_snapshot!(plan.warnings()[0], @"`narrow` falls to the least that it needs: scores of different kinds of layers do not compare; normalise them with `.normalisation(Normalisation::Mean)`, or rank each layer by itself with `.local()`");
    assert_eq!(Plan::from_json(&plan.to_json().unwrap()).unwrap(), plan);
    for comparable in [global.clone().local(), global.normalisation(criterion::Normalisation::Mean)]
    {
        assert!(net.plan(&comparable).unwrap().warnings().is_empty());
    }
}

#[test]
#[should_panic = "10 embedding dimensions cannot be divided into 4 heads of one size"]
fn heads_of_different_sizes_are_refused() {
    let vs = VarStore::new(device());
    let _ = multi_head_attention(vs.root(), 10, 4, AttentionConfig::default());
}
