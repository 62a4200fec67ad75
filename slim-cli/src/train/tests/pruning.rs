//! Penalties with a schedule, pruning while training and distillation in the training loop: against
//! loops by hand, interrupted and resumed.

use slim_runtime::{GradualPruning, Penalty, Plan, Schedule, distillation_loss};

use super::*;

/// γ of the two batch norms, by the reference's names.
const SCALES: [&str; 2] = ["feature.1.weight", "feature.5.weight"];

/// The network that a recipe begins with: a growing penalty needs γ that differ.
fn start_of(recipe: &Recipe) -> Result<Model> {
    let model = model()?;
    if recipe.growing > 0. {
        for (name, seed) in SCALES.iter().zip(5..) {
            let scale = &model.vs.variables()[*name];
            tch::no_grad(|| scale.shallow_clone().copy_(&(drawn(&scale.size(), seed) + 0.5)));
        }
    }
    Ok(model)
}

/// Trains by hand, with tch's optimizer: `before` and `after` its step, given the number of steps
/// that are done and the rate.
fn by_hand(
    recipe: &Recipe,
    loss: impl Fn(&Batch, &Tensor) -> Tensor,
    before: impl Fn(&Model, u64),
    mut after: impl FnMut(&mut Model, u64, f64),
) -> Result<Model> {
    let mut theirs = start_of(recipe)?;
    let mut optimizer =
        nn::Sgd { momentum: 0.9, wd: 1e-4, ..Default::default() }.build(&theirs.vs, 0.1)?;
    let noise = Noise::new(90, 0);
    let mut done = 0;
    for epoch in 0..recipe.epochs {
        let rate = recipe.rate(epoch);
        optimizer.set_lr(rate);
        for batch in noise.shuffled(recipe.batch_size, recipe.epoch_seed(epoch), 0) {
            let batch = batch?;
            optimizer.zero_grad();
            loss(&batch, &theirs.net.forward_t(&batch.images, true)).backward();
            before(&theirs, done);
            optimizer.step();
            tch::no_grad(|| after(&mut theirs, done, rate));
            done += 1;
        }
    }
    Ok(theirs)
}

fn cross_entropy(batch: &Batch, outputs: &Tensor) -> Tensor {
    outputs.cross_entropy_for_logits(&batch.labels)
}

fn assert_close(ours: &Model, theirs: &Model) {
    let theirs = theirs.vs.variables();
    for (name, ours) in ours.vs.variables() {
        assert_eq!(ours.size(), theirs[&name].size(), "{name}");
        let difference = (&ours - &theirs[&name]).abs().max().double_value(&[]);
        assert!(difference < 2e-6, "{name} differs by {difference}");
    }
}

/// The factor of a warm-up of an epoch and a ramp of another.
fn factor(done: u64) -> f64 {
    f64::clamp((done as f64 - STEPS as f64) / STEPS as f64, 0., 1.)
}

fn ramped() -> Recipe {
    Recipe { sparsity: 0.05, warm_up: 1, ramp: 1, ..recipe() }
}

#[test]
fn a_penalty_of_any_kind_follows_its_schedule() -> Result<()> {
    let mut ours = model()?;
    let l2 = Recipe { penalty: PenaltyName::L2, ..ramped() };
    train(&mut ours, &data(), &l2, &quiet(), None)?;
    let add = |model: &Model, done| {
        for name in SCALES {
            let scale = &model.vs.variables()[name];
            let _ = scale.grad().g_add_(&(2. * 0.05 * factor(done) * scale.detach()));
        }
    };
    assert_close(&ours, &by_hand(&l2, cross_entropy, add, |_, _, _| ())?);

    let mut ours = model()?;
    let lasso = Recipe { penalty: PenaltyName::GroupLasso, ..ramped() };
    train(&mut ours, &data(), &lasso, &quiet(), None)?;
    let add = |model: &Model, done| {
        let regulariser = model.net.regulariser(Penalty::GroupLasso);
        let added = regulariser.and_then(|it| it.add_gradient(0.05 * factor(done)));
        assert!(added.is_ok(), "{added:?}");
    };
    assert_close(&ours, &by_hand(&lasso, cross_entropy, add, |_, _, _| ())?);
    Ok(())
}

