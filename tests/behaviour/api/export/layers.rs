//! Exported and deployed networks of each layer compute the same.

use slim_runtime::export::{Batch, torch_script};
use slim_runtime::{Prunable, Slimming, criterion, deploy, forward, model, nn};
use slim_tests::fill::fill;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

use super::{close, served};
use crate::common::images;

model! {
    #[derive(Debug)]
    pub(super) struct Encoder {
        embed = embedding(7 => 16);
        ln = layer_norm(16);
        attention = multi_head_attention(16, heads = 4);
        residual = embed + attention;
        rms = rms_norm(16);
        head = linear(16 => 3);
    }
}

model! {
    #[derive(Debug)]
    struct Recurrences {
        embed = embedding(7 => 6);
        first = lstm(6 => 8, layers = 2, bidirectional = true);
        second = gru(16 => 8);
        third = rnn_tanh(8 => 8);
        fourth = rnn_relu(8 => 8);
        fifth = lstm(8 => 8, proj = 3);
        sixth = lstm(3 => 5, proj = 5, bias = false);
        head = linear(5 => 2);
    }
}

model! {
    #[derive(Debug)]
    pub(super) struct Pictures {
        conv1 = conv2d(3 => 12, kernel = 3, bias = false);
        bn = batch_norm(12);
        groups = group_norm(12, groups = 4);
        slopes = prelu(12);
        conv2 = conv2d(12 => 8, kernel = 3);
        norm = instance_norm(8, affine = true);
        slope = prelu(1);
        conv3 = conv2d(8 => 2, kernel = 1);
        planes = layer_norm([2, 2]);
    }
}

pub(super) fn tokens(batch: i64) -> Tensor {
    Tensor::arange(batch * 5, (Kind::Int64, Device::Cpu)).remainder(7).view([batch, 5])
}

#[derive(Debug, Prunable)]
pub(super) struct Decoder {
    embed: nn::Embedding,
    memory: nn::Linear,
    attention: nn::MultiHeadAttention,
    grouped: nn::GroupedQueryAttention,
    head: nn::Linear,
}

#[forward]
impl ModuleT for Decoder {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = xs.apply(&self.embed);
        let memory = xs.apply(&self.memory).relu();
        let ys = self.attention.cross(&xs, &memory, None) + &xs;
        self.grouped.cross(&ys, &memory, None).apply(&self.head)
    }
}

impl Decoder {
    pub(super) fn new(p: &tch::nn::Path) -> Self {
        let config = nn::AttentionConfig::default();
        Self {
            embed: nn::embedding(p / "embed", 7, 12, Default::default()),
            memory: nn::linear(p / "memory", 12, 12, Default::default()),
            attention: nn::multi_head_attention(p / "attention", 12, 4, config),
            grouped: nn::grouped_query_attention(p / "grouped", 12, [4, 2], 3, config),
            head: nn::linear(p / "head", 12, 3, Default::default()),
        }
    }
}

/// Exports, deploys and exports again, dense and slimmed. The files take any batch.
fn check<M: Prunable + ModuleT>(new: impl Fn(&VarStore) -> M, xs: impl Fn(i64) -> Tensor) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pt");
    for slims in [false, true] {
        let vs = VarStore::new(Device::Cpu);
        let mut net = new(&vs);
        fill(&vs);
        if slims {
            let by_weights = Slimming::ratio(0.4).criterion(criterion::L2).local();
            net.apply(&net.plan(&by_weights).unwrap()).unwrap();
        }
        let forward = |net: &M, xs: &Tensor| tch::no_grad(|| net.forward_t(xs, false));
        let sample = xs(3);
        let expected = forward(&net, &sample);
        for deploys in [false, true] {
            if deploys {
                deploy(&mut net, &sample, forward).unwrap();
                assert!(close(&forward(&net, &sample), &expected, 1e-5), "slims: {slims}");
            }
            let exported = torch_script(&file, &net, &sample, forward).unwrap();
            assert_eq!(exported.batch, Batch::Any, "{exported}");
            for batch in [1, 3, 8] {
                let xs = xs(batch);
                let (found, expected) = (served(&file, &xs), forward(&net, &xs));
                assert!(close(&found, &expected, 1e-5), "slims: {slims}, batch {batch}");
            }
        }
    }
}

#[test]
fn attention_norms_and_embeddings_over_tokens() {
    check(|vs| Encoder::new(vs.root()), tokens);
}

#[test]
fn attention_to_another_sequence_and_in_groups() {
    check(|vs| Decoder::new(&vs.root()), tokens);
}

#[test]
fn recurrent_layers_take_any_batch() {
    check(|vs| Recurrences::new(vs.root()), tokens);
}

#[test]
fn norms_and_slopes_over_images() {
    check(|vs| Pictures::new(vs.root()), images);
}
