//! What the programs of this package share: networks, data, training.

pub mod data;
pub mod measure;
pub mod model;
pub mod network;
pub mod passes;
pub mod slimming;
pub mod training;
pub mod zoo;
