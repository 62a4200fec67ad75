//! Random networks, written as Rust code by the build script: slimmed = masked.

// Generated code does not satisfy the lints, and all of this is a test.
#![allow(clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code, unused_variables, unused_mut, unused_imports, unused_parens)]

mod blocks;

use std::panic::{AssertUnwindSafe, catch_unwind};

use slim_runtime::criterion::L2;
use slim_runtime::error::CheckError;
use slim_runtime::{
    Error, Plan, Prunable, Reconstruction, Slimming, forward, functional, nn as own,
};
use tch::nn::{self, Module, ModuleT, VarStore};
use tch::{Device, IndexOp, Kind, Tensor};

use blocks::*;

include!(concat!(env!("OUT_DIR"), "/networks.rs"));

trait Network: ModuleT + Prunable {
    fn new(root: &nn::Path) -> Self;
}

/// The outcomes of slimming a network.
#[derive(Debug, Default)]
struct Tally {
    slimmed: usize,
    refused: Vec<String>,
    /// Slimmings that the check of the slimmed network undid.
    undone: Vec<String>,
    /// Number of layers that were reconstructed.
    reconstructed: usize,
    /// Why the slimmed network has no ONNX file.
    not_exported: Option<String>,
}

fn built<N: Network>() -> (N, VarStore) {
    let mut vs = VarStore::new(Device::Cpu);
    let net = N::new(&vs.root());
    vs.double();
    slim_tests::fill::fill(&vs);
    (net, vs)
}

fn check<N: Network>() -> Tally {
    let mut tally = Tally::default();
    let ratio = Slimming::ratio;
    let slimmings = [
        ratio(0.3),
        ratio(0.5),
        ratio(0.7).local(),
        ratio(0.5).criterion(L2).local(),
        ratio(0.7).criterion(L2),
    ];
    for slimming in slimmings {
        let (mut masked, _masked) = built::<N>();
        let plan = match masked.plan(&slimming) {
            Ok(plan) => plan,
            Err(error) => {
                tally.refused.push(error.to_string());
                continue;
            }
        };
        masked.mask(&plan).unwrap_or_else(|error| panic!("masking: {error}"));
        let (mut slimmed, mut _slimmed) = built::<N>();
        if let Err(error) = slimmed.apply(&plan) {
            tally.undone.push(error.to_string());
            continue;
        }
        let _no_grad = tch::no_grad_guard();
        tch::manual_seed(3);
        let images = Tensor::randn([2, 3, 8, 8], (Kind::Double, Device::Cpu));
        for train in [false, true] {
            let expected = masked.forward_t(&images, train);
            let found = slimmed.forward_t(&images, train);
            let scale = expected.abs().max().double_value(&[]);
            let difference = (found - expected).abs().max().double_value(&[]);
            assert!(
                difference <= 1e-9 * scale && scale.is_finite(),
                "{slimming:?}: train {train}: off by {difference:e} of {scale:e}\n{plan}"
            );
        }
        tally.slimmed += 1;
        tally.reconstructed += reconstructed::<N>(&plan, &images);
        #[cfg(feature = "onnx")]
        if tally.slimmed == 1 {
            let expected = slimmed.forward_t(&images, false);
            let (slimmed, vs) = (&slimmed, &mut _slimmed);
            tally.not_exported = exported(slimmed, vs, &images, expected).err();
        }
    }
    tally
}

