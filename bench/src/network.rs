//! The networks that are measured.

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;
use slim_cli::network::{Arch, Net, Spec};
use tch::nn::Path;

use crate::synthetic::{Chain, Wide};

/// A network that is measured. Zoo networks have the names, sizes and classes of their originals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Network {
    /// CIFAR's VGG-11
    Vgg11,
    /// CIFAR's VGG-16
    Vgg16,
    /// CIFAR's VGG-19
    Vgg19,
    /// ResNet-18
    Resnet18,
    /// ResNet-50
    Resnet50,
    /// ResNet-152
    Resnet152,
    /// DenseNet-121
    Densenet121,
    /// MobileNetV2
    MobilenetV2,
    /// 1,000 convolutions in a row
    #[value(name = "chain_1000")]
    Chain,
    /// A million channels in eight wide layers
    #[value(name = "million")]
    Million,
}

impl Network {
    /// The number of classes of the network.
    pub fn classes(self) -> i64 {
        if self.spec_parts().is_some_and(|(arch, _)| arch == Arch::Vgg) { 10 } else { 1000 }
    }

    /// The shape of one image for the network: channels, height, width.
    pub fn image(self) -> [i64; 3] {
        match (self, self.spec_parts()) {
            (_, Some((arch, _))) => [3, arch.side(), arch.side()],
            (Network::Chain, None) => [Chain::WIDTH, 8, 8],
            (_, None) => [Wide::NARROW, 1, 1],
        }
    }

    /// The network with its initial values.
    ///
    /// # Errors
    /// Those of [`Spec::build`].
    pub fn build(self, p: &Path) -> Result<Net> {
        match (self, self.spec_parts()) {
            (_, Some((arch, depth))) => Spec::new(arch, depth, None, self.classes())?.build(p),
            (Network::Chain, None) => Ok(Net::new(Chain::new(p, 1000))),
            (_, None) => Ok(Net::new(Wide::new(p, 8, 1 << 17))),
        }
    }

    /// The network's architecture and depth in the zoo; `None` for a synthetic network.
    fn spec_parts(self) -> Option<(Arch, Option<u32>)> {
        Some(match self {
            Network::Vgg11 => (Arch::Vgg, Some(11)),
            Network::Vgg16 => (Arch::Vgg, Some(16)),
            Network::Vgg19 => (Arch::Vgg, Some(19)),
            Network::Resnet18 => (Arch::Resnet18, None),
            Network::Resnet50 => (Arch::Resnet50, None),
            Network::Resnet152 => (Arch::Resnet152, None),
            Network::Densenet121 => (Arch::Densenet121, None),
            Network::MobilenetV2 => (Arch::MobilenetV2, None),
            Network::Chain | Network::Million => return None,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => write!(f, "{self:?}"),
        }
    }
}
