//! A network that can be run, traced and slimmed: `forward` and `trace` are written by hand, and
//! independently of each other.

use std::collections::BTreeMap;

use slim_runtime::{Activation, Flow, LayerVisitor, Prunable, Result, Tracer};
use slim_tests::{device, tensor};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::graph::{Function, Graph, Op, Spec, Squash};
use crate::parts::{self, Part};

pub struct Net {
    pub graph: Graph,
    /// The parts, by layer.
    parts: Vec<Box<dyn Part>>,
    /// The tensors of each layer, by name.
    pub tensors: Vec<BTreeMap<&'static str, Tensor>>,
}

impl Net {
    /// The network in double precision. The same graph gives the same network.
    pub fn new(graph: &Graph) -> (Self, VarStore) {
        // Tensors this small gain nothing from threads, least of all while tests run beside each
        // other.
        tch::set_num_threads(1);
        let mut vs = VarStore::new(device());
        let mut net = Net { graph: graph.clone(), parts: Vec::new(), tensors: Vec::new() };
        for (i, layer) in graph.layers.iter().enumerate() {
            let tied = |name: &str| {
                let tie = layer.ties.iter().find(|tie| tie.name == name)?;
                Some(net.tensors[tie.owner.0][tie.owner.1].shallow_clone())
            };
            let (part, tensors) =
                parts::make(&vs.root() / name(i), graph.rank, graph.side(), &layer.spec, &tied);
            net.parts.push(part);
            net.tensors.push(tensors);
        }
        vs.double();
        // A variable that a tied tensor replaced belongs to no layer.
        tch::no_grad(|| vs.variables().values_mut().for_each(|variable| _ = variable.zero_()));
        net.randomise();
        (net, vs)
    }

    /// Fills the tensors from a separate generator, since torch's is shared by all threads.
    fn randomise(&self) {
        let _no_grad = tch::no_grad_guard();
        let mut random = fastrand::Rng::with_seed(self.graph.seed);
        for (layer, tensors) in self.graph.layers.iter().zip(&self.tensors) {
            for (&name, tensor) in tensors {
                let fan_in: i64 = tensor.size().iter().skip(1).product();
                let scale = matches!(layer.spec, Spec::Norm { .. } | Spec::Scale { .. })
                    && matches!(name, "weight" | "value");
                let value = |random: &mut fastrand::Rng| match name {
                    "running_var" => 0.5 + random.f64(),
                    _ if scale && self.graph.coarse => f64::from(random.i32(-4..=4)) / 4.,
                    _ => (2. * random.f64() - 1.) / (fan_in as f64 / 2.).max(1.).sqrt(),
                };
                let values: Vec<f64> = (0..tensor.numel()).map(|_| value(&mut random)).collect();
                tensor.shallow_clone().copy_(&Tensor::from_slice(&values).view_as(tensor));
            }
        }
    }

    /// Inputs from the graph's seed.
    pub fn images(&self) -> Vec<Tensor> {
        let mut random = fastrand::Rng::with_seed(!self.graph.seed);
        let inputs = self.graph.shapes[..self.graph.inputs.len()]
            .iter()
            .map(|&shape| self.graph.size(shape));
        let mut image = |size: Vec<i64>| {
            let values: Vec<f64> =
                (0..size.iter().product()).map(|_| 2. * random.f64() - 1.).collect();
            tensor(&values).view(&size[..])
        };
        inputs.map(&mut image).collect()
    }

    pub fn forward(&self, images: &[Tensor]) -> Vec<Tensor> {
        let values = self.values(images);
        self.graph.outputs.iter().map(|&output| values[output].shallow_clone()).collect()
    }

