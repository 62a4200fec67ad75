//! Random networks: each gene adds an op or a block at the place that its numbers select, so any
//! list of genes is a network, and fewer genes are a smaller one.

use proptest::prelude::*;

use crate::gene::{Gene, Kind, gene};
use crate::graph::{Conv, Function, Graph, Groups, Layer, Op, Shape, Spec, Squash, Value};
use crate::reuse;

/// The largest width of a flow.
pub const WIDEST: i64 = 16;

/// Networks over images of `rank` dimensions.
pub fn graph(rank: impl Strategy<Value = usize>) -> impl Strategy<Value = Graph> {
    let inputs = prop_oneof![4 => Just(vec![3]), 1 => Just(vec![1]), 1 => Just(vec![3, 2])];
    let genes = prop::collection::vec(gene(), 1..20);
    (rank, inputs, gene(), genes, any::<(u64, bool, u16)>()).prop_map(
        |(rank, inputs, stem, genes, (seed, coarse, outputs))| {
            let mut grower = Grower::new(rank, inputs, seed, coarse);
            // The batch norm of the stem gives most networks something to remove.
            let stem = Gene { kind: Kind::Conv, flags: 0, ..stem };
            [stem].iter().chain(&genes).for_each(|gene| grower.grow(gene));
            grower.finish(outputs)
        },
    )
}

/// Whether a value is behind a batch norm, a convolution, or something else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Behind {
    Norm,
    Conv,
    Other,
}

pub struct Grower {
    pub graph: Graph,
    pub behind: Vec<Behind>,
}

impl Grower {
    fn new(rank: usize, inputs: Vec<i64>, seed: u64, coarse: bool) -> Self {
        let shapes: Vec<_> = inputs.iter().map(|&width| Shape { width, flat: false }).collect();
        let behind = vec![Behind::Other; shapes.len()];
        let graph = Graph {
            rank,
            inputs,
            layers: Vec::new(),
            ops: Vec::new(),
            outputs: Vec::new(),
            shapes,
            seed,
            coarse,
        };
        Self { graph, behind }
    }

    pub fn shape(&self, value: Value) -> Shape {
        self.graph.shapes[value]
    }

    /// A value that fits: usually a late one, rarely an input.
    pub fn value(&self, gene: &Gene, which: usize, fits: impl Fn(Shape) -> bool) -> Option<Value> {
        let inputs = self.graph.inputs.len();
        let first = if gene.picks[which] & 0x7800 == 0 || self.graph.shapes.len() == inputs {
            0
        } else {
            inputs
        };
        let fitting: Vec<_> =
            (first..self.graph.shapes.len()).filter(|&value| fits(self.shape(value))).collect();
        let late =
            if gene.picks[which] & 0x8000 == 0 { fitting.len().saturating_sub(3) } else { 0 };
        gene.pick(which, &fitting[late..])
    }

    pub fn op(&mut self, op: Op, shape: Shape, behind: Behind) -> Value {
        self.graph.ops.push(op);
        self.graph.shapes.push(shape);
        self.behind.push(behind);
        self.graph.shapes.len() - 1
    }

    /// Applies a layer; returns the first of the values that it gives.
    pub fn apply(&mut self, layer: usize, from: Value) -> Value {
        let spec = &self.graph.layers[layer].spec;
        let behind = match spec {
            Spec::Norm { affine: true, .. } => Behind::Norm,
            Spec::Conv(Conv { groups: Groups::Equal(_), .. })
            | Spec::ConvTranspose(Conv { groups: Groups::Equal(_), .. })
            | Spec::Linear { .. } => Behind::Conv,
            Spec::Scale { .. } | Spec::MaxPool => self.behind[from],
            _ => Behind::Other,
        };
        let shapes = self.graph.applied(spec, self.shape(from)).unwrap();
        let first = self.graph.shapes.len();
        self.behind.extend(shapes.iter().map(|_| behind));
        self.graph.shapes.extend(shapes);
        self.graph.ops.push(Op::Apply { layer, from });
        first
    }

    pub fn layer(&mut self, spec: Spec, from: Value) -> Value {
        self.graph.layers.push(Layer { spec, ties: Vec::new() });
        self.apply(self.graph.layers.len() - 1, from)
    }

