//! The networks of the zoo: equal to the originals, slimmed = masked, and what is removed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod coupling;
mod imagenet;
