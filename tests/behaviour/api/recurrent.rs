//! LSTM, GRU and RNN equal PyTorch's, dense and slimmed. `tests/fixtures/recurrent.py` is the
//! oracle.

use std::collections::BTreeSet;

use slim_runtime::criterion::{Candidate, Criterion, L2};
use slim_runtime::nn::{self, RNNConfig, Recurrent};
use slim_runtime::{Prunable, Result, Slimming, forward};
use slim_tests::check::{assert_close, assert_slimmed_is_masked, rounding};
use slim_tests::device;
use slim_tests::fill::{fill, images};
use slim_tests::fixture::Fixture;
use tch::nn::{ModuleT, Path, VarStore};
use tch::{Kind, Tensor};

type Build = fn(&Path) -> Recurrent;

const NETWORKS: [(&str, Build); 6] = [
    ("lstm", |p| nn::lstm(p, 5, 8, both())),
    ("gru", |p| nn::gru(p, 5, 8, both())),
    ("rnn_tanh", |p| nn::rnn_tanh(p, 5, 8, RNNConfig { num_layers: 2, ..config() })),
    ("rnn_relu", |p| nn::rnn_relu(p, 5, 8, config())),
    ("plain_lstm", |p| nn::lstm(p, 5, 8, RNNConfig { has_biases: false, ..config() })),
    ("projected_lstm", |p| nn::projected_lstm(p, 5, 8, 3, RNNConfig { num_layers: 2, ..config() })),
];

fn config() -> RNNConfig {
    RNNConfig::default()
}

fn both() -> RNNConfig {
    RNNConfig { num_layers: 2, bidirectional: true, ..config() }
}

fn output(net: &impl ModuleT, xs: &Tensor) -> Tensor {
    tch::no_grad(|| net.forward_t(xs, false))
}

/// The network, and a linear layer that reads its outputs.
#[derive(Debug, Prunable)]
struct Net {
    embed: nn::Linear,
    recurrent: Recurrent,
    head: nn::Linear,
}

impl Net {
    fn new(p: &Path, build: Build) -> Self {
        let recurrent = build(&(p / "recurrent"));
        let width = output(&recurrent, &images(&[1, 2, 5])).size()[2];
        Self {
            embed: nn::linear(p / "embed", 5, 5, Default::default()),
            recurrent,
            head: nn::linear(p / "head", width, 4, Default::default()),
        }
    }
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.embed).apply_t(&self.recurrent, train).apply(&self.head)
    }
}

/// The network, with the weights that the oracle had.
fn filled(build: Build) -> (Net, VarStore) {
    let vs = VarStore::new(device());
    let net = Net::new(&vs.root(), build);
    fill(&vs);
    (net, vs)
}

#[test]
fn outputs_and_names_are_pytorchs() {
    let oracle = Fixture::read("recurrent");
    for (name, build) in NETWORKS {
        let (net, vs) = filled(build);
        let ours: BTreeSet<String> = vs
            .variables()
            .iter()
            .map(|(name, variable)| format!("{name} {:?}", variable.size()))
            .collect();
        assert_eq!(ours, oracle.metadata[name].lines().map(str::to_owned).collect(), "{name}");
        assert_close(&output(&net, &images(&[3, 7, 5])), oracle.tensor(name), rounding(&vs));
    }
}

/// Hidden channels at even positions stay.
#[derive(Debug)]
struct Even;

impl Criterion for Even {
    fn name(&self) -> String {
        "even".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        let is_of_gates = layer.path().ends_with("ih") || layer.path().ends_with("hh");
        let width = layer.channels() as i64;
        Ok(is_of_gates.then(|| (Tensor::arange(width, (Kind::Float, device())) + 1).remainder(2)))
    }
}

#[test]
fn slimmed_is_what_pytorchs_own_module_computes_with_the_weights_that_stay() {
    let oracle = Fixture::read("recurrent");
    for (name, build) in NETWORKS {
        let (mut net, vs) = filled(build);
        let plan = net.plan(&Slimming::threshold(0.5).criterion(Even)).unwrap();
        net.apply(&plan).unwrap();
        assert_eq!(vs.variables()["recurrent.weight_hh_l0"].size()[0] * 2, 8 * gates(name));
        let expected = oracle.tensor(&format!("{name}.slimmed"));
        assert_close(&output(&net, &images(&[3, 7, 5])), expected, rounding(&vs));
    }
}

fn gates(name: &str) -> i64 {
    match name {
        "gru" => 3,
        "rnn_tanh" | "rnn_relu" => 1,
        _ => 4,
    }
}

fn by_weights(ratio: f64) -> Slimming {
    Slimming::ratio(ratio).criterion(L2).local()
}

#[test]
fn slimmed_is_masked() {
    for (name, build) in NETWORKS {
        let double = || {
            let (net, mut vs) = filled(build);
            vs.double();
            (net, vs)
        };
        let xs = images(&[3, 7, 5]).to_kind(Kind::Double);
        for ratio in [0.3, 0.6] {
            let plan = assert_slimmed_is_masked(double, &xs, &by_weights(ratio), 1e-10);
            let recurrent = |part: &str| {
                let path = format!("recurrent.levels.0.forward.{part}");
                plan.layer(&path).unwrap_or_else(|| panic!("{name} has no {path}")).clone()
            };
            let gates = &recurrent("hh").axes[1];
            assert!(gates.keep.len() < gates.width, "{name}: {plan}");
        }
    }
}
