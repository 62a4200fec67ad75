//! The positions that stay, as index tensors: sent to each device once, in one tensor.

use std::collections::HashMap;
use std::rc::Rc;

use tch::{Device, TchError, Tensor};

use crate::analysis::Graph;
use crate::plan::Plan;

/// The lists of positions that stay: one for each list of channels that loses some, shared by all
/// dimensions that follow these channels.
pub(super) struct KeptPositions {
    /// Per layer and axis: the number of its list; `None` if the axis loses no channel.
    lists: Vec<Vec<Option<usize>>>,
    /// Per list: where it begins in `all`, and its length.
    places: Vec<(i64, i64)>,
    all: Tensor,
    /// The lists on each device that asked for them.
    sent: Vec<(Device, Vec<Tensor>)>,
}

impl KeptPositions {
    /// # Errors
    /// Those of libtorch, when memory runs out.
    pub(super) fn staying(graph: &Graph, plan: &Plan) -> Result<Self, TchError> {
        let (mut lists, mut places, mut all) =
            (Vec::with_capacity(graph.layers.len()), Vec::new(), Vec::new());
        let mut known = HashMap::new();
        for (node, layer) in graph.layers.iter().zip(&plan.layers) {
            let list = node.axes.iter().zip(&layer.axes).map(|(axis, planned)| {
                let mut new = || {
                    places.push((all.len() as i64, planned.keep.len() as i64));
                    all.extend(planned.keep.iter().map(|position| position as i64));
                    places.len() - 1
                };
                planned
                    .removes()
                    .then(|| *known.entry(Rc::as_ptr(&axis.ids)).or_insert_with(&mut new))
            });
            lists.push(list.collect());
        }
        Ok(Self { lists, places, all: Tensor::f_from_slice(&all)?, sent: Vec::new() })
    }

    /// The dimensions of a tensor that lose channels, each with its list. `axes` are the axes of
    /// the layer that the dimensions follow.
    pub(super) fn cut(&self, layer: usize, axes: &[Option<usize>]) -> Vec<(usize, usize)> {
        axes.iter()
            .enumerate()
            .filter_map(|(dim, axis)| Some((dim, self.lists[layer][(*axis)?]?)))
            .collect()
    }

    /// All lists, on a device.
    ///
    /// # Errors
    /// Those of libtorch, when memory runs out.
    pub(super) fn on(&mut self, device: Device) -> Result<&[Tensor], TchError> {
        let known = self.sent.iter().position(|(sent, _)| *sent == device);
        let index = known.map_or_else(|| self.send(device), Ok)?;
        Ok(&self.sent[index].1)
    }

    fn send(&mut self, device: Device) -> Result<usize, TchError> {
        let all = self.all.f_to_device(device)?;
        let lists = self
            .places
            .iter()
            .map(|&(begin, len)| all.f_narrow(0, begin, len))
            .collect::<Result<_, _>>()?;
        self.sent.push((device, lists));
        Ok(self.sent.len() - 1)
    }
}
