//! Pruning with a data set: accuracies, and what criteria read on training images.

use slim_cli::data::{self, Name};
use slim_cli::model::{Model, Wanted};
use slim_cli::network::{Arch, Spec};
use slim_cli::train::{Output, Recipe, evaluate, train};
use slim_runtime::{Prunable, Scope, channels};
use tch::Device;

use super::{CFG, Folder};

/// A network that has learned some digits, in `model.safetensors`.
fn trained() -> Folder {
    tch::set_num_threads(1);
    tch::manual_seed(1);
    let data = data::load(Name::Digits, "".as_ref(), Device::Cpu).unwrap();
    let mut model = Model::new(
        Spec::new(Arch::Vgg, None, Some(channels![8, M, 16, M, 16]), 10).unwrap(),
        Device::Cpu,
    )
    .unwrap();
    let recipe = Recipe { epochs: 5, batch_size: 32, sparsity: 1e-3, ..Recipe::default() };
    train(&mut model, &data, &recipe, &Output { quiet: true, ..Output::default() }, None).unwrap();
    model.dataset = Some(Name::Digits);
    let folder = Folder::with(&[]);
    model.writer().unwrap().write(folder.path("model.safetensors")).unwrap();
    folder
}

/// Number of the 360 test images that a network classifies correctly, after `change`.
fn correct(folder: &Folder, name: &str, change: impl FnOnce(&mut Model)) -> usize {
    let data = data::load(Name::Digits, "".as_ref(), Device::Cpu).unwrap();
    let mut model = Model::read(&folder.path(name), &Wanted::default(), Device::Cpu).unwrap();
    change(&mut model);
    let score = evaluate(&model.net, &*data.test, 100).unwrap();
    assert_eq!(score.total, 360);
    score.correct
}

#[test]
fn what_is_printed_and_written_is_what_the_networks_get_right() {
    let folder = trained();
    // The file names its data set.
    let said = folder.prune("--model model.safetensors --percent 0.1 --save out");
    let plan = folder.plan("out/plan.json");
    let dense = correct(&folder, "model.safetensors", |_| ());
    let masked = correct(&folder, "model.safetensors", |model| model.net.mask(&plan).unwrap());
    let slimmed = correct(&folder, "out/pruned.safetensors", |_| ());

    assert!(dense > 180 && masked != dense, "{dense}, {masked}: this shows nothing");
    let shares = [("dense", dense), ("masked", masked), ("slimmed", slimmed)];
    for (stage, correct) in shares {
        let line = format!("{stage:<14} Accuracy: {correct}/360 ({:.2} %)", correct as f64 / 3.6);
        assert!(said.lines().any(|found| found == line), "{line}\n{said}");
    }
    assert_eq!(masked, slimmed);

    let (cfg, parameters) = (plan.cfg(), plan.parameters().after);
    assert!(said.contains(&format!("cfg         {cfg}\n")), "{said}");
    let txt = format!(
        "Configuration: \n{cfg}\nNumber of parameters: \n{parameters}\nTest accuracy: \n{}",
        python(masked)
    );
    assert_eq!(folder.text("out/prune.txt"), txt);

    let report = folder.text("out/report.html");
    assert!(report.starts_with("<!DOCTYPE html>") && report.trim_end().ends_with("</html>"));
    for (_, correct) in shares {
        assert!(report.contains(&format!("{:.2} %", correct as f64 / 3.6)), "{correct}");
    }
    assert!(
        plan.layers()
            .iter()
            .filter(|layer| !layer.axes.is_empty())
            .all(|layer| report.contains(&layer.path))
    );
}

/// Python's `repr(correct / 360.0)`, the shortest text that is read as the same number.
fn python(correct: usize) -> String {
    let share = correct as f64 / 360.;
    let shortest = (1..20)
        .map(|digits| format!("{share:.digits$}"))
        .find(|text| text.parse::<f64>().unwrap() == share);
    shortest.unwrap()
}

#[test]
fn gradients_on_training_images_rank_channels() {
    let folder = Folder::with(&["vgg11.pth"]);
    let plans: Vec<_> = [
        "--criterion taylor --taylor-batches 2",
        "--criterion taylor --taylor-batches 4",
        "--criterion scale",
    ]
    .into_iter()
    .map(|criterion| {
        folder.prune(&format!(
            "{CFG} --model vgg11.pth --dataset digits --percent 0.7 {criterion} --save out"
        ));
        folder.plan("out/plan.json")
    })
    .collect();
    assert_eq!(plans[0].slimming().criterion.name(), "taylor");
    assert_ne!(plans[0].threshold(), plans[1].threshold(), "the number of batches does nothing");
    assert!(plans[0].layers() != plans[2].layers(), "gradients rank as γ do");
}

#[test]
fn activations_on_training_images_rank_channels_and_classes_share_a_budget() {
    let folder = Folder::with(&["vgg11.pth"]);
    let prune = |options: &str| {
        folder.prune(&format!("{CFG} --model vgg11.pth --dataset digits {options} --save out"));
        folder.plan("out/plan.json")
    };
    let few = prune("--percent 0.7 --criterion mean-activation --taylor-batches 2");
    let more = prune("--percent 0.7 --criterion mean-activation --taylor-batches 4");
    assert_eq!(few.slimming().criterion.name(), "mean_activation");
    assert_ne!(few.threshold(), more.threshold(), "the number of batches does nothing");

    let classes = prune("--params 0.5 --criterion group-taylor --taylor-batches 1 --isomorphic");
    assert_eq!(classes.slimming().scope, Scope::Isomorphic);
    assert!(2 * classes.parameters().after <= classes.parameters().before);
    assert!(
        classes
            .layers()
            .iter()
            .any(|layer| { layer.scored.as_ref().is_some_and(|scored| scored.class.is_some()) })
    );
}
