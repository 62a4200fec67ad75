//! Injects a failure at every step, as an error and as a panic. Each leaves the model unchanged, to
//! the bit.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::nn::{self, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

use super::{Layout, deploy};
use crate::analysis::{self, Masking};
use crate::fault::{self, Failure};
use crate::nn as slim_nn;
use crate::{Error, Flow, LayerKind, LayerVisitor, Prunable, Result, Tracer, forward};

/// A user-defined scale whose `layers_mut` can fail.
#[derive(Debug)]
struct Scale {
    value: Tensor,
    /// How many calls of its `layers_mut` succeed before one panics or fails.
    visits: Cell<Option<(usize, Failure)>>,
}

impl Prunable for Scale {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::other("scale"));
        let channels = layer.follow("channels", &input, self.value.size()[0])?;
        layer.parameter("value", &self.value, &[(0, channels)])?;
        layer.pass(channels)
    }

    fn layers_mut(&mut self, _: &mut LayerVisitor) -> Result<()> {
        match self.visits.take() {
            None => Ok(()),
            Some((0, Failure::Error)) => Err(Error::Custom("injected".to_owned())),
            Some((0, Failure::Panic)) => panic!("injected"),
            Some((left, failure)) => {
                self.visits.set(Some((left - 1, failure)));
                Ok(())
            }
        }
    }
}

impl nn::Module for Scale {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs * &self.value
    }
}

/// Layers of this crate, of tch and of a user.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
struct Net {
    conv1: slim_nn::Conv2D,
    bn1: slim_nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    up: slim_nn::ConvTranspose2D,
    bn3: slim_nn::BatchNorm,
    /// Behind a ReLU: it folds into the layer behind it.
    bn4: slim_nn::BatchNorm,
    conv3: slim_nn::Conv2D,
    fc: nn::Linear,
    scale: Scale,
}

impl Net {
    fn new() -> (Self, VarStore) {
        tch::set_num_threads(1);
        let vs = VarStore::new(Device::Cpu);
        let p = vs.root();
        let net = Net {
            conv1: slim_nn::conv2d(&p / "conv1", 3, 8, 3, nn::no_bias()),
            bn1: slim_nn::batch_norm2d(&p / "bn1", 8, Default::default()),
            conv2: nn::conv2d(&p / "conv2", 8, 6, 3, Default::default()),
            bn2: nn::batch_norm2d(&p / "bn2", 6, Default::default()),
            up: slim_nn::conv_transpose2d(&p / "up", 6, 4, 2, Default::default()),
            bn3: slim_nn::batch_norm2d(&p / "bn3", 4, Default::default()),
            bn4: slim_nn::batch_norm2d(&p / "bn4", 4, Default::default()),
            conv3: slim_nn::conv2d(&p / "conv3", 4, 4, 1, Default::default()),
            fc: nn::linear(&p / "fc", 4, 5, Default::default()),
            scale: Scale { value: (&p / "scale").ones("value", &[5]), visits: Cell::new(None) },
        };
        let _ = net.forward_t(&images(), true);
        (net, vs)
    }
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).relu();
        let xs = xs.apply(&self.up).apply_t(&self.bn3, train).relu();
        let xs = xs.apply_t(&self.bn4, train).apply(&self.conv3);
        xs.mean_dim([2, 3].as_slice(), false, xs.kind()).apply(&self.fc).apply(&self.scale)
    }
}

fn images() -> Tensor {
    Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu))
}

/// Per tensor of the network: path, address, shape, strides, `requires_grad`, values.
type Everything = Vec<(String, usize, Vec<i64>, Vec<i64>, bool, Vec<f32>)>;

