//! Absorption: the slimmed network computes what the dense network computes with γ of the removed
//! channels set to zero and β kept.

mod border;
mod exact;
mod refusals;
mod said;

use slim_runtime::{Absorption, Plan, Prunable, Slimmed, Slimming};
use slim_tests::check::assert_close;
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{ModuleT, VarStore};
use tch::{Kind, Tensor};

/// Builds a network in double precision, whose variables are named after its fields.
fn build<M>(new: impl Fn(&VarStore) -> M) -> (M, VarStore) {
    tch::set_num_threads(1);
    let mut vs = VarStore::new(device());
    let model = new(&vs);
    fill(&vs);
    vs.double();
    (model, vs)
}

/// Sets γ of the removed channels to zero, and leaves β as it is.
fn zero_scales(vs: &VarStore, plan: &Plan) {
    crate::common::zero_by_name(vs, plan, &["weight"]);
}

/// Outputs of three networks: dense, slimmed with absorption, and slimmed without (`dropped`).
struct Outputs {
    dense: Tensor,
    absorbed: Tensor,
    dropped: Tensor,
    slimmed: Slimmed,
}

fn outputs<M: ModuleT + Prunable>(
    new: impl Fn(&VarStore) -> M,
    slimming: Slimming,
    input: &[i64],
) -> Outputs {
    let xs = images(input).to_kind(Kind::Double);
    let forward = |model: &M| tch::no_grad(|| model.forward_t(&xs, false));
    let (dense, vs) = build(&new);
    let plan = dense.plan(&slimming).unwrap_or_else(|error| panic!("{error}"));
    zero_scales(&vs, &plan);
    let (mut absorbed, _absorbed_vs) = build(&new);
    // Applies the plan after a round trip through JSON, as a replica does.
    let slimmed = absorbed
        .apply(&Plan::from_json(&plan.to_json().unwrap()).unwrap())
        .unwrap_or_else(|error| panic!("{error}"));
    let (mut dropped, _dropped_vs) = build(&new);
    let mut plain = slimming;
    plain.absorb = None;
    let plain = dropped.plan(&plain).unwrap();
    assert_eq!(dropped.apply(&plain).unwrap().absorbed(), []);
    Outputs {
        dense: forward(&dense),
        absorbed: forward(&absorbed),
        dropped: forward(&dropped),
        slimmed,
    }
}

/// Asserts that every constant is absorbed exactly, and that the outputs differ without absorption.
fn assert_exact<M: ModuleT + Prunable>(
    new: impl Fn(&VarStore) -> M,
    slimming: Slimming,
    input: &[i64],
) -> Slimmed {
    let Outputs { dense, absorbed, dropped, slimmed } = outputs(new, slimming, input);
    let exact =
        |absorption: &Absorption| matches!(absorption, Absorption::Into { exact: true, .. });
    assert!(
        !slimmed.absorbed().is_empty()
            && slimmed.absorbed().iter().all(|one| exact(&one.absorption)),
        "{slimmed}"
    );
    assert_close(&absorbed, &dense, 1e-12);
    let missed = (&dropped - &dense).abs().max().double_value(&[]);
    assert!(missed > 1e-3 * dense.abs().max().double_value(&[]), "{missed:e}");
    slimmed
}

fn half() -> Slimming {
    Slimming::ratio(0.5).absorb()
}

/// The lines of the absorption report.
fn lines(slimmed: &Slimmed) -> String {
    slimmed.absorbed().iter().map(|one| format!("{one}\n")).collect()
}
