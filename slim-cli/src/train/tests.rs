//! Tests of the training loop: against tch's optimizer and a loop by hand, interrupted and resumed,
//! and its errors.

mod pruning;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use slim_runtime::{Prunable, Slimmed, Slimming, channels};
use tch::nn::{self, ModuleT, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::data::{Batch, Batches, Name, Split};
use crate::model::Wanted;
use crate::network::{Arch, Spec};

/// Images of noise. Each class has its own brightness.
struct Noise {
    images: Tensor,
    labels: Tensor,
}

/// Numbers in [-1, 1). Unlike libtorch's draws, they do not change with the draws of other tests.
pub(super) fn drawn(shape: &[i64], seed: u64) -> Tensor {
    let mut rng = fastrand::Rng::with_seed(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| 2. * rng.f32() - 1.).collect();
    Tensor::from_slice(&values).view(shape)
}

impl Noise {
    fn new(images: i64, seed: u64) -> Self {
        let labels = ((drawn(&[images], seed) + 1.) * 5.).to_kind(Kind::Int64);
        let brightness = labels.to_kind(Kind::Float).view([-1, 1, 1, 1]) / 5. - 1.;
        Self { images: 2. * drawn(&[images, 3, 32, 32], seed) + brightness, labels }
    }
}

impl Split for Noise {
    fn len(&self) -> usize {
        self.labels.numel()
    }

    fn read(&self, batches: Vec<Vec<i64>>, _seed: Option<u64>) -> Batches<'_> {
        Box::new(batches.into_iter().map(|numbers| {
            let index = Tensor::from_slice(&numbers);
            Ok(Batch {
                images: self.images.index_select(0, &index),
                labels: self.labels.index_select(0, &index),
            })
        }))
    }
}

/// A part of a data set that calls a function before each batch that is drawn from it.
struct Watched<'n> {
    part: Noise,
    /// Gets the number of the batch, counted over all batches that are drawn.
    before: Box<dyn Fn(usize) -> Result<()> + 'n>,
    drawn: RefCell<usize>,
}

impl Split for Watched<'_> {
    fn len(&self) -> usize {
        self.part.len()
    }

    fn read(&self, batches: Vec<Vec<i64>>, seed: Option<u64>) -> Batches<'_> {
        Box::new(self.part.read(batches, seed).map(|batch| {
            let number = self.drawn.replace_with(|drawn| *drawn + 1);
            (self.before)(number)?;
            batch
        }))
    }
}

/// Steps of an epoch: 90 training images, in batches of 40.
const STEPS: usize = 3;

fn data() -> DataSet {
    DataSet {
        classes: 10,
        image: [3, 32, 32],
        train: Box::new(Noise::new(90, 0)),
        test: Box::new(Noise::new(50, 1)),
    }
}

fn watched(before: impl Fn(usize) -> Result<()> + 'static) -> DataSet {
    let part =
        Watched { part: Noise::new(90, 0), before: Box::new(before), drawn: RefCell::default() };
    DataSet { train: Box::new(part), ..data() }
}

fn recipe() -> Recipe {
    Recipe { epochs: 3, batch_size: 40, sparsity: 1e-2, ..Recipe::default() }
}

fn model() -> Result<Model> {
    // With one thread, sums do not depend on how threads divide them.
    tch::set_num_threads(1);
    let model = Model::new(Spec::new(Arch::Vgg, None, Some(channels![4, M, 6]), 10)?, Device::Cpu)?;
    let weights: BTreeMap<_, _> =
        model.vs.variables().into_iter().filter(|(_, variable)| variable.dim() > 1).collect();
    let draw = |(seed, mut weight): (usize, Tensor)| {
        weight.copy_(&(0.3 * drawn(&weight.size(), seed as u64)));
    };
    tch::no_grad(|| weights.into_values().enumerate().for_each(draw));
    Ok(model)
}

fn quiet() -> Output {
    Output { quiet: true, ..Output::default() }
}

fn into(folder: &Path) -> Output {
    Output { folder: Some(folder.to_owned()), percent: Some(0.5), ..quiet() }
}

fn checkpoint_in(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}

fn values(vs: &VarStore) -> BTreeMap<String, Vec<u32>> {
    let bits = |tensor: &Tensor| -> Vec<u32> {
        Vec::<f32>::try_from(tensor.flatten(0, -1))
            .unwrap_or_default()
            .into_iter()
            .map(f32::to_bits)
            .collect()
    };
    vs.variables().into_iter().map(|(name, tensor)| (name, bits(&tensor))).collect()
}

