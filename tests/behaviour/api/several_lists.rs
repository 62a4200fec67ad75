//! Sensitivity and search of layers that make several lists of channels: attention, an LSTM with a
//! projection, and layers of one's own.

use slim_runtime::criterion::L2;
use slim_runtime::nn::{
    AttentionConfig, GroupedQueryAttention, MultiHeadAttention, RNNConfig, Recurrent, Removal,
    grouped_query_attention, multi_head_attention, projected_lstm,
};
use slim_runtime::{
    Flow, LayerKind, Prunable, Result, Search, Sensitivity, Slimming, Tracer, forward, nn,
};
use slim_tests::check::assert_slimmed_is_masked;
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{Init, ModuleT, Path, VarStore};
use tch::{Kind, Tensor};

/// Two attentions whose outputs are added to their inputs. In the first, query, key and value lose
/// the same dimensions of their heads; in the second, value loses others than query and key.
#[derive(Debug, Prunable)]
struct Attention {
    embed: nn::Linear,
    packed: MultiHeadAttention,
    grouped: GroupedQueryAttention,
    head: nn::Linear,
}

#[forward]
impl ModuleT for Attention {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = xs.apply(&self.embed);
        let xs = self.packed.forward(&xs, None) + xs;
        (self.grouped.forward(&xs, None) + xs).apply(&self.head)
    }
}

/// Two directions of an LSTM with hidden channels and projected ones, which are added to the input.
#[derive(Debug, Prunable)]
struct Projected {
    embed: nn::Linear,
    recurrent: Recurrent,
    head: nn::Linear,
}

#[forward]
impl ModuleT for Projected {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.embed);
        (xs.apply_t(&self.recurrent, train) + xs).apply(&self.head)
    }
}

/// A layer that makes two lists of channels from its input, of which a criterion scores the first.
#[derive(Debug)]
struct Twin {
    first: Tensor,
    second: Tensor,
}

impl Twin {
    fn new(p: &Path, [first, second]: [i64; 2]) -> Self {
        let init = Init::Const(0.);
        Self {
            first: p.var("first", &[first, 5], init),
            second: p.var("second", &[second, 5], init),
        }
    }

    fn trace_both(&self, cx: &mut Tracer, input: &Flow) -> Result<[Flow; 2]> {
        let mut layer = cx.layer(LayerKind::other("twin"));
        let read = layer.read("in", input, self.first.size()[1])?;
        let first = layer.write_features("first", self.first.size()[0])?;
        let second = layer.write_features("second", self.second.size()[0])?;
        layer.parameter("first", &self.first, &[(0, first), (1, read)])?;
        layer.parameter("second", &self.second, &[(0, second), (1, read)])?;
        Ok([layer.pass(first)?, layer.pass(second)?])
    }

    fn both(&self, xs: &Tensor) -> [Tensor; 2] {
        [&self.first, &self.second].map(|weight| xs.linear(weight, None::<&Tensor>))
    }
}

/// The second list of each layer is added to the first of another: a pattern that matches a layer
/// matches channels of two groups.
#[derive(Debug)]
struct Crossed {
    a: Twin,
    b: Twin,
    c: nn::Linear,
    head: nn::Linear,
}

impl Prunable for Crossed {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let [a, to_c] = cx.field("a", |cx| self.a.trace_both(cx, &input))?;
        let [b, to_a] = cx.field("b", |cx| self.b.trace_both(cx, &input))?;
        let c = cx.field("c", |cx| self.c.trace(cx, input))?;
        let parts = [cx.add(&a, &to_a)?, b, cx.add(&c, &to_c)?];
        let all = cx.concat(&parts)?;
        cx.field("head", |cx| self.head.trace(cx, all))
    }
}

impl ModuleT for Crossed {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let ([a, to_c], [b, to_a]) = (self.a.both(xs), self.b.both(xs));
        let c = xs.apply(&self.c) + to_c;
        Tensor::cat(&[a + to_a, b, c], -1).apply(&self.head)
    }
}

/// Two layers, each of which makes channels that are added to those that the other is scored by.
#[derive(Debug)]
struct Mutual {
    a: Twin,
    b: Twin,
    head: nn::Linear,
}

