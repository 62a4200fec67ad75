//! Size of a network, computed without building it.

use anyhow::Result;
use slim_runtime::Cfg;

use super::{Arch, Spec};
use slim_zoo::densenet_cifar;

/// Networks that come in one size: number of trained values without the classifier, and inputs of
/// the classifier.
const fn named(arch: Arch) -> Option<(i64, i64)> {
    Some(match arch {
        Arch::Vgg16Bn => (134_268_992, 4096),
        Arch::Resnet18 => (11_176_512, 512),
        Arch::Resnet50 => (23_508_032, 2048),
        Arch::Resnet152 => (58_143_808, 2048),
        Arch::Resnext50 => (22_979_904, 2048),
        Arch::Densenet121 => (6_953_856, 1024),
        Arch::Googlenet => (5_599_904, 1024),
        Arch::InceptionV3 => (21_785_568, 2048),
        Arch::MobilenetV2 => (2_223_872, 1280),
        Arch::MobilenetV3Large => (4_202_032, 1280),
        Arch::ShufflenetV2 => (1_253_604, 1024),
        Arch::EfficientnetB0 => (4_007_548, 1280),
        Arch::RegnetY400mf => (3_903_144, 440),
        Arch::Squeezenet => (722_496, 512),
        Arch::ConvnextTiny => (27_820_128, 768),
        Arch::VitB16 => (85_798_656, 768),
        // Three classifiers of 64 inputs; with more than 64 classes, the layers before are wider.
        Arch::Yolov8n => (3_010_832, 3 * 65 - 1),
        Arch::Crnn => (8_312_320, 512),
        Arch::Unet => (7_700_544, 64),
        Arch::Vgg | Arch::Preresnet | Arch::Densenet => return None,
    })
}

impl Spec {
    /// Number of trained values. For a pre-activation ResNet or a DenseNet a lower bound: it counts
    /// only the convolutions with most of the values, and the classifier.
    ///
    /// In floating point, which does not overflow.
    ///
    /// # Errors
    /// Errors of [`check`](Self::check), and a depth that the network does not come in.
    pub(crate) fn parameters(&self) -> Result<f64> {
        self.check()?;
        let classifier = |inputs: i64| (inputs as f64 + 1.) * self.classes as f64;
        if let Some((body, inputs)) = named(self.arch) {
            return Ok(body as f64 + classifier(inputs));
        }
        let cfg = self.widths()?.unwrap_or_default();
        let last = cfg.widths().next_back().unwrap_or(0);
        let body = match self.arch {
            Arch::Preresnet => bottlenecks(&cfg),
            Arch::Densenet => dense_layers(&cfg),
            _ => convolutions(&cfg) + cfg.widths().map(|width| 2. * width as f64).sum::<f64>(),
        };
        Ok(body + classifier(last))
    }
}

/// Weights of a VGG's convolutions: each convolution reads the one before.
pub(super) fn convolutions(cfg: &Cfg) -> f64 {
    let inputs = [3].into_iter().chain(cfg.widths());
    inputs.zip(cfg.widths()).map(|(inputs, outputs)| 9. * inputs as f64 * outputs as f64).sum()
}

/// Weights of the first two convolutions in each block of a pre-activation ResNet. The second, a
/// 3×3 convolution, is the larger.
fn bottlenecks(cfg: &Cfg) -> f64 {
    let widths: Vec<_> = cfg.widths().map(|width| width as f64).collect();
    widths.chunks_exact(3).map(|block| block[0] * block[1] + 9. * block[1] * block[2]).sum()
}

/// Weights of the 3×3 convolutions in a DenseNet's blocks. Each reads many channels and makes few.
fn dense_layers(cfg: &Cfg) -> f64 {
    let widths: Vec<_> = cfg.widths().map(|width| width as f64).collect();
    let of_block =
        |block: &[f64]| block.split_last().map_or(0., |(_, layers)| layers.iter().sum::<f64>());
    9. * densenet_cifar::GROWTH as f64
        * widths.chunks((widths.len() / 3).max(1)).map(of_block).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use slim_runtime::criterion::L2;
    use slim_runtime::{Prunable, Slimming};
    use tch::Device;

    use crate::model::Model;

    /// Number of trained values of a network that is built.
    fn trained(model: &Model) -> i64 {
        model.vs.trainable_variables().iter().map(|variable| variable.numel() as i64).sum()
    }

    #[test]
    fn sizes_are_those_of_what_is_built() -> Result<()> {
        for arch in Arch::value_variants().iter().filter(|arch| named(**arch).is_some()) {
            let spec = Spec::new(*arch, None, None, 10)?;
            let model = Model::new(spec.clone(), Device::Cpu)?;
            let planned = model.net.plan(&Slimming::ratio(0.).criterion(L2))?.parameters().before;
            let of = |count: i64| (*arch, count as f64);
            assert_eq!(
                (of(trained(&model)), of(planned)),
                ((*arch, spec.parameters()?), (*arch, spec.parameters()?))
            );
        }
        for cfg in ["[4]", "[8, 'M', 3, 'M', 5, 64]"] {
            let spec = Spec::new(Arch::Vgg, None, Some(cfg.parse()?), 7)?;
            assert_eq!(
                (cfg, spec.parameters()?),
                (cfg, trained(&Model::new(spec.clone(), Device::Cpu)?) as f64)
            );
        }
        Ok(())
    }

    #[test]
    fn most_of_a_network_with_selections_is_counted() -> Result<()> {
        for (arch, depth) in [
            (Arch::Preresnet, 11),
            (Arch::Preresnet, 56),
            (Arch::Densenet, 7),
            (Arch::Densenet, 40),
        ] {
            let spec = Spec::new(arch, Some(depth), None, 10)?;
            let share =
                spec.parameters()? / trained(&Model::new(spec.clone(), Device::Cpu)?) as f64;
            assert!((0.4..=1.).contains(&share), "{spec}: {share}");
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |spec: Result<Spec>| {
            spec.and_then(|spec| spec.parameters()).err().map(|error| error.to_string())
        };
        assert_eq!(
            refused(Spec::new(Arch::Vgg, Some(12), None, 10)).as_deref(),
            Some("VGG has a depth of 11, 13, 16 or 19, not 12")
        );
    }
}
