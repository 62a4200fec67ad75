//! `slim export`: files that run without this program, and errors.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use slim_cli::model::{Model, Wanted};
use tch::nn::ModuleT;
use tch::{CModule, Device, Tensor};

use crate::{fixture, slim};

/// A command in a folder, its exit code and its output.
fn said(folder: &Path, command: &str, line: &str) -> (i32, String, String) {
    let output = on_cpu(folder, command, line).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn on_cpu(folder: &Path, command: &str, line: &str) -> Command {
    let mut slim = slim(command);
    slim.current_dir(folder).args(line.split_whitespace()).args(["--no-cuda", "--threads", "1"]);
    slim.stdin(Stdio::null()).env("COLUMNS", "100");
    slim
}

/// A pruned network in `logs/pruned.safetensors`.
fn pruned() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let line = "--cfg [8,'M',16] --no-test --save logs";
    let (code, _, error) = said(folder.path(), "prune", line);
    assert_eq!((code, error.as_str()), (0, ""));
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The network in a file, and random images with its outputs for them.
fn outputs(file: &Path) -> (Tensor, Tensor) {
    let model = Model::read(file, &Wanted::default(), Device::Cpu).unwrap();
    let images = Tensor::rand([3, 3, 32, 32], tch::kind::FLOAT_CPU);
    let outputs = tch::no_grad(|| model.net.forward_t(&images, false));
    (images, outputs)
}

#[test]
fn a_pruned_network_is_exported_beside_its_file_or_elsewhere() {
    let folder = pruned();
    let folder = folder.path();
    let (code, out, error) = said(folder, "export", "logs/pruned.safetensors --torch-script");
    assert_eq!((code, error.as_str()), (0, ""));
    let mut lines = out.lines();
    assert!(lines.next().unwrap().starts_with("read logs/pruned.safetensors: vgg "), "{out}");
    assert_eq!(lines.next(), Some("wrote pruned.pt into logs"));

    let (images, expected) = outputs(&folder.join("logs/pruned.safetensors"));
    let served = CModule::load(folder.join("logs/pruned.pt")).unwrap();
    let served = served.forward_ts(&[&images]).unwrap();
    let largest = |tensor: Tensor| tensor.abs().max().double_value(&[]);
    assert!(largest(served - &expected) <= 1e-5 * largest(expected));

    let line = "logs/pruned.safetensors --torch-script --save served";
    assert_eq!(said(folder, "export", line).0, 0);
    assert_eq!(names(&folder.join("served")), ["pruned.pt"]);
    assert_eq!(
        fs::read(folder.join("served/pruned.pt")).unwrap().len(),
        fs::read(folder.join("logs/pruned.pt")).unwrap().len()
    );
}

#[test]
fn both_forms_are_written_together() {
    let folder = pruned();
    let folder = folder.path();
    let line = "logs/pruned.safetensors --onnx --torch-script --save served";
    let (code, out, error) = said(folder, "export", line);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(out.ends_with("wrote pruned.pt and pruned.onnx into served\n"), "{out}");
    assert_eq!(names(&folder.join("served")), ["pruned.onnx", "pruned.pt"]);
}

#[test]
fn a_file_of_pytorch_is_exported_by_the_name_of_its_network() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::copy(fixture("checkpoints/vgg11.pth"), folder.join("vgg11.pth")).unwrap();
    let cfg = "--arch vgg --depth 11 --cfg [8,'M',8,'M',8,8,'M',12,12,'M',12,12]";
    let (code, _, error) = said(folder, "export", &format!("vgg11.pth {cfg} --torch-script"));
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(names(folder), ["vgg11.pt", "vgg11.pth"]);
}

#[test]
fn what_cannot_be_exported_is_refused_and_nothing_is_written() {
    let folder = pruned();
    let folder = folder.path();
    fs::copy(folder.join("logs/pruned.safetensors"), folder.join("logs/other.pt")).unwrap();
    fs::write(folder.join("text.safetensors"), "nothing").unwrap();
    let before = (names(folder), names(&folder.join("logs")));
    let refusals: Vec<_> = [
        "",
        "logs/pruned.safetensors",
        "nowhere.safetensors --torch-script",
        "text.safetensors --torch-script",
        "logs/other.pt --torch-script",
        "logs/pruned.safetensors --torch-script --arch resnet50",
        "logs/pruned.safetensors --torch-script --save text.safetensors",
    ]
    .into_iter()
    .map(|line| {
        let (code, _, error) = said(folder, "export", line);
        format!("{line}\n  {code} {}\n", error.lines().next().unwrap())
    })
    .collect();
    insta::assert_snapshot!(refusals.concat());
    assert_eq!((names(folder), names(&folder.join("logs"))), before);
}

#[test]
fn the_help_is_complete() {
    let (code, help, _) = said(Path::new("."), "export", "--help");
    assert_eq!(code, 0);
    insta::assert_snapshot!("help_of_export", help);
}

#[test]
fn eight_bits_need_a_data_set() {
    let folder = pruned();
    let folder = folder.path();
    let file = "logs/pruned.safetensors";
    let (code, _, error) = said(folder, "export", &format!("{file} --int8"));
    assert_eq!(code, 2);
    assert!(error.contains("which data set?"), "{error}");
    assert_eq!(names(&folder.join("logs")).iter().filter(|name| name.contains("onnx")).count(), 0);

    let line = format!("{file} --int8 --onnx --dataset digits --calibration-images 100");
    let (code, out, error) = said(folder, "export", &line);
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    assert!(out.contains("3 layers compute in 8 bits"), "{out}");
    let bytes = |name: &str| fs::metadata(folder.join("logs").join(name)).unwrap().len();
    assert!(bytes("pruned.int8.onnx") > 0 && bytes("pruned.onnx") > 0);
    assert!(names(&folder.join("logs")).contains(&"pruned.int8.onnx".to_owned()));
}
