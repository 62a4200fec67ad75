//! The networks of the zoo: equality with PyTorch's, slimmed = masked, and the effect of a plan on
//! each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod cifar;
mod cost;
mod coupling;
mod crnn;
mod dependencies;
mod deploy;
mod imagenet;
mod mobile;
#[cfg(feature = "onnx")]
mod onnx;
mod oracle;
mod provenance;
mod verify;
mod yolov8;
