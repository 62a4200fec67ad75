//! Specification of a network.

use std::fmt;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use slim_runtime::{Cfg, Stage};
use tch::nn::Path;

use super::{Arch, Net, size};
use slim_zoo::{
    Selections, convnext, crnn, densenet, densenet_cifar, efficientnet, googlenet, inception_v3,
    mobilenet_v2, mobilenet_v3, preresnet, regnet, resnet, shufflenet_v2, squeezenet, unet, vgg,
    vgg_imagenet, vision_transformer, yolov8,
};

/// Everything that a dense network is built from. A file has it in its metadata, so that users give
/// it only once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The network.
    pub arch: Arch,
    /// The depth; `None` if the name or `cfg` implies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// Widths that differ from those of the depth: of a VGG, or of a pre-activation ResNet or a
    /// DenseNet that the reference slimmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cfg: Option<Cfg>,
    /// Channels that the selections of such a ResNet or DenseNet pick, by field path.
    #[serde(default, skip_serializing_if = "Selections::is_empty")]
    pub selections: Selections,
    /// Number of classes.
    pub classes: i64,
}

/// Limits above every network of the zoo. A file may claim any number, and memory is allocated by
/// these numbers.
mod most {
    pub(super) const CLASSES: i64 = 65_536;
    pub(super) const DEPTH: u32 = 2_000;
    /// Lower, since each layer of a DenseNet reads all layers before it.
    pub(super) const DENSENET_DEPTH: u32 = 250;
    /// Weights of a VGG's convolutions: 1 GiB as floats, 13 times a VGG-19.
    pub(super) const PARAMETERS: i64 = 1 << 28;
}

impl Spec {
    /// Number of classes by default: that of CIFAR-10, as in the reference.
    pub const CLASSES: i64 = 10;

    /// Specifies a network, and checks that it can be built.
    ///
    /// # Errors
    /// A depth or a cfg for a network that has none; a depth, a width or a number of classes out of
    /// range.
    pub fn new(arch: Arch, depth: Option<u32>, cfg: Option<Cfg>, classes: i64) -> Result<Self> {
        ensure!(
            cfg.is_none() || arch == Arch::Vgg,
            "{arch} is not built from widths: leave out --cfg"
        );
        let depth = if cfg.is_some() { None } else { depth.or(arch.default_depth()) };
        Self { arch, depth, cfg, selections: Selections::new(), classes }.checked()
    }

    /// Specifies a pre-activation ResNet or a DenseNet as the reference slimmed it: `cfg` gives its
    /// depth and its widths, `selections` the channels that it picks from its streams.
    ///
    /// # Errors
    /// Any other network, and a number of classes out of range. [`build`](Self::build) reports a
    /// cfg that does not fit.
    pub fn narrow(arch: Arch, cfg: Cfg, selections: Selections, classes: i64) -> Result<Self> {
        Self { arch, depth: None, cfg: Some(cfg), selections, classes }.checked()
    }

    fn checked(self) -> Result<Self> {
        self.check().map(|()| self)
    }

