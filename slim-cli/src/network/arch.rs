//! The networks of the zoo by their names.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The networks of the zoo. Their names are the reference's and torchvision's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Arch {
    /// VGG with batch norm for 32×32 images, of depth 11, 13, 16 or 19
    Vgg,
    /// Pre-activation ResNet for 32×32 images, of depth 9n + 2 (164)
    #[value(alias = "resnet")]
    Preresnet,
    /// DenseNet for 32×32 images, of depth 3n + 4 (40)
    Densenet,
    /// torchvision's VGG-16 with batch norm
    Vgg16Bn,
    /// torchvision's ResNet-18
    Resnet18,
    /// torchvision's ResNet-50
    Resnet50,
    /// torchvision's ResNet-152
    Resnet152,
    /// torchvision's ResNeXt-50, 32 groups of 4 channels
    #[serde(rename = "resnext50_32x4d")]
    #[value(name = "resnext50_32x4d")]
    Resnext50,
    /// torchvision's DenseNet-121
    Densenet121,
    /// torchvision's GoogLeNet
    Googlenet,
    /// torchvision's Inception v3, for images of at least 75×75 pixels
    InceptionV3,
    /// torchvision's MobileNetV2
    MobilenetV2,
    /// torchvision's MobileNetV3, large
    MobilenetV3Large,
    /// torchvision's ShuffleNetV2, of width 1.0
    #[serde(rename = "shufflenet_v2_x1_0")]
    #[value(name = "shufflenet_v2_x1_0")]
    ShufflenetV2,
    /// torchvision's EfficientNet-B0
    #[serde(rename = "efficientnet_b0")]
    #[value(name = "efficientnet_b0")]
    EfficientnetB0,
    /// torchvision's RegNetY-400MF
    #[serde(rename = "regnet_y_400mf")]
    #[value(name = "regnet_y_400mf")]
    RegnetY400mf,
    /// torchvision's SqueezeNet 1.1, which has no batch norms
    #[serde(rename = "squeezenet1_1")]
    #[value(name = "squeezenet1_1")]
    Squeezenet,
    /// torchvision's ConvNeXt-Tiny, which has no batch norms
    ConvnextTiny,
    /// torchvision's vision transformer ViT-B/16, which has no batch norms
    #[serde(rename = "vit_b_16")]
    #[value(name = "vit_b_16")]
    VitB16,
    /// U-Net, which makes an image: no data set here has labels for it
    Unet,
    /// YOLOv8n, which finds objects: no data set here has labels for it
    Yolov8n,
    /// CRNN, which reads a line of text in a grey image: no data set here has labels for it
    Crnn,
}

impl Arch {
    /// Side of CIFAR's images, in pixels.
    pub const CIFAR_SIDE: i64 = 32;
    /// Side of the images that networks for ImageNet take, in pixels.
    pub const IMAGENET_SIDE: i64 = 224;

    /// The reference's depth, for a network that comes in several depths.
    pub fn default_depth(self) -> Option<u32> {
        match self {
            Arch::Vgg => Some(19),
            Arch::Preresnet => Some(164),
            Arch::Densenet => Some(40),
            _ => None,
        }
    }

    /// The factor of the sparsity penalty that the paper uses for this network.
    pub fn default_sparsity(self) -> f64 {
        if self == Arch::Vgg { 1e-4 } else { 1e-5 }
    }

    /// Whether the network has selections, which pick channels of its stream for the batch norms.
    pub fn selects(self) -> bool {
        matches!(self, Arch::Preresnet | Arch::Densenet)
    }

    /// Whether batch norms rank the network's channels.
    pub fn has_batch_norms(self) -> bool {
        !matches!(self, Arch::Squeezenet | Arch::ConvnextTiny | Arch::VitB16)
    }

    /// The weight whose rows are the classes.
    pub fn classifier(self) -> &'static str {
        match self {
            Arch::Vgg | Arch::Densenet121 => "classifier.weight",
            Arch::Vgg16Bn => "classifier.6.weight",
            Arch::MobilenetV2 | Arch::EfficientnetB0 | Arch::Squeezenet => "classifier.1.weight",
            Arch::ConvnextTiny => "classifier.2.weight",
            Arch::VitB16 => "heads.head.weight",
            Arch::MobilenetV3Large => "classifier.3.weight",
            Arch::Unet => "head.weight",
            Arch::Crnn => "rnn.1.embedding.weight",
            Arch::Yolov8n => "model.22.cv3.0.2.weight",
            _ => "fc.weight",
        }
    }

    /// Side of the images that the network was made for, in pixels; the height of lines of text.
    pub fn side(self) -> i64 {
        match self {
            Arch::Yolov8n => 640,
            Arch::Unet | Arch::Crnn => Self::CIFAR_SIDE,
            _ if self.default_depth().is_some() => Self::CIFAR_SIDE,
            _ => Self::IMAGENET_SIDE,
        }
    }

    /// Whether the network gives each image one class, as the labels of a data set do.
    pub fn classifies(self) -> bool {
        !matches!(self, Arch::Unet | Arch::Yolov8n | Arch::Crnn)
    }

    /// Shape of the images that the network was made for: channels, height, width.
    pub fn image(self) -> [i64; 3] {
        match self {
            Arch::Crnn => [1, self.side(), 100],
            _ => [3, self.side(), self.side()],
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => write!(f, "{self:?}"),
        }
    }
}
