//! The masked network, for as long as somebody looks.

use anyhow::Result;
use slim_runtime::{Plan, Prunable};
use tch::{TchError, Tensor};

use crate::model::Model;
use crate::network::Net;

/// What `look` says of the network while the channels that go are masked; it is then as it was, to the bit.
///
/// # Errors
/// Those of masking and of `look`.
pub(super) fn masked<T>(model: &mut Model, plan: &Plan, look: impl FnOnce(&Net) -> Result<T>) -> Result<T> {
    let variables: Vec<Tensor> = model.vs.variables().into_values().collect();
    let saved = variables.iter().map(copy).collect::<Result<Vec<_>, _>>()?;
    model.net.mask(plan)?;
    let looked = look(&model.net);
    let _no_grad = tch::no_grad_guard();
    for (mut variable, saved) in variables.into_iter().zip(saved) {
        variable.f_copy_(&saved)?;
    }
    looked
}

fn copy(variable: &Tensor) -> Result<Tensor, TchError> {
    let variable = variable.f_detach()?;
    let mut copy = variable.f_empty_like()?;
    copy.f_copy_(&variable)?;
    Ok(copy)
}
