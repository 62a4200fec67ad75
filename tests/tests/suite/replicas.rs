//! One plan, many models: another process, a moving average, a teacher. The same bits in each.

use std::path::{Path, PathBuf};
use std::process::Command;

use slim_runtime::{Plan, Prunable, checkpoint};
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Tensor};

use crate::common::{Net, assert_same, images, values};

/// What tells a child process where the plan and the dense weights are.
const FOLDER: &str = "SLIM_TEST_FOLDER";

fn net() -> (Net, VarStore) {
    let vs = VarStore::new(Device::Cpu);
    (Net::new(&vs.root()), vs)
}

fn copy(from: &VarStore) -> (Net, VarStore) {
    let (net, mut vs) = net();
    vs.copy(from).unwrap();
    (net, vs)
}

/// Names, shapes and bits of all variables, as a number (FNV-1a).
fn hash(vs: &VarStore) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (name, value) in values(vs) {
        let values: Vec<f32> = Vec::try_from(value.flatten(0, -1)).unwrap();
        let shape = format!("{name}{:?}", value.size());
        for byte in shape.bytes().chain(values.into_iter().flat_map(f32::to_le_bytes)) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// Not a test by itself: another starts this program once more for it.
#[test]
#[ignore = "is what another test runs as a process"]
fn replica() {
    let folder = PathBuf::from(std::env::var(FOLDER).unwrap());
    let (mut net, mut vs) = net();
    checkpoint::load_weights(folder.join("dense.safetensors"), &mut vs).unwrap();
    net.apply(&Plan::from_json(&std::fs::read_to_string(folder.join("plan.json")).unwrap()).unwrap()).unwrap();
    println!("hash {}", hash(&vs));
}

fn in_another_process(folder: &Path) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "replicas::replica", "--ignored", "--nocapture"]).env(FOLDER, folder);
    let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let hash = output.split("hash ").nth(1).and_then(|rest| rest.split_whitespace().next());
    hash.unwrap_or_else(|| panic!("{output}")).parse().unwrap()
}

#[test]
fn another_process_has_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (mut net, vs) = net();
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
        average.variables().iter_mut().for_each(|(name, average)| average.copy_(&(&*average * 0.9 + &weights[name] * 0.1)));
    };
    let train = |vs: &VarStore| tch::no_grad(|| vs.variables().values_mut().for_each(|variable| _ = variable.g_add_scalar_(0.01)));
    train(&vs);
    average(&vs, &ema_vs);

    // Averaged and then slimmed, or slimmed and then averaged: each element for itself, so the same bits.
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
    assert_eq!(tch::no_grad(|| later.forward_t(&images, false)), tch::no_grad(|| ema.forward_t(&images, false)));
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
