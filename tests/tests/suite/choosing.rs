//! What to remove: targets, criteria, bounds, and what is said of them.

mod bounds;
mod criteria;
mod explained;
mod layers;
mod refused;
mod targets;

use slim_runtime::{Plan, Prunable, Slimming};
use slim_tests::device;
use tch::nn::VarStore;

use crate::common::Net;

/// How many channels the two batch norms keep.
fn widths(plan: &Plan) -> [usize; 2] {
    ["bn1", "bn2"].map(|path| plan.layer(path).unwrap().axis("channels").unwrap().keep.len())
}

/// γ of 0.01 to 0.08 in `bn1`, 0.09 to 0.14 in `bn2`.
fn plan(slimming: &Slimming) -> Plan {
    let vs = VarStore::new(device());
    Net::with_known_scores(&vs.root()).plan(slimming).unwrap_or_else(|error| panic!("{error}"))
}
