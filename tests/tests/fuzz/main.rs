//! Files and texts from anywhere: whatever they hold, the answer is a value or an error, never a
//! panic, a hang, or more memory than they are worth.
//!
//! Inputs are sound ones, changed at random (`mutation`), and those that once did harm or might, in
//! `corpus/`. A run tries a few thousand;
//! `SLIM_FUZZ_CASES=1000000 cargo test -p slim-tests --test fuzz` tries as many of each kind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod checkpoints;
mod files;
mod guard;
mod mutation;
mod plans;
mod texts;
