//! LSTM, GRU and RNN, whose hidden channels can be removed.
//!
//! Each cell of the stack is two linear layers whose outputs are the gates, one after the other.
//! One step of it tells the symbolic pass how the gates belong together: the rows of all gates for
//! one hidden channel, the column of the recurrent weight that reads it, and what reads the output.

use std::borrow::Borrow;

use tch::Tensor;
use tch::nn::{Init, Module, ModuleT, Path, RNNConfig};

use super::linear::Linear;
use super::recorder::report_rows;
use crate::graph::arguments;
use crate::symbolic::{Forward, OneCall, Traced};
use crate::{Prunable, forward};

/// What a cell computes from its gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gates {
    /// Input, forget, cell and output gates (Hochreiter & Schmidhuber, 1997).
    Lstm,
    /// Reset, update and new gates ([Cho et al., 2014](https://arxiv.org/abs/1406.1078)).
    Gru,
    /// The hyperbolic tangent of the only gate (Elman, 1990).
    Tanh,
    /// The rectified only gate.
    Relu,
}

impl Gates {
    fn count(self) -> i64 {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Tanh | Self::Relu => 1,
        }
    }
}

/// One layer in one direction.
#[derive(Debug, Prunable)]
struct Cell {
    /// From the input to the gates: `[gates · hidden, in]`.
    ih: Linear,
    /// From the output of the position before to the gates: `[gates · hidden, out]`.
    hh: Linear,
    /// From the hidden channels to the output, in an LSTM with projections: `[out, hidden]`.
    hr: Option<Linear>,
    gates: Gates,
}

/// One layer in one or in both directions.
#[derive(Debug, Prunable)]
struct Level {
    forward: Cell,
    reverse: Option<Cell>,
}

/// A recurrent network over `[N, T, in]`, or `[T, N, in]` without `batch_first`, with tch's and
/// PyTorch's parameter names. The number of hidden channels of each layer and direction follows its
/// weights.
///
/// The output has the hidden channels of the last layer, those of both directions one after the
/// other. All states are zero in front of the first position.
#[derive(Debug, Prunable)]
pub struct Recurrent {
    levels: Vec<Level>,
    dropout: f64,
    batch_first: bool,
}

/// Long short-term memory; made by [`lstm`].
pub type Lstm = Recurrent;

/// Gated recurrent units; made by [`gru`].
pub type Gru = Recurrent;

/// A recurrent network of one gate; made by [`rnn_tanh`] and [`rnn_relu`].
pub type Rnn = Recurrent;

/// An LSTM of `hidden_dim` hidden channels in each layer and direction. `config.train` is not used:
/// dropout between the layers acts in training.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn lstm<'a>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    hidden_dim: i64,
    config: RNNConfig,
) -> Lstm {
    Recurrent::new(vs.borrow(), [in_dim, hidden_dim], None, Gates::Lstm, config)
}

/// An [`lstm`] whose layers project the hidden channels to `proj_dim` output channels ([Sak et al.,
/// 2014](https://arxiv.org/abs/1402.1128)): PyTorch's `proj_size`.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn projected_lstm<'a>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    hidden_dim: i64,
    proj_dim: i64,
    config: RNNConfig,
) -> Lstm {
    Recurrent::new(vs.borrow(), [in_dim, hidden_dim], Some(proj_dim), Gates::Lstm, config)
}

/// A GRU of `hidden_dim` hidden channels in each layer and direction; see [`lstm`].
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn gru<'a>(vs: impl Borrow<Path<'a>>, in_dim: i64, hidden_dim: i64, config: RNNConfig) -> Gru {
    Recurrent::new(vs.borrow(), [in_dim, hidden_dim], None, Gates::Gru, config)
}

/// A network of one gate with a hyperbolic tangent, of `hidden_dim` hidden channels in each layer
/// and direction: PyTorch's `RNN`; see [`lstm`].
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn rnn_tanh<'a>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    hidden_dim: i64,
    config: RNNConfig,
) -> Rnn {
    Recurrent::new(vs.borrow(), [in_dim, hidden_dim], None, Gates::Tanh, config)
}

/// An [`rnn_tanh`] with a ReLU instead.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn rnn_relu<'a>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    hidden_dim: i64,
    config: RNNConfig,
) -> Rnn {
    Recurrent::new(vs.borrow(), [in_dim, hidden_dim], None, Gates::Relu, config)
}

