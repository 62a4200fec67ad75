//! A network as data.

use std::fmt;

/// A value that ops read: its position in the list of all values, which has the inputs first, then
/// the outputs of the ops, in order.
pub type Value = usize;

/// Layers, and ops that apply them to values.
#[derive(Clone)]
pub struct Graph {
    /// Spatial dimensions of the images: 1, 2 or 3.
    pub rank: usize,
    /// Channels of each input, all of which are images.
    pub inputs: Vec<i64>,
    pub layers: Vec<Layer>,
    pub ops: Vec<Op>,
    pub outputs: Vec<Value>,
    /// The shape of each value.
    pub shapes: Vec<Shape>,
    /// The seed of the weights.
    pub seed: u64,
    /// Whether scales are multiples of ¼, so that many are equal.
    pub coarse: bool,
}

/// `[N, width]` if flat, else `[N, width, SIDE, …]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub width: i64,
    pub flat: bool,
}

#[derive(Debug, Clone)]
pub struct Layer {
    pub spec: Spec,
    pub ties: Vec<Tie>,
}

/// A tensor of a layer that belongs to another layer: its name here, the owner, and its name there.
/// The owner's tensor is tied to no other.
#[derive(Debug, Clone)]
pub struct Tie {
    pub name: &'static str,
    pub owner: (usize, &'static str),
}

#[derive(Debug, Clone)]
pub enum Spec {
    Conv(Conv),
    ConvTranspose(Conv),
    Linear { inputs: i64, outputs: i64, bias: bool, plain: bool },
    Norm { shape: Shape, affine: bool, plain: bool },
    Scale { shape: Shape },
    Shift { shape: Shape },
    GroupNorm { width: i64, groups: i64 },
    LayerNorm { shape: Shape },
    Split { sizes: Vec<i64> },
    Shuffle { width: i64, groups: i64 },
    Select { width: i64 },
    MaxPool,
}

#[derive(Debug, Clone)]
pub struct Conv {
    pub inputs: i64,
    pub outputs: i64,
    pub kernel: i64,
    pub groups: Groups,
    pub bias: bool,
    /// Whether it is tch's own layer, not the drop-in.
    pub plain: bool,
    /// Whether the padding is circular, not zero.
    pub circular: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// All groups lose the same number of channels. 1 is an ordinary convolution.
    Equal(i64),
    /// Whole groups are removed. Depthwise if there are as many groups as inputs.
    Whole(i64),
}

#[derive(Debug, Clone)]
pub enum Op {
    /// The only op that may give several values.
    Apply {
        layer: usize,
        from: Value,
    },
    Activate {
        function: Function,
        from: Value,
    },
    Add(Value, Value),
    /// A gate; the second factor may be squashed by a function that does not map zero to zero.
    Multiply(Value, Value, Option<Squash>),
    Concat(Vec<Value>),
    Chunk {
        from: Value,
        chunks: i64,
        index: i64,
    },
    /// A shuffle by `view` and `transpose`.
    ViewShuffle {
        from: Value,
        groups: i64,
    },
    /// A pixel shuffle, and an average over `factor`×`factor`, so that images keep their size.
    PixelShuffle {
        from: Value,
        factor: i64,
    },
    /// A mean over all positions.
    Mean {
        from: Value,
    },
    /// Expands features to all positions.
    Expand {
        from: Value,
    },
    /// Channels that must stay.
    Keep {
        from: Value,
    },
}

/// A function that maps zero to zero.
#[derive(Debug, Clone, Copy)]
pub enum Function {
    Relu,
    Tanh,
    Silu,
    LeakyRelu,
    Gelu,
}

#[derive(Debug, Clone, Copy)]
pub enum Squash {
    Sigmoid,
    Hardsigmoid,
}

impl Groups {
    pub fn count(self) -> i64 {
        match self {
            Groups::Equal(groups) | Groups::Whole(groups) => groups,
        }
    }
}

impl Graph {
    /// The side of an image, which has 16 positions (8 at rank 3).
    pub fn side(&self) -> i64 {
        [16, 4, 2][self.rank - 1]
    }

    pub fn positions(&self) -> i64 {
        self.side().pow(self.rank as u32)
    }

    /// The size of a tensor: `[N, width, …]`.
    pub fn size(&self, shape: Shape) -> Vec<i64> {
        let sides = if shape.flat { 0 } else { self.rank };
        [2, shape.width].into_iter().chain(std::iter::repeat_n(self.side(), sides)).collect()
    }

    /// The owner of a tensor, and the tensor's name there.
    pub fn owner(&self, layer: usize, name: &'static str) -> (usize, &'static str) {
        self.layers[layer]
            .ties
            .iter()
            .find(|tie| tie.name == name)
            .map_or((layer, name), |tie| tie.owner)
    }

    /// The number of values that an op gives.
    pub fn given(&self, op: &Op) -> usize {
        match op {
            Op::Apply { layer, .. } => match &self.layers[*layer].spec {
                Spec::Split { sizes } => sizes.len(),
                _ => 1,
            },
            _ => 1,
        }
    }

    /// The shapes of a layer's outputs for a value, or `None` if the layer cannot read it.
    pub fn applied(&self, spec: &Spec, shape: Shape) -> Option<Vec<Shape>> {
        let Shape { width, flat } = shape;
        let wide = |width| vec![Shape { width, flat }];
        match spec {
            Spec::Conv(conv) | Spec::ConvTranspose(conv) => {
                (!flat && width == conv.inputs).then(|| wide(conv.outputs))
            }
            Spec::Linear { inputs, outputs, .. } => {
                let features = if flat { width } else { width * self.positions() };
                (features == *inputs).then(|| vec![Shape { width: *outputs, flat: true }])
            }
            Spec::Norm { shape: takes, .. }
            | Spec::Scale { shape: takes }
            | Spec::Shift { shape: takes }
            | Spec::LayerNorm { shape: takes } => (*takes == shape).then(|| wide(width)),
            Spec::GroupNorm { width: takes, .. }
            | Spec::Shuffle { width: takes, .. }
            | Spec::Select { width: takes } => (*takes == width).then(|| wide(width)),
            Spec::Split { sizes } => (sizes.iter().sum::<i64>() == width)
                .then(|| sizes.iter().map(|&width| Shape { width, flat }).collect()),
            Spec::MaxPool => (!flat && self.rank == 2).then(|| wide(width)),
        }
    }
}

/// One line for each layer and op, for reading a failing case.
impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "rank {}, inputs {:?}, seed {}, coarse {}",
            self.rank, self.inputs, self.seed, self.coarse
        )?;
        for (i, layer) in self.layers.iter().enumerate() {
            writeln!(f, "  l{i}: {:?} {:?}", layer.spec, layer.ties)?;
        }
        let mut value = self.inputs.len();
        for op in &self.ops {
            writeln!(f, "  {value}: {op:?} gives {:?}", self.shapes[value])?;
            value += self.given(op);
        }
        write!(f, "  outputs {:?}", self.outputs)
    }
}
