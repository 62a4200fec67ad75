//! Models cross threads, and one is slimmed while another is.

use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use slim_runtime::{Prunable, Slimming};
use tch::Device;
use tch::nn::{ModuleT, VarStore};

use crate::common::{Net, assert_same, images, values};

fn net() -> (Net, VarStore) {
    let vs = VarStore::new(Device::Cpu);
    (Net::with_known_scores(&vs.root()), vs)
}

#[test]
fn networks_are_send() {
    use slim_examples::zoo;
    fn send<M: Prunable + Send>() {}
    send::<zoo::vgg::Vgg>();
    send::<zoo::preresnet::PreResNet>();
    send::<zoo::densenet_cifar::DenseNet>();
    send::<zoo::densenet::DenseNet>();
    send::<zoo::googlenet::GoogLeNet>();
    send::<zoo::resnet::ResNet<zoo::resnet::Bottleneck>>();
    send::<zoo::mobilenet_v3::MobileNetV3>();
    send::<zoo::shufflenet_v2::ShuffleNetV2>();
    send::<zoo::unet::UNet>();
}

#[test]
fn networks_that_are_slimmed_in_parallel_are_those_that_are_slimmed_one_by_one() {
    const THREADS: usize = 4;
    let (seed, seed_vs) = net();
    let replica = || {
        let (net, mut vs) = net();
        vs.copy(&seed_vs).unwrap();
        (net, vs)
    };
    let (mut alone, alone_vs) = replica();
    let images = images(2);
    for ratio in [0.2, 0.3] {
        Slimming::ratio(ratio).verify(&images, |net: &Net, images| net.forward_t(images, false)).slim(&mut alone).unwrap();
    }

    let start = Arc::new(Barrier::new(THREADS));
    let threads = (0..THREADS).map(|_| {
        let (start, images, (mut net, vs)) = (Arc::clone(&start), images.shallow_clone(), replica());
        thread::spawn(move || {
            start.wait();
            for ratio in [0.2, 0.3] {
                Slimming::ratio(ratio).verify(&images, |net: &Net, images| net.forward_t(images, false)).slim(&mut net).unwrap();
            }
            vs
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        assert_same(&values(&thread.join().unwrap()), &values(&alone_vs));
    }
    drop(seed);
}

#[test]
fn a_thread_that_reads_through_a_lock_sees_a_whole_network() {
    let (net, _vs) = net();
    let shared = Arc::new(Mutex::new(net));
    let reader = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let mut widths = Vec::new();
            while widths.last() != Some(&(1, 1)) {
                let net = shared.lock().unwrap();
                // Half a layer would panic here.
                let _ = tch::no_grad(|| net.forward_t(&images(1), false));
                let now = (net.conv1.ws.size()[0], net.conv2.ws.size()[0]);
                drop(net);
                widths.push(now);
                thread::yield_now();
            }
            widths.dedup();
            widths
        })
    };
    let cfgs = [0.2, 0.3, 0.5, 0.99].map(|ratio| {
        let slimmed = shared.lock().unwrap().slim(ratio).unwrap();
        slimmed.cfg().to_string()
    });
    let seen = reader.join().unwrap();
    assert!(
        seen.iter().all(|(first, second)| (*first, *second) == (8, 6) || cfgs.contains(&format!("[{first}, {second}]"))),
        "{seen:?}, {cfgs:?}"
    );
}
