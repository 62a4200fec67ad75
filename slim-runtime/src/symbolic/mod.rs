//! Symbolic runs of a user's own `forward`, over values that have a tensor's methods and record
//! what each operation does to channels.
//!
//! `#[forward]` emits a copy of a `forward` in which `Tensor` means [`Traced`]. [`trace_forward`]
//! runs that copy.

mod apply;
mod arguments;
mod arithmetic;
mod concat;
mod contract;
mod create;
mod cuts;
pub mod dispatch;
mod elementwise;
mod heads;
mod index;
mod lift;
mod memory;
mod native;
mod norms;
mod operators;
mod pass;
mod program;
mod reduce;
mod runs;
mod sizes;
mod table;
mod traced;
mod view;
mod window;

pub use apply::{SymbolicModule, symbolic_map, symbolic_opaque};
pub use lift::{Lift, Outputs};
pub(crate) use memory::ViewOf;
pub use native::Native;
pub(crate) use pass::OneCall;
pub use pass::{Forward, ReadsForward, declared, expect_shapes, trace_forward};
pub(crate) use program::{Program, Size};
pub(crate) use runs::{first_difference, record};
pub use table::{OPERATIONS, Operation};
pub use traced::Traced;
