//! Which channels are removed: targets, criteria, bounds, and what reports say of them.

mod activations;
mod bounds;
mod coupled;
mod criteria;
mod explained;
mod isomorphic;
pub(crate) mod latency;
mod layers;
mod oracle;
mod refused;
mod targets;

use slim_runtime::{Plan, Prunable, Slimming};
use slim_tests::device;
use tch::nn::VarStore;

use crate::common::Net;

/// The number of channels that each of the two batch norms keeps.
fn widths(plan: &Plan) -> [usize; 2] {
    ["bn1", "bn2"].map(|path| plan.layer(path).unwrap().axis("channels").unwrap().keep.len())
}

/// A plan for the small network with γ of 0.01 to 0.08 in `bn1` and 0.09 to 0.14 in `bn2`.
fn plan(slimming: &Slimming) -> Plan {
    let vs = VarStore::new(device());
    Net::with_known_scores(&vs.root()).plan(slimming).unwrap_or_else(|error| panic!("{error}"))
}
