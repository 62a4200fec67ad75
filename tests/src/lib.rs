//! Tests that need more than one crate, and their shared code. The code of the README and of the
//! tour is tested here, too.
#![allow(clippy::unwrap_used, clippy::panic)]

pub mod check;
mod device;
pub mod fill;
pub mod fixture;
pub mod networks;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod parallel;
pub mod place;
pub mod readme;
pub mod versioned;

pub use device::{device, tensor};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../slim-runtime/docs/tour.md")]
struct Readme;