    /// Checks a spec for what [`new`](Self::new) and [`narrow`](Self::narrow) ensure, since a spec
    /// that was read from a file may hold anything.
    ///
    /// # Errors
    /// A spec that they refuse.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { arch, depth, cfg, classes, .. } = self;
        ensure!(
            depth.is_none() || arch.default_depth().is_some(),
            "{arch} comes in one depth, which its name says: leave out --depth"
        );
        ensure!(
            cfg.is_none() || arch.default_depth().is_some(),
            "{arch} is not built from widths: leave out --cfg"
        );
        ensure!(depth.is_none() || cfg.is_none(), "{arch} has a depth or a cfg, not both");
        ensure!(
            self.selections.is_empty() || (cfg.is_some() && arch.selects()),
            "{self} has no selections"
        );
        ensure!(*classes > 0, "a network tells at least one class, not {classes}");
        ensure!(
            *classes <= most::CLASSES,
            "a network tells {} classes at most, not {classes}",
            most::CLASSES
        );
        let deepest = if *arch == Arch::Densenet { most::DENSENET_DEPTH } else { most::DEPTH };
        if let Some(depth) = self.depth().filter(|&depth| depth > deepest) {
            bail!("a depth of {depth} is more than any network has");
        }
        if let (Arch::Vgg, Some(cfg)) = (arch, cfg) {
            let pools = cfg.stages().iter().filter(|stage| **stage == Stage::MaxPool).count();
            let (side, most) = (arch.side(), arch.side().ilog2() as usize);
            ensure!(
                pools <= most,
                "an image of {side}×{side} can be halved {most} times, and the cfg has 'M' {pools} times"
            );
            ensure!(cfg.widths().all(|width| width > 0), "cfg {cfg}: a width is at least 1");
            let parameters = size::convolutions(cfg);
            ensure!(
                parameters <= most::PARAMETERS as f64,
                "a VGG of these widths would have {parameters:.0} parameters, more than {}",
                most::PARAMETERS
            );
        }
        Ok(())
    }

    /// The depth, given directly or by the stages of the cfg; `None` if no depth has these stages,
    /// or if the network comes in one depth.
    pub fn depth(&self) -> Option<u32> {
        let Some(cfg) = &self.cfg else { return self.depth };
        let kinds = |cfg: &Cfg| {
            cfg.stages().iter().map(|stage| *stage == Stage::MaxPool).collect::<Vec<_>>()
        };
        match self.arch {
            Arch::Vgg => [11, 13, 16, 19]
                .into_iter()
                .find(|&depth| vgg::cfg(depth).is_ok_and(|dense| kinds(&dense) == kinds(cfg))),
            Arch::Preresnet => u32::try_from(preresnet::depth(cfg)).ok(),
            Arch::Densenet => u32::try_from(densenet_cifar::depth(cfg)).ok(),
            _ => None,
        }
    }

    /// The widths as the reference counts them; `None` for a network that the reference does not
    /// have.
    ///
    /// # Errors
    /// A depth that the network does not come in.
    pub fn widths(&self) -> Result<Option<Cfg>> {
        let depth = self.depth.or(self.arch.default_depth()).unwrap_or_default();
        Ok(match (&self.cfg, self.arch) {
            (Some(cfg), _) => Some(cfg.clone()),
            (None, Arch::Vgg) => Some(vgg::cfg(depth)?),
            (None, Arch::Preresnet) => Some(preresnet::cfg(depth as usize)?),
            (None, Arch::Densenet) => Some(densenet_cifar::cfg(i64::from(depth))?),
            (None, _) => None,
        })
    }

    /// Shape of the network's images: channels, height, width.
    pub fn image(&self) -> [i64; 3] {
        self.arch.image()
    }

    /// Builds the dense network, with initial weights.
    ///
    /// # Errors
    /// A depth that the network does not come in, a cfg or selections that do not fit it, and what
    /// [`new`](Self::new) refuses.
    pub fn build(&self, p: &Path) -> Result<Net> {
        self.check()?;
        let (classes, selections) = (self.classes, &self.selections);
        let depth = self.depth.or(self.arch.default_depth()).unwrap_or_default();
        Ok(match (self.arch, &self.cfg) {
            (Arch::Vgg, cfg) => Net::new(vgg::Vgg::new(
                p,
                &cfg.clone().map_or_else(|| vgg::cfg(depth), Ok)?,
                classes,
            )?),
            (Arch::Preresnet, None) => {
                Net::new(preresnet::PreResNet::new(p, depth as usize, classes)?)
            }
            (Arch::Preresnet, Some(cfg)) => {
                Net::new(preresnet::PreResNet::narrow(p, cfg, selections, classes)?)
            }
            (Arch::Densenet, None) => {
                Net::new(densenet_cifar::DenseNet::new(p, i64::from(depth), classes)?)
            }
            (Arch::Densenet, Some(cfg)) => {
                Net::new(densenet_cifar::DenseNet::narrow(p, cfg, selections, classes)?)
            }
            (Arch::Vgg16Bn, _) => Net::new(vgg_imagenet::vgg16_bn(p, classes)),
            (Arch::Resnet18, _) => Net::new(resnet::resnet18(p, classes)),
            (Arch::Resnet50, _) => Net::new(resnet::resnet50(p, classes)),
            (Arch::Resnet152, _) => Net::new(resnet::resnet152(p, classes)),
            (Arch::Resnext50, _) => Net::new(resnet::resnext50_32x4d(p, classes)),
            (Arch::Densenet121, _) => Net::new(densenet::densenet121(p, classes)),
            (Arch::Googlenet, _) => Net::new(googlenet::googlenet(p, classes)),
            (Arch::InceptionV3, _) => Net::new(inception_v3::inception_v3(p, classes)),
            (Arch::MobilenetV2, _) => Net::new(mobilenet_v2::MobileNetV2::new(p, classes)),
            (Arch::MobilenetV3Large, _) => Net::new(mobilenet_v3::MobileNetV3::large(p, classes)),
            (Arch::ShufflenetV2, _) => Net::new(shufflenet_v2::ShuffleNetV2::x1_0(p, classes)),
            (Arch::EfficientnetB0, _) => Net::new(efficientnet::EfficientNet::b0(p, classes)),
            (Arch::RegnetY400mf, _) => Net::new(regnet::RegNet::y_400mf(p, classes)),
            (Arch::Squeezenet, _) => Net::new(squeezenet::SqueezeNet::v1_1(p, classes)),
            (Arch::ConvnextTiny, _) => Net::new(convnext::ConvNeXt::tiny(p, classes)),
            (Arch::VitB16, _) => Net::new(vision_transformer::vit_b_16(p, classes)),
            (Arch::Yolov8n, _) => Net::new(yolov8::YoloV8::n(p, classes)),
            (Arch::Crnn, _) => Net::new(crnn::Crnn::new(p, 256, classes)),
            (Arch::Unet, _) => Net::new(unet::UNet::new(p, 64, classes)),
        })
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
