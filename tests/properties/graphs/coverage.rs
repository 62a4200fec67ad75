//! Coverage of the random networks: every feature occurs, and loses channels.

use std::collections::BTreeMap;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use slim_runtime::Prunable;

use crate::check::assert_absorbed_is_dense;
use crate::graph::{Conv, Graph, Groups, Layer, Op, Spec};
use crate::net::Net;
use crate::{grow, rank};

/// Features that occur in networks and can lose channels.
const SHRINKING: &[&str] = &[
    "conv",
    "conv of tch",
    "grouped conv",
    "grouped conv of tch",
    "whole groups",
    "depthwise conv",
    "depthwise conv with multiplier",
    "transposed conv",
    "grouped transposed conv",
    "depthwise transposed conv",
    "linear",
    "linear of tch",
    "batch norm",
    "batch norm without scale",
    "scale",
    "shift",
    "split",
    "shuffle",
    "select",
    "max-pool",
    "activation",
    "add",
    "product",
    "gate",
    "concat",
    "chunk",
    "shuffle by count",
    "pixel shuffle",
    "mean",
    "expand",
    "used again",
    "tied weight",
    "tied scale",
    "tied shift",
    "scale that another batch norm has",
    "batch norm with a scale that is used elsewhere",
    "1-D",
    "3-D",
    "two inputs",
    "two outputs",
];

/// Features that occur and hold channels.
const HOLDING: &[&str] = &["group norm", "layer norm", "keep", "tied weight with a free dimension"];

#[test]
fn everything_occurs_and_loses_channels() {
    let mut runner = TestRunner::deterministic();
    let graphs = grow::graph(rank());
    let (mut shrunk, mut occurred) = (BTreeMap::new(), BTreeMap::new());
    let networks = 1_500;
    for _ in 0..networks {
        let graph = graphs.new_tree(&mut runner).unwrap().current();
        let (mut net, _vs) = Net::new(&graph);
        if net.slim(0.5).is_err() {
            continue;
        }
        let values = net.values(&net.images());
        let mut value = graph.inputs.len();
        for (i, op) in graph.ops.iter().enumerate() {
            let given = graph.given(op);
            let less = (value..value + given)
                .any(|value| values[value].size()[1] < graph.shapes[value].width);
            for feature in features(&graph, i) {
                *occurred.entry(feature).or_insert(0) += 1;
                *shrunk.entry(feature).or_insert(0) += usize::from(less);
            }
            value += given;
        }
    }
    let rare = |counts: &BTreeMap<&str, usize>, names: &[&'static str]| -> Vec<_> {
        names
            .iter()
            .map(|name| (*name, counts.get(name).copied().unwrap_or(0)))
            .filter(|&(_, count)| count < 5)
            .collect()
    };
    assert_eq!(
        (rare(&shrunk, SHRINKING), rare(&occurred, HOLDING)),
        (Vec::new(), Vec::new()),
        "\n{shrunk:#?}\n{occurred:#?}"
    );
}

#[test]
fn enough_networks_absorb_all_of_it() {
    let mut runner = TestRunner::deterministic();
    let graphs = grow::graph(rank());
    let mut readers = 0;
    for _ in 0..500 {
        let (mut net, vs) = Net::new(&graphs.new_tree(&mut runner).unwrap().current());
        readers += assert_absorbed_is_dense(&mut net, &vs, 0.5).unwrap_or(0);
    }
    assert!(readers > 50, "{readers}");
}

fn features(graph: &Graph, op: usize) -> Vec<&'static str> {
    let mut features = vec![match &graph.ops[op] {
        Op::Apply { layer, .. } => kind(&graph.layers[*layer].spec),
        Op::Activate { .. } => "activation",
        Op::Add(..) => "add",
        Op::Multiply(.., None) => "product",
        Op::Multiply(.., Some(_)) => "gate",
        Op::Concat(_) => "concat",
        Op::Chunk { .. } => "chunk",
        Op::ViewShuffle { .. } => "shuffle by count",
        Op::PixelShuffle { .. } => "pixel shuffle",
        Op::Mean { .. } => "mean",
        Op::Expand { .. } => "expand",
        Op::Keep { .. } => "keep",
    }];
    let is_many = [
        (graph.rank == 1, "1-D"),
        (graph.rank == 3, "3-D"),
        (graph.inputs.len() > 1, "two inputs"),
        (graph.outputs.len() > 1, "two outputs"),
    ];
    features.extend(is_many.into_iter().filter(|(is, _)| *is).map(|(_, name)| name));
    if let Op::Apply { layer: used, .. } = graph.ops[op] {
        let before = graph.ops[..op]
            .iter()
            .any(|op| matches!(op, Op::Apply { layer, .. } if *layer == used));
        features.extend(before.then_some("used again"));
        let layer = &graph.layers[used];
        features
            .extend(layer.ties.iter().map(|tie| tied(layer, tie.name, &graph.layers[tie.owner.0])));
    }
    features
}

fn kind(spec: &Spec) -> &'static str {
    match spec {
        Spec::Conv(Conv { groups: Groups::Equal(1), plain, .. }) => {
            ["conv", "conv of tch"][usize::from(*plain)]
        }
        Spec::Conv(Conv { groups: Groups::Equal(_), plain, .. }) => {
            ["grouped conv", "grouped conv of tch"][usize::from(*plain)]
        }
        Spec::Conv(Conv { groups: Groups::Whole(groups), inputs, outputs, .. })
            if groups == inputs =>
        {
            ["depthwise conv", "depthwise conv with multiplier"][usize::from(outputs > inputs)]
        }
        Spec::Conv(_) => "whole groups",
        Spec::ConvTranspose(Conv { groups: Groups::Equal(1), .. }) => "transposed conv",
        Spec::ConvTranspose(Conv { groups: Groups::Equal(_), .. }) => "grouped transposed conv",
        Spec::ConvTranspose(_) => "depthwise transposed conv",
        Spec::Linear { plain, .. } => ["linear", "linear of tch"][usize::from(*plain)],
        Spec::Norm { affine: true, .. } => "batch norm",
        Spec::Norm { .. } => "batch norm without scale",
        Spec::Scale { .. } => "scale",
        Spec::Shift { .. } => "shift",
        Spec::GroupNorm { .. } => "group norm",
        Spec::LayerNorm { .. } => "layer norm",
        Spec::Split { .. } => "split",
        Spec::Shuffle { .. } => "shuffle",
        Spec::Select { .. } => "select",
        Spec::MaxPool => "max-pool",
    }
}

fn tied(layer: &Layer, name: &str, owner: &Layer) -> &'static str {
    match (&layer.spec, &owner.spec, name) {
        (Spec::Norm { .. }, Spec::Norm { .. }, "weight") => "tied scale",
        (Spec::Norm { .. }, Spec::Norm { .. }, _) => "tied shift",
        (Spec::Scale { .. }, Spec::Norm { .. }, _) => "scale that another batch norm has",
        (Spec::Norm { .. }, _, _) => "batch norm with a scale that is used elsewhere",
        (Spec::Conv(here), Spec::Conv(there), _)
            if matches!(here.groups, Groups::Equal(_))
                != matches!(there.groups, Groups::Equal(_)) =>
        {
            "tied weight with a free dimension"
        }
        _ => "tied weight",
    }
}
