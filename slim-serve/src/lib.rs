//! Serves networks that [slim-runtime](slim_runtime) has slimmed, as fast as libtorch can.
//!
//! A [`Runner`] is made from a network or from an exported TorchScript file. It compiles the
//! network for the shapes of its input: batch norms are folded, weights are constants, and oneDNN
//! Graph fuses layers with the operations behind them. The fused form is compared with the network,
//! and measured against simpler ones; the fastest that computes the same runs.
//!
//! The page `docs/serving.md` of the repository says what it costs and when `deploy` is enough.

mod compiled;
mod config;
mod error;
mod ffi;
mod form;
mod maker;
mod report;
mod runner;

pub use config::RunnerConfig;
pub use error::{Error, Result};
pub use form::Form;
pub use report::{FormTrial, Report, ShapeReport};
pub use runner::Runner;
