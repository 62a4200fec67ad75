//! What the programs of this package share: networks, data, training.

pub mod data;
pub mod device;
pub mod measure;
pub mod model;
pub mod network;
pub mod passes;
pub mod program;
pub mod slimming;
pub mod train;
pub mod zoo;