impl Prunable for Mutual {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let [a, to_b] = cx.field("a", |cx| self.a.trace_both(cx, &input))?;
        let [b, to_a] = cx.field("b", |cx| self.b.trace_both(cx, &input))?;
        let parts = [cx.add(&a, &to_a)?, cx.add(&b, &to_b)?];
        let all = cx.concat(&parts)?;
        cx.field("head", |cx| self.head.trace(cx, all))
    }
}

fn filled<M>(new: impl Fn(&Path) -> M) -> (M, VarStore) {
    let mut vs = VarStore::new(device());
    let net = new(&vs.root());
    fill(&vs);
    vs.double();
    (net, vs)
}

/// Heads of four dimensions: two, and then four of the query for two of key and value.
fn attention() -> (Attention, VarStore) {
    filled(|p| {
        let config = AttentionConfig { removal: Removal::HeadDims, ..Default::default() };
        Attention {
            embed: nn::linear(p / "embed", 5, 8, Default::default()),
            packed: multi_head_attention(p / "packed", 8, 2, config),
            grouped: grouped_query_attention(p / "grouped", 8, [4, 2], 4, config),
            head: nn::linear(p / "head", 8, 3, Default::default()),
        }
    })
}

fn projected() -> (Projected, VarStore) {
    filled(|p| {
        let config = RNNConfig { bidirectional: true, ..Default::default() };
        Projected {
            embed: nn::linear(p / "embed", 5, 6, Default::default()),
            recurrent: projected_lstm(p / "recurrent", 6, 8, 3, config),
            head: nn::linear(p / "head", 6, 3, Default::default()),
        }
    })
}

fn crossed() -> (Crossed, VarStore) {
    filled(|p| Crossed {
        a: Twin::new(&(p / "a"), [8, 6]),
        b: Twin::new(&(p / "b"), [10, 8]),
        c: nn::linear(p / "c", 5, 6, Default::default()),
        head: nn::linear(p / "head", 24, 3, Default::default()),
    })
}

/// `[N, T, 5]`
fn tokens() -> Tensor {
    images(&[2, 7, 5]).to_kind(Kind::Double)
}

/// A row of a variable.
type Row = (String, i64);

/// Channels that stay or go together.
struct Together {
    /// Rows of the weights by which they are scored: the largest L2 norm counts.
    scored: Vec<Row>,
    /// Other rows that make them.
    others: Vec<Row>,
}

/// A group of layers with one ratio, by hand.
struct ByHand {
    layers: &'static [&'static str],
    channels: Vec<Together>,
}

fn row(variable: &str, row: i64) -> Row {
    (variable.to_owned(), row)
}

/// The groups of [`attention`].
fn groups_of_attention() -> Vec<ByHand> {
    let group = |layers: &'static [&'static str], width, rows: &dyn Fn(i64) -> Vec<Row>| {
        let channel = |i| Together { scored: rows(i), others: Vec::new() };
        ByHand { layers, channels: (0..width).map(channel).collect() }
    };
    // One dimension of all heads of a weight.
    let dim = |variable: &str, heads: i64, dim| -> Vec<Row> {
        (0..heads).map(|head| row(variable, 4 * head + dim)).collect()
    };
    vec![
        group(&["embed", "packed.out_proj", "grouped.o_proj"], 8, &|i| {
            let all = ["embed.weight", "packed.out_proj.weight", "grouped.o_proj.weight"];
            all.map(|name| row(name, i)).into()
        }),
        // Two heads of query, key and value, one after the other.
        group(&["packed.in_proj"], 4, &|i| dim("packed.in_proj_weight", 6, i)),
        group(&["grouped.q_proj", "grouped.k_proj"], 4, &|i| {
            [dim("grouped.q_proj.weight", 4, i), dim("grouped.k_proj.weight", 2, i)].concat()
        }),
        group(&["grouped.v_proj"], 4, &|i| dim("grouped.v_proj.weight", 2, i)),
    ]
}

