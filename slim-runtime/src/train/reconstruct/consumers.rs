//! The layers that lose inputs, and what they read and write on a batch.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use tch::{TchError, Tensor};

use super::moments::Moments;
use super::{LeftLayer, refused};
use crate::analysis::{Graph, Neighbours, neighbours};
use crate::graph::{KeepList, LayerKind, LayerNode, Maker, TensorNode, memory};
use crate::nn::recorder::{self, LayerCall};
use crate::plan::{LayerPlan, Plan};
use crate::{Error, Result};

/// A layer that loses inputs, and whose weights can be solved.
pub(super) struct Consumer<'g> {
    node: &'g LayerNode,
    weight: &'g TensorNode,
    /// The outputs that stay: rows of the weight.
    pub(super) out: Tensor,
    /// The inputs that stay: columns of the weight.
    pub(super) inputs: Tensor,
    pub(super) intercept: Option<Intercept>,
    /// The dimension of its input and output that holds channels, counted from the end; 1 for a
    /// linear layer.
    from_end: i64,
}

/// The tensor that a constant is added to.
pub(super) struct Intercept {
    pub(super) name: String,
    pub(super) tensor: Tensor,
    /// A bias, or the running mean of the batch norm behind the layer.
    pub(super) is_bias: bool,
}

/// The layers that lose inputs: those that can be solved, and those that cannot.
pub(super) fn consumers<'g>(
    graph: &'g Graph,
    plan: &Plan,
) -> Result<(Vec<Consumer<'g>>, Vec<LeftLayer>)> {
    let neighbours = neighbours(graph);
    // Tensors that several layers use, by the layer and tensor where they are bound first.
    let shared: HashSet<_> = graph
        .layers
        .iter()
        .flat_map(|node| node.tensors.iter().filter_map(|tensor| tensor.tied))
        .collect();
    let (mut found, mut left) = (Vec::new(), Vec::new());
    for (index, (node, planned)) in graph.layers.iter().zip(&plan.layers).enumerate() {
        if !node.reads.iter().any(|read| planned.axes[read.axis].removes()) {
            continue;
        }
        match candidate(node, planned) {
            Ok((at, weight)) if !shared.contains(&(index, at)) && weight.tied.is_none() => {
                let consumer = Consumer::new(graph, &neighbours, &shared, index, planned, weight);
                found.push(consumer.map_err(Error::torch(&node.path))?);
            }
            Ok(_) => left.push((node, "its weight is used in several places".to_owned())),
            Err(reason) => left.push((node, reason)),
        }
    }
    let left = left
        .into_iter()
        .map(|(node, reason)| LeftLayer { path: node.path.clone(), reason })
        .collect();
    Ok((found, left))
}

/// The weight of a layer that can be solved, or why the layer cannot.
fn candidate<'g>(
    node: &'g LayerNode,
    planned: &LayerPlan,
) -> Result<(usize, &'g TensorNode), String> {
    let unsolved = || format!("layers of the kind `{}` are not solved", node.kind);
    if !matches!(node.kind, LayerKind::Conv | LayerKind::Linear) || node.weight_parts != 1 {
        return Err(unsolved());
    }
    let ([read], Some(mix)) = (&node.reads[..], &node.mix) else { return Err(unsolved()) };
    let weight = node.tensors.iter().position(|tensor| tensor.name == "weight");
    let Some(at) = weight.filter(|&at| node.tensors[at].axes.get(1) == Some(&Some(read.axis)))
    else {
        return Err(unsolved());
    };
    let weight = &node.tensors[at];
    if mix.groups != 1 {
        return Err("grouped convolutions are not solved".to_owned());
    }
    if node.maker == Maker::Tch {
        let drop_in = node.drop_in(weight);
        return Err(format!(
            "it is tch's own, which does not report what it reads; build it with `slim_runtime::nn::{drop_in}` (same signature)"
        ));
    }
    let out = weight.axes[0].map(|axis| &planned.axes[axis]);
    if out.is_some_and(|axis| axis.keep.is_empty()) || planned.axes[read.axis].keep.is_empty() {
        return Err("no channel of it is left".to_owned());
    }
    Ok((at, weight))
}

