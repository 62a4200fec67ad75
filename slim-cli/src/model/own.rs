//! Reads safetensors files: files of this program, which name their network, and files of other
//! libraries.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use slim_runtime::checkpoint::File;
use slim_runtime::{Cfg, LayerKind, LayerPlan, Plan, Stage};
use tch::Device;

use super::contents::Contents;
use super::{DATASET, Model, SPEC, Wanted, names, room};
use crate::data::Name;
use crate::network::{Arch, Spec};

/// Reads the network in a safetensors file.
///
/// # Errors
/// A damaged file, or another network than the wanted one.
pub(super) fn read(file: &File, path: &Path, wanted: &Wanted, device: Device) -> Result<Model> {
    let said: Option<Spec> = file
        .metadata(SPEC)
        .map(serde_json::from_str)
        .transpose()
        .context("the network in its metadata cannot be used")?;
    let contents = Contents::of(file.tensors()?)?;
    let spec = match said {
        Some(spec) => {
            wanted.agree(&spec)?;
            spec
        }
        None if file.is_slimmed() => contents.spec(wanted)?,
        None => return Model::holding(contents, path, wanted, device),
    };
    let mut model = if file.is_slimmed() {
        slimmed(spec, file, &contents, device)?
    } else {
        dense(spec, file, &contents, device)?
    };
    // A data set that this program does not know is ignored.
    model.dataset = file.metadata(DATASET).and_then(|name| Name::from_str(name, false).ok());
    // Other tensors, such as the momentum that training writes, are left to their own readers.
    let carried =
        contents.tensors.into_iter().filter(|(name, _)| names::is_beside(model.spec.arch, name));
    model.beside = carried.collect();
    Ok(model)
}

fn dense(spec: Spec, file: &File, contents: &Contents, device: Device) -> Result<Model> {
    room::check(&spec, contents.values())?;
    let mut model = Model::new(spec, device)?;
    file.load_weights(&mut model.vs)?;
    Ok(model)
}

/// The network `spec`, slimmed by the file's plan.
fn slimmed(spec: Spec, file: &File, contents: &Contents, device: Device) -> Result<Model> {
    let plan = file.plan()?;
    let built = match spec.arch {
        // A slimmed VGG is built from its cfg alone, so the widths that the plan slims are checked
        // here.
        Arch::Vgg => {
            let (before, dense) = (before(&plan), spec.widths()?.unwrap_or_default());
            ensure!(
                before == dense,
                "it was slimmed from vgg {before}, and {spec} is {dense}; say the --depth or --cfg that it was trained with"
            );
            let built = Spec::new(Arch::Vgg, None, Some(plan.cfg()), spec.classes)?;
            room::check(&built, contents.values())?;
            built
        }
        _ => {
            room::check_slimmed(&spec, &plan, contents.values())?;
            spec.clone()
        }
    };
    let mut model = Model::new(built, device)?;
    model.slimmed = Some(file.load(&mut model.vs, &mut model.net)?);
    Ok(Model { spec, ..model })
}

/// The cfg of a VGG before it was slimmed.
fn before(plan: &Plan) -> Cfg {
    let stage = |layer: &LayerPlan| match layer.kind {
        LayerKind::BatchNorm => layer.axes.first().map(|axis| Stage::from(axis.width as i64)),
        LayerKind::MaxPool => Some(Stage::MaxPool),
        _ => None,
    };
    plan.layers().iter().filter_map(stage).collect()
}
