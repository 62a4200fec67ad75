//! Slimming with a repair on training images.

use std::fmt;

use anyhow::Result;
use slim_runtime::{Plan, Prunable, Reconstructed, Reconstruction, Slimmed, recalibrate};
use tch::Tensor;
use tch::nn::ModuleT;

use super::calibration;
use crate::data::Split;
use crate::network::{Net, Spec};
use crate::slimming::SlimmingOptions;

/// What is corrected after slimming, without training.
#[derive(Debug, Default)]
pub struct Repair {
    reconstruct: bool,
    recalibrate: bool,
    /// Training images `[N, C, H, W]`, batch by batch.
    batches: Vec<Tensor>,
}

impl Repair {
    /// The repair that the options ask for, on batches that `seed` draws of the training images.
    ///
    /// # Errors
    /// A damaged image, no image at all.
    pub fn new(options: &SlimmingOptions, train: &dyn Split, seed: u64) -> Result<Self> {
        let &SlimmingOptions { reconstruct, recalibrate, repair_batches, .. } = options;
        let batches = calibration(train, 0, repair_batches, seed)?;
        Ok(Self { reconstruct, recalibrate, batches })
    }

    /// Whether anything is corrected.
    pub(super) fn is_some(&self) -> bool {
        self.reconstruct || self.recalibrate
    }

    /// Applies a plan, and corrects what it leaves.
    ///
    /// # Errors
    /// Those of surgery, reconstruction and recalibration.
    pub(super) fn apply(&self, net: &mut Net, plan: &Plan) -> Result<(Slimmed, Repaired)> {
        let (slimmed, reconstructed) = match self.reconstruct {
            false => (net.apply(plan)?, None),
            true => {
                let run = |net: &Net, images: &Tensor| net.forward_t(images, false);
                let done = Reconstruction::new().apply(net, plan, &self.batches, run)?;
                (done.slimmed.clone(), Some(done))
            }
        };
        if self.recalibrate {
            let run = |net: &Net, images: &Tensor| Ok(net.forward_t(images, true));
            recalibrate(net, &self.batches, run)?;
        }
        Ok((slimmed, Repaired { reconstructed, recalibrated: self.recalibrate }))
    }
}

/// The error for `--recalibrate` on a network without batch norms.
pub(crate) fn nothing_to_recalibrate(spec: &Spec) -> String {
    format!(
        "--recalibrate estimates the statistics of batch norms anew, and {spec} has none: leave it out"
    )
}

/// What was corrected. Prints as lines; as nothing if nothing was.
#[derive(Debug)]
pub struct Repaired {
    /// The layers whose weights were solved anew.
    pub reconstructed: Option<Reconstructed>,
    /// Whether the statistics of batch norms were estimated anew.
    pub recalibrated: bool,
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(done) = &self.reconstructed {
            write!(f, "reconstructed:\n{done}")?;
        }
        if self.recalibrated {
            writeln!(f, "recalibrated: the statistics of batch norms")?;
        }
        Ok(())
    }
}
