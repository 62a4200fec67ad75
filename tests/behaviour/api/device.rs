//! The device of the tests, and the precision of comparisons on it.

use std::process::Command;

use slim_tests::check::rounding;
use slim_tests::fill::{fill, images};
use slim_tests::place::program;
use slim_tests::{device, tensor};
use tch::Kind;
use tch::nn::{self, VarStore};

#[test]
fn what_is_no_device_ends_a_program_with_one_line() {
    let mut replica = Command::new(program("replica", env!("CARGO_BIN_EXE_replica")));
    let output = replica.arg("nowhere").env("SLIM_DEVICE", "cudaa").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap().trim(), @"error: SLIM_DEVICE=cudaa: there are cpu, cuda, and cuda:N for the GPU of that number");
}

#[test]
fn tensors_are_where_the_tests_compute() {
    let found = [
        tensor(&[1_i64, 2]).device(),
        images(&[1]).device(),
        slim_tests::networks::built::<slim_tests::networks::Chain>().1.device(),
    ];
    assert_eq!(found, [device(); 3]);
}

#[test]
fn rounding_is_a_bound_and_no_loose_one() {
    for inputs in [64, 512, 4096] {
        let mut vs = VarStore::new(device());
        let fc = nn::linear(vs.root(), inputs, 256, Default::default());
        fill(&vs);
        let (xs, allowed) = (images(&[16, inputs]), rounding(&vs));
        let _no_grad = tch::no_grad_guard();
        let found = xs.apply(&fc).to_kind(Kind::Double);
        vs.double();
        let exact = xs.to_kind(Kind::Double).apply(&fc);
        let difference = ((found - &exact).abs().max() / exact.abs().max()).double_value(&[]);
        // With TF32, each product would be off by 2⁻¹¹, 8,192 times as much.
        assert!(
            (allowed / 1000.0..allowed).contains(&difference),
            "{inputs} inputs: {difference:e} of {allowed:e}"
        );
    }
}
