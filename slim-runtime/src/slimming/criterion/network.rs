//! What the candidates of one network share: each value is computed when a criterion first asks for
//! it, and once.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use tch::{Kind, TchError, Tensor};

use crate::analysis::{Graph, Producer, Producers, producers};
use crate::graph::{AxisNode, AxisRole, ChannelId, LayerNode, Role, ValueId};
use crate::{Error, Result};

/// By layer and axis: the squared L2 norm of the filter of each channel.
type Squares = HashMap<(usize, usize), Rc<[f64]>>;

/// A network whose channels are scored.
pub(crate) struct Network<'g> {
    graph: &'g Graph,
    /// By value: the layers with filters that its channels come from.
    producers: OnceCell<Vec<Producers>>,
    squares: RefCell<Squares>,
    /// By channel group: what the loss changes by, to first order, when the group goes.
    changes: OnceCell<Vec<Option<f64>>>,
    /// By channel group: whether a scale scales one of its channels.
    scaled: OnceCell<Vec<bool>>,
}

impl<'g> Network<'g> {
    pub(crate) fn new(graph: &'g Graph) -> Self {
        Self {
            graph,
            producers: OnceCell::new(),
            squares: RefCell::default(),
            changes: OnceCell::new(),
            scaled: OnceCell::new(),
        }
    }

    /// The L2 norm of the filters that make each channel of a value; `None` if no filter makes one
    /// of them.
    pub(super) fn filter_norms(&self, value: ValueId) -> Result<Option<Vec<f64>>> {
        let producers = self
            .producers
            .get_or_init(|| producers(self.graph, |layer, axis| layer.filter(axis).is_some()));
        let mut norms = Vec::with_capacity(self.graph.values[value].len());
        for made_by in producers[value].iter() {
            let mut squares = None;
            for &Producer { layer, axis, channel } in made_by {
                let Some(filters) = self.squares(layer, axis)? else { continue };
                let square = filters.get(channel).copied().unwrap_or_default();
                *squares.get_or_insert(0.) += square;
            }
            let Some(squares) = squares else { return Ok(None) };
            norms.push(f64::sqrt(squares));
        }
        Ok((norms.len() == self.graph.values[value].len()).then_some(norms))
    }

    /// What the loss changes by, to first order, when the channel group of each channel of an axis
    /// goes; `None` if no parameter of any of these groups has a gradient.
    pub(super) fn group_changes(&self, axis: &AxisNode) -> Result<Option<Vec<f64>>> {
        let changes = match self.changes.get() {
            Some(changes) => changes,
            None => {
                let changes = changes(self.graph)?;
                self.changes.get_or_init(|| changes)
            }
        };
        let of_group = |&id: &ChannelId| changes[self.graph.channel_group(id)];
        let any = axis.ids.iter().any(|id| of_group(id).is_some());
        Ok(any.then(|| axis.ids.iter().map(|id| of_group(id).unwrap_or_default()).collect()))
    }

    /// Whether a scale scales a channel of an axis, or one of its group.
    pub(super) fn is_scaled(&self, axis: &AxisNode) -> bool {
        let scaled = self.scaled.get_or_init(|| {
            let mut scaled = vec![false; self.graph.channel_group.len()];
            for (layer, ranked) in self.graph.scales() {
                for &id in layer.axes[ranked.axis].ids.iter() {
                    scaled[self.graph.channel_group(id)] = true;
                }
            }
            scaled
        });
        axis.ids.iter().any(|&id| scaled[self.graph.channel_group(id)])
    }

    /// The squared L2 norm of the filter of each channel of an axis; `None` if it has no filters.
    fn squares(&self, layer: usize, axis: usize) -> Result<Option<Rc<[f64]>>> {
        if let Some(known) = self.squares.borrow().get(&(layer, axis)) {
            return Ok(Some(Rc::clone(known)));
        }
        let node = self.graph.layer(layer);
        let Some((tensor, dim)) = node.filter(axis) else { return Ok(None) };
        let squares = squares(node, axis, (tensor, dim))
            .map_err(Error::torch(format!("{}.{}", node.path, node.tensors[tensor].name)))?;
        let squares: Rc<[f64]> = squares.into();
        self.squares.borrow_mut().insert((layer, axis), Rc::clone(&squares));
        Ok(Some(squares))
    }
}

/// The sums of the squared weights of each channel of an axis, in double precision.
fn squares(
    node: &LayerNode,
    axis: usize,
    (tensor, dim): (usize, usize),
) -> Result<Vec<f64>, TchError> {
    let weight = &node.tensors[tensor].tensor;
    let squares = weight.f_detach()?.f_to_kind(Kind::Double)?.f_square()?;
    let (width, size) = (node.axes[axis].ids.len() as i64, weight.size()[dim]);
    // The channels of the axis are those of all groups, and each group has its own rows.
    let groups = width / size.max(1);
    let rows = squares.f_transpose(0, dim as i64)?.f_reshape([size, groups.max(1), -1])?;
    let sums = rows.f_sum_dim_intlist([2].as_slice(), false, Kind::Double)?;
    Vec::try_from(sums.f_transpose(0, 1)?.f_reshape([-1])?)
}

/// By channel group: the sum of parameter times gradient over all parameters that make or scale its
/// channels, which are those that [`Masking::Parameters`](crate::criterion::Masking) sets to zero.
/// `None` for a group that has no parameter with a gradient.
fn changes(graph: &Graph) -> Result<Vec<Option<f64>>> {
    // Per tensor, by the place where it is bound first: its dimensions that follow channels which
    // it makes or scales, from all places that share it.
    let mut dims: BTreeMap<(usize, usize), BTreeMap<usize, &AxisNode>> = BTreeMap::new();
    for (index, node) in graph.layers.iter().enumerate() {
        for (tensor, bound) in node.tensors.iter().enumerate() {
            let axes = bound.axes.iter().enumerate().filter_map(|(dim, axis)| {
                Some((dim, &node.axes[(*axis)?])).filter(|(_, axis)| axis.role != AxisRole::Read)
            });
            if bound.role == Role::Parameter {
                dims.entry(bound.tied.unwrap_or((index, tensor))).or_default().extend(axes);
            }
        }
    }
    let mut changes = vec![None; graph.channel_group.len()];
    for (place, dims) in dims {
        let tensor = &graph.layers[place.0].tensors[place.1].tensor;
        for (dim, axis) in dims {
            let sums = sums(tensor, dim).map_err(Error::torch(graph.tensor_path(place)))?;
            for (&id, change) in axis.ids.iter().zip(sums.into_iter().flatten()) {
                *changes[graph.channel_group(id)].get_or_insert(0.) += change;
            }
        }
    }
    Ok(changes)
}

/// For each position of a dimension: the sum of value times gradient, in double precision. `None`
/// without a gradient.
fn sums(tensor: &Tensor, dim: usize) -> Result<Option<Vec<f64>>, TchError> {
    let gradient = tensor.f_grad()?;
    if !gradient.defined() {
        return Ok(None);
    }
    let values = tensor.f_detach()?.f_to_kind(Kind::Double)?;
    let products = values.f_mul(&gradient.f_to_kind(Kind::Double)?)?;
    let rows = products.f_transpose(0, dim as i64)?.f_reshape([tensor.size()[dim], -1])?;
    Vec::try_from(rows.f_sum_dim_intlist([1].as_slice(), false, Kind::Double)?).map(Some)
}
