//! Penalties on random networks: values and gradients are those of the formulas, over channel
//! groups that `links` finds without the library.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use slim_runtime::criterion::L1;
use slim_runtime::{Penalty, Plan, Prunable, Reason, Regulariser, Slimming};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::links::{Links, links};
use crate::net::{Net, name};
use crate::oracle::spread;
use crate::{cases, grow, rank};

/// A network with the class of channels of each cell.
struct Classes {
    links: Links,
    labels: Vec<usize>,
}

impl Classes {
    fn of(net: &Net) -> Self {
        let links = links(&net.graph);
        let labels = spread(links.cells, &links.equal);
        Self { links, labels }
    }

    /// `‖w_g‖²` of each class, in which every value of a parameter counts once.
    fn squares(&self, net: &Net) -> BTreeMap<usize, Tensor> {
        let mut squares: BTreeMap<usize, Tensor> = BTreeMap::new();
        let mut tensors: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for ((layer, name, dim), cells) in self.links.dims() {
            if !name.starts_with("running") {
                tensors.entry((layer, name)).or_default().push((dim, cells));
            }
        }
        for ((layer, name), dims) in tensors {
            // A selection stores positions, which are no parameter.
            let Some(tensor) = net.tensors[layer].get(name) else { continue };
            // For each class, a mask of the values that are in it.
            let mut masks: BTreeMap<usize, Tensor> = BTreeMap::new();
            for (dim, cells) in dims {
                let (dim, classes) = (dim as i64, cells.map(|cell| self.labels[cell]));
                for (position, class) in classes.enumerate() {
                    let mask = masks.entry(class).or_insert_with(|| tensor.detach().zeros_like());
                    let _ = mask.select(dim, position as i64).fill_(1.);
                }
            }
            for (class, mask) in masks {
                let own = (tensor * mask).square().sum(Kind::Double);
                let sum = squares.remove(&class).map_or_else(|| own.copy(), |sum| sum + &own);
                squares.insert(class, sum);
            }
        }
        squares
    }

    /// The classes of the channels that a plan removes.
    fn removed(&self, plan: &Plan) -> BTreeSet<usize> {
        let mut removed = BTreeSet::new();
        for ((_, axes), layer) in self.links.axes.iter().zip(plan.layers()) {
            for (axis, cells) in axes {
                let kept: BTreeSet<usize> = layer.axis(axis).unwrap().keep.iter().collect();
                let gone =
                    cells.iter().enumerate().filter(|(position, _)| !kept.contains(position));
                removed.extend(gone.map(|(_, &cell)| self.labels[cell]));
            }
        }
        removed
    }

    /// The classes that nothing holds, by the library's explanations.
    fn free(&self, net: &Net) -> BTreeSet<usize> {
        let slimming = Slimming::ratio(0.).criterion(L1);
        let mut free = BTreeSet::new();
        for (layer, axes) in &self.links.axes {
            let Ok(explained) = net.explain(&slimming, &name(*layer)) else { continue };
            let Some((_, cells)) = axes.iter().find(|(axis, _)| *axis == explained.axis) else {
                continue;
            };
            for channel in &explained.channels {
                if !matches!(channel.reason, Reason::Held(_)) {
                    free.insert(self.labels[cells[channel.position]]);
                }
            }
        }
        free
    }
}

fn sum(values: impl Iterator<Item = Tensor>) -> Option<Tensor> {
    let values: Vec<Tensor> = values.collect();
    (!values.is_empty()).then(|| Tensor::stack(&values, 0).sum(Kind::Double))
}

/// Gradients by name, after `backward` of a loss in which every parameter has a part of 0.
fn gradients(vs: &VarStore, penalty: Option<&Tensor>) -> BTreeMap<String, Tensor> {
    let variables = vs.variables();
    let trained = || variables.iter().filter(|(_, variable)| variable.requires_grad());
    for (_, variable) in trained() {
        variable.shallow_clone().zero_grad();
    }
    let zero = sum(trained().map(|(_, variable)| variable.sum(Kind::Double) * 0.)).unwrap();
    penalty.map_or(zero.shallow_clone(), |penalty| zero + penalty * 0.3).backward();
    trained().map(|(name, variable)| (name.clone(), variable.grad().copy())).collect()
}

fn assert_is(regulariser: &Regulariser, vs: &VarStore, formula: &Tensor, what: &str) {
    let (found, expected) = (regulariser.value().unwrap(), formula.double_value(&[]));
    assert!((found - expected).abs() <= 1e-11 * expected.max(1.), "{what}: {found}, {expected}");
    let expected = gradients(vs, Some(formula));
    gradients(vs, None);
    regulariser.add_gradient(0.3).unwrap();
    for (name, expected) in expected {
        let found = vs.variables()[&name].grad();
        assert!(
            found.allclose(&expected, 1e-10, 1e-12, true),
            "{what}: {name}\n{found}\n{expected}"
        );
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn penalties_are_those_of_the_formulas(graph in grow::graph(rank()), ratio in 0.1..0.9) {
        let (net, vs) = Net::new(&graph);
        let classes = Classes::of(&net);
        // Scales that are 0 have no gradient of |γ|, neither here nor there.
        let scales: BTreeSet<_> =
            classes.links.scales.iter().map(|&(layer, _)| graph.owner(layer, "weight")).collect();
        let scales = || scales.iter().map(|&(layer, name)| net.tensors[layer][name].shallow_clone());
        if let Some(formula) = sum(scales().map(|scale| scale.abs().sum(Kind::Double))) {
            assert_is(&net.regulariser(Penalty::L1).unwrap(), &vs, &formula, "L1");
            let formula = sum(scales().map(|scale| scale.square().sum(Kind::Double))).unwrap();
            assert_is(&net.regulariser(Penalty::L2).unwrap(), &vs, &formula, "L2");
        }
        // Autograd runs through each of them once.
        let squares = |within: &BTreeSet<usize>| {
            let squares = classes.squares(&net).into_iter();
            squares.filter(|(class, _)| within.contains(class)).map(|(_, it)| it).collect::<Vec<_>>()
        };
        for slimming in [Slimming::ratio(ratio), Slimming::ratio(ratio).criterion(L1)] {
            let Ok(plan) = net.plan(&slimming) else { continue };
            if let Some(formula) = sum(squares(&classes.removed(&plan)).into_iter()) {
                assert_is(&plan.regulariser(&net).unwrap(), &vs, &formula, "growing");
            }
        }
        let free = squares(&classes.free(&net));
        if let Some(formula) = sum(free.iter().map(Tensor::sqrt)) {
            assert_is(&net.regulariser(Penalty::GroupLasso).unwrap(), &vs, &formula, "group lasso");
        }
    }
}
