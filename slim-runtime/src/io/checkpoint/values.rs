//! The values that loading gives the variables of a store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tch::Tensor;
use tch::nn::VarStore;

use super::sorted_variables;
use super::tensors::{self, Source, Variable};
use crate::analysis::Graph;
use crate::error::FileError;
use crate::graph::memory;
use crate::plan::{Plan, Variables};
use crate::surgery::{self, Value};
use crate::{Error, Result};

/// Gives the variables of a store the values of a source. Shapes stay.
pub(super) fn assign(
    path: &Path,
    source: Source,
    beside: &BTreeSet<String>,
    vs: &VarStore,
) -> Result<()> {
    assign_to(path, source, beside, sorted_variables(vs))
}

/// Gives these variables the values of a source. Shapes stay.
pub(super) fn assign_to(
    path: &Path,
    source: Source,
    beside: &BTreeSet<String>,
    variables: BTreeMap<String, Tensor>,
) -> Result<()> {
    let as_they_are =
        |(name, tensor): (String, Tensor)| (name, Variable { shape: tensor.size(), tensor });
    let variables = variables.into_iter().map(as_they_are).collect();
    surgery::replace(of(path, source, beside, &variables, Vec::new())?)
}

/// The variables of a store, with their shapes after `plan` is applied. A variable that no layer
/// binds keeps its shape.
pub(super) fn after(vs: &VarStore, graph: &Graph, plan: &Plan) -> BTreeMap<String, Variable> {
    let layers = graph.layers.iter().zip(&plan.layers);
    let shapes = layers.flat_map(|(node, layer)| {
        let tensors = node.tensors.iter().zip(&layer.tensors);
        tensors.filter_map(|(bound, planned)| {
            Some((memory(&bound.tensor)?, layer.shape_after(planned)))
        })
    });
    let shapes: BTreeMap<_, _> = shapes.collect();
    let variable = |(name, tensor): (String, Tensor)| {
        let shape = memory(&tensor).and_then(|memory| shapes.get(&memory).cloned());
        (name, Variable { shape: shape.unwrap_or_else(|| tensor.size()), tensor })
    };
    vs.variables().into_iter().map(variable).collect()
}

/// Errors for tensors whose name in the store is not that in the file, since that name might belong
/// to another layer with the same shapes.
///
/// # Errors
/// [`PlanError::NotInStore`](crate::error::PlanError::NotInStore).
pub(super) fn misnamed(graph: &Graph, plan: &Plan, variables: &Variables) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (node, layer) in graph.layers.iter().zip(&plan.layers) {
        for (bound, planned) in node.tensors.iter().zip(&layer.tensors) {
            let name = variables.require(&node.path, bound.name, &bound.tensor)?;
            if let Some(other) = planned.variable.as_deref().filter(|&other| other != name) {
                problems.push(format!(
                    "`{}.{}` is `{name}` in the store, `{other}` in the file",
                    node.path, bound.name
                ));
            }
        }
    }
    Ok(problems)
}

/// The new value of each variable, from the source. `problems` are errors found before.
///
/// # Errors
/// [`FileError::Checkpoint`](crate::error::FileError::Checkpoint) when there is any problem;
/// [`Error::Torch`].
pub(super) fn of(
    path: &Path,
    source: Source,
    beside: &BTreeSet<String>,
    variables: &BTreeMap<String, Variable>,
    mut problems: Vec<String>,
) -> Result<Vec<Value>> {
    problems.extend(tensors::differences(source, beside, variables));
    if !problems.is_empty() {
        return Err(misfit(path, problems));
    }
    let _no_grad = tch::no_grad_guard();
    let value = |(name, variable): (&String, &Variable)| {
        // `differences` has reported missing tensors already.
        let missing = || misfit(path, vec![tensors::missing(name)]);
        let value = source
            .value(name, &variable.tensor)
            .ok_or_else(missing)?
            .map_err(Error::torch(name))?;
        Ok(Value { name: name.clone(), target: variable.tensor.shallow_clone(), value })
    };
    variables.iter().map(value).collect()
}

fn misfit(path: &Path, problems: Vec<String>) -> Error {
    let fix =
        "build the network as the file's was (`checkpoint::load` then slims it by the file's plan)";
    Error::File(FileError::Checkpoint { file: path.to_owned(), problems, fix: fix.to_owned() })
}
