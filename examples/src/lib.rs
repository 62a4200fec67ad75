//! What the programs of this package share: networks, data, training.

pub mod digits;
pub mod measure;
pub mod training;
pub mod zoo;
