//! Checks that a file has enough values for the network that it claims to hold, before the network
//! takes memory.

use anyhow::{Result, ensure};
use slim_runtime::Plan;

use crate::network::Spec;
use crate::numbers::grouped;

/// Networks of up to this number of values, 128 MiB as floats, are built whatever the file holds,
/// so that the error can name every tensor that does not fit.
const SMALL: f64 = (1 << 25) as f64;

/// Checks that tensors with `values` values can hold a network.
///
/// # Errors
/// The network is larger than the tensors; errors of [`Spec::check`].
pub(super) fn check(spec: &Spec, values: usize) -> Result<()> {
    let needed = spec.parameters()?;
    ensure!(
        needed <= SMALL.max(values as f64),
        "it does not hold {spec}: that has {} parameters, and the file's tensors have {} values",
        grouped(needed as i64),
        grouped(values as i64)
    );
    Ok(())
}

/// The same check for a network that `plan` slimmed from the dense network `spec`.
///
/// # Errors
/// The plan leaves more values than the file has, or is of another network; errors of
/// [`Spec::check`].
pub(super) fn check_slimmed(spec: &Spec, plan: &Plan, values: usize) -> Result<()> {
    let (needed, planned) = (spec.parameters()?, plan.parameters());
    let before = planned.before as f64;
    // For networks with selections, `needed` does not count all parameters.
    let is_of_it = before == needed || (spec.arch.selects() && before > needed);
    ensure!(
        needed <= SMALL || (is_of_it && planned.after as f64 <= values as f64),
        "it does not hold a slimmed {spec}, of {} parameters: its plan leaves {} of {}, and the file's tensors have {} values",
        grouped(needed as i64),
        grouped(planned.after),
        grouped(planned.before),
        grouped(values as i64)
    );
    Ok(())
}
