//! `slim train`: its output, how it is interrupted, and how it resumes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use slim_cli::model::{Model, Wanted};
use slim_cli::train::{Resume, read_metrics};
use slim_runtime::{Prunable, channels, checkpoint};
use tch::{Device, Tensor};

use crate::slim;

/// A network whose epochs have six steps and take a second.
const TINY: &str = "-sr --s 5e-3 --dataset digits --cfg [8,'M',16,'M',16] --batch-size 256 --threads 1 --no-cuda --log-interval 1";
const STEPS: usize = 6;

fn command(arguments: &[&str], save: &Path) -> Command {
    let mut command = slim("train");
    // Threads that wait for each other would slow down the tests that run at the same time.
    command
        .args(arguments)
        .arg("--save")
        .arg(save)
        .stdin(Stdio::null())
        .env("OMP_NUM_THREADS", "1");
    command
}

fn run(arguments: &[&str], save: &Path) -> Output {
    command(arguments, save).output().unwrap()
}

fn tiny(more: &str, save: &Path) -> Output {
    run(&words(more), save)
}

fn words_of(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn words(more: &str) -> Vec<&str> {
    TINY.split(' ').chain(more.split(' ')).collect()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn file(save: &Path) -> PathBuf {
    save.join("checkpoint.safetensors")
}

/// The tensors of a checkpoint: everything that training resumes from, without the training time.
fn tensors(save: &Path) -> BTreeMap<String, Vec<u32>> {
    let bits = |tensor: Tensor| {
        Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap().into_iter().map(f32::to_bits).collect()
    };
    checkpoint::tensors(file(save))
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| (name, bits(tensor)))
        .collect()
}

fn epochs(save: &Path) -> Vec<usize> {
    read_metrics(&save.join("metrics.jsonl"))
        .unwrap()
        .into_iter()
        .map(|record| record.epoch)
        .collect()
}

/// Starts training that would run for a long time, and returns when a printed line begins with
/// `line`.
fn until(save: &Path, line: &str) -> Child {
    let mut child = command(&words("--epochs 1000"), save)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap());
    assert!(
        lines.lines().map_while(Result::ok).any(|found| found.starts_with(line)),
        "it never printed {line}"
    );
    child
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// The epoch that a checkpoint resumes with, and the number of its steps that are done.
fn progress(save: &Path) -> (usize, usize) {
    Resume::read(&file(save), &Wanted::default(), Device::Cpu).unwrap().1.progress()
}

#[test]
fn killed_or_interrupted_it_ends_with_the_weights_of_a_run_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str| folder.path().join(name);

    // Kill training in the second epoch, which has no checkpoint yet.
    let mut child = until(&save("killed"), "Train Epoch: 1 [512/");
    signal(&child, "-KILL");
    assert!(!child.wait().unwrap().success());

    // Interrupt training in the middle of an epoch, by both signals.
    for (name, way) in [("interrupted", "-INT"), ("terminated", "-TERM")] {
        let child = until(&save(name), "Train Epoch: 1 [256/");
        signal(&child, way);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        let (epoch, step) = progress(&save(name));
        let checkpoint = file(&save(name)).display().to_string();
        let said = format!(
            "`--resume {checkpoint}` goes on from here: interrupted in epoch {epoch} after {step} of {STEPS} steps; saved as {checkpoint}\n"
        );
        assert_eq!(stderr(&output), said);
        assert_eq!(epochs(&save(name)), (0..epoch).collect::<Vec<_>>());
    }

    // However late the signals came: with this number of epochs, the epochs that were begun keep
    // their learning rate.
    let stopped = ["killed", "interrupted", "terminated"];
    let begun = stopped.iter().map(|name| progress(&save(name)).0).max().unwrap();
    let wanted = 2 * begun + 1;
    stdout(&tiny(&format!("--epochs {wanted}"), &save("through")));
    let through = tensors(&save("through"));
    assert!(
        through.len() > 10
            && through.keys().any(|name| name == "optimizer.momentum.feature.0.weight")
    );
    for name in stopped {
        // The file has all other options, and the output goes beside it.
        let mut resumed = slim("train");
        resumed
            .args(["--threads", "1", "--no-cuda", "--epochs", &wanted.to_string(), "--resume"])
            .arg(file(&save(name)));
        let (epoch, step) = progress(&save(name));
        let said = stdout(&resumed.env("OMP_NUM_THREADS", "1").output().unwrap());
        assert!(
            said.starts_with(&format!("going on with epoch {epoch}, step {step}, of ")),
            "{said}"
        );
        assert!(tensors(&save(name)) == through, "{name}, it ends elsewhere");
        assert_eq!(epochs(&save(name)), (0..wanted).collect::<Vec<_>>());
    }
}

