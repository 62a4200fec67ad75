//! ONNX files: the messages of the format, the graph while it is built, and how it is written.

#![allow(dead_code, reason = "the lowering of a forward pass is not here yet")]

mod attribute;
mod builder;
mod file;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    reason = "generated"
)]
mod proto;
#[cfg(test)]
mod tests;
