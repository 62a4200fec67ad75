//! What the programs of this package share: networks, data, training, reports.

pub mod data;
pub mod device;
pub mod files;
pub mod model;
pub mod network;
pub mod numbers;
pub mod options;
pub mod passes;
pub mod program;
pub mod prune;
pub mod report;
pub mod slimming;
pub mod table;
pub mod train;
pub mod zoo;