/// The groups of [`projected`].
fn groups_of_projected() -> Vec<ByHand> {
    let stream = |i| {
        let name = if i < 3 { "recurrent.weight_hr_l0" } else { "recurrent.weight_hr_l0_reverse" };
        let scored = vec![row("embed.weight", i), row(name, i % 3)];
        Together { scored, others: Vec::new() }
    };
    let hidden = |direction: &str| {
        let channel = |i: i64| {
            let gates = ["ih", "hh"].into_iter().flat_map(|part| {
                let name = format!("recurrent.weight_{part}_l0{direction}");
                (0..4).map(move |gate| (name.clone(), 8 * gate + i))
            });
            Together { scored: gates.collect(), others: Vec::new() }
        };
        (0..8).map(channel).collect()
    };
    vec![
        ByHand {
            layers: &["embed", "recurrent.levels.0.forward.hr", "recurrent.levels.0.reverse.hr"],
            channels: (0..6).map(stream).collect(),
        },
        ByHand {
            layers: &["recurrent.levels.0.forward.ih", "recurrent.levels.0.forward.hh"],
            channels: hidden(""),
        },
        ByHand {
            layers: &["recurrent.levels.0.reverse.ih", "recurrent.levels.0.reverse.hh"],
            channels: hidden("_reverse"),
        },
    ]
}

/// The groups of [`crossed`].
fn groups_of_crossed() -> Vec<ByHand> {
    let group = |layers, width, scored: &str, other: Option<&str>| ByHand {
        layers,
        channels: (0..width)
            .map(|i| Together {
                scored: vec![row(scored, i)],
                others: other.iter().map(|name| row(name, i)).collect(),
            })
            .collect(),
    };
    vec![
        group(&["b"], 10, "b.first", None),
        group(&["a"], 8, "a.first", Some("b.second")),
        group(&["c"], 6, "c.weight", Some("a.second")),
    ]
}

/// The channels that the rule of a ratio removes of a group: those whose score is not above that of
/// the scored row at this share.
fn removed(vs: &VarStore, group: &ByHand, ratio: f64) -> Vec<usize> {
    let variables = vs.variables();
    let norm = |(name, row): &Row| variables[name].get(*row).norm().double_value(&[]);
    let score = |channel: &Together| channel.scored.iter().map(norm).fold(0., f64::max);
    let scores: Vec<f64> = group.channels.iter().map(score).collect();
    let mut ranked: Vec<f64> = group
        .channels
        .iter()
        .zip(&scores)
        .flat_map(|(channel, &score)| vec![score; channel.scored.len()])
        .collect();
    ranked.sort_by(f64::total_cmp);
    let threshold = ranked[(ranked.len() as f64 * ratio) as usize];
    (0..scores.len()).filter(|&channel| scores[channel] <= threshold).collect()
}

/// Sets the rows that make these channels, and their biases, to zero.
fn mask<'a>(vs: &VarStore, channels: impl Iterator<Item = &'a Together>) {
    let _no_grad = tch::no_grad_guard();
    let variables = vs.variables();
    for channel in channels {
        for (name, row) in channel.scored.iter().chain(&channel.others) {
            let bias = variables.get(&name.replace("weight", "bias"));
            let bias = bias.filter(|_| name.contains("weight"));
            for variable in [Some(&variables[name]), bias].into_iter().flatten() {
                let _ = variable.get(*row).zero_();
            }
        }
    }
}

/// A number that any change of any output changes.
fn value<M: ModuleT>(net: &M) -> f64 {
    let outputs = net.forward_t(&tokens(), false).flatten(0, -1);
    let weights = Tensor::arange(outputs.size()[0], (Kind::Double, outputs.device())) + 1.;
    (outputs * weights).sum(Kind::Double).double_value(&[])
}

/// Measures every group, and compares with the network masked by hand.
fn assert_measures<M: Prunable + ModuleT>(build: fn() -> (M, VarStore), groups: &[ByHand]) {
    let (mut net, _vs) = build();
    let slimming = Slimming::params(0.5).criterion(L2);
    let ratios = [0.1, 0.4, 0.55];
    let measured = Sensitivity::measure(&mut net, &slimming, ratios, value).unwrap();
    let layers: Vec<_> = measured.groups().iter().map(|curve| &curve.group.layers).collect();
    assert_eq!(layers, groups.iter().map(|group| group.layers).collect::<Vec<_>>());
    for (curve, group) in measured.groups().iter().zip(groups) {
        let rows = group.channels.iter().map(|channel| channel.scored.len()).sum::<usize>();
        assert_eq!(curve.group.removable, rows, "{:?}", group.layers);
        for (found, ratio) in curve.values.iter().zip(ratios) {
            let (net, vs) = build();
            let gone = removed(&vs, group, ratio);
            assert!(!gone.is_empty() && gone.len() < group.channels.len());
            mask(&vs, gone.iter().map(|&channel| &group.channels[channel]));
            let (found, expected) = (found.unwrap(), tch::no_grad(|| value(&net)));
            assert!(
                (found - expected).abs() <= 1e-12 * expected.abs(),
                "{:?} at {ratio}: {found}, not {expected}",
                group.layers
            );
        }
    }
}

