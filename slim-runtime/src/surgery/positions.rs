//! The positions that stay, as index tensors: sent to each device once, all in one.

use std::collections::HashMap;
use std::rc::Rc;

use tch::{Device, TchError, Tensor};

use crate::analysis::Graph;
use crate::plan::Plan;

/// One list of positions for each list of channels that loses some, however many dimensions follow
/// it.
pub(super) struct KeptPositions {
    /// By layer and axis: its list.
    lists: Vec<Vec<Option<usize>>>,
    /// Where each list begins in `all`, and how long it is.
    places: Vec<(i64, i64)>,
    all: Tensor,
    /// The lists on the devices that asked for them.
    sent: Vec<(Device, Vec<Tensor>)>,
}

impl KeptPositions {
    /// # Errors
    /// libtorch's, for want of memory.
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

    /// The dimensions that lose channels, each with the list of what stays, of a tensor whose
    /// dimensions follow these axes of a layer.
    pub(super) fn cut(&self, layer: usize, axes: &[Option<usize>]) -> Vec<(usize, usize)> {
        axes.iter()
            .enumerate()
            .filter_map(|(dim, axis)| Some((dim, self.lists[layer][(*axis)?]?)))
            .collect()
    }

    /// All lists, on a device.
    ///
    /// # Errors
    /// libtorch's, for want of memory.
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
