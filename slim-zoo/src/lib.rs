//! Networks as annotated structs.

mod cifar;
pub mod convnext;
pub mod crnn;
pub mod densenet;
pub mod densenet_cifar;
pub mod efficientnet;
pub mod googlenet;
pub mod inception_v3;
mod mobile;
pub mod mobilenet_v2;
pub mod mobilenet_v3;
pub mod preresnet;
pub mod regnet;
pub mod resnet;
pub mod shufflenet_v2;
pub mod squeezenet;
mod torchvision;
pub mod unet;
pub mod vgg;
pub mod vgg_imagenet;
pub mod vision_transformer;
pub mod yolov8;

pub use cifar::Selections;
