//! The network whose outputs training learns.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use slim_distributed::Distributed;
use slim_runtime::distillation_loss;
use tch::nn::ModuleT;
use tch::{Reduction, Tensor};

use super::evaluate::loss;
use super::{Recipe, hand_over};
use crate::data::{Batch, DataSet};
use crate::model::{Model, Wanted};

/// A network whose outputs another learns besides the labels.
#[derive(Debug)]
pub(super) struct Teacher {
    model: Model,
    temperature: f64,
    weight: f64,
    /// Tells its weights from those of other networks.
    pub(super) fingerprint: String,
}

impl Teacher {
    /// Reads the network that the recipe names, if it names one: in rank 0, which gives it to the
    /// others. Collective.
    ///
    /// # Errors
    /// A file that holds no network, or one for other images or classes.
    pub(super) fn read(
        dist: &Distributed,
        recipe: &Recipe,
        data: &DataSet,
    ) -> Result<Option<Self>> {
        let Some(file) = &recipe.teacher else { return Ok(None) };
        let read = || -> Result<Option<Model>> {
            if !dist.is_main() {
                return Ok(None);
            }
            let model = Model::read(file, &Wanted::default(), dist.device())
                .context("the file of --teacher")?;
            let fits = || format!("the teacher in {}", file.display());
            data.ensure_fits(&model.spec).with_context(fits)?;
            Ok(Some(model))
        };
        let read = dist.together(read())?;
        let handed = hand_over(dist, read.map(|model| (model, None)))?;
        let (model, _) = handed.context("rank 0 has read the teacher")?;
        let fingerprint = model.fingerprint()?;
        let Recipe { temperature, distill_weight: weight, .. } = *recipe;
        Ok(Some(Self { model, temperature, weight, fingerprint }))
    }

    /// The mean loss of outputs for a batch: cross entropy of the labels, and distillation from the
    /// teacher's outputs in evaluation mode.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub(super) fn loss(&self, outputs: &Tensor, batch: &Batch) -> Result<Tensor> {
        let taught = tch::no_grad(|| self.model.net.forward_t(&batch.images, false));
        let taught = distillation_loss(outputs, &taught, self.temperature)?;
        let labels = loss(outputs, &batch.labels, Reduction::Mean)?;
        Ok(labels.f_mul_scalar(1. - self.weight)?.f_add(&taught.f_mul_scalar(self.weight)?)?)
    }
}

/// Checks that training resumes with the teacher that it began with, wherever its file is now.
///
/// # Errors
/// A network with other weights.
pub(super) fn check_same(
    began: Option<&str>,
    teacher: Option<&Teacher>,
    file: Option<&Path>,
) -> Result<()> {
    let file = file.map(|file| file.display().to_string()).unwrap_or_default();
    match (began, teacher) {
        (None, None) => Ok(()),
        (None, Some(_)) => bail!(
            "training goes on as it began: without a teacher; leave out --teacher, or fine-tune the network (--refine)"
        ),
        (Some(_), None) => {
            bail!("training goes on as it began: with a teacher; name its file (--teacher)")
        }
        (Some(began), Some(teacher)) => {
            ensure!(
                began == teacher.fingerprint,
                "training goes on as it began: {file} is another teacher, or has changed since; name the file of the first (--teacher), or begin anew in another folder"
            );
            Ok(())
        }
    }
}