fn text<T>(result: Result<T>) -> String {
    result.err().map(|error| format!("{error:#}")).unwrap_or_default()
}

/// Weights after an uninterrupted run.
fn ran_through() -> Result<BTreeMap<String, Vec<u32>>> {
    let mut model = model()?;
    train(&mut model, &data(), &recipe(), &quiet(), None)?;
    Ok(values(&model.vs))
}

fn go_on(folder: &Path, data: &DataSet, output: &Output) -> Result<(Model, Outcome)> {
    let (mut model, resume) =
        Resume::read(&checkpoint_in(folder), &Wanted::default(), Device::Cpu)?;
    let recipe = resume.recipe().clone();
    let outcome = train(&mut model, data, &recipe, output, Some(resume))?;
    Ok((model, outcome))
}

#[test]
fn a_step_is_that_of_a_loop_by_hand() -> Result<()> {
    let recipe = Recipe { epochs: 2, batch_size: 100, sparsity: 0.05, ..Recipe::default() };
    let mut ours = model()?;
    train(&mut ours, &data(), &recipe, &quiet(), None)?;

    let theirs = model()?;
    let mut optimizer =
        nn::Sgd { momentum: 0.9, wd: 1e-4, ..Default::default() }.build(&theirs.vs, 0.1)?;
    let noise = Noise::new(90, 0);
    for (epoch, lr) in [(0, 0.1), (1, 0.01)] {
        optimizer.set_lr(lr);
        for batch in noise.shuffled(100, recipe.epoch_seed(epoch), 0) {
            let Batch { images, labels } = batch?;
            optimizer.zero_grad();
            theirs.net.forward_t(&images, true).cross_entropy_for_logits(&labels).backward();
            for (name, variable) in theirs.vs.variables() {
                // γ of the two batch norms, by the reference's names.
                if ["feature.1.weight", "feature.5.weight"].contains(&name.as_str()) {
                    let _ = variable.grad().g_add_(&(0.05 * variable.detach().sign()));
                }
            }
            optimizer.step();
        }
    }
    let theirs = theirs.vs.variables();
    assert!(theirs.contains_key("feature.5.weight"));
    for (name, ours) in ours.vs.variables() {
        let difference = (&ours - &theirs[&name]).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "{name} differs by {difference}");
    }
    Ok(())
}

#[test]
fn evaluation_counts_what_one_would_count_by_hand() -> Result<()> {
    let (model, noise) = (model()?, Noise::new(50, 1));
    let score = evaluate(&model.net, &noise, 7)?;
    let outputs = tch::no_grad(|| model.net.forward_t(&noise.images, false));
    let outputs = Vec::<Vec<f64>>::try_from(outputs)?;
    let (mut loss, mut correct) = (0., 0);
    for (outputs, label) in outputs.iter().zip(Vec::<i64>::try_from(&noise.labels)?) {
        loss +=
            outputs.iter().map(|output| output.exp()).sum::<f64>().ln() - outputs[label as usize];
        correct += usize::from(outputs.iter().all(|output| *output <= outputs[label as usize]));
    }
    assert!((score.loss - loss / 50.).abs() < 1e-6, "{} and {}", score.loss, loss / 50.);
    assert_eq!((score.correct, score.total, score.accuracy()), (correct, 50, 2. * correct as f64));
    assert_eq!(text(evaluate(&model.net, &Noise::new(0, 1), 7)), "there is no image to test with");
    Ok(())
}

#[test]
fn interrupted_after_any_step_it_ends_with_the_same_weights() -> Result<()> {
    let through = ran_through()?;
    for stop in [0, 1, 2, 4, 2 * STEPS + 2] {
        let folder = tempfile::tempdir()?;
        let output = into(folder.path());
        let interrupt = output.interrupt.clone();
        let data_stopped = watched(move |batch| {
            if batch == stop {
                interrupt.ask();
            }
            Ok(())
        });
        let error = train(&mut model()?, &data_stopped, &recipe(), &output, None)
            .err()
            .context("nobody stopped it")?;
        let interrupted = error.downcast_ref::<Interrupted>().context("it is another error")?;
        let (epoch, step) = (stop / STEPS, stop % STEPS + 1);
        let wanted = Interrupted {
            epoch,
            step,
            steps: STEPS,
            checkpoint: Some(checkpoint_in(folder.path())),
        };
        assert_eq!(*interrupted, wanted);

        let (model, outcome) = go_on(folder.path(), &data(), &into(folder.path()))?;
        assert!(values(&model.vs) == through, "stopped after step {stop}, it ends elsewhere");
        assert_eq!(outcome.epochs, 3 - epoch);
        let records = read_metrics(&folder.path().join("metrics.jsonl"))?;
        assert_eq!(records.iter().map(|record| record.epoch).collect::<Vec<_>>(), [0, 1, 2]);
    }
    Ok(())
}

