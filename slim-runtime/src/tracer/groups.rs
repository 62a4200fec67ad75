//! Layers that treat their input in groups: grouped and depthwise convolutions.

use std::borrow::Cow;

use super::{Axis, AxisRole, LayerTracer};
use crate::Result;
use crate::flow::{Channels, Flow};

impl LayerTracer<'_> {
    /// Like [`read`](Self::read), in `groups` equal parts that must lose the same number of channels: those at one position of them become one.
    /// The axis is that of one part, which is what a weight's dimension follows.
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
        let channels = self.given(input, width)?;
        self.hold_ungated(&channels);
        let part = self.one_part(&channels, groups)?;
        let axis = self.axis(name, part, AxisRole::Read)?;
        self.reads(axis, &channels);
        Ok(axis)
    }

    /// Like [`write`](Self::write), in `groups` equal parts that must lose the same number of channels.
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
        let channels = self.axes[self.known(axis)?].clone();
        self.one_part(&channels, groups).map(|_| ())
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
        let channels = self.axes[axis].clone();
        let role = if self.node().axes[axis].role == AxisRole::Made {
            AxisRole::MadePart
        } else {
            AxisRole::Followed
        };
        let part = self.one_part(&channels, groups)?;
        self.axis(name, part, role)
    }

    /// Whole groups stay or go: the `width` channels of `input` are `groups` parts, each one class. Returns the axes of all input channels and of the
    /// outputs, `per_group` for each part. An output carries zeros where all of its group does. With one channel in a group this is a depthwise layer.
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
        let channels = self.given(input, width)?;
        let size =
            self.cx.part_size("a convolution", &channels, usize::try_from(groups).unwrap_or(0))?;
        channels
            .ids
            .chunks(size)
            .for_each(|ids| ids.iter().for_each(|&id| self.cx.classes.union(ids[0], id)));
        let mut heads = channels.select((0..channels.len()).step_by(size));
        heads.sent = self.cx.sent_by_blocks(&channels, size);
        heads.gated =
            channels.gated.chunks(size).map(|gates| gates.iter().all(|&gated| gated)).collect();
        let outputs = heads.repeated(usize::try_from(per_group).unwrap_or(0));
        Ok((
            self.axis("in", channels, AxisRole::Followed)?,
            self.axis("out", outputs, AxisRole::Followed)?,
        ))
    }

    /// Ties equal parts, and returns the first of them.
    fn one_part(&mut self, channels: &Channels, groups: i64) -> Result<Channels> {
        // An ordinary layer: nothing is tied, and its list stays one and the same.
        if groups == 1 && !channels.is_empty() {
            return Ok(Channels { origin: None, ..channels.clone() });
        }
        let size =
            self.cx.part_size("a convolution", channels, usize::try_from(groups).unwrap_or(0))?;
        self.cx.tie_parts(channels, size);
        Ok(channels.select(0..size))
    }
}
