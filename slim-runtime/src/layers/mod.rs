//! `Prunable` for what a model is made of: tch's layers, containers, values that hold no channels.

mod batch_norm;
mod containers;
mod conv;
mod identity;
mod linear;