impl<'g> Consumer<'g> {
    fn new(
        graph: &'g Graph,
        neighbours: &Neighbours,
        shared: &HashSet<(usize, usize)>,
        index: usize,
        planned: &LayerPlan,
        weight: &'g TensorNode,
    ) -> Result<Self, TchError> {
        let node = &graph.layers[index];
        let device = weight.tensor.device();
        let positions = |keep: &KeepList| {
            let positions: Vec<i64> = keep.iter().map(|position| position as i64).collect();
            Tensor::f_from_slice(&positions)?.f_to_device(device)
        };
        let dim = |dim: usize| match weight.axes[dim] {
            Some(axis) => positions(&planned.axes[axis].keep),
            None => Tensor::f_arange(weight.tensor.size()[dim], (tch::Kind::Int64, device)),
        };
        let tensor = |layer: usize, name: &str, is_bias: bool| {
            let node = &graph.layers[layer];
            let at = node.tensors.iter().position(|tensor| tensor.name == name)?;
            let bound = &node.tensors[at];
            let is_alone = bound.tied.is_none() && !shared.contains(&(layer, at));
            is_alone.then(|| Intercept {
                name: graph.tensor_path((layer, at)),
                tensor: bound.tensor.shallow_clone(),
                is_bias,
            })
        };
        let has_bias = node.tensors.iter().any(|tensor| tensor.name == "bias");
        let intercept = match neighbours.norm[index] {
            _ if has_bias => tensor(index, "bias", true),
            Some(norm) => tensor(norm, "running_mean", false),
            None => None,
        };
        Ok(Self {
            node,
            weight,
            out: dim(0)?,
            inputs: dim(1)?,
            intercept,
            from_end: weight.tensor.dim() as i64 - 1,
        })
    }

    pub(super) fn path(&self) -> &'g str {
        &self.node.path
    }

    pub(super) fn tensor_name(&self) -> String {
        format!("{}.{}", self.node.path, self.weight.name)
    }

    pub(super) fn weight(&self) -> &'g Tensor {
        &self.weight.tensor
    }

    /// The values of a weight that stay.
    pub(super) fn kept(&self, weight: &Tensor) -> Result<Tensor, TchError> {
        weight.f_index_select(0, &self.out)?.f_index_select(1, &self.inputs)
    }

    /// What the layer writes on each batch, of the outputs that stay, call by call.
    pub(super) fn outputs<M: ?Sized, X, Y>(
        &self,
        model: &M,
        batches: &[X],
        forward: impl Fn(&M, &X) -> Y,
    ) -> Result<VecDeque<Tensor>> {
        let (out, from_end) = (self.out.shallow_clone(), self.from_end);
        let outputs = self.watch(model, batches, forward, VecDeque::new(), move |seen, call| {
            seen.push_back(call.output.f_index_select(-from_end, &out)?);
            Ok(())
        });
        outputs.map_err(Error::torch(self.path()))
    }

    /// The moments of what the layer reads and of the residual of its output, over all batches.
    /// `targets` has what it should write, call by call.
    pub(super) fn moments<M: ?Sized, X, Y>(
        &self,
        model: &M,
        batches: &[X],
        targets: VecDeque<Tensor>,
        forward: impl Fn(&M, &X) -> Y,
    ) -> Result<Moments> {
        let (out, inputs, from_end) =
            (self.out.shallow_clone(), self.inputs.shallow_clone(), self.from_end);
        let kernel = self.weight.tensor.size().split_off(2);
        let start = (targets, Moments::default(), true);
        let seen =
            self.watch(model, batches, forward, start, move |(targets, moments, same), call| {
                let (input, output) = (
                    call.input.f_index_select(-from_end, &inputs)?,
                    call.output.f_index_select(-from_end, &out)?,
                );
                match targets.pop_front() {
                    Some(target) if target.size() == output.size() => {
                        moments.add(&input, [&target, &output], call.sliding.as_ref(), &kernel)
                    }
                    _ => {
                        *same = false;
                        Ok(())
                    }
                }
            });
        match seen.map_err(Error::torch(self.path()))? {
            (targets, moments, true) if targets.is_empty() => Ok(moments),
            _ => {
                let reason = "`forward` calls it in another way each time; run the same layers, without random choices";
                Err(refused(self.path(), reason))
            }
        }
    }

    /// Runs the model on each batch, and hands each call of the layer to `on_call`.
    fn watch<M: ?Sized, X, Y, S: 'static>(
        &self,
        model: &M,
        batches: &[X],
        forward: impl Fn(&M, &X) -> Y,
        start: S,
        on_call: impl Fn(&mut S, &LayerCall<'_>) -> Result<(), TchError> + 'static,
    ) -> Result<S, TchError> {
        // Inside a trial, where a mask may have moved it.
        let wanted = memory(&self.weight.tensor);
        let seen = Rc::new(RefCell::new((start, Ok(()))));
        let shared = Rc::clone(&seen);
        let observer = move |call: &LayerCall<'_>| {
            let (state, result) = &mut *shared.borrow_mut();
            if result.is_ok() && memory(call.weight) == wanted {
                // `forward` may have enabled gradients.
                let _no_grad = tch::no_grad_guard();
                *result = on_call(state, call);
            }
        };
        let run = || batches.iter().for_each(|batch| drop(forward(model, batch)));
        recorder::observe(observer, run);
        match Rc::try_unwrap(seen) {
            Ok(seen) => {
                let (state, result) = seen.into_inner();
                result.map(|()| state)
            }
            // The observer is gone with its recording.
            Err(_) => Err(TchError::Torch("a recording has not ended".to_owned())),
        }
    }
}
