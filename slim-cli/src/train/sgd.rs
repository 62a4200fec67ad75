//! Stochastic gradient descent whose state can be saved. tch's optimizer gives no access to its
//! momentum.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tch::Tensor;
use tch::nn::VarStore;

use super::Recipe;

/// PyTorch's SGD with momentum and weight decay, without dampening and Nesterov momentum.
#[derive(Debug)]
pub(super) struct Sgd {
    momentum: f64,
    parameters: Vec<Parameter>,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    variable: Tensor,
    decay: f64,
    /// The direction of the last step; `None` before the first.
    velocity: Option<Tensor>,
}

impl Sgd {
    /// An optimizer of all trainable variables, without momentum so far.
    pub(super) fn new(vs: &VarStore, recipe: &Recipe) -> Self {
        let variables: BTreeMap<_, _> = vs.variables().into_iter().collect();
        // γ and β are the variables whose layer has running statistics.
        let of_batch_norm = |name: &str| {
            let layer =
                name.rsplit_once('.').map_or(String::new(), |(layer, _)| format!("{layer}."));
            variables.contains_key(&format!("{layer}running_mean"))
        };
        let parameter = |(name, variable): (&String, &Tensor)| Parameter {
            name: name.clone(),
            variable: variable.shallow_clone(),
            decay: if recipe.decay_bn || !of_batch_norm(name) { recipe.weight_decay } else { 0. },
            velocity: None,
        };
        let trained = variables.iter().filter(|(_, variable)| variable.requires_grad());
        Self { momentum: recipe.momentum, parameters: trained.map(parameter).collect() }
    }

    /// Sets all gradients to zero.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub(super) fn zero_grad(&self) -> Result<()> {
        for parameter in &self.parameters {
            let mut gradient = parameter.variable.f_grad()?;
            if gradient.defined() {
                let _ = gradient.f_detach_()?.f_zero_()?;
            }
        }
        Ok(())
    }

    /// Updates every variable that has a gradient: `v ← momentum · v + gradient + decay · w`,
    /// `w ← w − rate · v`.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub(super) fn step(&mut self, rate: f64) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for parameter in &mut self.parameters {
            parameter.step(rate, self.momentum)?;
        }
        Ok(())
    }

    /// The momentum by the names of the variables.
    pub(super) fn velocities(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.parameters
            .iter()
            .filter_map(|parameter| Some((parameter.name.as_str(), parameter.velocity.as_ref()?)))
    }

    /// Restores the momentum that [`velocities`](Self::velocities) returned.
    ///
    /// # Errors
    /// Momentum of other variables, or of other shapes.
    pub(super) fn set_velocities(
        &mut self,
        mut velocities: BTreeMap<String, Tensor>,
    ) -> Result<()> {
        for parameter in &mut self.parameters {
            let Some(velocity) = velocities.remove(&parameter.name) else { continue };
            let (is, wanted) = (velocity.size(), parameter.variable.size());
            ensure!(
                is == wanted,
                "the momentum of `{}` has shape {is:?}, the variable {wanted:?}",
                parameter.name
            );
            let velocity = velocity
                .f_to_device(parameter.variable.device())?
                .f_to_kind(parameter.variable.f_kind()?)?;
            parameter.velocity = Some(velocity);
        }
        let surplus: Vec<_> = velocities.keys().map(String::as_str).collect();
        ensure!(
            surplus.is_empty(),
            "there is momentum of what is no variable that is trained: {}",
            surplus.join(", ")
        );
        Ok(())
    }
}

