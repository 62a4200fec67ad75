//! Networks as annotated structs.

pub mod densenet;
pub mod googlenet;
pub mod resnet;
mod torchvision;
pub mod vgg;
pub mod vgg_imagenet;