#[test]
fn what_a_user_reads() {
    let folder = tempfile::tempdir().unwrap();
    let save = folder.path().join("dense");
    let output = tiny("--epochs 2 --log-interval 3", &save);
    assert_eq!(
        stderr(&output).matches("warning: the largest |γ| that goes").count(),
        1,
        "{}",
        stderr(&output)
    );
    insta::assert_snapshot!("training", shape(&stdout(&output), folder.path()));
    let scores: Vec<_> = stdout(&output)
        .lines()
        .filter(|line| line.starts_with("Test set: "))
        .map(str::to_owned)
        .collect();
    assert!(
        scores.len() == 2
            && scores.iter().all(|line| line.contains("/360 (") && line.ends_with("%), gap: no")),
        "{scores:?}"
    );
    let read =
        Model::read(&save.join("model_best.safetensors"), &Wanted::default(), Device::Cpu).unwrap();
    assert_eq!(read.spec.cfg, Some(channels![8, M, 16, M, 16]));

    // The pruned network is fine-tuned as its file describes it.
    let mut model = read;
    model.slimmed = Some(model.net.slim(0.5).unwrap());
    let pruned = folder.path().join("pruned.safetensors");
    model.writer().unwrap().write(&pruned).unwrap();
    let refined = run(
        &[
            "--refine",
            pruned.to_str().unwrap(),
            "--dataset",
            "digits",
            "--epochs",
            "1",
            "--batch-size",
            "256",
        ],
        &folder.path().join("refined"),
    );
    assert_eq!(stderr(&refined), "");
    insta::assert_snapshot!("refining", shape(&stdout(&refined), folder.path()));
}

#[test]
fn pruned_while_it_trains_then_taught_by_a_dense_network() {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str| folder.path().join(name);
    stdout(&tiny("--epochs 1", &save("dense")));
    let said = tiny(
        "--epochs 4 --log-interval 3 --penalty group-lasso --warm-up 1 --ramp 2 --gradual 0.5 --gradual-every 5",
        &save("gradual"),
    );
    assert_eq!(stderr(&said), "");
    let lines = shape(&stdout(&said), folder.path());
    let cfg = lines.lines().last().unwrap().to_owned();
    let steps: Vec<_> = lines.lines().filter(|line| !line.contains("Epoch")).collect();
    insta::assert_snapshot!("gradual", steps.join("\n").replace(&cfg, "pruned to CFG"));
    let read = |file: &Path| Model::read(file, &Wanted::default(), Device::Cpu).unwrap();
    let slimmed = read(&file(&save("gradual"))).slimmed.unwrap();
    assert_eq!(cfg, format!("pruned to {}", slimmed.cfg()));
    let change = slimmed.plan().channels();
    assert_eq!(change.before, 40);
    assert!((0.4..0.6).contains(&change.removed()), "{change:?}");

    // The file is that of any slimmed network: it is fine-tuned with a teacher, and exported.
    let refine = |name: &str, more: &str| {
        let (pruned, dense) = (file(&save("gradual")), file(&save("dense")));
        let pruned = pruned.display().to_string();
        let mut arguments = vec!["--refine", &pruned, "--batch-size", "256", "--log-interval", "3"];
        let dense = dense.display().to_string();
        arguments.extend(["--no-cuda", "--threads", "1", "--teacher", &dense]);
        arguments.extend(more.split(' '));
        run(&arguments, &save(name))
    };
    let taught = refine("taught", "--epochs 2 --lr 0.02 --temperature 2 --distill-weight 0.9");
    assert_eq!(stderr(&taught), "");
    let lines = shape(&stdout(&taught), folder.path());
    let lines = lines.replace(&slimmed.cfg().to_string(), "CFG");
    let steps: Vec<_> = lines.lines().filter(|line| !line.contains("Epoch")).collect();
    insta::assert_snapshot!("taught", steps.join("\n"));

    // The checkpoint has the teacher's path, so training resumes from any folder.
    stdout(&refine("again", "--epochs 2 --lr 0.02 --temperature 2 --distill-weight 0.9"));
    assert!(tensors(&save("again")) == tensors(&save("taught")));
    let mut longer = slim("train");
    longer.args(["--threads", "1", "--no-cuda", "--epochs", "3", "--resume"]);
    longer.arg(file(&save("again"))).current_dir(folder.path());
    let said = stdout(&longer.env("OMP_NUM_THREADS", "1").output().unwrap());
    assert!(said.contains(", taught by ") && said.starts_with("going on with epoch 2"), "{said}");
    let exported = slim("export").arg(file(&save("gradual"))).arg("--onnx").output().unwrap();
    assert!(exported.status.success(), "{}", stderr(&exported));
}

