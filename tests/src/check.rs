//! Checks for any network.

use std::collections::BTreeMap;

use slim_runtime::{Plan, Prunable, Slimming};
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// Asserts that the network that `build` makes, slimmed by `slimming`, computes what its masked
/// replica computes.
///
/// `build` must make the same network each time, in double precision if `tolerance` (relative to
/// the largest output) is that of doubles. Returns the plan.
///
/// # Panics
/// When the outputs differ.
pub fn assert_slimmed_is_masked<M: ModuleT + Prunable>(
    build: impl Fn() -> (M, VarStore),
    input: &Tensor,
    slimming: &Slimming,
    tolerance: f64,
) -> Plan {
    let (mut masked, _masked_vs) = build();
    let plan = masked.plan(slimming).unwrap_or_else(|error| panic!("{error}"));
    masked.mask(&plan).unwrap_or_else(|error| panic!("{error}"));
    let (mut slimmed, _slimmed_vs) = build();
    let again = slimmed.plan(slimming).unwrap_or_else(|error| panic!("{error}"));
    let done = slimmed.apply(&again).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(done.plan(), &plan);
    let _no_grad = tch::no_grad_guard();
    assert_close(&slimmed.forward_t(input, false), &masked.forward_t(input, false), tolerance);
    plan
}

/// The tolerance for the outputs of two networks that compute the same with these variables in
/// another order, relative to the largest output.
///
/// A sum of `n` products is rounded `n` times, each time by up to `u`, the unit roundoff, of the
/// partial sum. If signs and roundings are random, that comes to `u √n` of the whole sum; errors of
/// one layer and the next are independent, so their squares add (Higham and Mary, *A New Approach
/// to Probabilistic Rounding Error Analysis*, 2019, theorem 2.8). Halves are summed as `f32`, and
/// rounded where a variable has been applied. The factor 8 covers two networks and the largest of
/// thousands of outputs.
pub fn rounding(vs: &VarStore) -> f64 {
    let of = |variable: &Tensor| {
        // The products of each sum; one for a bias, a scale or a statistic.
        let products = variable.size().iter().skip(1).product::<i64>() as f64;
        let (stored, summed) = (
            unit_roundoff(variable.kind()),
            unit_roundoff(variable.kind()).min(unit_roundoff(Kind::Float)),
        );
        stored.powi(2) + products * summed.powi(2)
    };
    8. * vs.variables().values().map(of).sum::<f64>().sqrt()
}

/// Half of the distance from one to the next larger number.
fn unit_roundoff(kind: Kind) -> f64 {
    let bits = match kind {
        Kind::Half => 11,
        Kind::BFloat16 => 8,
        Kind::Float => 24,
        Kind::Double => 53,
        other => panic!("{other:?} is no kind of weights"),
    };
    0.5_f64.powi(bits)
}

/// Asserts that no element differs by more than `tolerance` times the largest of `expected`. The
/// tensors may be on different devices.
///
/// # Panics
/// When an element differs by more, or is not finite.
pub fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64) {
    let [found, expected] =
        [found, expected].map(|tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double));
    let scale = expected.abs().max().double_value(&[]);
    let difference = (found - &expected).abs().max().double_value(&[]);
    assert!(
        difference <= tolerance * scale && scale.is_finite(),
        "a difference of {difference:e}, where the largest output is {scale:e}"
    );
}

/// A hash (FNV-1a) of the names, shapes and bits of all variables.
pub fn hash(vs: &VarStore) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (name, value) in BTreeMap::from_iter(vs.variables()) {
        let values: Vec<f32> = Vec::try_from(value.detach().flatten(0, -1)).unwrap();
        let shape = format!("{name}{:?}", value.size());
        for byte in shape.bytes().chain(values.into_iter().flat_map(f32::to_le_bytes)) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
