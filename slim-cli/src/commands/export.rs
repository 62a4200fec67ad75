//! Writes a network from a file in a form that runs without this program.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::device::DeviceOptions;
use crate::files::{Folder, is_same};
use crate::model::Model;
use crate::options::{FormOptions, NetworkOptions, Usage};
use crate::terminal::say;
use anyhow::Result;

const EXAMPLES: &str = "\
Examples:
  What prune has written, after fine-tuning:
    slim export logs/refined/model_best.safetensors --onnx

  A network from torchvision, in both forms, into another folder:
    slim export resnet50.pth --arch resnet50 --onnx --torch-script --save exported

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
    if forms.is_empty() {
        return Err(Usage("which form? say --onnx, --torch-script or both".to_owned()).into());
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
    let mut names = Vec::new();
    for form in forms {
        let name = form.file(&stem);
        if is_same(file, &folder.file(&name)) {
            return Err(Usage(format!(
                "{name} would replace the file that is read: choose another folder by --save"
            ))
            .into());
        }
        draft.export(&name, form, &model)?;
        names.push(name);
    }
    draft.publish()?;
    say(format_args!("wrote {} into {}", names.join(" and "), save.display()));
    Ok(())
}