#[test]
fn a_proximal_penalty_is_soft_thresholding_after_each_step() -> Result<()> {
    let mut ours = model()?;
    let proximal = Recipe { proximal: true, sparsity: 3.6, ..ramped() };
    train(&mut ours, &data(), &proximal, &quiet(), None)?;
    let shrink = |model: &mut Model, done: u64, rate: f64| {
        let t = rate * 3.6 * factor(done);
        for name in SCALES {
            let mut scale = model.vs.variables()[name].shallow_clone();
            let shrunk = scale.sign() * (scale.abs() - t).clamp_min(0.);
            scale.copy_(&shrunk);
        }
    };
    let theirs = by_hand(&proximal, cross_entropy, |_, _| (), shrink)?;
    assert_close(&ours, &theirs);
    let zeros = |model: &Model| -> Vec<Vec<bool>> {
        let scales = SCALES.map(|name| Vec::<f64>::try_from(model.vs.variables()[name].detach()));
        scales
            .into_iter()
            .map(|it| it.unwrap_or_default().iter().map(|it| *it == 0.).collect())
            .collect()
    };
    let (ours, theirs) = (zeros(&ours), zeros(&theirs));
    let count = ours.iter().flatten().filter(|is_zero| **is_zero).count();
    assert!((1..10).contains(&count), "{count} of 10 γ are exactly 0");
    assert_eq!(ours, theirs);
    Ok(())
}

fn gradual() -> Recipe {
    Recipe { gradual: 0.5, gradual_every: 2, ..recipe() }
}

#[test]
fn gradual_pruning_is_that_of_a_loop_by_hand() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let recipe = Recipe { sparsity: 0., ..gradual() };
    let mut ours = model()?;
    let outcome = train(&mut ours, &data(), &recipe, &into(folder.path()), None)?;

    // Over the first half of nine steps.
    let schedule = Schedule::constant().cubic_ramp(4);
    let pruning = GradualPruning::new(Slimming::ratio(0.5), schedule, 2)?;
    let mut masked = Vec::new();
    let mask = |model: &mut Model, done: u64, _: f64| {
        let plan = pruning.step(&mut model.net, done + 1).unwrap_or_default();
        masked.push(plan.map(|plan| plan.channels().after));
    };
    let mut theirs = by_hand(&recipe, cross_entropy, |_, _| (), mask)?;
    assert_eq!(masked.iter().flatten().count(), 4, "{masked:?}");
    let slimmed = pruning.finish(&mut theirs.net)?;
    assert_close(&ours, &theirs);
    assert_eq!(ours.slimmed.as_ref().map(Slimmed::plan), Some(slimmed.plan()));
    assert!(slimmed.plan().channels().removed() > 0.4);

    // Both files hold the slimmed network, and the score is its own.
    assert_eq!(evaluate(&ours.net, &*data().test, 256)?, outcome.score);
    assert_eq!(outcome.best, outcome.score.accuracy());
    for name in [CHECKPOINT, BEST] {
        let read = Model::read(&folder.path().join(name), &Wanted::default(), Device::Cpu)?;
        assert_eq!(read.slimmed.as_ref().map(Slimmed::cfg), Some(slimmed.cfg()));
        assert!(values(&read.vs) == values(&ours.vs), "{name}");
    }
    // No gap is watched in a network that prunes itself.
    assert!(outcome.warnings.is_empty());
    Ok(())
}

fn growing() -> Recipe {
    Recipe { growing: 0.5, growing_factor: 1., ..recipe() }
}

#[test]
fn growing_regularisation_is_that_of_a_loop_by_hand() -> Result<()> {
    let recipe = Recipe { sparsity: 0., ..growing() };
    let mut ours = start_of(&recipe)?;
    train(&mut ours, &data(), &recipe, &quiet(), None)?;

    let plan = start_of(&recipe)?.net.plan(&Slimming::ratio(0.5))?;
    let add = |model: &Model, done| {
        let factor = f64::clamp(done as f64 / 4., 0., 1.);
        let added = plan.regulariser(&model.net).and_then(|it| it.add_gradient(factor));
        assert!(added.is_ok(), "{added:?}");
    };
    let mut theirs = by_hand(&recipe, cross_entropy, add, |_, _, _| ())?;
    let left = plan.regulariser(&theirs.net)?.value()?;
    assert!(left < 0.5 * plan.regulariser(&start_of(&recipe)?.net)?.value()?, "{left}");
    theirs.net.apply(&plan)?;
    assert_close(&ours, &theirs);
    assert_eq!(ours.slimmed.as_ref().map(Slimmed::plan), Some(&plan));
    assert!(plan.channels().removed() > 0.4);
    Ok(())
}

