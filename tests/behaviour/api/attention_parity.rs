//! Attention equals PyTorch's, dense and slimmed. `tests/fixtures/attention.py` is the oracle.

use std::collections::BTreeSet;

use slim_runtime::criterion::{Candidate, Criterion};
use slim_runtime::nn::{
    self, AttentionConfig, GroupedQueryAttention, MultiHeadAttention, Removal,
    grouped_query_attention, multi_head_attention,
};
use slim_runtime::{Prunable, Result, Slimming, forward};
use slim_tests::check::{assert_close, rounding};
use slim_tests::device;
use slim_tests::fill::{fill, images};
use slim_tests::fixture::Fixture;
use tch::Tensor;
use tch::nn::{ModuleT, Path, VarStore};

const DIM: usize = 3;

#[derive(Debug, Prunable)]
enum Attention {
    Packed(MultiHeadAttention),
    Grouped(GroupedQueryAttention),
}

#[derive(Debug, Prunable)]
struct Net {
    embed: nn::Linear,
    memory: Option<nn::Linear>,
    attention: Attention,
    head: nn::Linear,
}

impl Net {
    fn new(p: &Path, name: &str, removal: Removal) -> Self {
        let linear = |name, from, to| nn::linear(p / name, from, to, Default::default());
        let (config, q) = (AttentionConfig { removal, ..Default::default() }, p / "attention");
        Self {
            embed: linear("embed", 5, 12),
            memory: (name == "cross").then(|| linear("memory", 5, 12)),
            attention: match name {
                "grouped" => {
                    Attention::Grouped(grouped_query_attention(q, 12, [4, 2], DIM as i64, config))
                }
                _ => Attention::Packed(multi_head_attention(q, 12, 4, config)),
            },
            head: linear("head", 12, 3),
        }
    }
}

#[forward]
impl Attention {
    fn forward(&self, query: &Tensor, memory: Option<&Tensor>) -> Tensor {
        match (self, memory) {
            (Attention::Packed(attention), None) => attention.forward(query, None),
            (Attention::Packed(attention), Some(memory)) => attention.cross(query, memory, None),
            (Attention::Grouped(attention), _) => attention.forward(query, None),
        }
    }
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let memory = self.memory.as_ref().map(|memory| xs.apply(memory).relu());
        let query = xs.apply(&self.embed);
        self.attention.forward(&query, memory.as_ref()).apply(&self.head)
    }
}

/// Heads at even positions stay, or even dimensions of each head.
#[derive(Debug)]
struct Even(Removal);

impl Criterion for Even {
    fn name(&self) -> String {
        "even".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        let layer_name = layer.path().strip_prefix("attention.").unwrap_or_default();
        let heads_together = match layer_name {
            "in_proj" | "k_proj" | "v_proj" => 1,
            "q_proj" => 2,
            _ => return Ok(None),
        };
        let is_even = |row: usize| {
            let (head, dim) = (row % 12 / DIM, row % DIM);
            match self.0 {
                Removal::Heads => (head / heads_together).is_multiple_of(2),
                Removal::HeadDims => dim.is_multiple_of(2),
            }
        };
        let scores: Vec<f32> = (0..layer.channels()).map(|row| f32::from(is_even(row))).collect();
        Ok(Some(Tensor::from_slice(&scores).to_device(device())))
    }
}

#[test]
fn attention_is_pytorchs_dense_and_slimmed() {
    let oracle = Fixture::read("attention");
    for name in ["self", "cross", "grouped"] {
        for (removal, form) in [(Removal::Heads, "heads"), (Removal::HeadDims, "dims")] {
            let vs = VarStore::new(device());
            let mut net = Net::new(&vs.root(), name, removal);
            fill(&vs);
            let ours = vs.variables();
            let ours: BTreeSet<String> =
                ours.iter().map(|(name, value)| format!("{name} {:?}", value.size())).collect();
            assert_eq!(ours, oracle.metadata[name].lines().map(str::to_owned).collect(), "{name}");
            let output = |net: &Net| tch::no_grad(|| net.forward_t(&images(&[2, 7, 5]), false));
            assert_close(&output(&net), oracle.tensor(name), rounding(&vs));

            let plan = net.plan(&Slimming::threshold(0.5).criterion(Even(removal))).unwrap();
            net.apply(&plan).unwrap();
            let expected = oracle.tensor(&format!("{name}.{form}"));
            assert_close(&output(&net), expected, rounding(&vs));
        }
    }
}
