//! Layers that treat their input in groups: grouped and depthwise convolutions, group norms.

use std::borrow::Cow;

use super::value::Value;
use super::{Axis, AxisRole, KeepReason, LayerTracer, Operator};
use crate::{Flow, Result};

impl LayerTracer<'_> {
    /// Like [`read`](Self::read), for an input of `groups` equal parts that must lose the same
    /// number of channels: channels at one position of the parts stay or go together. Returns the
    /// axis of one part, which the weight's dimension follows.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), [`WiringError::Parts`](crate::error::WiringError::Parts).
    pub fn read_grouped(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        input: &Flow,
        width: i64,
        groups: i64,
    ) -> Result<Axis> {
        let value = self.given(input, width)?;
        self.hold_ungated(&value);
        let part = self.one_part(&value, groups)?;
        let axis = self.axis(name, part, AxisRole::Read)?;
        self.reads(axis, &value);
        Ok(axis)
    }

    /// Like [`write`](Self::write), for an output of `groups` equal parts that must lose the same
    /// number of channels.
    ///
    /// # Errors
    /// [`WiringError::Parts`](crate::error::WiringError::Parts) when `width` is no multiple of
    /// `groups`.
    pub fn write_grouped(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        width: i64,
        groups: i64,
    ) -> Result<Axis> {
        let axis = self.write(name, width)?;
        self.tie_groups(axis, groups)?;
        Ok(axis)
    }

    /// Makes `groups` equal parts of an axis lose the same number of channels.
    ///
    /// # Errors
    /// [`WiringError::Parts`](crate::error::WiringError::Parts) when the axis's width is no
    /// multiple of `groups`.
    pub fn tie_groups(&mut self, axis: Axis, groups: i64) -> Result<()> {
        let value = self.axes[self.known(axis)?].clone();
        self.one_part(&value, groups).map(|_| ())
    }

    /// Returns the axis of one of `groups` equal parts of `axis`, and makes the parts lose the same
    /// number of channels.
    ///
    /// # Errors
    /// [`WiringError::Parts`](crate::error::WiringError::Parts).
    pub fn part_of(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        axis: Axis,
        groups: i64,
    ) -> Result<Axis> {
        let axis = self.known(axis)?;
        let value = self.axes[axis].clone();
        let role = if self.node().axes[axis].role == AxisRole::Made {
            AxisRole::MadePart
        } else {
            AxisRole::Followed
        };
        let part = self.one_part(&value, groups)?;
        self.axis(name, part, role)
    }

    /// The layer keeps or loses whole groups: the `width` channels of `input` are `groups` equal
    /// parts, and the channels of one part stay or go together. Returns the axis of all input
    /// channels and that of the outputs, `per_group` for each part. An output carries zeros where
    /// its whole group does. With one channel in each group this is a depthwise layer.
    ///
    /// # Errors
    /// Those of [`follow`](Self::follow), [`WiringError::Parts`](crate::error::WiringError::Parts).
    pub fn follow_groups(
        &mut self,
        input: &Flow,
        width: i64,
        groups: i64,
        per_group: i64,
    ) -> Result<(Axis, Axis)> {
        let value = self.given(input, width)?;
        let times = usize::try_from(per_group).unwrap_or(0);
        let (_, outputs) = self.whole_groups("a convolution", &value, groups, Some(times))?;
        Ok((
            self.axis("in", value, AxisRole::Followed)?,
            self.axis("out", outputs, AxisRole::Followed)?,
        ))
    }

    /// The layer normalises each of `groups` equal parts of the `width` channels of `input` by
    /// itself, and keeps or loses whole parts. All stay where it is not known that the channels are
    /// in dimension 1. Returns the axis of the channels, and that of the groups.
    pub(crate) fn follow_norm_groups(
        &mut self,
        input: &Flow,
        width: i64,
        groups: i64,
    ) -> Result<(Axis, Axis)> {
        let value = self.given(input, width)?;
        // Behind a linear layer, nothing may say whether the channels are in dimension 1, where
        // this layer reads them.
        let is_unknown = self.cx.is_in_forward() && value.form.shape().is_none();
        let (heads, channels) = self.whole_groups("a group norm", &value, groups, None)?;
        let channels = self.axis("channels", channels, AxisRole::Followed)?;
        if is_unknown {
            let by = self.path();
            self.hold(channels, KeepReason::Mixed { by })?;
        }
        Ok((channels, self.axis("groups", heads, AxisRole::Followed)?))
    }

    /// Makes the channels of each of `groups` equal parts stay or go together. Returns one channel
    /// for each part, and `per_group` channels for each part, by default as many as it has.
    fn whole_groups(
        &mut self,
        operation: &'static str,
        value: &Value,
        groups: i64,
        per_group: Option<usize>,
    ) -> Result<(Value, Value)> {
        let parts = usize::try_from(groups).unwrap_or(0);
        let size = self.cx.part_size(operation, value, parts)?;
        let form = value.form.clone();
        Ok(self.in_front(|cx| {
            let heads = cx.operate(Operator::blocks("groups", size), &[value], form);
            (heads.clone(), cx.repeat(heads, per_group.unwrap_or(size)))
        }))
    }

    /// Ties equal parts, and returns the first part.
    fn one_part(&mut self, value: &Value, groups: i64) -> Result<Value> {
        // With one group there is nothing to tie, and the part is the whole value.
        if groups == 1 && value.len() > 0 {
            return Ok(value.clone());
        }
        let parts = usize::try_from(groups).unwrap_or(0);
        let size = self.cx.part_size("a convolution", value, parts)?;
        let select = Operator::select("part", 0..size).tied(size);
        let form = value.form.clone();
        Ok(self.in_front(|cx| cx.operate(select, &[value], form)))
    }
}