/// A plan of a network with other widths.
fn plan_of_another() -> Result<Plan> {
    let other = Model::new(Spec::new(Arch::Vgg, None, Some(channels![4, M, 7]), 5)?, Device::Cpu)?;
    other.draw_scales();
    Ok(other.net.plan(&Slimming::ratio(0.5))?)
}

#[test]
fn a_growing_penalty_needs_channels_that_differ_and_a_plan_in_its_checkpoint() -> Result<()> {
    let untrained = text(train(&mut model()?, &data(), &growing(), &quiet(), None));
    let folder = tempfile::tempdir()?;
    let output = into(folder.path());
    output.interrupt.ask();
    let interrupted = train(&mut start_of(&growing())?, &data(), &growing(), &output, None);
    assert!(interrupted.is_err_and(|error| error.is::<Interrupted>()));
    let refused = |change: fn(&mut Resume)| -> Result<String> {
        let (ours, mut resume) =
            Resume::read(&checkpoint_in(folder.path()), &Wanted::default(), Device::Cpu)?;
        change(&mut resume);
        let damaged = folder.path().join("damaged.safetensors");
        resume.write(&ours, &damaged)?;
        let text = text(Resume::read(&damaged, &Wanted::default(), Device::Cpu));
        Ok(text.replace(&folder.path().display().to_string(), "FOLDER"))
    };
    let texts = [
        untrained,
        refused(|resume| resume.state.growing = None)?,
        refused(|resume| resume.state.growing = plan_of_another().ok())?,
        refused(|resume| resume.state.cut = true)?,
        refused(|resume| (resume.state.cut, resume.state.growing) = (true, None))?,
        refused(|resume| resume.state.recipe.growing = 0.9)?,
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    every |γ| that could go is 0.5, so nothing tells the channels apart and the rule would remove all of them; train first, with `add_l1_subgradient` between `backward` and `step`
    FOLDER/damaged.safetensors: the checkpoint is not sound, so begin anew: it lacks the plan of what --growing removes
    FOLDER/damaged.safetensors: the checkpoint is not sound, so begin anew: the plan does not fit this model: `feature.1.conv` has the channels (in 4, out 6) in the model, (in 4, out 7) in the plan
    FOLDER/damaged.safetensors: the checkpoint is not sound, so begin anew: it has a plan, and --growing removes nothing more
    FOLDER/damaged.safetensors: the checkpoint is not sound, so begin anew: its channels are cut out, and the network is whole
    FOLDER/damaged.safetensors: the checkpoint is not sound, so begin anew: its plan is for ratio 0.5, and its recipe for ratio 0.9
    ");
    Ok(())
}

/// Writes a network to learn from.
fn teacher_in(folder: &Path, seed: u64) -> Result<PathBuf> {
    let teacher = model()?;
    tch::no_grad(|| {
        let mut bias = teacher.vs.variables().remove("classifier.bias");
        if let Some(bias) = &mut bias {
            bias.copy_(&drawn(&bias.size(), seed));
        }
    });
    let file = folder.join(format!("teacher-{seed}.safetensors"));
    teacher.writer()?.write(&file)?;
    Ok(file)
}

#[test]
fn distillation_is_that_of_a_loop_by_hand() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = teacher_in(folder.path(), 3)?;
    let recipe = Recipe {
        sparsity: 0.,
        teacher: Some(file.clone()),
        temperature: 3.,
        distill_weight: 0.7,
        ..recipe()
    };
    let mut ours = model()?;
    train(&mut ours, &data(), &recipe, &quiet(), None)?;
    let teacher = Model::read(&file, &Wanted::default(), Device::Cpu)?;
    let loss = |batch: &Batch, outputs: &Tensor| {
        let taught = tch::no_grad(|| teacher.net.forward_t(&batch.images, false));
        let taught = distillation_loss(outputs, &taught, 3.).unwrap_or_default();
        0.3 * cross_entropy(batch, outputs) + 0.7 * taught
    };
    assert_close(&ours, &by_hand(&recipe, loss, |_, _| (), |_, _, _| ())?);
    let mut untaught = model()?;
    train(&mut untaught, &data(), &Recipe { teacher: None, ..recipe }, &quiet(), None)?;
    assert!(values(&untaught.vs) != values(&ours.vs));
    Ok(())
}

