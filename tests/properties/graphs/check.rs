//! Checks of a network, independent of the library: its masking is not used.

use std::collections::BTreeMap;

use slim_runtime::criterion::Masking;
use slim_runtime::error::SelectionError;
use slim_runtime::{Absorption, Dim, Error, LayerPlan, Plan, Prunable, Role, Slimming, TensorPlan};
use tch::Tensor;
use tch::nn::VarStore;

use crate::graph::{Op, Spec};
use crate::net::{Net, name};
use crate::oracle::{Expected, ExpectedLayer, ExpectedScores, expect};

/// The layers in the order of a plan: one entry for each use.
fn uses(net: &Net) -> impl Iterator<Item = usize> {
    net.graph.ops.iter().filter_map(|op| match op {
        Op::Apply { layer, .. } => Some(*layer),
        _ => None,
    })
}

/// Sets γ and β of the removed channels to zero, and nothing else. If the plan is by weights, sets
/// every parameter that makes or scales the channels to zero.
pub fn mask(net: &Net, plan: &Plan) {
    zero(net, plan, &["weight", "bias"]);
}

fn zero(net: &Net, plan: &Plan, tensors: &[&str]) {
    let _no_grad = tch::no_grad_guard();
    if plan.slimming().masking == Some(Masking::Parameters) {
        return mask_parameters(net, plan);
    }
    for (layer, planned) in uses(net).zip(plan.layers()) {
        assert_eq!(planned.path, name(layer));
        if let Spec::Norm { affine: true, .. } = net.graph.layers[layer].spec {
            let axis = planned.axis("channels").unwrap();
            let kept: Vec<usize> = axis.keep.iter().collect();
            for position in (0..axis.width).filter(|position| !kept.contains(position)) {
                for &name in tensors {
                    let _ = net.tensors[layer][name].get(position as i64).fill_(0.);
                }
            }
        }
    }
}

/// Masks the tensors along dimensions of outputs, or of channels that are treated one by one, but
/// not along dimensions of inputs.
fn mask_parameters(net: &Net, plan: &Plan) {
    for (layer, planned) in uses(net).zip(plan.layers()) {
        for tensor in planned.tensors.iter().filter(|tensor| tensor.role == Role::Parameter) {
            for (dim, axis) in tensor.dims.iter().enumerate() {
                let Dim::Axis(axis) = axis else { continue };
                let axis = planned.axis(axis).unwrap();
                if ["out", "out of a group", "channels"].contains(&axis.name.as_str()) {
                    for position in (0..axis.width)
                        .filter(|&position| !axis.keep.iter().any(|kept| kept == position))
                    {
                        let _ = net.tensors[layer][tensor.name.as_str()]
                            .select(dim as i64, position as i64)
                            .fill_(0.);
                    }
                }
            }
        }
    }
}

/// The oracle's plan of the network as it was built.
pub fn expected(net: &Net, slimming: &Slimming) -> Option<Expected> {
    let scales = |layer: usize| Vec::try_from(net.tensors[layer]["weight"].detach()).unwrap();
    expect(&net.graph, scales, slimming)
}

/// A plan in the oracle's terms.
pub fn found(net: &Net, plan: &Plan) -> Expected {
    let layers = uses(net).zip(plan.layers()).map(|(layer, planned)| {
        let axes = planned.axes.iter().map(|axis| (known(&axis.name), axis.keep.iter().collect()));
        let scored = planned.scored.as_ref().map(|scored| ExpectedScores {
            removable: scored.removable,
            threshold: scored.threshold,
            bounded: scored.bounded.as_ref().map(|bounded| (bounded.wanted, bounded.by.clone())),
        });
        ExpectedLayer { layer, axes: axes.collect(), scored }
    });
    let layers: Vec<_> = layers.collect();
    assert_eq!(layers.len(), plan.layers().len());
    Expected {
        threshold: plan.threshold(),
        removable: plan.removable(),
        cfg: plan.cfg().to_string(),
        layers,
    }
}

fn known(axis: &str) -> &'static str {
    let names = ["in", "out", "channels", "0", "1", "2", "stream", "out of a group"];
    names.into_iter().find(|name| *name == axis).unwrap_or_else(|| panic!("an axis `{axis}`"))
}

/// Asserts that the tensors of layers, the variables of the same names and the plan agree, and that
/// nothing else has changed its shape.
pub fn assert_store_agrees(
    net: &Net,
    vs: &VarStore,
    plan: &Plan,
    before: &BTreeMap<String, Tensor>,
) {
    let variables = vs.variables();
    let mut planned_names = Vec::new();
    for (layer, planned) in uses(net).zip(plan.layers()) {
        for tensor in &planned.tensors {
            let (owner, owned) = net.graph.owner(layer, tensor_name(&tensor.name));
            let variable = &variables[&format!("{}.{owned}", name(owner))];
            let field = &net.tensors[layer][tensor.name.as_str()];
            assert_eq!(
                variable.size(),
                planned.shape_after(tensor),
                "{}.{}",
                planned.path,
                tensor.name
            );
            assert_eq!((variable.data_ptr(), variable.size()), (field.data_ptr(), field.size()));
            planned_names.push(format!("{}.{owned}", name(owner)));
        }
    }
    for (name, variable) in variables.iter().filter(|(name, _)| !planned_names.contains(name)) {
        assert_eq!(variable.size(), before[name].size(), "{name}");
    }
}

