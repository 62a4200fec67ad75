//! Models in several threads.

use std::collections::BTreeMap;
use std::sync::{Barrier, Mutex};
use std::thread;

use slim_runtime::{Cfg, Error, Plan, Prunable, Slimmed, Slimming};
use slim_tests::device;
use slim_zoo::{
    densenet, googlenet, mobilenet_v2, mobilenet_v3, preresnet, resnet, shufflenet_v2, unet, vgg,
};
use tch::Tensor;
use tch::nn::{ModuleT, VarStore};

use crate::common::{Net, assert_same, images, values};

#[test]
fn models_and_plans_go_to_other_threads() {
    fn send<T: Send>() {}
    fn send_and_sync<T: Send + Sync>() {}
    send::<Net>();
    send::<vgg::Vgg>();
    send::<resnet::ResNet<resnet::Bottleneck>>();
    send::<preresnet::PreResNet>();
    send::<densenet::DenseNet>();
    send::<googlenet::GoogLeNet>();
    send::<mobilenet_v2::MobileNetV2>();
    send::<mobilenet_v3::MobileNetV3>();
    send::<shufflenet_v2::ShuffleNetV2>();
    send::<unet::UNet>();
    send_and_sync::<Plan>();
    send_and_sync::<Slimmed>();
    send_and_sync::<Slimming>();
    send_and_sync::<Cfg>();
    send_and_sync::<Error>();
}

/// A network with different values for each `seed`.
fn net(seed: i64) -> (Net, VarStore) {
    let vs = VarStore::new(device());
    let net = Net::new(&vs.root());
    slim_tests::fill::fill(&vs);
    let _no_grad = tch::no_grad_guard();
    for mut variable in vs.variables().into_values().filter(|variable| variable.dim() == 1) {
        let rolled = variable.detach().roll([seed], [0]);
        variable.copy_(&rolled);
    }
    (net, vs)
}

fn slimmed(seed: i64) -> (Plan, BTreeMap<String, Tensor>) {
    let (mut net, vs) = net(seed);
    let slimmed = net.slim(0.5).unwrap();
    net.slim(0.3).unwrap();
    (slimmed.plan().clone(), values(&vs))
}

#[test]
fn models_slimmed_side_by_side_have_the_bits_of_one_after_the_other() {
    let one_by_one: Vec<_> = (0..8).map(slimmed).collect();
    assert!(one_by_one[0].0 != one_by_one[1].0, "they differ");
    for _ in 0..20 {
        let start = Barrier::new(8);
        let at_once: Vec<_> = thread::scope(|scope| {
            let slim = |seed| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    slimmed(seed)
                })
            };
            let threads: Vec<_> = (0..8).map(slim).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for ((plan, values), (expected_plan, expected)) in at_once.iter().zip(&one_by_one) {
            assert_eq!(plan, expected_plan);
            assert_same(values, expected);
        }
    }
}

#[test]
fn one_plan_slims_replicas_side_by_side() {
    let (plan, _) = slimmed(0);
    let apply = || {
        let (mut net, vs) = net(0);
        net.apply(&plan).unwrap();
        values(&vs)
    };
    let expected = apply();
    let found: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(apply)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    found.iter().for_each(|found| assert_same(found, &expected));
}

#[test]
fn a_reader_behind_a_lock_sees_whole_networks() {
    let shared = Mutex::new(net(0));
    let widths = |net: &Net| (net.conv1.ws.size()[0], net.conv2.ws.size()[0]);
    let first = widths(&shared.lock().unwrap().0);
    let started = Barrier::new(2);
    let seen = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let images = images(1);
            let mut seen = vec![first];
            started.wait();
            // Until no more channels can be removed.
            while seen.last() != Some(&(1, 1)) {
                let shared = shared.lock().unwrap();
                let net = &shared.0;
                // A partly slimmed network would not run.
                assert_eq!(tch::no_grad(|| net.forward_t(&images, false)).size(), [1, 5]);
                assert_eq!(net.bn1.running_var.size()[0], net.conv2.ws.size()[1]);
                if seen.last() != Some(&widths(net)) {
                    seen.push(widths(net));
                }
            }
            seen
        });
        started.wait();
        for ratio in [0.3, 0.3, 0.3, 0.999] {
            thread::yield_now();
            shared.lock().unwrap().0.slim(ratio).unwrap();
        }
        reader.join().unwrap()
    });
    assert!(
        seen.len() > 1
            && seen.windows(2).all(|pair| pair[0].0 >= pair[1].0 && pair[0].1 >= pair[1].1),
        "{seen:?}"
    );
}
