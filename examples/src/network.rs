//! A network of the zoo by its name: what it is built from, and the network behind one type.

use std::fmt;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use slim_runtime::{Cfg, Flow, LayerVisitor, Prunable, Tracer};
use tch::Tensor;
use tch::nn::{ModuleT, Path};

use crate::zoo::{
    densenet, densenet_cifar, googlenet, mobilenet_v2, mobilenet_v3, preresnet, resnet, shufflenet_v2, unet, vgg, vgg_imagenet,
};

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
    /// torchvision's MobileNetV2
    MobilenetV2,
    /// torchvision's MobileNetV3, large
    MobilenetV3Large,
    /// torchvision's ShuffleNetV2, of width 1.0
    #[serde(rename = "shufflenet_v2_x1_0")]
    #[value(name = "shufflenet_v2_x1_0")]
    ShufflenetV2,
    /// U-Net, which makes an image: no data set here has labels for it
    Unet,
}

/// What a dense network is built from. A file says it in its metadata, so that it is asked for once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which network.
    pub arch: Arch,
    /// How deep; `None` where the name says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// Widths of a VGG that are not those of its depth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cfg: Option<Cfg>,
    /// How many classes it tells apart.
    pub classes: i64,
}

/// Any network of the zoo.
#[derive(Debug)]
pub struct Net(Box<dyn Network>);

/// What the programs need of a network.
trait Network: ModuleT + Prunable {}

impl<N: ModuleT + Prunable> Network for N {}

impl Arch {
    /// The reference's depth, for a network that comes in several.
    pub fn default_depth(self) -> Option<u32> {
        match self {
            Arch::Vgg => Some(19),
            Arch::Preresnet => Some(164),
            Arch::Densenet => Some(40),
            _ => None,
        }
    }

    /// The factor of the sparsity penalty that the paper trains it with.
    pub fn default_sparsity(self) -> f64 {
        if self == Arch::Vgg { 1e-4 } else { 1e-5 }
    }

    /// Side of the images that it was made for, in pixels.
    pub fn side(self) -> i64 {
        if self.default_depth().is_some() || self == Arch::Unet { 32 } else { 224 }
    }
}

impl Spec {
    /// Checks that the network can be built.
    ///
    /// # Errors
    /// A depth or a cfg where the network has none, and a number of classes that is none.
    pub fn new(arch: Arch, depth: Option<u32>, cfg: Option<Cfg>, classes: i64) -> Result<Self> {
        ensure!(depth.is_none() || arch.default_depth().is_some(), "{arch} comes in one depth, which its name says: leave out --depth");
        ensure!(cfg.is_none() || arch == Arch::Vgg, "{arch} is not built from widths: leave out --cfg");
        ensure!(classes > 0, "a network tells at least one class, not {classes}");
        let depth = if cfg.is_some() { None } else { depth.or(arch.default_depth()) };
        Ok(Self { arch, depth, cfg, classes })
    }

    /// Shape of an image for it: channels, height, width.
    pub fn image(&self) -> [i64; 3] {
        [3, self.arch.side(), self.arch.side()]
    }

    /// The dense network, with starting values.
    ///
    /// # Errors
    /// A depth that the network does not come in, a cfg that is none of a VGG.
    pub fn build(&self, p: &Path) -> Result<Net> {
        let classes = self.classes;
        let depth = self.depth.or(self.arch.default_depth()).unwrap_or_default();
        Ok(match self.arch {
            Arch::Vgg => Net::new(vgg::Vgg::new(p, &self.cfg.clone().map_or_else(|| vgg::cfg(depth), Ok)?, classes)?),
            Arch::Preresnet => Net::new(preresnet::PreResNet::new(p, depth as usize, classes)?),
            Arch::Densenet => Net::new(densenet_cifar::DenseNet::new(p, i64::from(depth), classes)?),
            Arch::Vgg16Bn => Net::new(vgg_imagenet::vgg16_bn(p, classes)),
            Arch::Resnet18 => Net::new(resnet::resnet18(p, classes)),
            Arch::Resnet50 => Net::new(resnet::resnet50(p, classes)),
            Arch::Resnet152 => Net::new(resnet::resnet152(p, classes)),
            Arch::Resnext50 => Net::new(resnet::resnext50_32x4d(p, classes)),
            Arch::Densenet121 => Net::new(densenet::densenet121(p, classes)),
            Arch::Googlenet => Net::new(googlenet::googlenet(p, classes)),
            Arch::MobilenetV2 => Net::new(mobilenet_v2::MobileNetV2::new(p, classes)),
            Arch::MobilenetV3Large => Net::new(mobilenet_v3::MobileNetV3::large(p, classes)),
            Arch::ShufflenetV2 => Net::new(shufflenet_v2::ShuffleNetV2::x1_0(p, classes)),
            Arch::Unet => Net::new(unet::UNet::new(p, 64, classes)),
        })
    }
}

impl Net {
    /// Any network with a forward pass and channels.
    pub fn new(network: impl ModuleT + Prunable + 'static) -> Self {
        Self(Box::new(network))
    }
}

impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        self.0.forward_t(xs, train)
    }
}

impl Prunable for Net {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> slim_runtime::Result<Flow> {
        self.0.trace(cx, input)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> slim_runtime::Result<()> {
        self.0.layers_mut(visit)
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

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.arch)?;
        match (&self.cfg, self.depth) {
            (Some(cfg), _) => write!(f, " {cfg}")?,
            (None, Some(depth)) => write!(f, "-{depth}")?,
            (None, None) => {}
        }
        write!(f, ", {} classes", self.classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use slim_runtime::Slimming;
    use tch::Device;
    use tch::nn::VarStore;

    #[test]
    fn every_network_is_built_by_its_name() -> Result<()> {
        for arch in Arch::value_variants() {
            let depth = match arch {
                Arch::Vgg => Some(11),
                Arch::Preresnet => Some(11),
                Arch::Densenet => Some(7),
                _ => None,
            };
            let spec = Spec::new(*arch, depth, None, 10)?;
            let model = Model::new(spec.clone(), Device::Cpu)?;
            model.draw_scales();
            let planned = model.net.plan(&Slimming::ratio(0.3));
            assert!(planned.is_ok(), "{arch}: {planned:?}");
            let text = serde_json::to_string(&spec)?;
            assert_eq!(serde_json::from_str::<Spec>(&text)?, spec);
            assert!(text.contains(&format!("\"{arch}\"")), "{arch} is not its name in files: {text}");
        }
        Ok(())
    }

    #[test]
    fn what_a_network_has_not_is_refused() {
        let refused = |spec: Result<Spec>| spec.err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            refused(Spec::new(Arch::Resnet50, Some(50), None, 10)),
            "resnet50 comes in one depth, which its name says: leave out --depth"
        );
        assert_eq!(
            refused(Spec::new(Arch::Preresnet, None, Some(slim_runtime::channels![4]), 10)),
            "preresnet is not built from widths: leave out --cfg"
        );
        let vs = VarStore::new(Device::Cpu);
        let built = Spec::new(Arch::Vgg, Some(12), None, 10).and_then(|spec| spec.build(&vs.root()));
        assert_eq!(built.err().map(|error| error.to_string()).unwrap_or_default(), "VGG has a depth of 11, 13, 16 or 19, not 12");
    }
}
