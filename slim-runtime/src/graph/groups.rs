//! Layers that treat their input in groups: grouped and depthwise convolutions.

use std::borrow::Cow;

use super::value::Value;
use super::{Axis, AxisRole, LayerTracer, Operator};
use crate::{Flow, Result};

impl LayerTracer<'_> {
    /// Like [`read`](Self::read), in `groups` equal parts that must lose the same number of
    /// channels: those at one position of them become one. The axis is that of one part, which is
    /// what a weight's dimension follows.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), [`Error::Parts`](crate::Error::Parts).
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

    /// Like [`write`](Self::write), in `groups` equal parts that must lose the same number of
    /// channels.
    ///
    /// # Errors
    /// [`Error::Parts`](crate::Error::Parts) when `width` is no multiple of `groups`.
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
    /// [`Error::Parts`](crate::Error::Parts) when its width is no multiple of `groups`.
    pub fn tie_groups(&mut self, axis: Axis, groups: i64) -> Result<()> {
        let value = self.axes[self.known(axis)?].clone();
        self.one_part(&value, groups).map(|_| ())
    }

    /// One of `groups` equal parts of an axis, which then lose the same number of channels.
    ///
    /// # Errors
    /// [`Error::Parts`](crate::Error::Parts).
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

    /// Whole groups stay or go: the `width` channels of `input` are `groups` parts, each one class.
    /// Returns the axes of all input channels and of the outputs, `per_group` for each part. An
    /// output carries zeros where all of its group does. With one channel in a group this is a
    /// depthwise layer.
    ///
    /// # Errors
    /// Those of [`follow`](Self::follow), [`Error::Parts`](crate::Error::Parts).
    pub fn follow_groups(
        &mut self,
        input: &Flow,
        width: i64,
        groups: i64,
        per_group: i64,
    ) -> Result<(Axis, Axis)> {
        let value = self.given(input, width)?;
        let parts = usize::try_from(groups).unwrap_or(0);
        let size = self.cx.part_size("a convolution", &value, parts)?;
        let form = value.form.clone();
        let times = usize::try_from(per_group).unwrap_or(0);
        let outputs = self.in_front(|cx| {
            let heads = cx.operate(Operator::blocks("groups", size), &[&value], form);
            cx.repeat(heads, times)
        });
        Ok((
            self.axis("in", value, AxisRole::Followed)?,
            self.axis("out", outputs, AxisRole::Followed)?,
        ))
    }

    /// Ties equal parts, and returns the first of them.
    fn one_part(&mut self, value: &Value, groups: i64) -> Result<Value> {
        // An ordinary layer: nothing is tied, and its list stays one and the same.
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
