//! The code that slim's benches and its comparison with PyTorch and Torch-Pruning share.
//!
//! | | |
//! | --- | --- |
//! | `cargo bench` | criterion's benches of tracing, planning, surgery and the sparsity step |
//! | `cargo run --release -p slim-bench --bin scaling` | cost and peak memory by parameter and by channel, from VGG-11 to a million channels |
//! | `cargo xtask bench` | slim against PyTorch and Torch-Pruning, in turn on the same weights |

pub mod agreement;
pub mod choosing;
pub mod comparison;
pub mod memory;
pub mod network;
pub mod peer;
pub mod report;
pub mod subject;
mod synthetic;
pub mod timing;