impl Recurrent {
    fn new(
        vs: &Path,
        [in_dim, hidden_dim]: [i64; 2],
        proj_dim: Option<i64>,
        gates: Gates,
        config: RNNConfig,
    ) -> Self {
        let directions = if config.bidirectional { 2 } else { 1 };
        let out_dim = proj_dim.unwrap_or(hidden_dim);
        let level = |index: i64| {
            let inputs = if index == 0 { in_dim } else { directions * out_dim };
            let cell = |suffix: &str| {
                let sizes = [inputs, hidden_dim, out_dim];
                Cell::new(
                    vs,
                    &format!("l{index}{suffix}"),
                    sizes,
                    proj_dim.is_some(),
                    gates,
                    config,
                )
            };
            Level { forward: cell(""), reverse: config.bidirectional.then(|| cell("_reverse")) }
        };
        Self {
            levels: (0..config.num_layers).map(level).collect(),
            dropout: config.dropout,
            batch_first: config.batch_first,
        }
    }
}

impl Cell {
    fn new(
        vs: &Path,
        name: &str,
        [inputs, hidden, outputs]: [i64; 3],
        is_projected: bool,
        gates: Gates,
        config: RNNConfig,
    ) -> Self {
        let rows = gates.count() * hidden;
        let linear = |part: &str, columns, ws_init, bs_init: Option<Init>| Linear {
            ws: vs.var(&format!("weight_{part}_{name}"), &[rows, columns], ws_init),
            bs: config.has_biases.then(|| {
                vs.var(&format!("bias_{part}_{name}"), &[rows], bs_init.unwrap_or(Init::Const(0.)))
            }),
        };
        Self {
            ih: linear("ih", inputs, config.w_ih_init, config.b_ih_init),
            hh: linear("hh", outputs, config.w_hh_init, config.b_hh_init),
            hr: is_projected.then(|| Linear {
                ws: vs.var(&format!("weight_hr_{name}"), &[outputs, hidden], config.w_hh_init),
                bs: None,
            }),
            gates,
        }
    }

    /// Number of channels of the output.
    fn outputs(&self) -> i64 {
        self.hh.ws.size().get(1).copied().unwrap_or(0)
    }

    /// The output of a projected LSTM, one position after the other. libtorch tells a projection by
    /// the number of its outputs, which must differ from that of the hidden channels.
    fn in_steps(&self, xs: &Tensor, projection: &Linear) -> Tensor {
        let given = xs.linear(&self.ih.ws, self.ih.bs.as_ref());
        let (mut output, mut state) = (zeros(xs, self.outputs()), zeros(xs, self.hidden()));
        let mut outputs = Vec::new();
        for given in given.unbind(1) {
            let gates = given + output.linear(&self.hh.ws, self.hh.bs.as_ref());
            let gates = gates.chunk(4, -1);
            state = gates[1].sigmoid() * state + gates[0].sigmoid() * gates[2].tanh();
            output = (gates[3].sigmoid() * state.tanh()).linear::<&Tensor>(&projection.ws, None);
            outputs.push(output.shallow_clone());
        }
        Tensor::stack(&outputs, 1)
    }

    /// Number of hidden channels.
    fn hidden(&self) -> i64 {
        self.hh.ws.size().first().map_or(0, |rows| rows / self.gates.count())
    }
}

/// The state in front of the first position of `xs` `[N, T, in]`: zeros `[N, channels]`, made
/// without reading N, so that a trace holds for any batch.
fn zeros(xs: &Tensor, channels: i64) -> Tensor {
    xs.select(1, 0).narrow(1, 0, 1).zeros_like().repeat([1, channels])
}