    /// All values that the network computes.
    pub fn values(&self, images: &[Tensor]) -> Vec<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let mut values: Vec<Tensor> = images.iter().map(Tensor::shallow_clone).collect();
        for op in &self.graph.ops {
            match op {
                Op::Apply { layer, from } => {
                    let given = self.parts[*layer].forward(&values[*from]);
                    values.extend(given);
                }
                op => {
                    let given = self.compute(op, &values);
                    values.push(given);
                }
            }
        }
        values
    }

    /// The flow that a linear layer reads. In a graph with a concatenation, the flattening of
    /// images must be declared; otherwise it is inferred.
    fn flattened(&self, cx: &mut Tracer, layer: usize, from: usize, flow: &Flow) -> Result<Flow> {
        let said = self.graph.ops.iter().any(|op| matches!(op, Op::Concat(_)));
        match self.graph.layers[layer].spec {
            Spec::Linear { .. } if said && !self.graph.shapes[from].flat => {
                cx.flatten(flow, self.graph.positions() as usize)
            }
            _ => Ok(flow.clone()),
        }
    }

    fn compute(&self, op: &Op, values: &[Tensor]) -> Tensor {
        match *op {
            Op::Apply { .. } => unreachable!(),
            Op::Activate { function, from } => activate(function, &values[from]),
            Op::Add(a, b) => &values[a] + &values[b],
            Op::Multiply(a, b, squash) => {
                let gate = match squash {
                    None => values[b].shallow_clone(),
                    Some(Squash::Sigmoid) => values[b].sigmoid(),
                    Some(Squash::Hardsigmoid) => values[b].hardsigmoid(),
                };
                &values[a] * gate
            }
            Op::Concat(ref parts) => {
                Tensor::cat(&parts.iter().map(|&part| &values[part]).collect::<Vec<_>>(), 1)
            }
            Op::Chunk { from, chunks, index } => {
                values[from].chunk(chunks, 1)[index as usize].shallow_clone()
            }
            Op::ViewShuffle { from, groups } => {
                let (xs, size) = (&values[from], values[from].size());
                let cut: Vec<i64> = [size[0], groups, size[1] / groups]
                    .into_iter()
                    .chain(size[2..].iter().copied())
                    .collect();
                xs.contiguous().view(&cut[..]).transpose(1, 2).contiguous().view(&size[..])
            }
            Op::PixelShuffle { from, factor } => values[from].pixel_shuffle(factor).avg_pool2d(
                [factor; 2],
                [factor; 2],
                [0, 0],
                false,
                true,
                None,
            ),
            Op::Mean { from } => values[from].flatten(2, -1).mean_dim(-1, false, Kind::Double),
            Op::Expand { from } => {
                let size = values[from].size();
                let ones = vec![1; self.graph.rank];
                let sides = vec![self.graph.side(); self.graph.rank];
                values[from]
                    .contiguous()
                    .view(&[&size[..], &ones].concat()[..])
                    .expand(&[&size[..], &sides].concat()[..], false)
            }
            Op::Keep { from } => values[from].shallow_clone(),
        }
    }
}

fn activate(function: Function, xs: &Tensor) -> Tensor {
    match function {
        Function::Relu => xs.relu(),
        Function::Tanh => xs.tanh(),
        Function::Silu => xs.silu(),
        Function::LeakyRelu => xs.leaky_relu(),
        Function::Gelu => xs.gelu("none"),
    }
}

/// The library's name of a function.
fn said(function: Function) -> Activation {
    match function {
        Function::Relu => Activation::Relu,
        Function::Tanh => Activation::Tanh,
        Function::Silu => Activation::Silu,
        Function::LeakyRelu => Activation::LeakyRelu(0.01),
        Function::Gelu => Activation::Gelu,
    }
}

/// Field path of a layer.
pub fn name(layer: usize) -> String {
    format!("l{layer}")
}

impl Prunable for Net {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        cx.explicit();
        let mut flows = match self.graph.inputs[..] {
            [width] => vec![cx.expect_input(&input, width)?],
            ref widths => {
                let all = cx.expect_inputs(&input, widths)?;
                (0..widths.len()).map(|i| cx.part(&all, i)).collect::<Result<_>>()?
            }
        };
        for op in &self.graph.ops {
            let flow = match *op {
                Op::Apply { layer, from } => {
                    let flow = self.flattened(cx, layer, from, &flows[from])?;
                    cx.field(name(layer), |cx| self.parts[layer].trace(cx, flow))?
                }
                Op::Activate { function, from } => cx.activation(&flows[from], said(function))?,
                Op::Mean { from } => flows[from].clone(),
                Op::Expand { from } => cx.expand(&flows[from])?,
                Op::Add(a, b) => cx.add(&flows[a], &flows[b])?,
                Op::Multiply(a, b, None) => cx.multiply(&flows[a], &flows[b])?,
                Op::Multiply(a, b, Some(_)) => {
                    let gate = cx.ungate(&flows[b])?;
                    cx.multiply(&flows[a], &gate)?
                }
                Op::Concat(ref parts) => {
                    cx.concat(&parts.iter().map(|&part| flows[part].clone()).collect::<Vec<_>>())?
                }
                Op::Chunk { from, chunks, index } => {
                    cx.chunk(&flows[from], chunks as usize, index as usize)?
                }
                Op::ViewShuffle { from, groups } => cx.shuffle(&flows[from], groups as usize)?,
                Op::PixelShuffle { from, factor } => {
                    cx.pixel_shuffle(&flows[from], factor as usize)?
                }
                Op::Keep { from } => {
                    cx.keep(&flows[from]);
                    flows[from].clone()
                }
            };
            flows.extend(flow.into_parts());
        }
        let outputs: Vec<_> =
            self.graph.outputs.iter().map(|&output| flows[output].clone()).collect();
        Ok(match outputs.len() {
            1 => outputs[0].clone(),
            _ => Flow::tuple(outputs),
        })
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        self.parts
            .iter_mut()
            .enumerate()
            .try_for_each(|(i, part)| visit.field(name(i), |visit| part.layers_mut(visit)))
    }
}
