//! Whole models: parity with PyTorch, slimmed = masked, surgery and training, errors, files, snapshots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod absorption;
mod branches;
mod checkpoints;
mod common;
mod equivalence;
mod parity;
mod readme;
mod recalibration;
mod refusals;
mod snapshots;
mod sparsity;
mod stored_numbers;
mod surgery;
mod wiring;
