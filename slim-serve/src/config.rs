//! The settings of a runner.

use std::fs;
use std::path::Path;
use std::time::Duration;

use slim_runtime::Prunable;
use tch::Tensor;

use crate::ffi::Network;
use crate::maker::{Maker, Trace};
use crate::runner::Runner;
use crate::{Error, Result};

/// The settings of a [`Runner`]: for which shapes it is compiled at once, and how many it keeps.
///
/// ```
/// use slim_runtime::{Prunable, model, nn};
/// use slim_serve::RunnerConfig;
/// use tch::{Device, Tensor, nn::ModuleT};
///
/// model! {
///     #[derive(Debug)]
///     struct Net {
///         conv = conv2d(3 => 16, kernel = 3, padding = 1, bias = false);
///         bn = batch_norm(16);
///         relu;
///         adaptive_avg_pool(1);
///         flatten;
///         fc = linear(16 => 10);
///     }
/// }
///
/// let mut net = Net::new(nn::VarStore::new(Device::Cpu).root());
/// net.slim(0.5)?;
/// let image = Tensor::randn([1, 3, 32, 32], tch::kind::FLOAT_CPU);
/// let config = RunnerConfig::new().batches([1, 8]).shapes(4);
/// let runner = config.runner(&net, &image, |net, images| net.forward_t(images, false))?;
/// assert_eq!(runner.shapes(), [[1, 3, 32, 32], [8, 3, 32, 32]]);
/// # Ok::<(), slim_serve::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "nothing is compiled before `runner` or `load`"]
pub struct RunnerConfig {
    batches: Vec<i64>,
    inputs: Vec<Vec<i64>>,
    shapes: usize,
    patience: Duration,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl RunnerConfig {
    /// Compiles for the sample's shape, keeps 8 shapes, and measures the forms for a second and a
    /// half per shape.
    pub fn new() -> Self {
        Self {
            batches: Vec::new(),
            inputs: Vec::new(),
            shapes: 8,
            patience: Duration::from_millis(1500),
        }
    }

    /// Compiles and measures for these sizes of the first dimension, too. The other dimensions are
    /// the sample's.
    pub fn batches(self, batches: impl Into<Vec<i64>>) -> Self {
        Self { batches: batches.into(), ..self }
    }

    /// Compiles and measures for inputs of this shape, too: images of another size, say. May be
    /// called several times. A runner takes inputs that differ from the sample in more than the
    /// batch only if it was told so here.
    pub fn input(mut self, shape: impl Into<Vec<i64>>) -> Self {
        self.inputs.push(shape.into());
        self
    }

    /// Keeps at most this many compiled shapes, at least 1 and those that are asked for. When one
    /// more is seen, the shape goes that has not been run for longest.
    pub fn shapes(self, shapes: usize) -> Self {
        Self { shapes, ..self }
    }

    /// Measures the forms of the network for about this long per shape that is asked for, but at
    /// least 5 times each.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// A runner of a network, as [`Runner::new`] makes it, with these settings.
    ///
    /// # Errors
    /// Those of [`Runner::new`]; [`Error::Setting`].
    pub fn runner<M: Prunable + ?Sized>(
        self,
        net: &M,
        sample: &Tensor,
        forward: impl Fn(&M, &Tensor) -> Tensor,
    ) -> Result<Runner> {
        let shapes = self.asked(sample)?;
        let run = |input: &Tensor| forward(net, input);
        let mut maker = Maker::new(sample, self.patience)?;
        let mut compiled = Vec::new();
        for shape in shapes {
            let input = maker.input(&shape)?;
            if !maker.covers(&shape) {
                maker.add(Trace::of(net, &input, &forward)?);
            }
            compiled.push(maker.compare_with_network(&shape, net, &input, &run)?);
        }
        Ok(Runner::of(maker, compiled, self.shapes))
    }

    /// A runner of a file, as [`Runner::load`] makes it, with these settings.
    ///
    /// # Errors
    /// Those of [`Runner::load`]; [`Error::Setting`].
    pub fn load(self, file: impl AsRef<Path>, sample: &Tensor) -> Result<Runner> {
        let file = file.as_ref();
        let refused = |reason: String| Error::File { file: file.to_owned(), reason };
        let bytes = fs::read(file).map_err(|error| refused(error.to_string()))?;
        let network = Network::load(&bytes).map_err(refused)?;
        drop(bytes);
        if let Some(operation) = network.fixed_states() {
            return Err(refused(format!(
                "`{operation}` starts from states of one batch, and libtorch does not check that an input has that batch; build the network with `slim_runtime::nn::lstm`, `gru` or `rnn_tanh`, whose states follow the input, or use `Runner::new`"
            )));
        }
        let shapes = self.asked(sample)?;
        let mut maker = Maker::new(sample, self.patience)?;
        maker.add(Trace::any(network));
        let compiled = shapes.iter().map(|shape| maker.measured(shape)).collect::<Result<_>>()?;
        Ok(Runner::of(maker, compiled, self.shapes))
    }

    /// The shapes that are asked for, the sample's first.
    fn asked(&self, sample: &Tensor) -> Result<Vec<Vec<i64>>> {
        let first = sample.size();
        let setting = |name, found: String, rule: &str| {
            Err(Error::Setting { name, found, rule: rule.to_owned() })
        };
        let mut shapes = vec![first.clone()];
        for &batch in &self.batches {
            let [_, others @ ..] = &*first else {
                return setting("batches", format!("{batch}"), "the sample has no dimensions");
            };
            shapes.push([&[batch], others].concat());
        }
        shapes.extend(self.inputs.iter().cloned());
        for shape in &shapes {
            if shape.len() != first.len() || shape.iter().any(|&size| size < 1) {
                let rule = format!(
                    "inputs have {} dimensions, as the sample has, of at least 1 each",
                    first.len()
                );
                return setting("an asked shape", format!("{shape:?}"), &rule);
            }
        }
        let mut seen = Vec::new();
        shapes.retain(|shape| {
            !seen.contains(shape) && {
                seen.push(shape.clone());
                true
            }
        });
        if self.shapes < shapes.len() {
            let rule = format!(
                "the runner keeps at least the {} that are asked for, the sample's among them",
                shapes.len()
            );
            return setting("shapes", self.shapes.to_string(), &rule);
        }
        Ok(shapes)
    }
}