    pub fn norm(&mut self, from: Value, affine: bool, plain: bool) -> Value {
        self.layer(Spec::Norm { shape: self.shape(from), affine, plain }, from)
    }

    pub fn activate(&mut self, gene: &Gene, from: Value) -> Value {
        let functions =
            [Function::Relu, Function::Tanh, Function::Silu, Function::LeakyRelu, Function::Gelu];
        let function = functions[gene.number(3, 5) as usize];
        self.op(Op::Activate { function, from }, self.shape(from), self.behind[from])
    }

    /// Adds a batch norm and an activation, mostly.
    pub fn tail(&mut self, gene: &Gene, from: Value) {
        let normed = match gene.flags >> 4 & 15 {
            0 => from,
            1 => self.norm(from, false, gene.flag(2)),
            2 => {
                let once = self.norm(from, true, gene.flag(2));
                self.norm(once, true, gene.flag(3))
            }
            _ => self.norm(from, true, gene.flag(2)),
        };
        if gene.flag(8) {
            self.activate(gene, normed);
        }
    }

    pub fn conv(&self, gene: &Gene, from: Value, outputs: i64, groups: Groups) -> Conv {
        let plain = gene.flag(3) && matches!(groups, Groups::Equal(_));
        Conv {
            inputs: self.shape(from).width,
            outputs,
            kernel: gene.kernel(),
            groups,
            bias: gene.flag(1),
            plain,
            circular: gene.flag(4),
        }
    }

    pub fn linear(&mut self, gene: &Gene, from: Value, outputs: i64) -> Value {
        let shape = self.shape(from);
        let inputs = if shape.flat { shape.width } else { shape.width * self.graph.positions() };
        self.layer(Spec::Linear { inputs, outputs, bias: gene.flag(1), plain: gene.flag(3) }, from)
    }

    fn grow(&mut self, gene: &Gene) {
        let values = self.graph.shapes.len();
        // If nothing fits, nothing is added.
        let _ = self.try_grow(gene);
        let last = self.graph.shapes.len() - 1;
        if last >= values && gene.flag(13) && self.behind[last] == Behind::Other {
            self.norm(last, true, gene.flag(2));
        }
    }

    fn try_grow(&mut self, gene: &Gene) -> Option<()> {
        let any = |_: Shape| true;
        let image = |shape: Shape| !shape.flat;
        match gene.kind {
            Kind::Conv => {
                let from = self.value(gene, 0, image)?;
                let conv = self.conv(gene, from, gene.width(0), Groups::Equal(1));
                let to = self.layer(Spec::Conv(conv), from);
                self.tail(gene, to);
            }
            Kind::Grouped | Kind::WholeGroups | Kind::Depthwise | Kind::ConvTranspose => {
                self.grow_grouped(gene)?;
            }
            Kind::PreActivation => {
                let mut from = self.value(gene, 0, any)?;
                if gene.flag(9) {
                    from = self.layer(Spec::Select { width: self.shape(from).width }, from);
                }
                self.tail(gene, from);
            }
            Kind::Activate => {
                let from = self.value(gene, 0, any)?;
                if gene.flag(9) && self.graph.applied(&Spec::MaxPool, self.shape(from)).is_some() {
                    self.layer(Spec::MaxPool, from);
                } else {
                    self.activate(gene, from);
                }
            }
            Kind::Add | Kind::Gate => self.grow_join(gene)?,
            Kind::SqueezeExcite => {
                let from = self.value(gene, 0, image)?;
                let width = self.shape(from).width;
                let mean =
                    self.op(Op::Mean { from }, Shape { width, flat: true }, self.behind[from]);
                let hidden = self.linear(gene, mean, gene.width(0));
                let hidden = self.activate(gene, hidden);
                let gate = self.linear(gene, hidden, width);
                let gate = self.op(Op::Expand { from: gate }, self.shape(from), Behind::Conv);
                self.op(
                    Op::Multiply(from, gate, Some(Squash::Sigmoid)),
                    self.shape(from),
                    Behind::Other,
                );
            }
            Kind::Concat => {
                let first = self.value(gene, 0, any)?;
                let flat = self.shape(first).flat;
                let second = self.value(gene, 1, |shape| shape.flat == flat)?;
                let mut parts = vec![first, second];
                parts.extend(
                    gene.flag(9).then(|| self.value(gene, 2, |shape| shape.flat == flat)).flatten(),
                );
                let width = parts.iter().map(|&part| self.shape(part).width).sum();
                if width <= WIDEST {
                    self.op(Op::Concat(parts), Shape { width, flat }, Behind::Other);
                }
            }
            Kind::Chunk | Kind::ViewShuffle | Kind::PixelShuffle | Kind::Split | Kind::Shuffle => {
                self.grow_cut(gene)?;
            }
            Kind::PerChannel => {
                let from = self.value(gene, 0, any)?;
                let shape = self.shape(from);
                let to = self.layer(
                    if gene.flag(9) { Spec::Shift { shape } } else { Spec::Scale { shape } },
                    from,
                );
                if !gene.flag(9) && gene.flag(10) {
                    reuse::tie_norm(self, gene, to);
                }
            }
            Kind::Mixing => {
                let from = self.value(gene, 0, any)?;
                let shape = self.shape(from);
                let groups = gene.divisor(shape.width, 1)?;
                self.layer(
                    if gene.flag(9) {
                        Spec::LayerNorm { shape }
                    } else {
                        Spec::GroupNorm { width: shape.width, groups }
                    },
                    from,
                );
            }
            Kind::Linear => {
                let from = self.value(gene, 0, any)?;
                let to = self.linear(gene, from, gene.width(0));
                self.tail(gene, to);
            }
            Kind::Again => reuse::again(self, gene)?,
            Kind::Tie => reuse::tie(self, gene)?,
            Kind::Keep => {
                let from = self.value(gene, 0, any)?;
                self.op(Op::Keep { from }, self.shape(from), Behind::Other);
            }
        }
        Some(())
    }

