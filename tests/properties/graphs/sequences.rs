//! Random networks over sequences: attention, also grouped and of two sequences, recurrence, norms
//! and linear layers in a residual stream.

use proptest::prelude::*;
use slim_runtime::criterion::{L1, L2, Normalisation};
use slim_runtime::nn::{
    self, AttentionConfig, GroupedQueryAttention, MultiHeadAttention, RNNConfig, Recurrent,
    Removal, RmsNorm, grouped_query_attention, multi_head_attention, rms_norm,
};
use slim_runtime::{Prunable, Slimming, forward};
use slim_tests::check::assert_slimmed_is_masked;
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{ModuleT, Path, VarStore};
use tch::{Kind, Tensor};

const INPUTS: i64 = 5;

/// A block by its random numbers.
#[derive(Debug, Clone, Copy)]
enum Gene {
    Attention { heads: i64, removal: Removal, crosses: bool },
    Grouped { kv_heads: i64, group: i64, removal: Removal },
    Mlp { hidden: i64, gated: bool },
    Recurrent { kind: usize, hidden: i64, layers: i64, both: bool, bias: bool },
}

#[derive(Debug, Prunable)]
enum Block {
    Attention { norm: nn::LayerNorm, attention: MultiHeadAttention, crosses: bool },
    Grouped { norm: RmsNorm, attention: GroupedQueryAttention },
    Mlp { norm: RmsNorm, up: nn::Linear, gate: Option<nn::Linear>, down: nn::Linear },
    Recurrent { recurrent: Recurrent, project: nn::Linear },
}

#[derive(Debug, Prunable)]
struct Net {
    embed: nn::Linear,
    blocks: Vec<Block>,
    head: nn::Linear,
}

impl Block {
    fn new(p: &Path, width: i64, gene: Gene) -> Self {
        let linear =
            |name: &str, inputs, outputs| nn::linear(p / name, inputs, outputs, Default::default());
        match gene {
            Gene::Attention { heads, removal, crosses } => {
                let config = AttentionConfig { removal, ..Default::default() };
                Block::Attention {
                    crosses,
                    norm: nn::layer_norm(p / "norm", vec![width], Default::default()),
                    attention: multi_head_attention(p / "attention", width, heads, config),
                }
            }
            Gene::Grouped { kv_heads, group, removal } => {
                let config = AttentionConfig { bias: false, removal };
                let heads = [kv_heads * group, kv_heads];
                Block::Grouped {
                    norm: rms_norm(p / "norm", width, 1e-6),
                    attention: grouped_query_attention(p / "attention", width, heads, 4, config),
                }
            }
            Gene::Mlp { hidden, gated } => Block::Mlp {
                norm: rms_norm(p / "norm", width, 1e-6),
                up: linear("up", width, hidden),
                gate: gated.then(|| linear("gate", width, hidden)),
                down: linear("down", hidden, width),
            },
            Gene::Recurrent { kind, hidden, layers, both, bias } => {
                let config = RNNConfig {
                    num_layers: layers,
                    bidirectional: both,
                    has_biases: bias,
                    ..Default::default()
                };
                let q = p / "recurrent";
                let (recurrent, outputs) = match kind {
                    0 => (nn::lstm(q, width, hidden, config), hidden),
                    1 => (nn::gru(q, width, hidden, config), hidden),
                    2 => (nn::rnn_tanh(q, width, hidden, config), hidden),
                    3 => (nn::rnn_relu(q, width, hidden, config), hidden),
                    _ => (nn::projected_lstm(q, width, hidden, 3, config), 3),
                };
                let directions = if both { 2 } else { 1 };
                Block::Recurrent {
                    recurrent,
                    project: linear("project", directions * outputs, width),
                }
            }
        }
    }
}

