//! Texts of the zoo's dependencies: they have no syntax that Graphviz or Mermaid would refuse, and
//! their lines agree with the edges.

use std::collections::{BTreeMap, BTreeSet};

use slim_runtime::dependencies::LayerGroup;
use slim_runtime::{Dependencies, Prunable};
use slim_tests::device;
use slim_zoo::mobilenet_v3::MobileNetV3;
use slim_zoo::shufflenet_v2::ShuffleNetV2;
use slim_zoo::{densenet, resnet};
use tch::nn::{self, VarStore};

fn of<M: Prunable>(build: impl Fn(nn::Path) -> M) -> Dependencies {
    build(VarStore::new(device()).root()).dependencies().unwrap()
}

/// Declared nodes, and lines between them.
type Drawn = (BTreeSet<String>, Vec<(String, String)>);

fn dot(text: &str) -> Drawn {
    let body = text.strip_prefix("digraph dependencies {\n").unwrap().strip_suffix("}\n").unwrap();
    let lines =
        body.lines().map(|line| line.strip_prefix("  ").unwrap().strip_suffix(';').unwrap());
    drawn(lines.filter(|line| !line.starts_with("node ") && !line.starts_with("edge ")).map(
        |line| {
            let statement = line.split_once(" [").map_or(line, |(statement, attributes)| {
                assert!(
                    attributes.ends_with(']') && attributes.matches('"').count() % 2 == 0,
                    "{line}"
                );
                statement
            });
            statement.split_once(" -> ").ok_or(statement)
        },
    ))
}

fn mermaid(text: &str) -> Drawn {
    let lines = text
        .strip_prefix("flowchart TB\n")
        .unwrap()
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap());
    drawn(lines.filter(|line| !line.starts_with("class")).map(|line| {
        let arrow = [" --> ", " --- "].into_iter().find_map(|arrow| line.split_once(arrow));
        arrow.ok_or_else(|| {
            let (name, label) = line.split_once(['[', '(']).unwrap();
            assert!(
                (label.starts_with('"') && label.ends_with("\"]") || label == "(\" \"))")
                    && label.matches('"').count() == 2,
                "{line}"
            );
            name
        })
    }))
}

fn drawn<'t>(statements: impl Iterator<Item = Result<(&'t str, &'t str), &'t str>>) -> Drawn {
    let (mut nodes, mut lines) = (BTreeSet::new(), Vec::new());
    for statement in statements {
        match statement {
            Ok((from, to)) => lines.push((from.to_owned(), to.to_owned())),
            Err(node) => assert!(nodes.insert(node.to_owned()), "{node} is declared twice"),
        }
    }
    for (from, to) in &lines {
        assert!(nodes.contains(from) && nodes.contains(to), "{from} -> {to}");
    }
    (nodes, lines)
}

/// The edges between layers; a path through joints is one edge.
fn edges(lines: &[(String, String)]) -> BTreeSet<(usize, usize)> {
    let mut behind: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    let mut edges = BTreeSet::new();
    for (from, to) in lines {
        let givers = from.strip_prefix('n').map_or_else(
            || behind[from.as_str()].clone(),
            |layer| BTreeSet::from([layer.parse().unwrap()]),
        );
        match to.strip_prefix('n') {
            Some(layer) => {
                edges.extend(givers.into_iter().map(|giver| (giver, layer.parse().unwrap())));
            }
            None => behind.entry(to).or_default().extend(givers),
        }
    }
    edges
}

fn assert_drawn(dependencies: &Dependencies) {
    let expected: BTreeSet<_> =
        dependencies.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let texts =
        [(dependencies.to_dot(), dot as fn(&str) -> Drawn), (dependencies.to_mermaid(), mermaid)];
    for (text, read) in texts {
        let (nodes, lines) = read(&text);
        assert_eq!(
            nodes.iter().filter(|node| node.starts_with('n')).count(),
            dependencies.layers.len()
        );
        assert_eq!(edges(&lines), expected);
        // Mermaid draws up to 500 lines.
        assert!(lines.len() < 500 && lines.len() <= expected.len());
    }
}

#[test]
fn resnet50_is_drawn_with_its_stages() {
    let dependencies = of(|p| resnet::resnet50(p, 1000));
    assert_drawn(&dependencies);
    let coupled: Vec<_> = dependencies.groups.iter().filter(|group| group.is_coupled()).collect();
    let sizes: Vec<_> = coupled
        .iter()
        .map(|group| (group.producers().count(), group.scalers().count(), group.channels))
        .collect();
    assert_eq!(sizes, [(4, 4, 256), (5, 5, 512), (7, 7, 1024), (4, 4, 2048)]);
    let last = coupled[3]
        .consumers()
        .map(|layer| dependencies.layers[layer].path.as_str())
        .collect::<Vec<_>>();
    assert_eq!(last, ["layer4.1.conv1", "layer4.2.conv1", "fc"]);
}

#[test]
fn densenet121_is_drawn_with_few_lines() {
    let dependencies = of(|p| densenet::densenet121(p, 1000));
    assert_drawn(&dependencies);
    assert!(!dependencies.groups.iter().any(LayerGroup::is_coupled));
    // Every layer of a block is read by all later layers.
    assert!(dependencies.edges.len() > 700);
}

#[test]
fn mobile_networks_are_drawn() {
    assert_drawn(&of(|p| MobileNetV3::large(p, 1000)));
    assert_drawn(&of(|p| ShuffleNetV2::x1_0(p, 1000)));
}