/// Trains until step `stop` of all steps, or to the test after them, and resumes.
fn stopped_and_resumed(recipe: &Recipe, folder: &Path, stop: usize) -> Result<Model> {
    let output = into(folder);
    let interrupt = output.interrupt.clone();
    let before = move |batch| {
        if batch == stop {
            interrupt.ask();
        }
        Ok(())
    };
    let stopped = if stop < recipe.epochs * STEPS {
        watched(before)
    } else {
        // In the test after the last step, when the channels are removed already.
        let interrupt = output.interrupt.clone();
        let tests = recipe.epochs;
        let test = Watched {
            part: Noise::new(50, 1),
            before: Box::new(move |batch| {
                if batch + 1 == tests {
                    interrupt.ask();
                }
                Ok(())
            }),
            drawn: RefCell::default(),
        };
        DataSet { test: Box::new(test), ..data() }
    };
    let error = train(&mut start_of(recipe)?, &stopped, recipe, &output, None)
        .err()
        .context("nobody stopped it")?;
    assert!(error.is::<Interrupted>(), "{error:#}");
    Ok(go_on(folder, &data(), &into(folder))?.0)
}

#[test]
fn with_everything_at_once_it_resumes_to_the_bit_from_any_step() -> Result<()> {
    let teachers = tempfile::tempdir()?;
    let everything =
        Recipe { teacher: Some(teacher_in(teachers.path(), 3)?), warm_up: 1, ramp: 1, ..gradual() };
    let proximal = Recipe { proximal: true, sparsity: 0.5, teacher: None, ..everything.clone() };
    let growing = Recipe { gradual: 0., growing: 0.5, ..everything.clone() };
    for recipe in [everything, proximal, growing] {
        let mut through = start_of(&recipe)?;
        train(&mut through, &data(), &recipe, &quiet(), None)?;
        for stop in [0, 1, 4, 3 * STEPS - 1, 3 * STEPS] {
            let folder = tempfile::tempdir()?;
            let resumed = stopped_and_resumed(&recipe, folder.path(), stop)?;
            assert!(values(&resumed.vs) == values(&through.vs), "stopped at step {stop}");
            assert_eq!(resumed.slimmed, through.slimmed);
        }
    }
    Ok(())
}

#[test]
fn more_epochs_after_the_cut_fine_tune_the_slimmed_network() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut ours = model()?;
    train(&mut ours, &data(), &gradual(), &into(folder.path()), None)?;
    let (mut longer, resume) =
        Resume::read(&checkpoint_in(folder.path()), &Wanted::default(), Device::Cpu)?;
    let recipe = Recipe { epochs: 5, ..resume.recipe().clone() };
    let outcome = train(&mut longer, &data(), &recipe, &into(folder.path()), Some(resume))?;
    assert_eq!(outcome.epochs, 2);
    assert_eq!(longer.slimmed.as_ref().map(Slimmed::cfg), ours.slimmed.as_ref().map(Slimmed::cfg));
    let has_zero = |model: &Model| {
        SCALES.iter().any(|name| model.vs.variables()[*name].eq(0.).any().int64_value(&[]) == 1)
    };
    assert!(!has_zero(&longer) && values(&longer.vs) != values(&ours.vs));
    Ok(())
}

