//! Layers that tch does not have as structs.

mod pool;

pub use pool::{AdaptiveAvgPool2d, AvgPool2d, MaxPool2d, adaptive_avg_pool2d, avg_pool2d, max_pool2d};
