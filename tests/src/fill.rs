//! Weights that PyTorch and Rust compute alike, so that fixtures of full-size networks need not
//! store any.
//!
//! `tests/fixtures/fill.py` is the same in Python.

use tch::Tensor;
use tch::nn::VarStore;

use crate::device;

/// Fills every variable of a store.
pub fn fill(vs: &VarStore) {
    let _no_grad = tch::no_grad_guard();
    for (name, mut variable) in vs.variables() {
        let filled = value(&name, &variable.size());
        variable.copy_(&filled);
    }
}

/// An input of this shape, in [-1, 1), on the device of the tests.
pub fn images(shape: &[i64]) -> Tensor {
    tensor(uniform("images", shape).map(|u| u * 2. - 1.), shape)
}

/// The value of the variable of this name and shape, similar to that of a trained network.
fn value(name: &str, shape: &[i64]) -> Tensor {
    let u = uniform(name, shape);
    let scale = (6. / shape.iter().skip(1).product::<i64>() as f64).sqrt();
    if name.ends_with("running_var") {
        tensor(u.map(|u| 0.5 + u), shape)
    } else if name.ends_with("running_mean") || name.ends_with("bias") {
        tensor(u.map(|u| (u - 0.5) * 0.2), shape)
    } else if shape.len() == 1 {
        tensor(u.map(|u| 0.5 + u), shape)
    } else {
        tensor(u.map(|u| (u - 0.5) * 2. * scale), shape)
    }
}

fn tensor(values: impl Iterator<Item = f64>, shape: &[i64]) -> Tensor {
    let values: Vec<f32> = values.map(|value| value as f32).collect();
    device::tensor(&values).view(shape)
}

/// Doubles in [0, 1) that depend on nothing but `name` and their position.
fn uniform(name: &str, shape: &[i64]) -> impl Iterator<Item = f64> + use<> {
    // FNV-1a
    let seed = name
        .bytes()
        .fold(2_166_136_261_u32, |seed, byte| (seed ^ u32::from(byte)).wrapping_mul(16_777_619));
    let count: i64 = shape.iter().product();
    (0..count).map(move |i| {
        let mut x = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed);
        x ^= x >> 16;
        x = x.wrapping_mul(2_246_822_519);
        x ^= x >> 13;
        x = x.wrapping_mul(3_266_489_917);
        x ^= x >> 16;
        f64::from(x) / 4_294_967_296.
    })
}
