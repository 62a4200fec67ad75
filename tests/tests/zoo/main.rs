//! The networks of the zoo: equal to PyTorch's, slimmed = masked, and what a plan does with each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod cifar;
mod cost;
mod coupling;
mod dependencies;
mod deploy;
mod imagenet;
mod mobile;
mod oracle;
mod provenance;
mod verify;
