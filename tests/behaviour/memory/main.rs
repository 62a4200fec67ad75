//! The memory that surgery takes: the kept weights, and one layer. A separate program, since it
//! measures the whole process.

#![cfg(target_os = "linux")]

use std::fs;

use slim_runtime::{Prunable, Slimming, model, nn};
use tch::Device;

const WIDTH: i64 = 1024;

model! {
    /// Four layers of 38 MB.
    #[derive(Debug)]
    struct Net {
        conv1 = conv2d(WIDTH => WIDTH, kernel = 3, bias = false);
        bn1 = batch_norm(WIDTH);
        conv2 = conv2d(WIDTH => WIDTH, kernel = 3, bias = false);
        bn2 = batch_norm(WIDTH);
        conv3 = conv2d(WIDTH => WIDTH, kernel = 3, bias = false);
        bn3 = batch_norm(WIDTH);
        conv4 = conv2d(WIDTH => WIDTH, kernel = 3, bias = false);
        bn4 = batch_norm(WIDTH);
        conv5 = conv2d(WIDTH => 8, kernel = 1);
    }
}

/// An entry of the kernel's status of this process, in bytes: `VmRSS` is the resident memory,
/// `VmHWM` its peak.
fn memory(entry: &str) -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(entry))?;
    line.split_whitespace().nth(1)?.parse::<i64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[test]
fn surgery_takes_what_is_kept_and_one_layer() {
    let vs = nn::VarStore::new(Device::Cpu);
    let mut net = Net::new(vs.root());
    for (name, mut tensor) in vs.variables() {
        if name.starts_with("bn") && name.ends_with("weight") {
            let _ = tch::no_grad(|| tensor.uniform_(0., 1.));
        }
    }
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();

    // Resets the peak.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS").unwrap();
    let slimmed = net.apply(&plan).unwrap();
    let extra = memory("VmHWM").unwrap() - before;

    let kept = 4 * slimmed.plan().parameters().after;
    let layer = 4 * WIDTH * WIDTH * 9;
    // Threads, lists, and rounding by the allocator.
    let besides = 8 << 20;
    assert!(
        extra <= kept + layer + besides,
        "{extra} bytes more, where {kept} are kept and a layer has {layer}"
    );
    // The measurement worked: the kept weights existed beside the dense network.
    assert!(extra >= kept / 2, "{extra} bytes more, where {kept} are kept");
    let after = memory("VmRSS").unwrap();
    assert!(
        after < before - 2 * layer,
        "{before} bytes before and {after} after: the dense weights are still there"
    );
}
