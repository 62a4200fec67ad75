//! Networks as annotated structs.

pub mod vgg;
