//! `#[forward]`: which forward passes are read, and which are refused.

// The code is as users write it. Forward passes use `unwrap` and helpers use `panic!`; clippy does
// not count either as tests.
#![allow(unused_qualifications, clippy::unwrap_used, clippy::panic, clippy::large_enum_variant)]

mod changing;
#[cfg(feature = "onnx")]
mod exports;
mod functions;
mod operations;
mod refusals;
mod reports;
mod rust;
mod slips;
mod tensors;

use slim_runtime::{Plan, Prunable, Slimming};
use slim_tests::check::assert_close;
use slim_tests::fill::fill;
use tch::nn::{self, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// Declares a struct of layers, its constructor, and its `#[forward]` pass. Each field is made by a
/// function of its path.
macro_rules! net {
    ($name:ident { $($field:ident: $ty:ty = $make:expr),* $(,)? } |$this:ident, $xs:ident, $train:ident| $body:expr) => {
        #[derive(Debug, slim_runtime::Prunable)]
        struct $name { $($field: $ty),* }

        #[slim_runtime::forward]
        impl tch::nn::ModuleT for $name {
            fn forward_t(&self, $xs: &Tensor, $train: bool) -> Tensor {
                let $this = self;
                $body
            }
        }

        impl $name {
            fn new(vs: &tch::nn::VarStore) -> Self {
                let root = vs.root();
                $name { $($field: {
                    let p = &root / stringify!($field);
                    let make: fn(&tch::nn::Path) -> $ty = $make;
                    make(&p)
                }),* }
            }
        }
    };
}
pub(crate) use net;

fn conv(p: &nn::Path, inputs: i64, width: i64) -> nn::Conv2D {
    nn::conv2d(
        p,
        inputs,
        width,
        3,
        nn::ConvConfig { padding: 1, bias: false, ..Default::default() },
    )
}

fn bn(p: &nn::Path, width: i64) -> nn::BatchNorm {
    nn::batch_norm2d(p, width, Default::default())
}

fn linear(p: &nn::Path, inputs: i64, outputs: i64) -> nn::Linear {
    nn::linear(p, inputs, outputs, Default::default())
}

fn images() -> Tensor {
    tch::manual_seed(7);
    Tensor::randn([2, 3, 8, 8], (Kind::Double, Device::Cpu))
}

/// Builds a network in double precision, with values that rank its channels.
fn built<M>(build: impl Fn(&VarStore) -> M) -> (M, VarStore) {
    let mut vs = VarStore::new(Device::Cpu);
    let net = build(&vs);
    vs.double();
    fill(&vs);
    (net, vs)
}

/// Asserts that slimmed and masked compute the same, and returns the plan.
fn slimmed_is_masked<M: ModuleT + Prunable>(
    build: impl Fn(&VarStore) -> M,
    slimming: &Slimming,
    input: &Tensor,
) -> Plan {
    let (mut masked, _masked) = built(&build);
    let plan = masked.plan(slimming).unwrap_or_else(|error| panic!("{error}"));
    masked.mask(&plan).unwrap_or_else(|error| panic!("{error}"));
    let (mut slimmed, _slimmed) = built(&build);
    slimmed.apply(&plan).unwrap_or_else(|error| panic!("{error}"));
    let _no_grad = tch::no_grad_guard();
    let (masked, slimmed) = (masked.forward_t(input, false), slimmed.forward_t(input, false));
    assert_close(&slimmed, &masked, 1e-11);
    plan
}

/// The number of channels that a plan leaves of a layer's output.
fn left(plan: &Plan, path: &str) -> usize {
    let layer = plan.layer(path).unwrap_or_else(|| panic!("no layer {path}"));
    layer.axes.last().unwrap_or_else(|| panic!("{path} has no channels")).keep.len()
}

/// The text of the error that planning returns.
fn refusal<M: ModuleT + Prunable>(build: impl Fn(&VarStore) -> M) -> String {
    let (net, _vs) = built(build);
    match net.plan(&Slimming::ratio(0.5)) {
        Ok(plan) => panic!("planned:\n{plan}"),
        Err(error) => error.to_string(),
    }
}
