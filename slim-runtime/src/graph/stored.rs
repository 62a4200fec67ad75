//! The tensors and numbers that a layer stores, and the lists of channels that they follow.

use std::rc::Rc;

use tch::Tensor;

use super::layer::{Axis, LayerTracer};
use super::memory;
use super::node::{LayerHold, Ranked, State, TensorNode};
use super::value::ChannelId;
use crate::error::WiringError;
use crate::graph::{KeepReason, Role};
use crate::{Error, Result};

impl LayerTracer<'_> {
    /// Binds a trained tensor. `axes` names the dimensions that follow channels, each with its
    /// axis.
    ///
    /// # Errors
    /// [`WiringError::Shape`](crate::error::WiringError::Shape) when a dimension is not as wide as
    /// its axis, [`WiringError::NotALeaf`](crate::error::WiringError::NotALeaf).
    pub fn parameter(
        &mut self,
        name: &'static str,
        tensor: &Tensor,
        axes: &[(usize, Axis)],
    ) -> Result<()> {
        self.bind(name, tensor, axes, Role::Parameter)
    }

    /// Binds a tensor that is not trained (running statistics). `axes` names the dimensions that
    /// follow channels, each with its axis.
    ///
    /// # Errors
    /// As for [`parameter`](Self::parameter).
    pub fn buffer(
        &mut self,
        name: &'static str,
        tensor: &Tensor,
        axes: &[(usize, Axis)],
    ) -> Result<()> {
        self.bind(name, tensor, axes, Role::Buffer)
    }

    /// Binds a trained scale `[channels]` whose magnitudes rank the channels of `axis` (a batch
    /// norm's γ).
    ///
    /// # Errors
    /// As for [`parameter`](Self::parameter).
    pub fn score(&mut self, name: &'static str, scale: &Tensor, axis: Axis) -> Result<()> {
        self.bind(name, scale, &[(0, axis)], Role::Parameter)?;
        let shape = scale.size();
        if shape.len() != 1 {
            let rule = "must have one value per channel and no other dimension".to_owned();
            return Err(Error::Wiring(WiringError::Shape {
                path: self.cx.path(),
                tensor: name.to_owned(),
                shape,
                rule,
            }));
        }
        let node = self.node();
        node.ranked = Some(Ranked {
            tensor: node.tensors.len() - 1,
            dim: 0,
            axis: axis.index,
            is_scale: true,
            first: true,
        });
        Ok(())
    }

    /// Declares a number in the layer that counts the channels of `axis`.
    /// [`LayerVisitor::size`](crate::LayerVisitor::size) updates it.
    ///
    /// # Errors
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) when another layer at this path has
    /// state of this name.
    pub fn size(&mut self, name: &'static str, axis: Axis) -> Result<()> {
        self.sizes(name, &[axis])
    }

    /// Declares numbers in the layer, each of which counts the channels of an axis.
    /// [`LayerVisitor::sizes`](crate::LayerVisitor::sizes) updates them.
    ///
    /// # Errors
    /// As for [`size`](Self::size).
    pub fn sizes(&mut self, name: &'static str, axes: &[Axis]) -> Result<()> {
        let axes = axes.iter().map(|&axis| self.known(axis)).collect::<Result<_>>()?;
        self.state(name, State::Sizes(axes))
    }

    /// Declares positions in the layer: for each channel of `to`, its position in `from`.
    /// [`LayerVisitor::indices`](crate::LayerVisitor::indices) updates them.
    ///
    /// # Errors
    /// As for [`size`](Self::size).
    pub fn indices(&mut self, name: &'static str, from: Axis, to: Axis) -> Result<()> {
        let (from, to) = (self.known(from)?, self.known(to)?);
        self.state(name, State::Indices { from, to })
    }

    /// Declares state. A layer that is used twice has one state, so its channels are the same in
    /// both places.
    fn state(&mut self, name: &'static str, state: State) -> Result<()> {
        let here = (self.index, self.node().states.len());
        let key = (self.cx.path(), name);
        let first = *self.cx.states.entry(key).or_insert(here);
        let axes = state.axes();
        self.node().states.push((name, state));
        if first == here {
            return Ok(());
        }
        let before = &self.cx.recording.layers[first.0];
        let ids_before: Vec<_> = before.states[first.1]
            .1
            .axes()
            .into_iter()
            .map(|axis| Rc::clone(&before.axes[axis].ids))
            .collect();
        let ids_now: Vec<_> =
            axes.into_iter().map(|axis| Rc::clone(&self.axes[axis].ids)).collect();
        if ids_before.iter().map(|ids| ids.len()).ne(ids_now.iter().map(|ids| ids.len())) {
            return Err(self.cx.layer_error(format!(
                "two layers have `{name}` here; give each a name of its own with `Tracer::field`"
            )));
        }
        self.node().ties.extend(ids_before.into_iter().zip(ids_now));
        Ok(())
    }

    fn bind(
        &mut self,
        name: &'static str,
        tensor: &Tensor,
        axes: &[(usize, Axis)],
        role: Role,
    ) -> Result<()> {
        let axes = axes
            .iter()
            .map(|&(dim, axis)| Ok((dim, self.known(axis)?)))
            .collect::<Result<Vec<_>>>()?;
        self.check(name, tensor, &axes)?;
        let mut dims = vec![None; tensor.dim()];
        for (dim, axis) in axes {
            dims[dim] = Some(axis);
        }
        let tied = self.tie(name, tensor, &dims)?;
        let tensor = tensor.shallow_clone();
        let node = self.node();
        // A tensor that makes channels has a dimension for them and at least one other. A bias has
        // only one dimension.
        let makes = |axis: &Option<usize>| axis.is_some_and(|axis| node.axes[axis].role.is_made());
        if let (None, Role::Parameter, 2.., Some(dim)) =
            (&node.ranked, role, dims.len(), dims.iter().position(makes))
        {
            let axis = dims[dim].unwrap_or_default();
            node.ranked = Some(Ranked {
                tensor: node.tensors.len(),
                dim,
                axis,
                is_scale: false,
                first: true,
            });
        }
        node.tensors.push(TensorNode { name, tensor, axes: dims, role, tied });
        Ok(())
    }

    fn check(&self, name: &'static str, tensor: &Tensor, axes: &[(usize, usize)]) -> Result<()> {
        let is_leaf = tensor.f_is_leaf();
        let torch = |error| Error::torch(format!("{}.{name}", self.cx.path()))(error);
        if !is_leaf.map_err(torch)? {
            return Err(Error::Wiring(WiringError::NotALeaf {
                path: self.cx.path(),
                tensor: name.to_owned(),
            }));
        }
        let shape = tensor.size();
        for &(dim, axis) in axes {
            let width = self.axes[axis].len() as i64;
            if shape.get(dim) != Some(&width) {
                let (path, tensor) = (self.cx.path(), name.to_owned());
                let rule = format!("must have {width} in dimension {dim}");
                return Err(Error::Wiring(WiringError::Shape { path, tensor, shape, rule }));
            }
        }
        Ok(())
    }

    /// Ties the channels of a tensor that was bound before: both places have the same channels. A
    /// dimension that follows an axis in only one of the places is held.
    fn tie(
        &mut self,
        name: &'static str,
        tensor: &Tensor,
        dims: &[Option<usize>],
    ) -> Result<Option<(usize, usize)>> {
        let Some((address, layout)) = memory(tensor) else { return Ok(None) };
        let here = (self.index, self.node().tensors.len());
        let (first, first_layout) =
            self.cx.bound.entry(address).or_insert_with(|| (here, layout.clone()));
        let first = *first;
        if first == here {
            return Ok(None);
        }
        if *first_layout != layout {
            let owner = self.cx.recording.tensor_path(first);
            return Err(Error::Wiring(WiringError::NotShared {
                path: self.cx.path(),
                tensor: name.to_owned(),
                owner,
            }));
        }
        let before = &self.cx.recording.layers[first.0];
        let ids_before = |axis: usize| Rc::clone(&before.axes[axis].ids);
        let pairs: Vec<_> = before.tensors[first.1]
            .axes
            .iter()
            .map(|axis| axis.map(ids_before))
            .zip(dims)
            .collect();
        for pair in pairs {
            match pair {
                (Some(before), &Some(axis)) => {
                    let now = Rc::clone(&self.axes[axis].ids);
                    self.node().ties.push((before, now));
                }
                (Some(free), None) => self.hold_tied(&free),
                (None, &Some(axis)) => self.hold_tied(&Rc::clone(&self.axes[axis].ids)),
                (None, None) => {}
            }
        }
        Ok(Some(first))
    }

    fn hold_tied(&mut self, ids: &Rc<[ChannelId]>) {
        let reason = KeepReason::Tied { by: self.cx.path() };
        self.node().holds.push(LayerHold::All(Rc::clone(ids), reason));
    }
}
