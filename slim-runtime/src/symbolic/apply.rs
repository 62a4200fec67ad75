//! Layers, applied symbolically.

use std::any::type_name;
use std::cell::Cell;
use std::panic::Location;

use tch::{Kind, Tensor};

use super::memory::ViewOf;
use super::table::operations;
use super::traced::refused;
use super::{Traced, pass};
use crate::graph::{Effect, LayerKind, Operator, Tracer, arguments};
use crate::{Error, Flow, Prunable, Result};

operations! {
    "Layers" {
        "apply", "apply_t", "apply_opt", "apply_opt_t", "forward", "forward_t": "what the layer does, or the `forward` of a struct of layers";
    }
    "Anything else" {
        "functional::opaque": "what goes in stays, and what comes out too";
    }
}

/// `layer.forward_t(&xs, train)` and `layer.forward(&xs)` in a symbolic pass. `#[forward]` renames
/// them to these methods.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no channel semantics",
    label = "not prunable",
    note = "if it is a struct of layers, write `#[derive(Prunable)]` on it",
    note = "if it works on each element by itself, call it by `functional::map(&xs, |xs| …)`",
    note = "if it does anything else, call it by `functional::opaque(&xs, |xs| …)`, or implement `Prunable` by hand"
)]
#[doc(hidden)]
pub trait SymbolicModule {
    /// The symbolic pass of `forward_t`.
    #[track_caller]
    fn symbolic_forward_t_(&self, xs: &Traced, train: bool) -> Traced;

    /// The symbolic pass of `forward`.
    #[track_caller]
    fn symbolic_forward_(&self, xs: &Traced) -> Traced;
}

#[diagnostic::do_not_recommend]
impl<P: Prunable + ?Sized> SymbolicModule for P {
    #[track_caller]
    fn symbolic_forward_t_(&self, xs: &Traced, train: bool) -> Traced {
        xs.apply_t(self, train)
    }

    #[track_caller]
    fn symbolic_forward_(&self, xs: &Traced) -> Traced {
        xs.apply(self)
    }
}

impl Traced {
    /// Applies a layer.
    #[track_caller]
    pub fn apply<M: Prunable + ?Sized>(&self, layer: &M) -> Traced {
        let (at, selects) = (Location::caller(), Cell::new(false));
        let given = pass::handing(self, || {
            self.on_flow(at, |cx, flow| {
                let given = apply(cx, layer, flow)?;
                let last = cx.recording.layers.last();
                selects.set(last.is_some_and(|layer| layer.kind == LayerKind::ChannelSelect));
                Ok(given)
            })
        });
        // A `ChannelSelect` that keeps all channels returns its input itself.
        if selects.get() { self.viewed(given, ViewOf::Some) } else { given }
    }

    /// Applies a layer of which `forward` computes one of `parts` equal parts: the cost counts the
    /// part.
    #[track_caller]
    pub(crate) fn apply_part<M: Prunable + ?Sized>(&self, layer: &M, parts: i64) -> Traced {
        let applied = self.apply(layer);
        pass::record(Location::caller(), |cx| {
            if let Some(layer) = cx.recording.layers.last_mut() {
                layer.weight_parts = parts;
            }
            Ok(())
        });
        applied
    }

    /// Applies a layer that behaves differently in training and in evaluation.
    #[track_caller]
    pub fn apply_t<M: Prunable + ?Sized>(&self, layer: &M, _train: bool) -> Traced {
        self.apply(layer)
    }

    /// Applies a layer, if there is one.
    #[track_caller]
    pub fn apply_opt<M: Prunable>(&self, layer: &Option<M>) -> Traced {
        match layer {
            Some(layer) => self.apply(layer),
            None => self.shallow_clone(),
        }
    }

    /// Applies a layer that behaves differently in training and in evaluation, if there is one.
    #[track_caller]
    pub fn apply_opt_t<M: Prunable>(&self, layer: &Option<M>, _train: bool) -> Traced {
        self.apply_opt(layer)
    }

    /// Applies a layer that returns several tensors. After an error, failed tensors fill the list
    /// up to `count`.
    #[track_caller]
    pub(crate) fn apply_to_several<M: Prunable + ?Sized>(
        &self,
        layer: &M,
        count: usize,
    ) -> Vec<Traced> {
        let given = self.apply(layer).flow().map(Flow::into_parts).unwrap_or_default();
        let mut parts: Vec<_> = given.into_iter().map(Traced::new).collect();
        parts.resize_with(parts.len().max(count), Traced::failed);
        parts
    }
}

