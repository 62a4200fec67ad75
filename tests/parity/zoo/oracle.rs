//! Networks with the weights that PyTorch had, and checks for each of them.

use std::collections::BTreeSet;

use slim_runtime::{Prunable, Slimming};
use slim_tests::check::assert_slimmed_is_masked;
use slim_tests::device;
use slim_tests::fill;
use tch::nn::{self, ModuleT, VarStore};
use tch::{Kind, Tensor};

/// The network that `build` makes, filled with the same weights as in PyTorch.
pub fn filled<M>(build: impl Fn(&nn::Path) -> M) -> (M, VarStore) {
    // Tests already run in parallel.
    tch::set_num_threads(1);
    let vs = VarStore::new(device());
    let net = build(&vs.root());
    fill::fill(&vs);
    (net, vs)
}

/// A line "name shape" for each variable of a store, as the fixtures have them.
pub fn state(vs: &VarStore) -> BTreeSet<String> {
    let variables = vs.variables().into_iter();
    variables.map(|(name, variable)| format!("{name} {:?}", variable.size())).collect()
}

/// The number of trained values in a store.
pub fn parameters(vs: &VarStore) -> i64 {
    vs.trainable_variables().iter().map(|variable| variable.numel() as i64).sum()
}

pub fn forward(net: &impl ModuleT, input: &Tensor) -> Tensor {
    tch::no_grad(|| net.forward_t(input, false))
}

/// Asserts at every ratio that the network computes what it computes with γ and β of the removed
/// channels zero, to the precision of doubles.
pub fn assert_slims<M: ModuleT + Prunable>(build: impl Fn(&nn::Path) -> M, image: i64) {
    assert_slims_by(build, image, |slimming| slimming);
}

/// The same for a network whose channels are ranked in another way than by γ.
pub fn assert_slims_by<M: ModuleT + Prunable>(
    build: impl Fn(&nn::Path) -> M,
    image: i64,
    by: impl Fn(Slimming) -> Slimming,
) {
    let input = fill::images(&[2, 3, image, image]).to_kind(Kind::Double);
    for ratio in [0.3, 0.5, 0.7] {
        let double = || {
            let (net, mut vs) = filled(&build);
            vs.double();
            (net, vs)
        };
        let plan = assert_slimmed_is_masked(double, &input, &by(Slimming::ratio(ratio)), 1e-9);
        assert!(plan.parameters().after < plan.parameters().before);
    }
}