/// Reconstructs a network: no residual grows, and with a large ridge term the weights are those of
/// the slimmed network. Returns the number of layers that were solved.
fn reconstructed<N: Network>(plan: &Plan, images: &Tensor) -> usize {
    let batches = [images.shallow_clone()];
    let apply = |ridge: f64| {
        let (mut net, vs) = built::<N>();
        let run = |net: &N, images: &Tensor| net.forward_t(images, false);
        match Reconstruction::new().ridge(ridge).apply(&mut net, plan, &batches, run) {
            Ok(done) => Some((net, vs, done)),
            // A network may have no layer that can be solved.
            Err(Error::Check(CheckError::Reconstruction { .. })) => None,
            Err(error) => panic!("reconstruction: {error}"),
        }
    };
    let Some((_, _vs, done)) = apply(0.) else { return 0 };
    for layer in &done.layers {
        assert!(layer.after <= layer.before, "{layer:?}");
    }
    let (mut slimmed, of_slimmed) = built::<N>();
    slimmed.apply(plan).unwrap_or_else(|error| panic!("{error}"));
    let (_, of_kept, _) = apply(1e15).unwrap_or_else(|| panic!("it was solved without a ridge"));
    for layer in &done.layers {
        let name = format!("{}.weight", layer.path);
        let [expected, found] = [&of_slimmed, &of_kept].map(|vs| vs.variables()[&name].copy());
        let scale = expected.abs().max().double_value(&[]);
        let difference = (found - expected).abs().max().double_value(&[]);
        assert!(difference <= 1e-9 * scale, "a large ridge: {name} is off by {difference:e}");
    }
    done.layers.len()
}

/// Writes a network as ONNX, and runs it for other numbers of samples than the file was made with.
///
/// # Errors
/// Why the network is refused.
#[cfg(feature = "onnx")]
fn exported<N: Network>(
    net: &N,
    vs: &mut VarStore,
    images: &Tensor,
    expected: Tensor,
) -> Result<(), String> {
    use slim_runtime::export;
    use slim_tests::onnx::assert_computes;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    vs.float();
    export::onnx(&file, net, &[&[3, 8, 8]]).map_err(|error| {
        let text = error.to_string();
        text.split_once("cannot export: ").map_or(text.clone(), |(_, reason)| reason.to_owned())
    })?;
    let images = images.to_kind(Kind::Float);
    // Single precision, behind functions that may enlarge a difference.
    const TOLERANCE: f64 = 1e-3;
    assert_computes(&file, &[("input", &images)], &[expected.to_kind(Kind::Float)], TOLERANCE);
    Ok(())
}

#[test]
fn slimmed_is_masked() {
    tch::set_num_threads(1);
    let (mut wrong, mut refused, mut undone) = (Vec::new(), Vec::new(), Vec::new());
    let (mut not_exported, mut reconstructed) = (Vec::new(), 0);
    for (name, check) in NETWORKS {
        match catch_unwind(AssertUnwindSafe(check)) {
            Ok(tally) if tally.slimmed > 0 => {
                reconstructed += tally.reconstructed;
                not_exported.extend(tally.not_exported.map(|error| format!("{name}: {error}")));
                undone.extend(tally.undone.into_iter().map(|error| format!("{name}: {error}")));
            }
            Ok(mut tally) => {
                tally.refused.append(&mut tally.undone);
                refused.push(format!("{name}: {}", tally.refused[0]));
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                wrong.push(format!("{name}: {}", text.unwrap_or_default()));
            }
        }
    }
    let file = concat!(env!("OUT_DIR"), "/networks.rs");
    println!("refused {} of {}:\n{}", refused.len(), NETWORKS.len(), refused.join("\n"));
    println!("not exported {}:\n{}", not_exported.len(), not_exported.join("\n"));
    println!("undone:\n{}", undone.join("\n"));
    assert!(wrong.is_empty(), "in {file}:\n{}", wrong.join("\n"));
    println!("reconstructed {reconstructed} layers");
    assert!(reconstructed > NETWORKS.len(), "{reconstructed} layers were reconstructed");
    assert!(refused.len() * 5 <= NETWORKS.len(), "too many are refused:\n{}", refused.join("\n"));
    // A function of Rust code has no ONNX form.
    not_exported.retain(|reason| !reason.contains("`functional::map`"));
    let all = not_exported.join("\n");
    assert!(not_exported.len() * 5 <= NETWORKS.len(), "too many are not exported:\n{all}");
}