#[test]
fn training_does_not_end_before_its_cut() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let stopped = into(folder.path());
    let interrupt = stopped.interrupt.clone();
    let interrupting = watched(move |batch| {
        if batch == STEPS + 1 {
            interrupt.ask();
        }
        Ok(())
    });
    let interrupted = train(&mut model()?, &interrupting, &gradual(), &stopped, None);
    assert!(interrupted.is_err_and(|error| error.is::<Interrupted>()));
    let (mut ours, mut resume) =
        Resume::read(&checkpoint_in(folder.path()), &Wanted::default(), Device::Cpu)?;
    // As after a kill behind the first epoch.
    resume.state.progress = Progress::at(1);
    let recipe = Recipe { epochs: 1, ..gradual() };
    let text = text(train(&mut ours, &data(), &recipe, &quiet(), Some(resume)));
    assert!(text.contains("are not cut out yet"), "{text}");
    assert!(text.ends_with("give more --epochs"), "{text}");
    Ok(())
}

#[test]
fn a_network_that_was_pruned_before_is_pruned_on_and_knows_its_original() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut ours = model()?;
    train(&mut ours, &data(), &recipe(), &quiet(), None)?;
    ours.slimmed = Some(ours.net.slim(0.2)?);
    train(&mut ours, &data(), &gradual(), &into(folder.path()), None)?;
    let read = Model::read(&checkpoint_in(folder.path()), &Wanted::default(), Device::Cpu)?;
    let plan = read.slimmed.as_ref().map(Slimmed::plan).context("it is not slimmed")?;
    assert_eq!((plan.passes().len(), plan.channels().before), (1, 10));
    assert!(values(&read.vs) == values(&ours.vs));
    Ok(())
}

#[test]
fn training_resumes_with_its_teacher_wherever_that_is_and_with_no_other() -> Result<()> {
    let (folder, teachers) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let first = teacher_in(teachers.path(), 3)?;
    let taught = |file: &Path| Recipe { teacher: Some(file.to_owned()), ..recipe() };
    let before = Recipe { epochs: 1, ..taught(&first) };
    train(&mut model()?, &data(), &before, &into(folder.path()), None)?;
    let resumed = |recipe: &Recipe| -> Result<String> {
        let (mut model, resume) =
            Resume::read(&checkpoint_in(folder.path()), &Wanted::default(), Device::Cpu)?;
        let text = text(train(&mut model, &data(), recipe, &quiet(), Some(resume)));
        Ok(text.replace(&teachers.path().display().to_string(), "TEACHERS"))
    };
    let moved = teachers.path().join("moved.safetensors");
    std::fs::rename(&first, &moved)?;
    let other = teacher_in(teachers.path(), 4)?;
    let narrow = teachers.path().join("narrow.safetensors");
    let spec = Spec::new(Arch::Vgg, None, Some(channels![4, M, 6]), 5)?;
    Model::new(spec, Device::Cpu)?.writer()?.write(&narrow)?;
    let texts = [
        resumed(&taught(&first))?,
        resumed(&taught(&other))?,
        resumed(&taught(&narrow))?,
        resumed(&recipe())?,
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    the file of --teacher: TEACHERS/teacher-3.safetensors: cannot read: No such file or directory (os error 2)
    training goes on as it began: TEACHERS/teacher-4.safetensors is another teacher, or has changed since; name the file of the first (--teacher), or begin anew in another folder
    the teacher in TEACHERS/narrow.safetensors: the network tells 5 classes, and the data set has 10
    training goes on as it began: with a teacher; name its file (--teacher)
    ");
    assert_eq!(resumed(&taught(&moved))?, "");

    let (mut model, output) = (model()?, into(folder.path()));
    let own = taught(&folder.path().join(BEST));
    insta::assert_snapshot!(text(train(&mut model, &data(), &own, &output, None)), @"training would overwrite the teacher, model_best.safetensors in the folder that it saves into: save into another folder (--save), or name a copy (--teacher)");
    Ok(())
}

#[test]
fn a_state_of_an_older_version_is_read() -> Result<()> {
    let old = r#"{"recipe":{"epochs":3,"start_epoch":0,"batch_size":40,"test_batch_size":256,
        "lr":0.1,"momentum":0.9,"weight_decay":1e-4,"decay_bn":true,"sparsity":1e-2,"seed":1},
        "place":{"epoch":1,"step":0,"sums":{"loss":0.0,"correct":0,"images":0,"seconds":0.0}},
        "best":12.5,"images":90}"#;
    let state: State = serde_json::from_str(old)?;
    assert_eq!((state.recipe, state.cut, state.teacher), (recipe(), false, None));
    Ok(())
}
