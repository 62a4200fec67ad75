//! A network with values as after training, which can be slimmed repeatedly.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use slim_cli::network::Net;
use slim_runtime::{Plan, Prunable, Slimming, checkpoint};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::network::Network;

/// The seed of all random values. It is fixed, so that every run measures the same networks.
const SEED: i64 = 0;

/// The lock of libtorch's random generator, from which all values are drawn. A thread holds the
/// lock while it draws, since two threads would disturb each other.
static GENERATOR: Mutex<()> = Mutex::new(());

/// The share of channels that is removed, everywhere in this package.
pub const RATIO: f64 = 0.5;

/// A network whose scales γ differ, so that they rank its channels.
#[derive(Debug)]
pub struct Subject {
    /// Which network it is.
    pub network: Network,
    /// The network, dense or slimmed.
    pub net: Net,
    /// The variables of `net`.
    pub vs: VarStore,
    /// Each variable of the dense network, with its value.
    dense: Vec<(Tensor, Tensor)>,
}

impl Subject {
    /// The dense network, with γ from U(0, 1), and with shifts and running statistics that affect
    /// its outputs.
    ///
    /// # Errors
    /// Those of [`Network::build`].
    pub fn new(network: Network, device: Device) -> Result<Self> {
        let _generator = seeded();
        let vs = VarStore::new(device);
        let net = network.build(&vs.root())?;
        let mut variables: Vec<_> = vs.variables().into_iter().collect();
        // The order of the store is that of a hash table.
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

    /// Restores the dense network.
    pub fn restore(&mut self) {
        let _no_grad = tch::no_grad_guard();
        for (variable, value) in &mut self.dense {
            variable.set_data(&value.copy());
            // The gradient belongs to the slimmed network.
            variable.zero_grad();
        }
    }

    /// The plan that the rule of Network Slimming makes for [`RATIO`].
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

    /// Random images for the network, the same in every call.
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

/// Draws the values of a variable with one dimension: a parameter or a statistic of a batch norm.
/// It may also be the bias of a layer, which does no harm.
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

/// Every set of layers whose channels are removed together loses half of its channels: those with
/// the smallest |γ|. Torch-Pruning has this rule, too.
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
