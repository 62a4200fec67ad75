//! A whole workflow on digits: train, kill, resume, prune, fine-tune, prune again. Every file is
//! read back.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use slim_cli::data::{self, Name};
use slim_cli::device::from_env;
use slim_cli::model::{Model, Wanted};
use slim_cli::train::{Score, evaluate, read_metrics};
use slim_runtime::{Plan, checkpoint};
use tch::Device;

use crate::slim;

const TRAIN: &str = "train";
const PRUNE: &str = "prune";

/// The device that `SLIM_DEVICE` names, or else the CPU.
fn device() -> Device {
    from_env().unwrap().unwrap_or(Device::Cpu)
}

/// Trains to about 98 %, with half of the γ near zero, in ten seconds.
const DENSE: &str =
    "-sr --s 1e-2 --dataset digits --cfg [16,'M',32,'M',64,'M',64] --epochs 12 --batch-size 32";

fn command(folder: &Path, name: &str, line: &str) -> Command {
    let mut command = slim(name);
    let device = match device() {
        Device::Cuda(number) => format!("cuda:{number}"),
        _ => "cpu".to_owned(),
    };
    command
        .current_dir(folder)
        .args(line.split_whitespace())
        .args(["--device", &device, "--threads", "1"])
        .stdin(Stdio::null());
    command
}

/// Runs a command in a folder. It has to succeed.
fn run(folder: &Path, program: &str, line: &str) -> String {
    let output = command(folder, program, line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The network in a file, and its score on the test images.
fn score(file: &Path) -> (Model, Score) {
    let data = data::load(Name::Digits, Path::new(""), device()).unwrap();
    let model = Model::read(file, &Wanted::default(), device()).unwrap();
    let score = evaluate(&model.net, &*data.test, 256).unwrap();
    (model, score)
}

/// The number of correct images in a line such as `masked  Accuracy: 350/360 (97.22 %)`.
fn printed(text: &str, stage: &str) -> usize {
    let line = text
        .lines()
        .find(|line| line.starts_with(stage) && line.contains("Accuracy: "))
        .unwrap_or_else(|| panic!("no {stage} in {text}"));
    let (_, numbers) = line.split_once("Accuracy: ").unwrap();
    numbers.split_once("/360").unwrap().0.parse().unwrap()
}

#[test]
fn train_kill_resume_prune_refine_prune_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = |name: &str| folder.join(name);

    // Kill training as soon as an epoch is written, then resume it until it ends.
    let mut child = command(folder, TRAIN, &format!("{DENSE} --save dense"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !file("dense/checkpoint.safetensors").exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(300) && child.try_wait().unwrap().is_none(),
            "no checkpoint was written"
        );
        sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = fs::read_to_string(file("dense/metrics.jsonl")).unwrap().lines().count();
    assert!((1..12).contains(&before), "it was killed after {before} of 12 epochs");
    run(folder, TRAIN, "--resume dense/checkpoint.safetensors");
    let epochs: Vec<usize> = read_metrics(&file("dense/metrics.jsonl"))
        .unwrap()
        .into_iter()
        .map(|record| record.epoch)
        .collect();
    assert_eq!(epochs, (0..12).collect::<Vec<_>>());
    let (_, dense) = score(&file("dense/checkpoint.safetensors"));
    assert!(dense.accuracy() > 95., "{dense:?}");

    // Remove half of the channels, whose γ are near zero: accuracy hardly falls, and the file has
    // the network that was measured.
    let said = run(
        folder,
        PRUNE,
        "--dataset digits --model dense/checkpoint.safetensors --percent 0.5 --save pruned",
    );
    let (masked, slimmed) = (printed(&said, "masked"), printed(&said, "slimmed"));
    assert_eq!(printed(&said, "dense"), dense.correct);
    assert_eq!(masked, slimmed, "the masked network is not the slimmed one");
    assert!(masked + 10 > dense.correct, "{said}");
    let (model, pruned) = score(&file("pruned/pruned.safetensors"));
    assert_eq!(pruned.correct, slimmed);
    let plan = Plan::from_json(&fs::read_to_string(file("pruned/plan.json")).unwrap()).unwrap();
    assert_eq!(&plan, model.slimmed.as_ref().unwrap().plan());
    assert_eq!(checkpoint::plan(file("pruned/pruned.safetensors")).unwrap(), plan);
    let cfg = checkpoint::cfg(file("pruned/pruned.safetensors")).unwrap();
    let parameters: i64 =
        model.vs.trainable_variables().iter().map(|variable| variable.numel() as i64).sum();
    let accuracy = masked as f64 / 360.;
    let text = format!(
        "Configuration: \n{cfg}\nNumber of parameters: \n{parameters}\nTest accuracy: \n{accuracy:?}"
    );
    assert_eq!(fs::read_to_string(file("pruned/prune.txt")).unwrap(), text);
    assert!(fs::read_to_string(file("pruned/report.html")).unwrap().contains("</html>"));
    assert!(parameters * 3 < plan.parameters().before);

    // Remove more than that costs nothing, and repair what is left without training.
    let said = run(
        folder,
        PRUNE,
        "--dataset digits --model dense/checkpoint.safetensors --percent 0.8 --reconstruct --recalibrate --repair-batches 4 --save repaired",
    );
    let (masked, repaired) = (printed(&said, "masked"), printed(&said, "repaired"));
    assert!(repaired > masked + 30, "{said}");
    assert!(said.contains("recalibrated: the statistics of batch norms"), "{said}");
    let (_, saved) = score(&file("repaired/pruned.safetensors"));
    assert_eq!(saved.correct, repaired);

    // Fine-tuned without the penalty, the network is as good as the dense one.
    run(
        folder,
        TRAIN,
        "--refine pruned/pruned.safetensors --dataset digits --epochs 4 --lr 0.02 --save refined",
    );
    let (model, refined) = score(&file("refined/checkpoint.safetensors"));
    assert_eq!(model.slimmed.unwrap().plan(), &plan);
    assert!(
        refined.accuracy() > 95. && refined.correct + 8 > dense.correct,
        "{refined:?} after {dense:?}"
    );

    // Prune again: the plan still begins with the channels of the first network.
    let said = run(
        folder,
        PRUNE,
        "--dataset digits --model refined/checkpoint.safetensors --percent 0.3 --save again",
    );
    assert_eq!(printed(&said, "pruned before"), refined.correct);
    assert_eq!(printed(&said, "masked"), printed(&said, "slimmed"));
    let again = Plan::from_json(&fs::read_to_string(file("again/plan.json")).unwrap()).unwrap();
    assert_eq!(again.passes().len(), 1);
    assert_eq!(again.channels().before, 176);
    let goes = plan.channels().after * 3 / 10;
    assert_eq!(again.channels().after, plan.channels().after - goes - 1);
    for layer in plan.layers().iter().filter(|layer| !layer.axes.is_empty()) {
        let (first, both) = (
            plan.original_channels(&layer.path).unwrap(),
            again.original_channels(&layer.path).unwrap(),
        );
        assert!(
            both.iter().all(|channel| first.iter().any(|kept| kept == channel)),
            "{}: {both:?} of {first:?}",
            layer.path
        );
    }
    let (_, last) = score(&file("again/pruned.safetensors"));
    assert_eq!(last.correct, printed(&said, "slimmed"));
    // A file of a network has no tensors of the optimizer.
    assert!(
        checkpoint::tensors(file("again/pruned.safetensors"))
            .unwrap()
            .keys()
            .all(|name| !name.starts_with("optimizer"))
    );
}