#[test]
fn interrupted_while_it_tests_it_tests_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = into(folder.path());
    let interrupt = output.interrupt.clone();
    let before = move |batch| {
        if batch == 3 {
            interrupt.ask();
        }
        Ok(())
    };
    // 50 test images are 2 batches per epoch, so the interrupt comes in the middle of the second
    // test.
    let test =
        Watched { part: Noise::new(50, 1), before: Box::new(before), drawn: RefCell::default() };
    let recipe = Recipe { test_batch_size: 25, ..recipe() };
    let stopped = DataSet { test: Box::new(test), ..data() };
    let error = train(&mut model()?, &stopped, &recipe, &output, None)
        .err()
        .context("nobody stopped it")?;
    let progress = error
        .downcast_ref::<Interrupted>()
        .map(|interrupted| (interrupted.epoch, interrupted.step));
    assert_eq!(progress, Some((1, STEPS)));
    let (model, outcome) = go_on(folder.path(), &data(), &into(folder.path()))?;
    assert!(values(&model.vs) == ran_through()?);
    assert_eq!(outcome.epochs, 2);
    assert_eq!(read_metrics(&folder.path().join("metrics.jsonl"))?.len(), 3);
    Ok(())
}

#[test]
fn cut_off_by_an_error_it_goes_on_from_the_last_epoch() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let damaged =
        watched(|batch| if batch == STEPS + 1 { bail!("a damaged image") } else { Ok(()) });
    assert_eq!(
        text(train(&mut model()?, &damaged, &recipe(), &into(folder.path()), None)),
        "a damaged image"
    );
    let (model, outcome) = go_on(folder.path(), &data(), &into(folder.path()))?;
    assert!(values(&model.vs) == ran_through()?);
    assert_eq!(outcome.epochs, 2);

    // All epochs are done, so that only testing is left.
    let (again, tested) = go_on(folder.path(), &data(), &into(folder.path()))?;
    assert!(values(&again.vs) == values(&model.vs));
    assert_eq!((tested.epochs, tested.score, tested.best), (0, outcome.score, outcome.best));
    Ok(())
}

#[test]
fn training_that_diverges_says_where_and_leaves_what_was_saved() -> Result<()> {
    let folder = tempfile::tempdir()?;
    train(&mut model()?, &data(), &Recipe { epochs: 1, ..recipe() }, &into(folder.path()), None)?;
    let before = std::fs::read(checkpoint_in(folder.path()))?;
    let wild = Recipe { lr: 1e38, epochs: 4, ..recipe() };
    insta::assert_snapshot!(text(train(&mut model()?, &data(), &wild, &into(folder.path()), None)), @"the loss is NaN at epoch 0, step 1: training has diverged; take a lower learning rate, or a smaller factor of the penalty (what was saved before is still there)");
    assert!(std::fs::read(checkpoint_in(folder.path()))? == before);
    Ok(())
}

#[test]
fn a_slimmed_network_is_trained_and_stays_slimmed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut model = model()?;
    train(&mut model, &data(), &recipe(), &quiet(), None)?;
    model.slimmed = Some(model.net.slim(0.4)?);
    train(&mut model, &data(), &Recipe { sparsity: 0., ..recipe() }, &into(folder.path()), None)?;
    for name in ["checkpoint.safetensors", "model_best.safetensors"] {
        let read = Model::read(&folder.path().join(name), &Wanted::default(), Device::Cpu)?;
        assert_eq!(
            read.slimmed.as_ref().map(Slimmed::cfg),
            model.slimmed.as_ref().map(Slimmed::cfg)
        );
        assert!(read.net.plan(&Slimming::ratio(0.1))?.channels().before < 10);
    }
    Ok(())
}

