//! Whole models: parity with PyTorch, slimmed = masked, surgery and training, errors, files,
//! snapshots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod absorption;
mod attention;
mod attention_parity;
mod benchmark;
mod branches;
mod checkpoints;
mod choosing;
mod common;
mod cost;
mod dependencies;
mod deploy;
mod device;
mod equivalence;
mod export;
mod grouped_attention;
mod matrix;
mod norms;
mod parity;
mod preferred_multiple;
mod provenance;
mod readme;
mod recalibration;
mod recurrent;
mod refusals;
mod replicas;
mod schema;
mod snapshots;
mod sparsity;
mod stored_numbers;
mod surgery;
mod sweep;
mod threads;
mod verify;
mod wiring;
