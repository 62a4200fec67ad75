//! Embeddings with a public config.

use std::borrow::Borrow;

use tch::Tensor;
use tch::nn::{EmbeddingConfig, Module, Path};

use super::tch::embedding::trace_embedding;
use crate::{Flow, Prunable, Result, Tracer};

/// A table of vectors, one for each entry of a vocabulary: tch's, with a public config. Slimming
/// removes columns, which are the channels; the vocabulary stays.
#[derive(Debug)]
pub struct Embedding {
    /// The vectors `[entries, channels]`.
    pub ws: Tensor,
    /// The config that the layer was built with.
    pub config: EmbeddingConfig,
}

/// An embedding from indices `[…]` below `num_embeddings` to `[…, embedding_dim]`.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn embedding<'a>(
    vs: impl Borrow<Path<'a>>,
    num_embeddings: i64,
    embedding_dim: i64,
    config: EmbeddingConfig,
) -> Embedding {
    let ws = vs.borrow().var("weight", &[num_embeddings, embedding_dim], config.ws_init);
    Embedding { ws, config }
}

impl Module for Embedding {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let EmbeddingConfig { padding_idx, scale_grad_by_freq, sparse, .. } = self.config;
        Tensor::embedding(&self.ws, xs, padding_idx, scale_grad_by_freq, sparse)
    }
}

impl Prunable for Embedding {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        trace_embedding(cx, &input, &self.ws)
    }
}
