//! Files and texts from anywhere: for any content, the answer is a value or an error, never a
//! panic, a hang, or memory out of proportion to the input.
//!
//! Inputs are sound ones, changed at random (`mutation`), and those that once did harm or might, in
//! `corpus/`. A run tries a few thousand;
//! `SLIM_FUZZ_CASES=1000000 cargo test -p slim-tests --test fuzz` tries that many of each kind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod checkpoints;
mod files;
mod guard;
mod mutation;
mod plans;
mod texts;
mod weights;
