//! Networks of the zoo: their names, what they are built from, and one type for all of them.

mod arch;
mod size;
mod spec;

use slim_runtime::{Flow, LayerVisitor, Prunable, Tracer};
use tch::Tensor;
use tch::nn::ModuleT;

pub use arch::Arch;
pub use spec::Spec;

/// Any network of the zoo.
#[derive(Debug)]
pub struct Net(Box<dyn Network>);

/// What the programs need of a network: a forward pass and channels.
trait Network: ModuleT + Prunable {}

impl<N: ModuleT + Prunable> Network for N {}

impl Net {
    /// Wraps any network with a forward pass and channels.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use anyhow::Result;
    use clap::ValueEnum;
    use slim_runtime::Slimming;
    use slim_runtime::criterion::L2;
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
            assert_eq!(model.vs.variables()[arch.classifier()].size()[0], 10, "{arch}");
            let by_scale = Slimming::ratio(0.3);
            let by_weights = by_scale.clone().criterion(L2).local();
            let slimming = if arch.has_batch_norms() { &by_scale } else { &by_weights };
            let planned = model.net.plan(slimming);
            assert!(planned.is_ok(), "{arch}: {planned:?}");
            let text = serde_json::to_string(&spec)?;
            assert_eq!(serde_json::from_str::<Spec>(&text)?, spec);
            assert!(
                text.contains(&format!("\"{arch}\"")),
                "{arch} is not its name in files: {text}"
            );
        }
        Ok(())
    }

    #[test]
    fn what_a_network_has_not_is_refused() {
        let refused =
            |spec: Result<Spec>| spec.err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            refused(Spec::new(Arch::Resnet50, Some(50), None, 10)),
            "resnet50 comes in one depth, which its name says: leave out --depth"
        );
        assert_eq!(
            refused(Spec::new(Arch::Preresnet, None, Some(slim_runtime::channels![4]), 10)),
            "preresnet is not built from widths: leave out --cfg"
        );
        let pooled = |pools| {
            ["[4", &", 'M', 4".repeat(pools), "]"]
                .concat()
                .parse()
                .map(|cfg| Spec::new(Arch::Vgg, None, Some(cfg), 10))
        };
        assert!(pooled(5).is_ok_and(|spec| spec.is_ok()));
        assert_eq!(
            pooled(6).map(refused).unwrap_or_default(),
            "an image of 32×32 can be halved 5 times, and the cfg has 'M' 6 times"
        );
        let vs = VarStore::new(Device::Cpu);
        let built =
            Spec::new(Arch::Vgg, Some(12), None, 10).and_then(|spec| spec.build(&vs.root()));
        assert_eq!(
            built.err().map(|error| error.to_string()).unwrap_or_default(),
            "VGG has a depth of 11, 13, 16 or 19, not 12"
        );
    }
}