#[test]
fn a_checkpoint_has_the_optimizer_and_the_best_network_has_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut model = model()?;
    model.dataset = Some(Name::Digits);
    let outcome = train(&mut model, &data(), &recipe(), &into(folder.path()), None)?;
    let names = |name: &str| -> Result<Vec<String>> {
        Ok(slim_runtime::checkpoint::tensors(folder.path().join(name))?.into_keys().collect())
    };
    let variables: Vec<_> =
        model.vs.variables().into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
    assert!(names("model_best.safetensors")?.iter().eq(variables.iter().map(|(name, _)| name)));
    let momentum = variables
        .iter()
        .filter(|(_, variable)| variable.requires_grad())
        .map(|(name, _)| format!("optimizer.momentum.{name}"));
    let momentum: Vec<_> = momentum.collect();
    assert!(
        names("checkpoint.safetensors")?
            .into_iter()
            .filter(|name| name.starts_with("optimizer."))
            .eq(momentum)
    );
    for name in ["checkpoint.safetensors", "model_best.safetensors"] {
        let there = Model::read(&folder.path().join(name), &Wanted::default(), Device::Cpu)?;
        assert_eq!(there.dataset, Some(Name::Digits));
    }

    let (read, _) = Resume::read(&checkpoint_in(folder.path()), &Wanted::default(), Device::Cpu)?;
    assert!(read.beside.is_empty());
    let error = text(Resume::read(
        &folder.path().join("model_best.safetensors"),
        &Wanted::default(),
        Device::Cpu,
    ));
    assert!(
        error.ends_with("is a network without training state to resume: fine-tune it (--refine)"),
        "{error}"
    );

    let best = Model::read(
        &folder.path().join("model_best.safetensors"),
        &Wanted::default(),
        Device::Cpu,
    )?;
    assert_eq!(evaluate(&best.net, &*data().test, 256)?.accuracy(), outcome.best);
    Ok(())
}

