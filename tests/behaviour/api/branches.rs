//! The derive's wiring, form by form, next to a hand-written `forward`: slimmed = masked.

mod coupling;
mod cuts;
mod flows;
mod forms;
mod joins;
mod layers;
mod reshaping;

use slim_runtime::{Plan, Prunable, Slimming, nn as own};
use slim_tests::check::assert_close;
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{self, VarStore};
use tch::{Kind, Tensor};

use crate::common::{assert_fields_and_store_agree, mask_by_name, values};

fn conv(p: nn::Path, inputs: i64, width: i64) -> own::Conv2D {
    own::conv2d(
        p,
        inputs,
        width,
        3,
        nn::ConvConfig { padding: 1, bias: false, ..Default::default() },
    )
}

fn norm(p: nn::Path, width: i64) -> own::BatchNorm {
    own::batch_norm2d(p, width, Default::default())
}

fn linear(p: nn::Path, inputs: i64, outputs: i64) -> own::Linear {
    own::linear(p, inputs, outputs, Default::default())
}

/// A convolution and a batch norm, the start of most blocks.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Unit {
    conv: own::Conv2D,
    bn: own::BatchNorm,
}

fn unit(p: nn::Path, inputs: i64, width: i64) -> Unit {
    Unit { conv: conv(&p / "conv", inputs, width), bn: norm(&p / "bn", width) }
}

impl nn::Module for Unit {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, false)
    }
}

/// The mean over all positions.
fn mean(xs: &Tensor) -> Tensor {
    xs.mean_dim([2_i64, 3].as_slice(), false, Kind::Double)
}

/// A network of one form: the channels of each input, the constructor, and the `forward`.
struct Form<M> {
    inputs: &'static [i64],
    new: fn(&nn::Path) -> M,
    forward: fn(&M, &[Tensor]) -> Vec<Tensor>,
    /// Scales by name of their batch norm. All other scales are distinct.
    scales: &'static [(&'static str, &'static [f64])],
}

impl<M: Prunable> Form<M> {
    fn build(&self) -> (M, VarStore) {
        let mut vs = VarStore::new(device());
        let model = (self.new)(&vs.root());
        vs.double();
        fill(&vs);
        let variables = vs.variables();
        for (name, scales) in self.scales {
            tch::no_grad(|| {
                variables[&format!("{name}.weight")]
                    .shallow_clone()
                    .copy_(&Tensor::from_slice(scales));
            });
        }
        (model, vs)
    }

    /// Asserts slimmed = masked at several ratios; returns the plan and the model slimmed by half.
    fn check(&self) -> (Plan, M) {
        [0.25, 0.75, 0.5].map(|ratio| self.check_at(ratio)).into_iter().next_back().unwrap()
    }

    fn check_at(&self, ratio: f64) -> (Plan, M) {
        let _no_grad = tch::no_grad_guard();
        let inputs: Vec<_> = self
            .inputs
            .iter()
            .map(|&width| images(&[2, width, 4, 4]).to_kind(Kind::Double))
            .collect();
        let (mut model, vs) = self.build();
        let plan = model.plan(&Slimming::ratio(ratio)).unwrap_or_else(|error| panic!("{error}"));
        let before = values(&vs);
        mask_by_name(&vs, &plan);
        let masked = (self.forward)(&model, &inputs);
        vs.variables().iter_mut().for_each(|(name, variable)| variable.copy_(&before[name]));
        model.apply(&plan).unwrap();
        let slimmed = (self.forward)(&model, &inputs);
        assert_eq!(slimmed.len(), masked.len());
        slimmed
            .iter()
            .zip(&masked)
            .for_each(|(slimmed, masked)| assert_close(slimmed, masked, 1e-9));
        assert!(plan.channels().removed() > 0., "{plan}");
        assert_fields_and_store_agree(&model, &vs, &plan);
        (plan, model)
    }
}

/// The channels that an axis keeps, as a plan prints them.
fn keep(plan: &Plan, path: &str, axis: &str) -> String {
    plan.layer(path)
        .and_then(|layer| layer.axis(axis))
        .unwrap_or_else(|| panic!("no `{path}` with `{axis}` in\n{plan}"))
        .keep
        .to_string()
}

/// The channels that a batch norm keeps, as a plan prints them.
fn kept(plan: &Plan, path: &str) -> String {
    keep(plan, path, "channels")
}