#[forward]
impl ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        match self {
            Block::Attention { norm, attention, crosses: false } => {
                attention.forward(&xs.apply(norm), None)
            }
            Block::Attention { norm, attention, crosses: true } => {
                attention.cross(xs, &xs.apply(norm), None)
            }
            Block::Grouped { norm, attention } => attention.forward(&xs.apply(norm), None),
            Block::Mlp { norm, up, gate, down } => {
                let xs = xs.apply(norm);
                let hidden = xs.apply(up).silu();
                match gate {
                    Some(gate) => (hidden * xs.apply(gate)).apply(down),
                    None => hidden.apply(down),
                }
            }
            Block::Recurrent { recurrent, project } => xs.apply_t(recurrent, train).apply(project),
        }
    }
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.embed);
        // Nothing else says that there are three dimensions.
        let (batch, positions, _) = xs.size3().unwrap();
        let mut xs = xs.view([batch, positions, -1]);
        for block in &self.blocks {
            xs = &xs + xs.apply_t(block, train);
        }
        xs.apply(&self.head)
    }
}

impl Net {
    fn built(genes: &[Gene]) -> (Self, VarStore) {
        let vs = VarStore::new(device());
        let p = &vs.root();
        let width = 12;
        let blocks = genes.iter().enumerate();
        let net = Net {
            embed: nn::linear(p / "embed", INPUTS, width, Default::default()),
            blocks: blocks.map(|(i, &gene)| Block::new(&(p / "blocks" / i), width, gene)).collect(),
            head: nn::linear(p / "head", width, 3, Default::default()),
        };
        fill(&vs);
        (net, vs)
    }
}

fn gene() -> impl Strategy<Value = Gene> {
    let removal = prop_oneof![Just(Removal::Heads), Just(Removal::HeadDims)];
    let heads = prop_oneof![Just(1_i64), Just(2), Just(3), Just(6)];
    let recurrent = (0..5_usize, 4..7_i64, 1..3_i64, any::<bool>(), any::<bool>());
    let grouped = (1..4_i64, 1..4_i64, removal.clone());
    prop_oneof![
        (heads, removal, any::<bool>()).prop_map(|(heads, removal, crosses)| Gene::Attention {
            heads,
            removal,
            crosses
        }),
        grouped.prop_map(|(kv_heads, group, removal)| Gene::Grouped { kv_heads, group, removal }),
        (1..9_i64, any::<bool>()).prop_map(|(hidden, gated)| Gene::Mlp { hidden, gated }),
        recurrent.prop_map(|(kind, hidden, layers, both, bias)| Gene::Recurrent {
            kind,
            hidden,
            layers,
            both,
            bias
        }),
    ]
}

fn slimming() -> impl Strategy<Value = Slimming> {
    (0.05..0.95, any::<bool>(), any::<bool>()).prop_map(|(ratio, is_l1, local)| {
        let slimming = Slimming::ratio(ratio);
        let slimming = if is_l1 { slimming.criterion(L1) } else { slimming.criterion(L2) };
        if local { slimming.local() } else { slimming.normalisation(Normalisation::Mean) }
    })
}

proptest! {
    #![proptest_config(super::cases(200))]

    #[test]
    fn slimmed_sequence_networks_are_masked_ones(
        genes in proptest::collection::vec(gene(), 1..4),
        slimming in slimming(),
    ) {
        let build = || {
            let (net, mut vs) = Net::built(&genes);
            vs.double();
            (net, vs)
        };
        let tokens = images(&[2, 4, INPUTS]).to_kind(Kind::Double);
        assert_slimmed_is_masked(build, &tokens, &slimming, 1e-9);
    }

    #[cfg(feature = "onnx")]
    #[test]
    fn slimmed_sequence_networks_compute_the_same_in_onnx_runtime(
        genes in proptest::collection::vec(gene(), 1..4),
        slimming in slimming(),
        (batch, positions) in (1..4_i64, 1..9_i64),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("net.onnx");
        let (mut net, _vs) = Net::built(&genes);
        if let Ok(plan) = net.plan(&slimming) {
            net.apply(&plan).unwrap();
        }
        let written = slim_runtime::export::onnx(&file, &net, &[&[4, INPUTS]]);
        let projects = genes.iter().any(|gene| matches!(gene, Gene::Recurrent { kind: 4, .. }));
        if projects {
            prop_assert!(written.unwrap_err().to_string().contains("projection"));
        } else {
            prop_assert_eq!(written.unwrap().inputs[0].to_string(), "input [batch, length, 5]");
            let tokens = images(&[batch, positions, INPUTS]);
            let expected = tch::no_grad(|| net.forward_t(&tokens, false));
            slim_tests::onnx::assert_computes(&file, &[("input", &tokens)], &[expected], 1e-4);
        }
    }
}