#[test]
fn metrics_say_what_became_of_each_epoch() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut model = model()?;
    let outcome = train(&mut model, &data(), &recipe(), &into(folder.path()), None)?;
    let records = read_metrics(&folder.path().join("metrics.jsonl"))?;
    assert_eq!(
        records.iter().map(|record| record.lr).collect::<Vec<_>>(),
        [0, 1, 2].map(|epoch| recipe().rate(epoch))
    );
    let last = records.last().context("there is no epoch")?;
    assert_eq!(
        (last.test_loss, last.test_accuracy),
        (outcome.score.loss, outcome.score.accuracy())
    );
    assert_eq!(records.iter().map(|record| record.test_accuracy).fold(0., f64::max), outcome.best);
    assert!(records.iter().all(|record| record.train_loss > 0.
        && record.seconds > 0.
        && record.images_per_second > 0.));

    let gamma = last.gamma.as_ref().context("there is no γ")?;
    let sizes: Vec<f64> = model
        .net
        .scores(&Slimming::ratio(0.))?
        .into_iter()
        .flat_map(|layer| layer.scores)
        .collect();
    assert_eq!(gamma.max, sizes.iter().copied().fold(0., f64::max));
    assert_eq!(gamma.counts.iter().sum::<usize>(), 10);
    for (bounds, &count) in gamma.edges.windows(2).zip(&gamma.counts) {
        assert_eq!(
            sizes.iter().filter(|&&size| bounds[0] <= size && size < bounds[1]).count(),
            count,
            "{bounds:?}"
        );
    }
    // After so few epochs there is no gap. The library's warning has the same numbers.
    let gap = gamma.gap.as_ref().context("nothing is watched")?;
    let [Warning::NoGap { largest, median }] = outcome.warnings[..] else {
        bail!("{:?}", outcome.warnings)
    };
    assert_eq!((gap.percent, gap.largest, gap.median), (0.5, largest, median));
    assert_eq!(gap.warnings, [outcome.warnings[0].to_string()]);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() -> Result<()> {
    let folder = tempfile::tempdir()?;
    train(&mut model()?, &data(), &recipe(), &into(folder.path()), None)?;
    let before = std::fs::read(checkpoint_in(folder.path()))?;
    let output = into(folder.path());
    let refused = |data: &DataSet, recipe: &Recipe, output: &Output| -> Result<String> {
        let (mut model, resume) =
            Resume::read(&checkpoint_in(folder.path()), &Wanted::default(), Device::Cpu)?;
        Ok(text(train(&mut model, data, recipe, output, Some(resume))))
    };
    let nothing = DataSet { test: Box::new(Noise::new(0, 1)), ..data() };
    let fewer = DataSet { train: Box::new(Noise::new(80, 0)), ..data() };
    let texts = [
        refused(&DataSet { classes: 100, ..data() }, &recipe(), &output)?,
        refused(&DataSet { image: [3, 224, 224], ..data() }, &recipe(), &output)?,
        refused(&nothing, &recipe(), &output)?,
        refused(&fewer, &recipe(), &output)?,
        refused(&data(), &Recipe { lr: 0.2, batch_size: 64, ..recipe() }, &output)?,
        refused(&data(), &Recipe { epochs: 2, ..recipe() }, &output)?,
        refused(&data(), &recipe(), &Output { percent: Some(1.), ..into(folder.path()) })?,
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    the network tells 10 classes, and the data set has 100
    vgg takes images of 3×32×32, and those of the data set are 3×224×224: choose another --arch or --dataset
    the data set has no images for training or none for testing
    the checkpoint is of training on 90 images, and the data set has 80
    training goes on as it began: batch-size is 40 in the checkpoint, and not 64; lr is 0.1 in the checkpoint, and not 0.2; leave out the option, or begin anew in another folder
    3 epochs are done already, and not more than 2 are wanted
    ratio 1: the share of channels to remove must be in [0, 1), for instance 0.5 for half of them
    ");
    assert!(std::fs::read(checkpoint_in(folder.path()))? == before);
    assert_eq!(read_metrics(&folder.path().join("metrics.jsonl"))?.len(), 3);
    Ok(())
}

#[test]
fn progress_that_training_does_not_come_to_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let stopped = into(folder.path());
    let interrupt = stopped.interrupt.clone();
    let data_stopped = watched(move |batch| {
        if batch == STEPS + 1 {
            interrupt.ask();
        }
        Ok(())
    });
    assert!(
        train(&mut model()?, &data_stopped, &recipe(), &stopped, None)
            .is_err_and(|error| error.is::<Interrupted>())
    );

    let refused = |recipe: &Recipe, damage: &dyn Fn(&mut Progress)| -> Result<String> {
        let (mut model, mut resume) =
            Resume::read(&checkpoint_in(folder.path()), &Wanted::default(), Device::Cpu)?;
        damage(&mut resume.state.progress);
        Ok(text(train(&mut model, &data(), recipe, &quiet(), Some(resume))))
    };
    let texts = [
        refused(&recipe(), &|progress| progress.step = 4)?,
        refused(&recipe(), &|progress| progress.step = usize::MAX)?,
        refused(&recipe(), &|progress| progress.sums.images = usize::MAX)?,
        refused(&recipe(), &|progress| progress.epoch = usize::MAX)?,
        refused(&Recipe { epochs: 1, ..recipe() }, &|_| ())?,
    ];
    let texts: Vec<_> =
        texts.iter().map(|text| text.replace(&usize::MAX.to_string(), "MAX")).collect();
    insta::assert_snapshot!(texts.join("\n"), @r"
    the checkpoint is not sound: it says that 4 steps of epoch 1 are done on 80 images, and an epoch has 3 steps on 90 images
    the checkpoint is not sound: it says that MAX steps of epoch 1 are done on 80 images, and an epoch has 3 steps on 90 images
    the checkpoint is not sound: it says that 2 steps of epoch 1 are done on MAX images, and an epoch has 3 steps on 90 images
    MAX epochs and 2 steps are done already, and not more than 3 are wanted
    1 epochs and 2 steps are done already, and not more than 1 are wanted
    ");
    assert_eq!(refused(&recipe(), &|_| ())?, "");
    Ok(())
}

#[test]
fn a_file_of_pytorch_has_no_training_that_could_go_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("model.pth.tar");
    model()?.vs.save(&file)?;
    let text = text(Resume::read(&file, &Wanted::default(), Device::Cpu));
    insta::assert_snapshot!(text.replace(&folder.path().display().to_string(), "FOLDER"), @"FOLDER/model.pth.tar: a file of PyTorch or tch holds no training state to resume: fine-tune its network (--refine)");
    Ok(())
}

#[test]
fn more_epochs_go_on_from_the_end() -> Result<()> {
    let folder = tempfile::tempdir()?;
    train(&mut model()?, &data(), &Recipe { epochs: 2, ..recipe() }, &into(folder.path()), None)?;
    let (mut model, resume) =
        Resume::read(&checkpoint_in(folder.path()), &Wanted::default(), Device::Cpu)?;
    let longer = Recipe { epochs: 8, ..resume.recipe().clone() };
    assert_eq!(train(&mut model, &data(), &longer, &into(folder.path()), Some(resume))?.epochs, 6);
    let records = read_metrics(&folder.path().join("metrics.jsonl"))?;
    let rates: Vec<_> = records.iter().map(|record| format!("{:.4}", record.lr)).collect();
    // The second of two epochs had a tenth of the rate. The others follow the schedule of eight
    // epochs.
    assert_eq!(
        rates,
        ["0.1000", "0.0100", "0.1000", "0.1000", "0.0100", "0.0100", "0.0010", "0.0010"]
    );
    Ok(())
}