/// Cuts off the text that differs between runs and between machines.
fn shape(text: &str, folder: &Path) -> String {
    let text = text.replace(&folder.display().to_string(), "FOLDER");
    let line = |line: &str| match line
        .split_once("Loss: ")
        .or_else(|| line.split_once("loss: "))
        .or_else(|| line.split_once(" epochs in "))
    {
        Some((before, _)) => format!("{before} …"),
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn errors_are_one_line_and_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let save = folder.path().join("dense");
    let refused_into = |arguments: &[&str], save: &Path| {
        let output = run(arguments, save);
        let said = stderr(&output).replace(&folder.path().display().to_string(), "FOLDER");
        assert_eq!(said.lines().count(), 1, "{said}");
        format!("{} {}", output.status.code().unwrap(), said.trim_end())
    };
    let refused = |arguments: &[&str]| refused_into(arguments, &save);
    let text = folder.path().join("text.safetensors");
    std::fs::write(&text, "no network").unwrap();
    let missing = refused(&["--dataset", "cifar10", "--data-dir", folder.path().to_str().unwrap()]);
    assert!(missing.starts_with("2 error: no CIFAR-10 in `FOLDER`"), "{missing}");
    let texts = [
        refused(&["--arch", "vgg"]),
        refused(&["--dataset", "digits", "--depth", "12"]),
        refused(&["--dataset", "digits", "--arch", "resnet18"]),
        refused(&["--dataset", "digits", "--lr", "inf"]),
        refused(&["--dataset", "digits", "--epochs", "18446744073709551615"]),
        refused(&["--dataset", "digits", "--device", "gpu"]),
        refused(&["--dataset", "digits", "--resume", "nowhere.safetensors"]),
        refused(&["--dataset", "digits", "--resume", text.to_str().unwrap()]),
        refused(&["--dataset", "digits", "--gradual", "1"]),
        refused(&["--dataset", "digits", "--gradual", "-0.5"]),
        refused(&["--dataset", "digits", "--gradual", "0.5", "--gradual-every", "0"]),
        refused(&["--dataset", "digits", "--growing", "0.5"]),
        refused(&["--dataset", "digits", "--growing", "0.5", "--growing-factor", "inf"]),
        refused(&words_of("--dataset digits -sr --penalty group-lasso --proximal")),
        refused(&words_of("--dataset digits -sr --epochs 3 --warm-up 2 --ramp 2")),
        refused(&words_of("--dataset digits --teacher nowhere.safetensors --temperature 0")),
        refused(&words_of("--dataset digits --teacher nowhere.safetensors --distill-weight 2")),
        refused(&words_of("--dataset digits --teacher /nowhere.safetensors")),
        refused(&["--dataset", "digits", "--teacher", text.to_str().unwrap()]),
    ];
    insta::assert_snapshot!("errors", texts.join("\n"));
    assert!(!save.exists());

    stdout(&tiny("--epochs 1", &save));
    let checkpoint = file(&save);
    let before = std::fs::read(&checkpoint).unwrap();
    let contradicted =
        |more: &[&str]| refused(&[&["--resume", checkpoint.to_str().unwrap()], more].concat());
    let texts = [
        contradicted(&["--lr", "0.2", "--no-decay-bn"]),
        contradicted(&words_of("-sr --penalty l2 --proximal --gradual 0.5")),
        contradicted(&["--teacher", save.join("model_best.safetensors").to_str().unwrap()]),
        contradicted(&["--dataset", "cifar10"]),
        refused_into(&["--resume", checkpoint.to_str().unwrap()], folder.path()),
        refused(&["--resume", save.join("model_best.safetensors").to_str().unwrap()]),
        refused(&["--refine", save.join("model_best.safetensors").to_str().unwrap()]),
        refused(&["--dataset", "digits"]),
    ];
    insta::assert_snapshot!("contradictions", texts.join("\n"));
    assert!(std::fs::read(&checkpoint).unwrap() == before);
    // A usage error that clap reports.
    let output = run(&["--dataset", "digits", "--s", "1e-3"], &save);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--sparsity-regularization"));
}

#[test]
fn the_help_is_complete() {
    let output = slim("train").arg("--help").env("COLUMNS", "100").output().unwrap();
    insta::assert_snapshot!("help", stdout(&output));
}