fn apply<M: Prunable + ?Sized>(cx: &mut Tracer, layer: &M, flow: &Flow) -> Result<Flow> {
    let found = cx.parts.as_ref().and_then(|parts| parts.apply(layer));
    let Some(found) = found else { return apply_local(cx, layer, flow) };
    cx.at_path(&found.path, |cx| {
        let given = layer.trace(cx, flow.clone())?;
        if found.keep {
            cx.keep(&given);
        }
        Ok(given)
    })
}

/// Applies a layer that is no field of the model, such as a pool that `forward` makes. The layer
/// must have no tensors.
fn apply_local<M: Prunable + ?Sized>(cx: &mut Tracer, layer: &M, flow: &Flow) -> Result<Flow> {
    let before = cx.recording.layers.len();
    let given = layer.trace(cx, flow.clone())?;
    match cx.recording.layers[before..].iter().find(|layer| !layer.tensors.is_empty()) {
        Some(_) => Err(refused(
            cx,
            format!(
                "a layer of type `{}` is applied that is no field of the model, or whose field is marked `#[prune(skip)]` or has a type that is not `Prunable`; make it a field of a `Prunable` type, without `skip`",
                type_name::<M>()
            ),
        )),
        None => Ok(given),
    }
}

/// `functional::map(&xs, operation)` in a symbolic pass: any element-wise operation.
#[doc(hidden)]
#[track_caller]
pub fn symbolic_map(xs: &Traced, operation: impl Fn(&Tensor) -> Tensor) -> Traced {
    xs.on_flow(Location::caller(), |cx, flow| {
        let _no_grad = tch::no_grad_guard();
        let mapped = mapped(cx, &operation)?;
        let at_zero = mapped.first().copied().unwrap_or(f64::NAN);
        cx.numbers = mapped;
        let operator = if at_zero == 0.0 {
            // Absorption may be told which activation this is: see `Slimming::absorb_after`.
            let layers = cx.recording.layers.len();
            Operator::each("map", Effect::Unnamed { layers })
        } else if at_zero.is_finite() {
            Operator::ungated("map")
        } else {
            Operator::pole("map")
        };
        cx.each_of(flow, &operator)
    })
    .called("functional::map", arguments![xs])
}

/// The results of an element-wise operation for zero and some other numbers.
///
/// # Errors
/// [`WiringError::Layer`](crate::error::WiringError::Layer) for an operation that is not
/// element-wise.
fn mapped(cx: &Tracer, operation: &impl Fn(&Tensor) -> Tensor) -> Result<Vec<f64>> {
    const NUMBERS: [f32; 8] = [0.0, 1.0, -1.0, 0.5, -0.25, 2.0, 3.0, -4.0];
    let path = cx.path();
    let of = |numbers: &[f32], shape: [i64; 4]| -> Result<Option<Vec<f64>>> {
        let numbers = Tensor::f_from_slice(numbers).and_then(|numbers| numbers.f_reshape(shape));
        let given = operation(&numbers.map_err(Error::torch(&path))?);
        if given.size() != shape {
            return Ok(None);
        }
        let given = given.f_to_kind(Kind::Double).and_then(|given| given.f_reshape(-1));
        let given = Vec::try_from(given.map_err(Error::torch(&path))?);
        given.map(Some).map_err(Error::torch(&path))
    };
    let whole = of(&NUMBERS, [1, 2, 2, 2])?;
    let each: Option<Vec<Vec<f64>>> =
        NUMBERS.iter().map(|&number| of(&[number], [1; 4])).collect::<Result<_>>()?;
    let close = |a: f64, b: f64| {
        a == b || (a - b).abs() <= 1e-5 * (1.0 + a.abs()) || a.is_nan() && b.is_nan()
    };
    match (whole, each.map(|each| each.concat())) {
        (Some(whole), Some(each)) if whole.iter().zip(&each).all(|(&a, &b)| close(a, b)) => Ok(each),
        _ => Err(refused(
            cx,
            "`functional::map` is given an operation that is not element-wise: what it makes of a number depends on the numbers around it, or it gives another shape; call it by `functional::opaque`".to_owned(),
        )),
    }
}

/// `functional::opaque(&xs, operation)` in a symbolic pass: an arbitrary operation. All channels of
/// its input are kept, and its output has the shape that `operation` gives for an image of zeros.
#[doc(hidden)]
#[track_caller]
pub fn symbolic_opaque(xs: &Traced, operation: impl Fn(&Tensor) -> Tensor) -> Traced {
    xs.on_shape(Location::caller(), |cx, value, shape| {
        let path = cx.path();
        let _no_grad = tch::no_grad_guard();
        let zeros = Tensor::f_zeros(shape.answers(1), (Kind::Float, tch::Device::Cpu));
        let given = operation(&zeros.map_err(Error::torch(&path))?).size();
        cx.opaque(value, &given)
    })
    .called("functional::opaque", arguments![xs])
}