    /// Adds heads to the values that nothing reads: one to all images, one to all flat values. Some
    /// values become outputs as they are, and some are dropped.
    fn finish(mut self, choice: u16) -> Graph {
        let read: Vec<Value> = self.graph.ops.iter().flat_map(reads).collect();
        let unread = |flat: bool| -> Vec<Value> {
            let values = self.graph.inputs.len()..self.graph.shapes.len();
            values
                .filter(|value| !read.contains(value) && self.shape(*value).flat == flat)
                .collect()
        };
        let (mut images, mut flats) = (unread(false), unread(true));
        if choice & 15 == 0 && images.len() + flats.len() > 1 {
            self.graph.outputs.extend(images.pop().or_else(|| flats.pop()));
        }
        if choice >> 4 & 7 == 0 && images.len() > 1 {
            images.remove(0);
        }
        for (values, flat) in [(images, false), (flats, true)] {
            let width = values.iter().map(|&value| self.shape(value).width).sum();
            let all = match values[..] {
                [] => continue,
                [one] => one,
                _ => self.op(Op::Concat(values), Shape { width, flat }, Behind::Other),
            };
            // As in a DenseNet: the norm gates all values in front of it.
            let all =
                if choice >> 7 & 3 == 0 { all } else { self.norm(all, true, choice >> 9 & 1 == 0) };
            let head = match flat || choice >> 10 & 1 == 0 {
                true => {
                    let inputs = if flat { width } else { width * self.graph.positions() };
                    Spec::Linear { inputs, outputs: 2, bias: true, plain: choice >> 11 & 1 == 0 }
                }
                false => Spec::Conv(Conv {
                    inputs: width,
                    outputs: 2,
                    kernel: 1,
                    groups: Groups::Equal(1),
                    bias: false,
                    plain: true,
                    circular: false,
                }),
            };
            let output = self.layer(head, all);
            self.graph.outputs.push(output);
        }
        self.graph
    }
}

pub fn reads(op: &Op) -> Vec<Value> {
    match op {
        Op::Add(a, b) | Op::Multiply(a, b, _) => vec![*a, *b],
        Op::Concat(parts) => parts.clone(),
        Op::Apply { from, .. }
        | Op::Activate { from, .. }
        | Op::Chunk { from, .. }
        | Op::ViewShuffle { from, .. }
        | Op::PixelShuffle { from, .. }
        | Op::Mean { from }
        | Op::Expand { from }
        | Op::Keep { from } => vec![*from],
    }
}
