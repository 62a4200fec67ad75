//! What leaves a layer, and when it is gated.

use std::rc::Rc;

use smallvec::smallvec;

use super::node::{AxisRole, LayerGate, LayerResult};
use super::shape::Factor;
use super::value::{Form, Value};
use super::{Axis, LayerTracer};
use crate::{Flow, Result};

impl LayerTracer<'_> {
    /// Outputs the channels of `axis`, gated where the layer received them gated. Channels that the
    /// layer [made](Self::write) are ungated, unless they have parameters and removing a channel
    /// sets [all of those](crate::criterion::Masking::Parameters) to zero. The layer must output
    /// zeros then, or call [`ungate`](Self::ungate).
    ///
    /// # Errors
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) when the axis belongs to another
    /// layer.
    pub fn pass(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Pass, |_| {})
    }

    /// Like [`pass`](Self::pass), for a layer that only moves channels and leaves their values as
    /// they are.
    pub(crate) fn move_on(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Pass, |result| (result.moves, result.whole) = (true, false))
    }

    /// Outputs the channels of `axis`, gated: they are zero when the layer's scale and shift are
    /// zero.
    ///
    /// # Errors
    /// As for [`pass`](Self::pass).
    pub fn gate(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Always, |_| {})
    }

    /// Like [`gate`](Self::gate), for a batch norm. Names its shift, if it has one: the shift is
    /// the output where the scale is zero.
    pub(crate) fn gate_to(&mut self, axis: Axis, shift: Option<&'static str>) -> Result<Flow> {
        let tensors = &self.node().tensors;
        let shift = shift.and_then(|name| tensors.iter().position(|tensor| tensor.name == name));
        self.leave(axis, LayerGate::Always, |result| result.shift = Some(shift))
    }

    /// Outputs the channels of `axis`, ungated: the layer adds something that is not zero when its
    /// parameters are zero.
    ///
    /// # Errors
    /// As for [`pass`](Self::pass).
    pub fn ungate(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Never, |_| {})
    }

    /// Outputs the channels of `axis` with a parameter added to each: ungated, unless removing a
    /// channel sets [all parameters](crate::criterion::Masking::Parameters) to zero.
    ///
    /// # Errors
    /// As for [`pass`](Self::pass).
    pub fn shift(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Shift, |_| {})
    }

    /// Outputs the channels of `axis`, divided by a parameter.
    pub(crate) fn divide(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Divide, |_| {})
    }

    /// Outputs a parameter divided by the channels of `axis`.
    pub(crate) fn divide_by(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Pole, |_| {})
    }

    /// Outputs all channels of a layer that makes each from one input channel or one group of them:
    /// as [`pass`](Self::pass), or with a bias as [`shift`](Self::shift).
    pub(crate) fn pass_whole(&mut self, axis: Axis, has_bias: bool) -> Result<Flow> {
        let gate = if has_bias { LayerGate::Shift } else { LayerGate::Pass };
        self.leave(axis, gate, |result| result.whole = true)
    }

    fn leave(
        &mut self,
        axis: Axis,
        gate: LayerGate,
        say: impl FnOnce(&mut LayerResult),
    ) -> Result<Flow> {
        let axis = self.known(axis)?;
        let Value { ids, form, .. } = self.axes[axis].clone();
        let form = match &self.frame {
            Some((shape, dim)) => {
                Form::Dims(shape.with(*dim, smallvec![Factor::channels(ids.len())]))
            }
            None => form,
        };
        let (value, source) = (self.cx.recording.value(Rc::clone(&ids)), self.cx.source());
        let made = self.node().axes[axis].role == AxisRole::Made;
        let whole = made && gate == LayerGate::Pass;
        self.count_uses();
        let mut result = LayerResult { value, axis, gate, moves: false, shift: None, whole };
        say(&mut result);
        self.node().results.push(result);
        Ok(Value { id: value, ids, source, form }.into())
    }
}
