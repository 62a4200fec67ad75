//! What `slim_serve::Runner` computes, keeps and refuses.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
mod files;
mod refusals;
mod shapes;
mod threads;
mod zoo;
