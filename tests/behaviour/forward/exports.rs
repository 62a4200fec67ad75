//! The cases of every operation as ONNX files, run in ONNX Runtime.

use std::fmt::Write;

use slim_runtime::{Prunable, export};
use slim_tests::onnx::assert_computes;
use tch::Kind;
use tch::nn::ModuleT;

use super::images;
use super::operations::{CASES, random};

/// Single precision, against double.
const TOLERANCE: f64 = 1e-4;

#[test]
fn every_operation_computes_the_same_in_onnx_runtime_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut refusals = String::new();
    for case in CASES.iter().filter(|case| !case.is_refused()) {
        let (mut net, mut vs) = random(case, 1);
        // Some cases have no channels that could go.
        let _ = net.slim(0.4);
        let images = images();
        let expected = tch::no_grad(|| net.forward_t(&images, false)).to_kind(Kind::Float);
        vs.float();
        let file = folder.path().join(format!("{}.onnx", case.test));
        match export::onnx(&file, &net, &[]) {
            Ok(_) => {
                println!("{}", case.test);
                let images = images.to_kind(Kind::Float);
                assert_computes(&file, &[("input", &images)], &[expected], TOLERANCE);
            }
            Err(error) => {
                let text = error.to_string();
                let (_, reason) = text.split_once("cannot export: ").unwrap();
                let (place, reason) = reason.split_once(": `model`: ").unwrap();
                assert!(place.starts_with("tests/behaviour/forward/operations.rs:"), "{text}");
                writeln!(refusals, "{}: {reason}", case.test).unwrap();
            }
        }
    }
    insta::assert_snapshot!(refusals);
}
