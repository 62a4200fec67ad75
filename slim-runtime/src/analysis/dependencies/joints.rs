//! The edges of a picture, where layers that receive the same channels share lines.
//!
//! In a dense block every layer reads all layers before it, and in a residual stage every layer
//! reads their sum. Both have as many edges as pairs of layers. A joint is a point where the lines
//! of several layers meet. Later joints continue from earlier ones, so a picture has about as many
//! lines as layers.

use std::collections::BTreeSet;

use super::Edge;

/// Where a line starts or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Layer(usize),
    Joint(usize),
}

/// A point where lines come together.
struct Joint {
    /// The layers whose lines meet here, directly or through other joints.
    layers: BTreeSet<usize>,
    /// Starts of the lines that end here.
    from: Vec<End>,
    /// How many lines start here.
    uses: usize,
}

/// The number of joints, and the lines in the order of the data flow.
pub(super) fn lines(layers: usize, edges: &[Edge]) -> (usize, Vec<(End, End)>) {
    let mut given = vec![BTreeSet::new(); layers];
    for edge in edges {
        given[edge.to].insert(edge.from);
    }
    let mut joints: Vec<Joint> = Vec::new();
    let from: Vec<Vec<End>> = given.iter().map(|from| sources(&mut joints, from)).collect();
    number(&joints, from)
}

/// The starts of the lines for a layer that receives channels from `layers`: a single layer itself,
/// or the joint for several layers, which is created if it does not exist.
fn sources(joints: &mut Vec<Joint>, layers: &BTreeSet<usize>) -> Vec<End> {
    if layers.len() < 2 {
        return layers.iter().map(|&layer| End::Layer(layer)).collect();
    }
    let known = joints.iter().position(|joint| joint.layers == *layers);
    let joint = known.unwrap_or_else(|| {
        let from = covered(joints, layers);
        joints.push(Joint { layers: layers.clone(), from, uses: 0 });
        joints.len() - 1
    });
    joints[joint].uses += 1;
    vec![End::Joint(joint)]
}

/// Covers `layers` with the largest existing joints that contain no other layer; the layers that no
/// joint covers follow one by one.
fn covered(joints: &mut [Joint], layers: &BTreeSet<usize>) -> Vec<End> {
    let (mut left, mut from) = (layers.clone(), Vec::new());
    let mut by_size: Vec<_> = (0..joints.len()).collect();
    by_size.sort_by_key(|&joint| std::cmp::Reverse(joints[joint].layers.len()));
    for joint in by_size {
        if joints[joint].layers.is_subset(&left) {
            left.retain(|layer| !joints[joint].layers.contains(layer));
            joints[joint].uses += 1;
            from.push(End::Joint(joint));
        }
    }
    from.extend(left.into_iter().map(End::Layer));
    from
}

/// Numbers the joints and lists the lines. A joint from which only one line starts is left out.
fn number(joints: &[Joint], from: Vec<Vec<End>>) -> (usize, Vec<(End, End)>) {
    let mut numbers = vec![None; joints.len()];
    let (mut count, mut lines) = (0, Vec::new());
    for (layer, from) in from.into_iter().enumerate() {
        let from = drawn(joints, &mut numbers, &mut count, &mut lines, &from);
        lines.extend(from.into_iter().map(|from| (from, End::Layer(layer))));
    }
    (count, lines)
}

/// The ends as drawn: a joint that is left out is replaced by the starts of its lines. A joint that
/// is met for the first time receives a number, and its lines are added to `lines`.
fn drawn(
    joints: &[Joint],
    numbers: &mut [Option<usize>],
    count: &mut usize,
    lines: &mut Vec<(End, End)>,
    ends: &[End],
) -> Vec<End> {
    let mut all = Vec::new();
    for &end in ends {
        match end {
            End::Joint(joint) if joints[joint].uses == 1 => {
                all.extend(drawn(joints, numbers, count, lines, &joints[joint].from));
            }
            End::Joint(joint) => {
                let number = match numbers[joint] {
                    Some(number) => number,
                    None => {
                        let from = drawn(joints, numbers, count, lines, &joints[joint].from);
                        let number = *numbers[joint].insert(*count);
                        *count += 1;
                        lines.extend(from.into_iter().map(|from| (from, End::Joint(number))));
                        number
                    }
                };
                all.push(End::Joint(number));
            }
            layer => all.push(layer),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(edges: &[(usize, usize)]) -> String {
        let edges: Vec<_> =
            edges.iter().map(|&(from, to)| Edge { from, to, channels: 1 }).collect();
        let spell = |end: End| match end {
            End::Layer(layer) => layer.to_string(),
            End::Joint(joint) => format!("j{joint}"),
        };
        let layers = edges.iter().map(|edge| edge.to + 1).max().unwrap_or(0);
        let lines = lines(layers, &edges)
            .1
            .into_iter()
            .map(|(from, to)| format!("{}-{}", spell(from), spell(to)));
        lines.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_nobody_shares_is_drawn_as_it_is() {
        assert_eq!(spelled(&[(0, 1), (1, 2), (0, 3), (2, 3)]), "0-1 1-2 0-3 2-3");
    }

    #[test]
    fn layers_that_are_given_the_same_share_a_joint() {
        assert_eq!(spelled(&[(0, 2), (1, 2), (0, 3), (1, 3)]), "0-j0 1-j0 j0-2 j0-3");
    }

    #[test]
    fn a_dense_block_is_a_line_of_joints() {
        let dense: Vec<_> = (0..40).flat_map(|to| (0..to).map(move |from| (from, to))).collect();
        let edges: Vec<_> =
            dense.iter().map(|&(from, to)| Edge { from, to, channels: 1 }).collect();
        let (joints, lines) = lines(40, &edges);
        assert_eq!((dense.len(), joints), (780, 37));
        assert!(lines.len() <= 3 * 40, "{} lines", lines.len());
        // Following the lines back through joints leads to the same layers as the edges.
        let mut behind = vec![BTreeSet::new(); joints];
        let mut given = vec![BTreeSet::new(); 40];
        for (from, to) in lines {
            let all = match from {
                End::Layer(layer) => BTreeSet::from([layer]),
                End::Joint(joint) => behind[joint].clone(),
            };
            match to {
                End::Layer(layer) => given[layer].extend(all),
                End::Joint(joint) => behind[joint].extend(all),
            }
        }
        assert!((0..40).all(|to| given[to] == (0..to).collect()));
    }
}