#[test]
fn head_dimensions_and_the_stream_of_an_attention_are_measured_by_themselves() {
    assert_measures(attention, &groups_of_attention());
}

#[test]
fn hidden_and_projected_channels_of_an_lstm_are_measured_by_themselves() {
    assert_measures(projected, &groups_of_projected());
}

#[test]
fn layers_that_make_channels_of_each_others_groups_are_measured_by_themselves() {
    assert_measures(crossed, &groups_of_crossed());
}

/// Searches, and checks each individual: the plan removes of each group what the individual says,
/// and meets the budget. What is found is slimmed and masked.
fn assert_finds<M: Prunable + ModuleT>(build: fn() -> (M, VarStore), share: f64) {
    let (mut net, _vs) = build();
    let slimming = Slimming::params(share).criterion(L2);
    let mut search = Search::new(&net, &slimming).unwrap().population(6).seed(3);
    search.run(&mut net, 3, value).unwrap();
    for individual in search.individuals() {
        let plan = net.plan(&search.slimming_of(individual)).unwrap();
        let parameters = plan.parameters();
        assert!(parameters.after as f64 <= share * parameters.before as f64, "{plan}");
        let gone = search.groups().iter().map(|group| {
            let of_layer = |path: &String| {
                let layer = plan.layer(path).unwrap();
                let axis = layer.axis(&layer.scored.as_ref().unwrap().axis).unwrap();
                axis.width - axis.keep.len()
            };
            group.layers.iter().map(of_layer).sum()
        });
        assert_eq!(gone.collect::<Vec<usize>>(), individual.removed, "{:?}", search.groups());
    }
    let different = |group: usize| {
        let mut all = search.individuals().iter().map(|one| one.removed[group]);
        all.next().is_some_and(|first| all.any(|other| other != first))
    };
    assert!((0..search.groups().len()).all(different), "{:?}", search.individuals());

    let found = search.found().unwrap();
    let plan = assert_slimmed_is_masked(build, &tokens(), &found, 1e-9);
    let (mut slimmed, vs) = build();
    slimmed.apply(&plan).unwrap();
    let left: usize = vs.variables().values().map(Tensor::numel).sum();
    assert_eq!(left as i64, plan.parameters().after);
    let (best, now) = (search.best().unwrap().value.unwrap(), tch::no_grad(|| value(&slimmed)));
    assert!((best - now).abs() <= 1e-12 * best.abs(), "{best}, not {now}");
}

#[test]
fn a_search_finds_ratios_of_an_attention_within_its_budget() {
    assert_finds(attention, 0.6);
}

#[test]
fn a_search_finds_ratios_of_an_lstm_with_a_projection_within_its_budget() {
    assert_finds(projected, 0.6);
}

#[test]
fn a_search_gives_layers_that_make_channels_of_each_others_groups_ratios_of_their_own() {
    assert_finds(crossed, 0.6);
}

#[test]
fn groups_that_no_order_of_patterns_tells_apart_are_refused() {
    let (net, _vs) = filled(|p| Mutual {
        a: Twin::new(&(p / "a"), [8, 6]),
        b: Twin::new(&(p / "b"), [6, 8]),
        head: nn::linear(p / "head", 14, 3, Default::default()),
    });
    let slimming = Slimming::params(0.5).criterion(L2);
    let error = Search::new(&net, &slimming).unwrap_err().to_string();
    insta::assert_snapshot!(error);
    let sensitivity = Sensitivity::new(&net, &slimming, Sensitivity::RATIOS);
    assert_eq!(sensitivity.unwrap_err().to_string(), error);
}