impl Module for Cell {
    /// `[N, T, in]` to `[N, T, out]`.
    fn forward(&self, xs: &Tensor) -> Tensor {
        for linear in [Some(&self.ih), Some(&self.hh), self.hr.as_ref()].into_iter().flatten() {
            report_rows(&linear.ws, xs);
        }
        if let Some(projection) = self.hr.as_ref().filter(|_| self.outputs() == self.hidden()) {
            return self.in_steps(xs, projection);
        }
        let biases = [&self.ih.bs, &self.hh.bs].map(Option::as_ref);
        let parameters: Vec<&Tensor> = [&self.ih.ws, &self.hh.ws]
            .into_iter()
            .chain(biases.into_iter().flatten())
            .chain(self.hr.iter().map(|projection| &projection.ws))
            .collect();
        let state = |channels| zeros(xs, channels).unsqueeze(0);
        let (start, has_biases) = (state(self.outputs()), self.ih.bs.is_some());
        match self.gates {
            Gates::Lstm => {
                let states = [&start, &state(self.hidden())];
                xs.lstm(&states, &parameters, has_biases, 1, 0., false, false, true).0
            }
            Gates::Gru => xs.gru(&start, &parameters, has_biases, 1, 0., false, false, true).0,
            Gates::Tanh => {
                xs.rnn_tanh(&start, &parameters, has_biases, 1, 0., false, false, true).0
            }
            Gates::Relu => {
                xs.rnn_relu(&start, &parameters, has_biases, 1, 0., false, false, true).0
            }
        }
    }
}

impl Forward for Cell {
    const INPUTS: usize = 1;

    /// Two steps: the first has no output of a position before, the second reads that of the first.
    fn symbolic_forward(&self, inputs: &[Traced], _train: bool) -> Vec<Traced> {
        let one = OneCall::begin();
        let given = inputs[0].apply(&self.ih);
        let (first, state) = self.symbolic_step(&given, None, None);
        let (second, _) = self.symbolic_step(&given, Some(&first.apply(&self.hh)), state.as_ref());
        drop(one);
        let name = match self.gates {
            Gates::Lstm => "lstm",
            Gates::Gru => "gru",
            Gates::Tanh => "rnn_tanh",
            Gates::Relu => "rnn_relu",
        };
        let [ih, hh] = [&self.ih, &self.hh];
        let projection = self.hr.as_ref().map(|projection| &projection.ws);
        let parameters =
            arguments![&inputs[0], &ih.ws, ih.bs.as_ref(), &hh.ws, hh.bs.as_ref(), projection];
        vec![second.called(name, parameters)]
    }
}

impl Cell {
    /// One position: its output, and the cell state of an LSTM. `given` and `recurrent` are the
    /// gates from the input and from the output of the position before.
    fn symbolic_step(
        &self,
        given: &Traced,
        recurrent: Option<&Traced>,
        state: Option<&Traced>,
    ) -> (Traced, Option<Traced>) {
        let sum = || match recurrent {
            Some(recurrent) => given + recurrent,
            None => given.shallow_clone(),
        };
        let (hidden, state) = match self.gates {
            Gates::Tanh => (sum().tanh(), None),
            Gates::Relu => (sum().relu(), None),
            Gates::Lstm => {
                let gates = sum().chunk(4, -1);
                let new = gates[0].sigmoid() * gates[2].tanh();
                let state = match state {
                    Some(state) => gates[1].sigmoid() * state + new,
                    None => new,
                };
                (gates[3].sigmoid() * state.tanh(), Some(state))
            }
            Gates::Gru => {
                let given = given.chunk(3, -1);
                // The new gate reads the recurrent part behind the reset gate.
                let gates = match recurrent {
                    Some(recurrent) => {
                        let recurrent = recurrent.chunk(3, -1);
                        let reset = (&given[0] + &recurrent[0]).sigmoid();
                        [&given[1] + &recurrent[1], &given[2] + reset * &recurrent[2]]
                    }
                    None => [given[1].shallow_clone(), given[2].shallow_clone()],
                };
                // `update · before` is of the same channels, and as much gated.
                (gates[1].tanh() * (gates[0].sigmoid() * -1. + 1.), None)
            }
        };
        let output = match &self.hr {
            Some(projection) => hidden.apply(projection),
            None => hidden,
        };
        (output, state)
    }
}

#[forward]
impl Module for Level {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let ys = xs.apply(&self.forward);
        match &self.reverse {
            None => ys,
            // Positions are the last dimension but one, whatever the pass knows of the others.
            Some(cell) => Tensor::cat(&[ys, xs.flip([-2]).apply(cell).flip([-2])], -1),
        }
    }
}

#[forward]
impl ModuleT for Recurrent {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut ys = if self.batch_first { xs.shallow_clone() } else { xs.transpose(0, 1) };
        for (index, level) in self.levels.iter().enumerate() {
            if index > 0 {
                ys = ys.dropout(self.dropout, train);
            }
            ys = ys.apply(level);
        }
        if self.batch_first { ys } else { ys.transpose(0, 1) }
    }
}
