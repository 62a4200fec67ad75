//! Networks as annotated structs.

mod cifar;
pub mod densenet;
pub mod densenet_cifar;
pub mod googlenet;
mod mobile;
pub mod mobilenet_v2;
pub mod mobilenet_v3;
pub mod preresnet;
pub mod resnet;
pub mod shufflenet_v2;
mod torchvision;
pub mod unet;
pub mod vgg;
pub mod vgg_imagenet;

pub use cifar::Selections;
