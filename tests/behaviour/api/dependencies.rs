//! Dependencies as a user sees them: the table, and texts for Graphviz and Mermaid.

use std::collections::BTreeSet;

use slim_runtime::dependencies::ChannelRole;
use slim_runtime::{Dependencies, Flow, Prunable, Result, Tracer, model};
use slim_tests::device;
use slim_tests::networks::{Network, Shuffled, Tied, built};
use tch::nn::{self, VarStore};

model! {
    /// The network of the README.
    #[derive(Debug)]
    pub struct Tiny(classes: i64) {
        conv1 = conv2d(3 => 32, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(32);
        a = relu;
        conv2 = conv2d(32 => 32, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(32);
        sum = bn2 + a;
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(32 => classes);
    }
}

/// Three layers, each of which reads the outputs of all earlier ones.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Dense {
    stem: nn::Conv2D,
    bn: nn::BatchNorm,
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    #[prune(from = [bn, bn1])]
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    #[prune(from = [bn, bn1, bn2])]
    head: nn::Conv2D,
}

impl Dense {
    fn new(p: &nn::Path) -> Self {
        let conv =
            |name, inputs, outputs| nn::conv2d(p / name, inputs, outputs, 1, Default::default());
        let norm = |name, channels| nn::batch_norm2d(p / name, channels, Default::default());
        Dense {
            stem: conv("stem", 3, 8),
            bn: norm("bn", 8),
            conv1: conv("conv1", 8, 4),
            bn1: norm("bn1", 4),
            conv2: conv("conv2", 12, 4),
            bn2: norm("bn2", 4),
            head: conv("head", 16, 2),
        }
    }
}

fn texts(dependencies: &Dependencies) -> String {
    format!("{dependencies}\n\n{}\n{}", dependencies.to_dot(), dependencies.to_mermaid())
}

#[test]
fn a_residual_network() {
    let net = Tiny::new(VarStore::new(device()).root(), 10);
    insta::assert_snapshot!(texts(&net.dependencies().unwrap()));
}

#[test]
fn a_concatenating_network() {
    let dependencies = Dense::new(&VarStore::new(device()).root()).dependencies().unwrap();
    insta::assert_snapshot!(texts(&dependencies));
    let edges: Vec<_> =
        dependencies.edges.iter().map(|edge| (edge.from, edge.to, edge.channels)).collect();
    assert_eq!(
        edges,
        [
            (0, 1, 8),
            (1, 2, 8),
            (2, 3, 4),
            (1, 4, 8),
            (3, 4, 4),
            (4, 5, 4),
            (1, 6, 8),
            (3, 6, 4),
            (5, 6, 4)
        ]
    );
}

#[test]
fn a_network_with_a_split_and_a_shuffle() {
    insta::assert_snapshot!(texts(&built::<Shuffled>().0.dependencies().unwrap()));
}

#[test]
fn as_json() {
    insta::assert_json_snapshot!(
        Tiny::new(VarStore::new(device()).root(), 10).dependencies().unwrap()
    );
}

#[test]
fn layers_with_one_weight_are_coupled() {
    let dependencies = Tied::new(&VarStore::new(device()).root()).dependencies().unwrap();
    let coupled: Vec<Vec<&str>> = dependencies
        .groups
        .iter()
        .filter(|group| group.is_coupled())
        .map(|group| {
            group.producers().map(|layer| dependencies.layers[layer].path.as_str()).collect()
        })
        .collect();
    // `conv2` reads the channels of `conv1`, and writes those that `conv3` reads. `conv3` has the
    // same weight as `conv2`.
    assert_eq!(coupled, [["conv1", "conv2", "conv3"]]);
}

#[test]
fn a_trace_needs_no_good_weights() {
    let (net, vs) = built::<Shuffled>();
    let before = net.dependencies().unwrap();
    tch::no_grad(|| vs.variables().values_mut().for_each(|variable| _ = variable.fill_(f64::NAN)));
    assert_eq!(net.dependencies().unwrap(), before);
}

/// A layer whose path is full of the syntax of the text formats.
struct Named(nn::Conv2D, &'static str);

impl Prunable for Named {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        cx.field(self.1, |cx| self.0.trace(cx, input))
    }
}

#[test]
fn names_are_text() {
    let vs = VarStore::new(device());
    let conv = || nn::conv2d(vs.root(), 3, 4, 1, Default::default());
    let dependencies =
        Named(conv(), "a\"]; b -> c \\N\n<script>&amp;`#35;").dependencies().unwrap();
    let dot = dependencies.to_dot();
    assert!(
        dot.contains(r#"n0 [label="a\"]; b -> c \\N <script>&amp;amp;`#35;\nconv 3 → 4", style="#),
        "{dot}"
    );
    let mermaid = dependencies.to_mermaid();
    let name = r"a#34;]; b -#62; c #92;N #60;script#62;#38;amp;#96;#35;35;";
    assert!(mermaid.contains(&format!("n0[\"{name}<br/>conv 3 → 4\"]")), "{mermaid}");
}

#[test]
fn a_layer_by_its_parts() {
    let dependencies = built::<Shuffled>().0.dependencies().unwrap();
    let widths =
        |path: &str| dependencies.layers.iter().find(|layer| layer.path == path).unwrap().widths();
    assert_eq!(
        ["conv1", "bn1", "split", "shuffle", "fc"].map(widths),
        ["3 → 8", "8", "8 → 4 + 4", "8 → 8", "6 → 5"]
    );
    let parts: BTreeSet<_> = dependencies
        .groups
        .iter()
        .flat_map(|group| &group.members)
        .map(|member| format!("{:?}", member.role))
        .collect();
    assert_eq!(parts, ["Makes", "Moves", "Reads", "Scales"].map(str::to_owned).into());
    let split = &dependencies.groups[1];
    assert_eq!((split.scalers().count(), split.consumers().count()), (1, 1));
    assert!(
        split.members.iter().any(|member| member.role == ChannelRole::Moves && member.axis == "0")
    );
}