impl Parameter {
    fn step(&mut self, rate: f64, momentum: f64) -> Result<()> {
        let gradient = self.variable.f_grad()?;
        if !gradient.defined() {
            return Ok(());
        }
        let mut direction = gradient.f_detach()?;
        if self.decay != 0. {
            direction = self.variable.f_mul_scalar(self.decay)?.f_add_(&direction)?;
        }
        if momentum != 0. {
            direction = match &mut self.velocity {
                Some(velocity) => velocity.f_mul_scalar_(momentum)?.f_add_(&direction)?,
                None => self.velocity.insert(direction.f_detach_copy()?).shallow_clone(),
            };
        }
        let _ = self.variable.f_sub_(&direction.f_mul_scalar(rate)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use tch::nn::{self, OptimizerConfig};
    use tch::{Device, Kind};

    use super::*;
    use crate::train::tests::drawn;

    #[derive(Debug)]
    struct Net {
        conv: nn::Conv2D,
        bn: nn::BatchNorm,
        fc: nn::Linear,
    }

    impl Net {
        fn new(vs: &VarStore) -> Self {
            let p = &vs.root();
            Net {
                conv: nn::conv2d(p / "conv", 3, 4, 3, Default::default()),
                bn: nn::batch_norm2d(p / "bn", 4, Default::default()),
                fc: nn::linear(p / "fc", 4, 3, Default::default()),
            }
        }

        fn backward(&self, images: &Tensor) {
            let labels = Tensor::from_slice(&[0i64, 1, 2, 0, 1]);
            let xs = images.apply(&self.conv).apply_t(&self.bn, true).relu().mean_dim(
                &[2i64, 3][..],
                false,
                Kind::Float,
            );
            xs.apply(&self.fc).cross_entropy_for_logits(&labels).backward();
        }
    }

    fn images(seed: u64) -> Tensor {
        2. * drawn(&[5, 3, 8, 8], seed)
    }

    fn stores() -> Result<[VarStore; 2]> {
        let mut stores = [VarStore::new(Device::Cpu), VarStore::new(Device::Cpu)];
        stores.iter().for_each(|vs| drop(Net::new(vs)));
        let [first, second] = &mut stores;
        second.copy(first)?;
        Ok(stores)
    }

    #[test]
    fn every_step_is_that_of_tchs() -> Result<()> {
        // With one thread, sums do not depend on how threads divide them.
        tch::set_num_threads(1);
        for (momentum, weight_decay) in [(0.9, 1e-2), (0., 1e-2), (0.9, 0.), (0., 0.)] {
            let mut stores = [VarStore::new(Device::Cpu), VarStore::new(Device::Cpu)];
            let nets = stores.each_ref().map(Net::new);
            let [ours, theirs] = &mut stores;
            let variables: BTreeMap<_, _> = ours
                .variables()
                .into_iter()
                .filter(|(_, variable)| variable.requires_grad())
                .collect();
            let draw = |(seed, mut variable): (usize, Tensor)| {
                variable.copy_(&(0.5 * drawn(&variable.size(), seed as u64)));
            };
            tch::no_grad(|| variables.into_values().enumerate().for_each(draw));
            theirs.copy(ours)?;
            let mut sgd = Sgd::new(ours, &Recipe { momentum, weight_decay, ..Recipe::default() });
            let mut tchs =
                nn::Sgd { momentum, wd: weight_decay, ..Default::default() }.build(theirs, 0.1)?;
            for (seed, rate) in [0.1, 0.1, 0.01, 0.01, 0.01].into_iter().enumerate() {
                let images = images(seed as u64);
                sgd.zero_grad()?;
                nets[0].backward(&images);
                sgd.step(rate)?;
                tchs.zero_grad();
                nets[1].backward(&images);
                tchs.set_lr(rate);
                tchs.step();
            }
            let theirs = theirs.variables();
            for (name, ours) in ours.variables() {
                // tch's optimizer multiplies and adds with one rounding.
                let difference = ((&ours - &theirs[&name]).norm() / ours.norm()).double_value(&[]);
                assert!(
                    difference < 1e-5,
                    "momentum {momentum}, weight decay {weight_decay}: {name} differs by {difference}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn without_decay_of_batch_norms_their_scales_and_shifts_stay() -> Result<()> {
        for decay_bn in [true, false] {
            let vs = VarStore::new(Device::Cpu);
            let net = Net::new(&vs);
            let mut variables: BTreeMap<_, _> = vs
                .variables()
                .into_iter()
                .filter(|(_, variable)| variable.requires_grad())
                .collect();
            tch::no_grad(|| variables.values_mut().for_each(|variable| drop(variable.fill_(1.))));
            let mut sgd = Sgd::new(
                &vs,
                &Recipe { momentum: 0., weight_decay: 0.5, decay_bn, ..Recipe::default() },
            );
            net.backward(&images(0));
            // With gradients of zero, only decay changes the variables.
            sgd.zero_grad()?;
            sgd.step(0.1)?;
            for (name, variable) in variables {
                let wanted = if name.starts_with("bn.") && !decay_bn { 1. } else { 0.95 };
                let found = Vec::<f64>::try_from(variable.flatten(0, -1))?;
                assert!(
                    found.iter().all(|value| (value - wanted).abs() < 1e-6),
                    "{name}: {found:?}, not {wanted}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn momentum_goes_from_one_to_another() -> Result<()> {
        let stores = stores()?;
        let recipe = Recipe::default();
        let mut sgd = Sgd::new(&stores[0], &recipe);
        let variable = stores[0].variables().remove("fc.weight").context("fc.weight")?;
        variable.sum(Kind::Float).backward();
        sgd.step(0.1)?;
        let state: BTreeMap<_, _> =
            sgd.velocities().map(|(name, velocity)| (name.to_owned(), velocity.copy())).collect();
        assert_eq!(state.keys().collect::<Vec<_>>(), ["fc.weight"]);

        let mut other = Sgd::new(&stores[1], &recipe);
        other.set_velocities(BTreeMap::from([(
            "fc.weight".to_owned(),
            state["fc.weight"].copy(),
        )]))?;
        assert!(other.velocities().all(|(name, velocity)| velocity.equal(&state[name])));

        let refused = |name: &str, shape: &[i64]| {
            let momentum = BTreeMap::from([(
                name.to_owned(),
                Tensor::zeros(shape, (Kind::Float, Device::Cpu)),
            )]);
            Sgd::new(&stores[1], &recipe)
                .set_velocities(momentum)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        let texts = [
            refused("fc.weight", &[3, 5]),
            refused("fc2.weight", &[3, 4]),
            refused("bn.running_mean", &[4]),
        ];
        insta::assert_snapshot!(texts.join("\n"), @r"
        the momentum of `fc.weight` has shape [3, 5], the variable [3, 4]
        there is momentum of what is no variable that is trained: fc2.weight
        there is momentum of what is no variable that is trained: bn.running_mean
        ");
        Ok(())
    }
}
