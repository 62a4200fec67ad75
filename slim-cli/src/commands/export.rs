//! Writes a network from a file in a form that runs without this program.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::device::DeviceOptions;
use crate::files::{Folder, is_same};
use crate::model::Model;
use crate::options::{DataOptions, FormOptions, NetworkOptions, Usage};
use crate::terminal::say;
use anyhow::Result;
use slim_runtime::export::{Calibration, OnnxExport};
use tch::Device;
use tch::nn::ModuleT;

/// Images that are run at once.
const BATCH: usize = 64;

const EXAMPLES: &str = "\
Examples:
  What prune has written, after fine-tuning:
    slim export logs/refined/model_best.safetensors --onnx

  A network from torchvision, in both forms, into another folder:
    slim export resnet50.pth --arch resnet50 --onnx --torch-script --save exported

  In 8 bits, by the ranges of activations on training images:
    slim export logs/refined/model_best.safetensors --int8 --dataset digits

Exit codes: 0 done, 1 failed, 2 wrong usage";

/// Write a network in a form that runs without its definition, for serving.
///
/// Reads what prune and train have written, and all else that prune reads. Beside FILE, or in
/// --save, go files with its name and another ending. They appear together or not at all.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true, after_long_help = EXAMPLES, after_help = "The manual, with examples: slim export --help")]
pub(super) struct Options {
    /// The file with the network's weights
    #[arg(value_name = "FILE")]
    model: PathBuf,

    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    forms: FormOptions,
    /// Write an .int8.onnx: the network as ONNX that computes in 8 bits, for ONNX Runtime
    #[arg(long, help_heading = "Files")]
    int8: bool,
    /// Training images whose activations set the ranges of --int8
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Data")]
    calibration_images: u64,
    #[command(flatten)]
    data: DataOptions,
    /// Folder for what is written [default: that of FILE]
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    save: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let device = options.device.set_up()?;
    let file = &options.model;
    let forms = options.forms.chosen();
    if forms.is_empty() && !options.int8 {
        return Err(Usage("which form? say --onnx, --torch-script or --int8".to_owned()).into());
    }
    let model = Model::read(file, &options.network.wanted(), device)?;
    say(format_args!("read {}: {}", file.display(), model.spec));

    let beside = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let save = options.save.as_deref().unwrap_or(beside);
    let folder = Folder::new(save)?;
    let stem = file.file_stem().unwrap_or(OsStr::new("network")).to_string_lossy();
    let mut draft = folder.draft()?;
    let free = |name: String| {
        if is_same(file, &folder.file(&name)) {
            let reason = "would replace the file that is read: choose another folder by --save";
            return Err(Usage(format!("{name} {reason}")));
        }
        Ok(name)
    };
    let mut names = Vec::new();
    for form in forms {
        let name = free(form.file(&stem))?;
        draft.export(&name, form, &model)?;
        names.push(name);
    }
    if options.int8 {
        let name = free(format!("{stem}.int8.onnx"))?;
        let calibration = calibrated(options, &model, device)?;
        let written = draft.onnx(&name, &model, OnnxExport::new().int8(&calibration))?;
        if let Some(int8) = written.int8 {
            say(format_args!("{} layers compute in 8 bits", int8.layers.len()));
            int8.floats.iter().for_each(|float| {
                say(format_args!("`{}` computes in floats: {}", float.path, float.reason));
            });
        }
        names.push(name);
    }
    draft.publish()?;
    say(format_args!("wrote {} into {}", names.join(" and "), save.display()));
    Ok(())
}

/// The ranges of activations on training images.
fn calibrated(options: &Options, model: &Model, device: Device) -> Result<Calibration> {
    let data = options.data.load(options.data.name(model.dataset)?, device)?;
    data.ensure_fits(&model.spec)?;
    let wanted = usize::try_from(options.calibration_images).unwrap_or(usize::MAX);
    let mut images = Vec::new();
    let mut count = 0;
    for batch in data.train.batches(BATCH.min(wanted)) {
        let batch = batch?.images;
        count += batch.size().first().map_or(0, |&size| usize::try_from(size).unwrap_or(0));
        images.push(batch);
        if count >= wanted {
            break;
        }
    }
    Ok(Calibration::record(&model.net, images, |net, images| net.forward_t(images, false))?)
}
