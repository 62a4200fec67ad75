//! Which channels are the same, stated cell by cell: a cell is a channel of a value, or a position
//! in a dimension of a tensor.

use std::collections::HashMap;
use std::ops::Range;

use crate::graph::{Conv, Graph, Groups, Op, Spec, Value};
use crate::oracle::interleaved;

pub type Cell = usize;

/// The oracle's knowledge of a graph.
#[derive(Default)]
pub struct Links {
    /// The number of cells.
    pub cells: usize,
    /// For each value, the cell of its first channel.
    pub values: Vec<Cell>,
    pub equal: Vec<(Cell, Cell)>,
    /// Cells that must stay.
    pub held: Vec<Cell>,
    /// Channels that a layer mixes.
    pub read: Vec<Cell>,
    /// For each scale, the first norm that has it, and the cell of its first channel.
    pub scales: Vec<(usize, Cell)>,
    /// For each use of a layer, its axes.
    pub axes: Vec<(usize, Vec<Axis>)>,
    /// For each dimension of an owner's tensor, the cells of its positions.
    dims: HashMap<Dim, Range<Cell>>,
    /// Dimensions that follow no channels of their layer.
    free: Vec<Dim>,
}

type Axis = (&'static str, Vec<Cell>);
type Dim = (usize, &'static str, usize);

pub fn links(graph: &Graph) -> Links {
    let mut links = Links::default();
    for shape in &graph.shapes {
        links.values.push(links.cells);
        links.cells += shape.width as usize;
    }
    for input in 0..graph.inputs.len() {
        let cells = links.channels(graph, input);
        links.held.extend(cells);
    }
    let mut next = graph.inputs.len();
    for op in &graph.ops {
        let first = next;
        next += graph.given(op);
        let to = links.channels(graph, first);
        match op {
            Op::Apply { layer, from } => {
                let from = links.channels(graph, *from);
                let all: Vec<_> =
                    (first..next).flat_map(|value| links.channels(graph, value)).collect();
                links.layer(graph, *layer, &from, &all);
            }
            Op::Activate { from, .. } | Op::Mean { from } | Op::Expand { from } => {
                links.same(&links.channels(graph, *from), &to);
            }
            Op::Keep { from } => {
                links.same(&links.channels(graph, *from), &to);
                links.held.extend(to);
            }
            Op::Add(a, b) | Op::Multiply(a, b, _) => {
                links.same(&links.channels(graph, *a), &to);
                links.same(&links.channels(graph, *b), &to);
            }
            Op::Concat(parts) => {
                let all: Vec<_> =
                    parts.iter().flat_map(|&part| links.channels(graph, part)).collect();
                links.same(&all, &to);
            }
            Op::Chunk { from, chunks, index } => {
                let from = links.channels(graph, *from);
                links.alike(&from, *chunks);
                links.same(&from[*index as usize * to.len()..][..to.len()], &to);
            }
            Op::ViewShuffle { from, groups } => {
                let from = links.channels(graph, *from);
                links.alike(&from, *groups);
                links.same(&interleaved(&from, *groups as usize), &to);
            }
            Op::PixelShuffle { from, factor } => {
                let block = (factor * factor) as usize;
                for (i, &cell) in links.channels(graph, *from).iter().enumerate() {
                    links.equal.push((cell, to[i / block]));
                }
            }
        }
    }
    for &output in &graph.outputs {
        let cells = links.channels(graph, output);
        links.held.extend(cells);
    }
    // A dimension that one use of a tensor leaves free must not be cut by another use.
    let free: Vec<Cell> =
        links.free.iter().filter_map(|dim| links.dims.get(dim)).flat_map(Range::clone).collect();
    links.held.extend(free);
    links
}

impl Links {
    fn channels(&self, graph: &Graph, value: Value) -> Vec<Cell> {
        (0..graph.shapes[value].width as usize)
            .map(|channel| self.values[value] + channel)
            .collect()
    }

    fn same(&mut self, a: &[Cell], b: &[Cell]) {
        assert_eq!(a.len(), b.len());
        self.equal.extend(a.iter().copied().zip(b.iter().copied()));
    }

    /// Marks parts of equal size, which lose the same channels.
    fn alike(&mut self, cells: &[Cell], parts: i64) {
        let size = cells.len() / parts as usize;
        self.equal.extend((0..cells.len()).map(|i| (cells[i % size], cells[i])));
    }

    /// Makes a tensor's dimension follow these cells. Tied tensors are one tensor, so they follow
    /// the same cells.
    /// Each dimension of an owner's tensor, as layer, name and dimension, with the cells of its
    /// positions.
    pub fn dims(&self) -> impl Iterator<Item = (Dim, Range<Cell>)> {
        self.dims.iter().map(|(dim, cells)| (*dim, cells.clone()))
    }

    fn dim(
        &mut self,
        graph: &Graph,
        layer: usize,
        name: &'static str,
        dim: usize,
        cells: &[Cell],
    ) -> Cell {
        let (owner, name) = graph.owner(layer, name);
        let positions = self.dims.entry((owner, name, dim)).or_insert_with(|| {
            let first = self.cells;
            self.cells += cells.len();
            first..self.cells
        });
        let positions: Vec<Cell> = positions.clone().collect();
        self.same(&positions, cells);
        positions[0]
    }

    fn free(&mut self, graph: &Graph, layer: usize, name: &'static str, dim: usize) {
        let (owner, name) = graph.owner(layer, name);
        self.free.push((owner, name, dim));
    }

    fn layer(&mut self, graph: &Graph, layer: usize, from: &[Cell], to: &[Cell]) {
        let spec = &graph.layers[layer].spec;
        let axes = match spec {
            Spec::Conv(conv) => self.conv(graph, layer, conv, from, to),
            Spec::ConvTranspose(conv) => self.conv_transpose(graph, layer, conv, from, to),
            Spec::Linear { inputs, bias, .. } => {
                let positions = *inputs as usize / from.len();
                let features: Vec<_> =
                    from.iter().flat_map(|&cell| vec![cell; positions]).collect();
                self.dim(graph, layer, "weight", 0, to);
                self.dim(graph, layer, "weight", 1, &features);
                if *bias {
                    self.dim(graph, layer, "bias", 0, to);
                }
                self.read.extend(from);
                vec![("in", features), ("out", to.to_vec())]
            }
            Spec::Norm { affine, .. } => {
                self.same(from, to);
                self.dim(graph, layer, "running_mean", 0, from);
                if *affine {
                    let scale = self.dim(graph, layer, "weight", 0, from);
                    self.dim(graph, layer, "bias", 0, from);
                    if !self.scales.iter().any(|&(_, counted)| counted == scale) {
                        self.scales.push((layer, scale));
                    }
                }
                vec![("channels", from.to_vec())]
            }
            Spec::Scale { .. } | Spec::Shift { .. } => {
                self.same(from, to);
                self.dim(graph, layer, "value", 0, from);
                vec![("channels", from.to_vec())]
            }
            Spec::GroupNorm { .. } | Spec::LayerNorm { .. } => {
                self.same(from, to);
                self.held.extend(from);
                vec![("channels", from.to_vec())]
            }
            Spec::Split { sizes } => {
                self.same(from, to);
                self.dim(graph, layer, "sizes", 0, from);
                let mut axes = vec![("in", from.to_vec())];
                let mut rest = to;
                for (&size, name) in sizes.iter().zip(["0", "1", "2"]) {
                    let (part, others) = rest.split_at(size as usize);
                    axes.push((name, part.to_vec()));
                    rest = others;
                }
                axes
            }
            Spec::Shuffle { groups, .. } => {
                self.same(&interleaved(from, *groups as usize), to);
                self.dim(graph, layer, "order", 0, from);
                vec![("in", from.to_vec()), ("out", to.to_vec())]
            }
            Spec::Select { .. } => {
                self.held.extend(from);
                self.dim(graph, layer, "kept", 0, to);
                self.dim(graph, layer, "stream", 0, from);
                vec![("stream", from.to_vec()), ("out", to.to_vec())]
            }
            Spec::MaxPool => {
                self.same(from, to);
                Vec::new()
            }
        };
        self.axes.push((layer, axes));
    }

    fn conv(
        &mut self,
        graph: &Graph,
        layer: usize,
        conv: &Conv,
        from: &[Cell],
        to: &[Cell],
    ) -> Vec<Axis> {
        self.dim(graph, layer, "weight", 0, to);
        if conv.bias {
            self.dim(graph, layer, "bias", 0, to);
        }
        match conv.groups {
            Groups::Equal(groups) => {
                self.alike(from, groups);
                self.alike(to, groups);
                let of_a_group = from[..from.len() / groups as usize].to_vec();
                self.dim(graph, layer, "weight", 1, &of_a_group);
                self.read.extend(from);
                vec![("in", of_a_group), ("out", to.to_vec())]
            }
            Groups::Whole(groups) => {
                self.whole(groups, from, to);
                self.free(graph, layer, "weight", 1);
                vec![("in", from.to_vec()), ("out", to.to_vec())]
            }
        }
    }

    fn conv_transpose(
        &mut self,
        graph: &Graph,
        layer: usize,
        conv: &Conv,
        from: &[Cell],
        to: &[Cell],
    ) -> Vec<Axis> {
        self.dim(graph, layer, "weight", 0, from);
        if conv.bias {
            self.dim(graph, layer, "bias", 0, to);
        }
        let mut axes = vec![("in", from.to_vec()), ("out", to.to_vec())];
        match conv.groups {
            Groups::Equal(groups) => {
                self.alike(from, groups);
                self.alike(to, groups);
                let of_a_group = to[..to.len() / groups as usize].to_vec();
                self.dim(graph, layer, "weight", 1, &of_a_group);
                self.read.extend(from);
                if groups > 1 {
                    axes.push(("out of a group", of_a_group));
                }
            }
            Groups::Whole(groups) => {
                self.whole(groups, from, to);
                self.free(graph, layer, "weight", 1);
            }
        }
        axes
    }

    /// Marks the channels of each group as the same, on both sides.
    fn whole(&mut self, groups: i64, from: &[Cell], to: &[Cell]) {
        let (inputs, outputs) = (from.len() / groups as usize, to.len() / groups as usize);
        for group in 0..groups as usize {
            let first = from[group * inputs];
            self.equal.extend(from[group * inputs..][..inputs].iter().map(|&cell| (first, cell)));
            self.equal.extend(to[group * outputs..][..outputs].iter().map(|&cell| (first, cell)));
        }
    }
}
