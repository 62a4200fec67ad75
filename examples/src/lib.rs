//! What the programs of this package share: networks, data, training, reports.

pub mod data;
pub mod measure;
pub mod model;
pub mod network;
pub mod report;
pub mod training;
pub mod zoo;
