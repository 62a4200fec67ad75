//! One plan for many models: another process, a moving average, a teacher. All have the same bits.

use std::path::Path;
use std::process::Command;

use slim_runtime::{Prunable, checkpoint};
use slim_tests::check::hash;
use slim_tests::device;
use slim_tests::networks::{Chain, built};
use slim_tests::place::program;
use tch::Tensor;
use tch::nn::{ModuleT, VarStore};

use crate::common::{Net, assert_same, images, values};

fn net() -> (Net, VarStore) {
    let vs = VarStore::new(device());
    (Net::new(&vs.root()), vs)
}

fn copy(from: &VarStore) -> (Net, VarStore) {
    let (net, mut vs) = net();
    vs.copy(from).unwrap();
    (net, vs)
}

fn in_another_process(folder: &Path) -> u64 {
    let output = Command::new(program("replica", env!("CARGO_BIN_EXE_replica")))
        .arg(folder)
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    output.trim().parse().unwrap_or_else(|_| panic!("{output}"))
}

#[test]
fn another_process_has_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (mut net, vs) = built::<Chain>();
    checkpoint::save_weights(folder.path().join("dense.safetensors"), &vs).unwrap();
    let dense = hash(&vs);
    let slimmed = net.slim(0.4).unwrap();
    std::fs::write(folder.path().join("plan.json"), slimmed.plan().to_json().unwrap()).unwrap();
    assert_eq!(in_another_process(folder.path()), hash(&vs));
    assert_ne!(hash(&vs), dense);
}

#[test]
fn a_moving_average_is_slimmed_along_and_goes_on() {
    let (mut net, vs) = net();
    let (mut ema, ema_vs) = copy(&vs);
    let average = |weights: &VarStore, average: &VarStore| {
        let _no_grad = tch::no_grad_guard();
        let weights = weights.variables();
        average
            .variables()
            .iter_mut()
            .for_each(|(name, average)| average.copy_(&(&*average * 0.9 + &weights[name] * 0.1)));
    };
    let train = |vs: &VarStore| {
        tch::no_grad(|| {
            vs.variables().values_mut().for_each(|variable| _ = variable.g_add_scalar_(0.01));
        });
    };
    train(&vs);
    average(&vs, &ema_vs);

    // Averaging acts on each element alone, so averaging before or after slimming gives the same
    // bits.
    let (mut later, later_vs) = copy(&ema_vs);
    let plan = net.slim(0.4).unwrap().plan().clone();
    ema.apply(&plan).unwrap();
    train(&vs);
    average(&vs, &ema_vs);
    let (mut dense, dense_vs) = self::net();
    let images = images(2);
    plan.expand(&net, &mut dense).unwrap();
    average(&dense_vs, &later_vs);
    later.apply(&plan).unwrap();
    assert_same(&values(&later_vs), &values(&ema_vs));
    assert_eq!(
        tch::no_grad(|| later.forward_t(&images, false)),
        tch::no_grad(|| ema.forward_t(&images, false))
    );
}

#[test]
fn a_teacher_stays_dense_and_can_follow_later() {
    let (mut student, vs) = net();
    let (mut teacher, teacher_vs) = copy(&vs);
    let images = images(2);
    let output = |net: &Net| -> Tensor { tch::no_grad(|| net.forward_t(&images, false)) };
    let (before, taught) = (values(&teacher_vs), output(&teacher));
    let plan = student.slim(0.4).unwrap().plan().clone();
    assert_same(&values(&teacher_vs), &before);
    assert_eq!(output(&teacher), taught);
    teacher.apply(&plan).unwrap();
    assert_same(&values(&teacher_vs), &values(&vs));
    assert_eq!(output(&teacher), output(&student));
}

#[test]
fn a_replica_in_another_kind_loses_the_same_channels() {
    let (mut net, vs) = net();
    let (mut half, mut half_vs) = copy(&vs);
    half_vs.bfloat16();
    let plan = net.slim(0.4).unwrap().plan().clone();
    half.apply(&plan).unwrap();
    for (name, value) in values(&half_vs) {
        assert_eq!(value, values(&vs)[&name].to_kind(value.kind()), "{name}");
    }
}