fn everything(net: &Net) -> Everything {
    let graph = analysis::trace(net, Masking::BatchNorm).unwrap();
    let of = |path: &str, name: &str, tensor: &Tensor| {
        let values = Vec::try_from(tensor.detach().contiguous().flatten(0, -1)).unwrap();
        (
            format!("{path}.{name}"),
            tensor.data_ptr() as usize,
            tensor.size(),
            tensor.stride(),
            tensor.requires_grad(),
            values,
        )
    };
    graph
        .layers
        .iter()
        .flat_map(|node| {
            node.tensors.iter().map(move |bound| of(&node.path, bound.name, &bound.tensor))
        })
        .collect()
}

#[test]
fn a_failure_at_any_step_changes_nothing() {
    let (mut net, _vs) = Net::new();
    let (images, before) = (images(), everything(&net));
    for step in 0.. {
        for failure in [Failure::Error, Failure::Panic] {
            let (done, failed) = fault::inject(step, failure, || {
                deploy(&mut net, &images, |net, xs| net.forward_t(xs, false))
            });
            match (failed, failure, done) {
                (true, Failure::Error, Ok(Err(error))) => {
                    assert!(format!("{error:?}").contains("injected"), "{error:?}");
                }
                (true, Failure::Panic, Err(panic)) => {
                    assert_eq!(panic.downcast_ref(), Some(&"injected"));
                }
                (false, _, Ok(Ok(deployed))) => {
                    // The original and three layouts, each put for the comparison and for the
                    // measurement; nine layers each.
                    assert!(step > 60, "{step} steps");
                    assert_eq!((deployed.folded(), deployed.norms.len()), (3, 4), "{deployed}");
                    assert!(!net.scale.value.requires_grad());
                    return;
                }
                (failed, _, done) => panic!(
                    "step {step}, {failure:?}: failed {failed}, {:?}",
                    done.map(|done| done.map(|_| ()))
                ),
            }
            assert_eq!(everything(&net), before, "step {step}, {failure:?}");
        }
    }
}

#[test]
fn a_failure_of_a_users_layer_changes_nothing() {
    let (mut net, _vs) = Net::new();
    let (images, before) = (images(), everything(&net));
    for failure in [Failure::Error, Failure::Panic] {
        // `layers_mut` of the scale is called once for each form that is tried, and once more for
        // the rollback. It belongs to the last layer, so all other layers have been restored by
        // then.
        for visits in 0..8 {
            net.scale.visits.set(Some((visits, failure)));
            let done = catch_unwind(AssertUnwindSafe(|| {
                deploy(&mut net, &images, |net, xs| net.forward_t(xs, false))
            }));
            assert!(
                matches!((failure, &done), (Failure::Error, Ok(Err(_))) | (Failure::Panic, Err(_))),
                "{visits} visits, {failure:?}"
            );
            assert_eq!(everything(&net), before, "{visits} visits, {failure:?}");
        }
    }
}

#[test]
fn a_closure_that_panics_or_trains_is_refused() {
    let (mut net, _vs) = Net::new();
    let (images, before) = (images(), everything(&net));
    let panic = catch_unwind(AssertUnwindSafe(|| {
        deploy(&mut net, &images, |_, _| panic!("of the closure"))
    }))
    .unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"of the closure"));
    assert_eq!(everything(&net), before);
    let error = deploy(&mut net, &images, |net, xs| net.forward_t(xs, true)).unwrap_err();
    assert!(error.to_string().starts_with("the closure changed `bn1.running_mean`"), "{error}");
    assert_eq!(everything(&net), before);
}

#[test]
fn a_form_that_the_closure_cannot_use_is_out() {
    let (mut net, _vs) = Net::new();
    let images = images();
    let picky = |net: &Net, xs: &Tensor| {
        assert!(xs.apply(&net.conv1).is_contiguous(), "images that lie otherwise");
        net.forward_t(xs, false)
    };
    let deployed = deploy(&mut net, &images, picky).unwrap();
    assert_eq!(deployed.layout, Layout::Contiguous);
    let out: Vec<_> = deployed.layouts.iter().filter_map(|trial| trial.out.as_deref()).collect();
    assert_eq!(out, ["it panics: images that lie otherwise"; 2]);
}
