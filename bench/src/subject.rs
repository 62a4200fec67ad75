//! A network with values as after training, that can be slimmed again and again.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use slim_examples::network::Net;
use slim_runtime::{Plan, Prunable, Slimming, checkpoint};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::network::Network;

/// Of what is drawn. One for all, so that every run measures the same networks.
const SEED: i64 = 0;

/// All that is drawn comes from one generator of libtorch: who draws holds it, or else two threads
/// would disturb each other.
static GENERATOR: Mutex<()> = Mutex::new(());

/// The share that is removed, everywhere in this package.
pub const RATIO: f64 = 0.5;

/// A network whose γ rank its channels.
#[derive(Debug)]
pub struct Subject {
    /// Which it is.
    pub network: Network,
    /// The network, dense or slimmed.
    pub net: Net,
    /// Its variables.
    pub vs: VarStore,
    /// The values of the variables of the dense network, with handles of the variables.
    dense: Vec<(Tensor, Tensor)>,
}

impl Subject {
    /// The dense network: γ from U(0, 1), and shifts and statistics that matter.
    ///
    /// # Errors
    /// Those of [`Network::build`].
    pub fn new(network: Network, device: Device) -> Result<Self> {
        let _generator = seeded();
        let vs = VarStore::new(device);
        let net = network.build(&vs.root())?;
        let mut variables: Vec<_> = vs.variables().into_iter().collect();
        // The store's own order is that of a hash table.
        variables.sort_by(|a, b| a.0.cmp(&b.0));
        let _no_grad = tch::no_grad_guard();
        for (name, variable) in &mut variables {
            draw(name, variable);
        }
        let dense = variables
            .into_iter()
            .map(|(_, variable)| (variable.shallow_clone(), variable.copy()))
            .collect();
        Ok(Self { network, net, vs, dense })
    }

    /// Makes it the dense network again.
    pub fn restore(&mut self) {
        let _no_grad = tch::no_grad_guard();
        for (variable, value) in &mut self.dense {
            variable.set_data(&value.copy());
            // Its gradient is of the slimmed network.
            variable.zero_grad();
        }
    }

    /// What stays by the rule of Network Slimming.
    ///
    /// # Errors
    /// Those of planning.
    pub fn plan(&self) -> Result<Plan> {
        Ok(self.net.plan(&Slimming::ratio(RATIO))?)
    }

    /// Writes the weights, dense or slimmed.
    ///
    /// # Errors
    /// Those of [`checkpoint::save_weights`].
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(checkpoint::save_weights(path, &self.vs)?)
    }

    /// Images for it, the same every time.
    pub fn images(&self, batch: i64) -> Tensor {
        let _generator = seeded();
        let [channels, height, width] = self.network.image();
        Tensor::randn([batch, channels, height, width], (Kind::Float, self.vs.device()))
    }
}

fn seeded() -> impl Drop {
    let held = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(SEED);
    held
}

/// A batch norm's parameters are the only ones of one dimension, but for biases of layers, which
/// are no worse for it.
fn draw(name: &str, variable: &mut Tensor) {
    if variable.dim() != 1 {
        return;
    }
    let _ = match name.rsplit('.').next() {
        Some("weight") => variable.uniform_(0., 1.),
        Some("running_var") => variable.uniform_(0.5, 1.5),
        _ => variable.normal_(0., 0.1),
    };
}

/// Every group of channels that stay or go together loses half of them, those with the smallest
/// |γ|: a rule that Torch-Pruning has as well.
pub fn half_of_each() -> Slimming {
    Slimming::ratio(0.99).local().max_removed(RATIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_the_same_every_time_and_after_slimming() -> Result<()> {
        let mut subject = Subject::new(Network::Vgg11, Device::Cpu)?;
        let plan = subject.plan()?;
        // Not `assert_eq`: a plan is long.
        assert!(Subject::new(Network::Vgg11, Device::Cpu)?.plan()? == plan);
        let images = subject.images(1);
        let forward = |subject: &Subject| {
            tch::no_grad(|| tch::nn::ModuleT::forward_t(&subject.net, &images, false))
        };
        let before = forward(&subject);
        for _ in 0..2 {
            subject.net.apply(&plan)?;
            assert!(!forward(&subject).equal(&before), "slimming has changed nothing");
            subject.restore();
            assert!(forward(&subject).equal(&before));
            assert!(subject.plan()? == plan);
        }
        Ok(())
    }

    #[test]
    fn every_layer_loses_exactly_half() -> Result<()> {
        for network in
            [Network::Vgg19, Network::Resnet50, Network::Densenet121, Network::MobilenetV2]
        {
            let plan = Subject::new(network, Device::Cpu)?.net.plan(&half_of_each())?;
            for layer in plan.layers() {
                for axis in layer.axes.iter().filter(|axis| {
                    layer.scored.as_ref().is_some_and(|scored| scored.axis == axis.name)
                }) {
                    assert_eq!(axis.keep.len() * 2, axis.width, "{network}: {}", layer.path);
                }
            }
        }
        Ok(())
    }
}