/// Asserts that every tensor holds the dense network's values at the positions that the plan keeps.
pub fn assert_original_channels(net: &Net, plan: &Plan, dense: &BTreeMap<String, Tensor>) {
    for_each_planned(net, plan, |name, tensor, layer, planned| {
        let positions = kept(layer, planned);
        let original = positions.iter().enumerate().fold(
            dense[&name].shallow_clone(),
            |original, (dim, positions)| match positions {
                Some(positions) => {
                    original.index_select(dim as i64, &slim_tests::tensor(positions))
                }
                None => original,
            },
        );
        assert_eq!(*tensor, original, "{name}");
    });
}

/// Asserts that every tensor is zero except at the positions that stay, and that variables without
/// a layer have not changed.
pub fn assert_store_is_expanded(
    net: &Net,
    vs: &VarStore,
    plan: &Plan,
    before: &BTreeMap<String, Tensor>,
) {
    let mut left = vs.variables();
    for_each_planned(net, plan, |name, tensor, layer, planned| {
        for (dim, positions) in kept(layer, planned).into_iter().enumerate() {
            let Some(positions) = positions else { continue };
            let emptied =
                tensor.detach().copy().index_fill(dim as i64, &slim_tests::tensor(&positions), 0.);
            assert_eq!(emptied.abs().sum(tensor.kind()).double_value(&[]), 0., "{name}");
        }
        assert_eq!(tensor.size(), before[&name].size());
        left.remove(&name);
    });
    for (name, variable) in left {
        assert_eq!(variable, before[&name], "{name}");
    }
}

fn for_each_planned(
    net: &Net,
    plan: &Plan,
    mut check: impl FnMut(String, &Tensor, &LayerPlan, &TensorPlan),
) {
    for (layer, planned) in uses(net).zip(plan.layers()) {
        for tensor in &planned.tensors {
            let (owner, owned) = net.graph.owner(layer, tensor_name(&tensor.name));
            check(
                format!("{}.{owned}", name(owner)),
                &net.tensors[layer][tensor.name.as_str()],
                planned,
                tensor,
            );
        }
    }
}

/// For each dimension of a tensor, the positions that stay; `None` if it follows no axis.
fn kept(layer: &LayerPlan, tensor: &TensorPlan) -> Vec<Option<Vec<i64>>> {
    let positions = |dim: &Dim| match dim {
        Dim::Axis(name) => {
            Some(layer.axis(name).unwrap().keep.iter().map(|position| position as i64).collect())
        }
        Dim::Size(_) => None,
    };
    tensor.dims.iter().map(positions).collect()
}

fn tensor_name(name: &str) -> &'static str {
    let names = ["weight", "bias", "running_mean", "running_var", "value"];
    names.into_iter().find(|known| *known == name).unwrap_or_else(|| panic!("a tensor `{name}`"))
}

/// Values of all variables.
pub fn values(vs: &VarStore) -> BTreeMap<String, Tensor> {
    vs.variables().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect()
}

pub fn restore(vs: &VarStore, values: &BTreeMap<String, Tensor>) {
    let _no_grad = tch::no_grad_guard();
    vs.variables().iter_mut().for_each(|(name, variable)| variable.copy_(&values[name]));
}

pub fn assert_same_bits(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) {
    let bits = |tensor: &Tensor| -> Vec<u64> {
        Vec::<f64>::try_from(tensor.flatten(0, -1)).unwrap().into_iter().map(f64::to_bits).collect()
    };
    assert!(a.keys().eq(b.keys()));
    for (name, a) in a {
        assert_eq!(a.size(), b[name].size(), "{name}");
        assert_eq!(bits(a), bits(&b[name]), "{name}");
    }
}

/// Asserts that the outputs agree to 1e-9 of the largest.
pub fn assert_close(found: &[Tensor], expected: &[Tensor]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.size(), expected.size());
        let scale = expected.abs().max().double_value(&[]).max(1e-3);
        let difference = (found - expected).abs().max().double_value(&[]);
        assert!(
            difference <= 1e-9 * scale,
            "a difference of {difference:e}, where the largest output is {scale:e}"
        );
    }
}

/// Asserts slimmed = masked. Returns `false` if nothing may be removed.
pub fn assert_slimmed_is_masked(net: &mut Net, vs: &VarStore, slimming: &Slimming) -> bool {
    let plan = match net.plan(slimming) {
        Ok(plan) => plan,
        Err(
            Error::Selection(SelectionError::NothingToPrune { .. })
            | Error::Selection(SelectionError::NoRanking { .. })
            | Error::Selection(SelectionError::OutOfReach { .. }),
        ) => {
            return false;
        }
        Err(error) => panic!("{error}"),
    };
    let (images, before) = (net.images(), values(vs));
    mask(net, &plan);
    let masked = net.forward(&images);
    restore(vs, &before);
    let slimmed = net.apply(&plan).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(slimmed.plan(), &plan);
    assert_close(&net.forward(&images), &masked);
    assert_store_agrees(net, vs, &plan, &before);
    true
}

/// Slims and absorbs, and compares with the outputs of the network when γ of the removed channels
/// is zero and β is kept. Returns the number of consumers that absorb; `None` if a constant is
/// dropped or inexact, so that there is nothing to compare with.
pub fn assert_absorbed_is_dense(net: &mut Net, vs: &VarStore, ratio: f64) -> Option<usize> {
    let plan = net.plan(&Slimming::ratio(ratio).absorb()).ok()?;
    let (images, before) = (net.images(), values(vs));
    zero(net, &plan, &["weight"]);
    let dense = net.forward(&images);
    restore(vs, &before);
    let slimmed = net.apply(&plan).unwrap_or_else(|error| panic!("{error}"));
    let exact =
        |absorption: &Absorption| matches!(absorption, Absorption::Into { exact: true, .. });
    if !slimmed.absorbed().iter().all(|one| exact(&one.absorption)) {
        return None;
    }
    assert_close(&net.forward(&images), &dense);
    Some(slimmed.absorbed().len())
}
