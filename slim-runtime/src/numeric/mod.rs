//! Numbers and tensors, without networks: comparison of outputs, timing, quartiles, grids, packed
//! weights, shapes of layers, ranges of values, uses of weights.

mod clock;
pub(crate) mod compare;
mod grid;
mod layer_shape;
pub(crate) mod packed;
mod quartiles;
mod range;
mod uses;

pub(crate) use clock::{Clock, device_name};
pub use compare::OutputError;
pub(crate) use grid::Grid;
pub use layer_shape::{LayerGroups, LayerOperation, LayerShape};
pub use quartiles::Quartiles;
pub(crate) use range::Range;
pub use uses::Uses;

/// The Fowler–Noll–Vo hash (FNV-1a, 64 bits), which stays the same in every release of Rust.
pub(crate) fn fnv1a(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
