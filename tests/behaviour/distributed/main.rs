//! What several processes that train together compute, agree on, and do when one of them dies.
#![allow(clippy::unwrap_used, clippy::panic)]

mod agreement;
mod collectives;
mod failure;
mod launch;
mod training;
