//! Writes sample reports of slimmed networks. Their γ are drawn to look like those after training
//! with sparsity.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use crate::model::Model;
use crate::network::{Arch, Spec};
use crate::report::{Report, Stage};
use anyhow::{Context, Result};
use slim_runtime::{Cost, Dependencies, LayerKind, Plan, Prunable, Slimming};
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};

/// Write report.html of some networks, to see what a report looks like.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The networks.
    #[arg(long, value_delimiter = ',', default_value = "vgg,resnet50,densenet121")]
    arch: Vec<Arch>,
    /// Share of the channels to remove.
    #[arg(long, default_value_t = 0.5)]
    percent: f64,
    /// The folder to write `ARCH.html` into.
    #[arg(long, default_value = "target/reports")]
    out: PathBuf,
}

pub(super) fn run(options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    for &arch in &options.arch {
        let file = options.out.join(format!("{arch}.html"));
        std::fs::write(&file, sample(arch, options.percent)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("wrote {}", file.display());
    }
    Ok(())
}

fn sample(arch: Arch, percent: f64) -> Result<String> {
    let model = Model::new(Spec::new(arch, None, None, 10)?, Device::Cpu)?;
    let dependencies = model.net.dependencies()?;
    let scores = draw_scores(&model, &dependencies)?;
    let begun = Instant::now();
    let plan = model.net.plan(&Slimming::ratio(percent))?;
    let times = vec![("planning".to_owned(), begun.elapsed().as_secs_f64())];
    let report = Report {
        title: format!("{}, slimmed by {:.0} %", model.spec, 100. * percent),
        what: [
            ("Network", model.spec.to_string()),
            ("Weights and accuracies", "made up".to_owned()),
            ("Slimming", format!("ratio {percent}")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
        stages: stages(&model, &plan)?,
        threshold: plan.threshold(),
        score_name: "|γ|".to_owned(),
        dependencies: &dependencies,
        plan: &plan,
        passes: Vec::new(),
        scores,
        times,
        warnings: vec!["These are no results: nobody has trained this network.".to_owned()],
    };
    report.html()
}

/// Draws γ as training with sparsity leaves them, writes them into the model, and returns them by
/// layer. Most are close to zero, with a larger share in deeper layers; the others are around 0.4.
fn draw_scores(model: &Model, dependencies: &Dependencies) -> Result<Vec<(String, Vec<f64>)>> {
    let _no_grad = tch::no_grad_guard();
    let variables = model.vs.variables();
    let plan = model.net.plan(&Slimming::ratio(0.))?.with_variables(&model.net, &model.vs)?;
    let norms: Vec<_> =
        plan.layers().iter().filter(|layer| layer.kind == LayerKind::BatchNorm).collect();
    let mut random = fastrand::Rng::with_seed(0);
    // One draw for each channel group, since its channels are removed together.
    let mut fates: HashMap<usize, f64> = HashMap::new();
    let mut scores = Vec::new();
    for (index, layer) in norms.iter().enumerate() {
        let name = layer
            .tensors
            .iter()
            .find(|tensor| tensor.name == "weight")
            .and_then(|scale| scale.variable.as_deref());
        let scale = name
            .and_then(|name| variables.get(name))
            .with_context(|| format!("`{}` has no γ", layer.path))?;
        let dead = 0.3 + 0.4 * index as f64 / norms.len() as f64;
        let groups = dependencies
            .layers
            .iter()
            .find(|one| one.path == layer.path)
            .map_or(&[][..], |one| one.axes[0].channel_groups());
        let draw = |group: &usize| match *fates.entry(*group).or_insert_with(|| random.f64()) {
            fate if fate < 0.05 * dead => 0.,
            fate if fate < dead => 10_f64.powf(-6.5 + 3. * random.f64()),
            _ => 0.4 * 10_f64.powf(0.5 * (random.f64() + random.f64() - 1.)),
        };
        let drawn: Vec<f64> = groups.iter().map(draw).collect();
        scale.shallow_clone().copy_(&Tensor::from_slice(&drawn));
        scores.push((layer.path.clone(), drawn));
    }
    Ok(scores)
}

/// Sample stages: parameters and MACs are counted, accuracies are made up.
fn stages(model: &Model, plan: &Plan) -> Result<Vec<Stage>> {
    let [channels, height, width] = model.spec.image();
    let image = Tensor::zeros([1, channels, height, width], (Kind::Float, Device::Cpu));
    let cost = model.net.cost(|net| tch::no_grad(|| net.forward_t(&image, false)))?;
    let after = cost.after(plan)?;
    let stage = |name: &str, accuracy, cost: &Cost| -> Result<Stage> {
        Ok(Stage {
            name: name.to_owned(),
            accuracy,
            parameters: cost.parameters(),
            macs: Some(cost.macs()?),
        })
    };
    Ok(vec![
        stage("dense", Some(93.66), &cost)?,
        stage("masked", Some(92.14), &cost)?,
        stage("slimmed", Some(92.14), &after)?,
        stage("fine-tuned", Some(93.8), &after)?,
    ])
}
