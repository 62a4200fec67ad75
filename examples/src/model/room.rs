//! Whether a file has the values of a network that it claims to hold, asked before the network
//! takes memory.

use anyhow::{Result, ensure};
use slim_runtime::Plan;

use crate::network::Spec;
use crate::numbers::grouped;

/// Networks of up to so many values, 128 MiB as floats, are built whatever the file has: every
/// tensor that does not fit can then be named.
const SMALL: f64 = (1 << 25) as f64;

/// # Errors
/// The network is larger than the tensors of the file, which have so many `values`; and what
/// [`Spec::check`] refuses.
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

/// The same of a network that was slimmed by a plan, from the dense one that `spec` says.
///
/// # Errors
/// The plan leaves more than the file has, or is of another network; and what [`Spec::check`]
/// refuses.
pub(super) fn check_slimmed(spec: &Spec, plan: &Plan, values: usize) -> Result<()> {
    let (needed, planned) = (spec.parameters()?, plan.parameters());
    let before = planned.before as f64;
    // Of those that select, not all parameters are counted.
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
