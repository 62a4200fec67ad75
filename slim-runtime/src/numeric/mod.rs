//! Numbers and tensors, without networks: comparison of outputs, timing, quartiles, packed weights,
//! uses of weights.

mod clock;
pub(crate) mod compare;
pub(crate) mod packed;
mod quartiles;
mod uses;

pub(crate) use clock::Clock;
pub use compare::OutputError;
pub use quartiles::Quartiles;
pub use uses::Uses;
