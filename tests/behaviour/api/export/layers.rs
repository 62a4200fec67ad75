//! Exported and deployed networks of each layer compute the same.

use slim_runtime::export::{Batch, torch_script};
use slim_runtime::{Prunable, Slimming, criterion, deploy, model};
use slim_tests::fill::fill;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

use super::{close, served};
use crate::common::images;

model! {
    #[derive(Debug)]
    struct Encoder {
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
    struct Pictures {
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

fn tokens(batch: i64) -> Tensor {
    Tensor::arange(batch * 5, (Kind::Int64, Device::Cpu)).remainder(7).view([batch, 5])
}

/// Exports, deploys and exports again, dense and slimmed. `batch` is the claim of the export.
fn check<M: Prunable + ModuleT>(
    new: impl Fn(&VarStore) -> M,
    xs: impl Fn(i64) -> Tensor,
    is_any_batch: bool,
) {
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
            assert_eq!(exported.batch == Batch::Any, is_any_batch, "{exported}");
            let batches: &[i64] = if is_any_batch { &[1, 3, 8] } else { &[3] };
            for &batch in batches {
                let xs = xs(batch);
                let (found, expected) = (served(&file, &xs), forward(&net, &xs));
                assert!(close(&found, &expected, 1e-5), "slims: {slims}, batch {batch}");
            }
        }
    }
}

#[test]
fn attention_norms_and_embeddings_over_tokens() {
    // Attention reads the size of the batch.
    check(|vs| Encoder::new(vs.root()), tokens, false);
}

#[test]
fn recurrent_layers_take_any_batch() {
    check(|vs| Recurrences::new(vs.root()), tokens, true);
}

#[test]
fn norms_and_slopes_over_images() {
    check(|vs| Pictures::new(vs.root()), images, true);
}
