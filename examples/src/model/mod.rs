//! A network with its weights, and where they come from and go to.
//!
//! [`Model::read`] takes a file of any of these kinds, and knows them by what is in them:
//!
//! | file | |
//! | --- | --- |
//! | safetensors | ours, which say what network they hold and what was removed of it; and PyTorch's |
//! | PyTorch: `.pth`, `.pt`, `.pth.tar` | today's zip, the formats before 1.6 and plain pickles; a state dict, or one under `state_dict`, `model`, `model_state_dict` or `net` |
//! | the reference's | `{'cfg', 'state_dict'}` of a VGG, a pre-activation ResNet or a DenseNet that was slimmed |
//! | `.ot` | tch's `VarStore::save` |
//!
//! Nothing in a file is executed. Memory is taken in proportion to the tensors that are in it: a
//! network that is far larger than they are is not built, but for the dense one of an own file that
//! a slimmed network is cut out of. Its name says how large that is; a VGG is built as narrow as it
//! is.

mod archive;
mod contents;
mod format;
mod names;
mod ot;
mod own;
mod pytorch;
mod reference;
mod room;
mod tensors;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use slim_runtime::checkpoint::{self, File, Writer};
use slim_runtime::{Cfg, Error, Slimmed};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::data::Name;
use crate::network::{Arch, Net, Spec};
use contents::Contents;
use format::Format;

/// The key of the metadata under which a file says its [`Spec`].
const SPEC: &str = "network";
/// That under which it says what the network was trained on.
const DATASET: &str = "dataset";

/// What to do where a file does not say what network it is of, and is not of the one that it was
/// taken for.
const AS_TRAINED: &str = "say --arch, --depth, --cfg as it was trained";

/// A network of the zoo with its weights, dense or slimmed.
#[derive(Debug)]
pub struct Model {
    /// The dense network that it is, or was; of a file that the reference slimmed, the network in
    /// that file.
    pub spec: Spec,
    /// The network.
    pub net: Net,
    /// Its variables.
    pub vs: VarStore,
    /// All that was removed of the dense network.
    pub slimmed: Option<Slimmed>,
    /// What a file has beside the network's variables and the network does not use, carried
    /// through: PyTorch's `num_batches_tracked`, and the reference's `select.indexes`, which
    /// [`writer`](Self::writer) brings up to date.
    pub beside: BTreeMap<String, Tensor>,
    /// What it was trained on, where a file says that.
    pub dataset: Option<Name>,
    /// What else a file says, for people: `epoch 160, accuracy 93.77`.
    pub note: Option<String>,
}

/// What a user says of the network in a file. What is left out, the file says, or the reference's
/// default is taken.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Which network.
    pub arch: Option<Arch>,
    /// How deep.
    pub depth: Option<u32>,
    /// Widths that are not those of its depth.
    pub cfg: Option<Cfg>,
}

impl Model {
    /// A dense network with starting values. Its γ are all equal, as the reference's are.
    ///
    /// # Errors
    /// Those of [`Spec::build`].
    pub fn new(spec: Spec, device: Device) -> Result<Self> {
        let vs = VarStore::new(device);
        let net = spec.build(&vs.root())?;
        Ok(Self {
            spec,
            net,
            vs,
            slimmed: None,
            beside: BTreeMap::new(),
            dataset: None,
            note: None,
        })
    }

    /// The network in a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is none of a network, or of another than the one that is
    /// wanted: with its name, and every tensor that does not fit.
    pub fn read(path: &Path, wanted: &Wanted, device: Device) -> Result<Self> {
        let read = || match Format::of(path)? {
            Format::Safetensors => own::read(&File::open(path)?, path, wanted, device),
            Format::Ot => Self::holding(ot::read(path)?, path, wanted, device),
            Format::Pytorch => Self::holding(pytorch::read(path)?, path, wanted, device),
        };
        read().map_err(naming(path))
    }

    /// The network in a safetensors file that is open, of which `path` is the name.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub(crate) fn of(file: &File, path: &Path, wanted: &Wanted, device: Device) -> Result<Self> {
        own::read(file, path, wanted, device).map_err(naming(path))
    }

    /// The network that has these contents of a file that says no [`Spec`].
    fn holding(contents: Contents, path: &Path, wanted: &Wanted, device: Device) -> Result<Self> {
        let spec = contents.spec(wanted)?;
        room::check(&spec, contents.values()).map_err(|error| anyhow!("{error}; {AS_TRAINED}"))?;
        let Contents { mut tensors, note, .. } = contents;
        let before = tensors.len();
        tensors.retain(|name, _| !names::is_auxiliary(spec.arch, name));
        let left_out = (tensors.len() < before)
            .then(|| "left out: the auxiliary heads of training".to_owned());
        let note = note.into_iter().chain(left_out).reduce(|note, more| format!("{note}; {more}"));
        let (beside, variables) =
            tensors.into_iter().partition(|(name, _)| names::is_beside(spec.arch, name));
        let variables = reference::gathered(variables, &spec.selections)?;
        let mut model = Self::new(spec, device)?;
        checkpoint::load_tensors(&variables, path, &mut model.vs).map_err(|error| match error {
            Error::Checkpoint { problems, .. } => {
                anyhow!(
                    "it does not hold {}; {AS_TRAINED}:\n  {}",
                    model.spec,
                    problems.join("\n  ")
                )
            }
            other => other.into(),
        })?;
        Ok(Self { beside, note, ..model })
    }

    /// A writer of the network: its variables, what was removed of it, what it carries, its
    /// [`Spec`] and its data set.
    ///
    /// The reference's `select.indexes` are of the stream's full width, with ones where a channel
    /// is picked now. The batch norm behind such a selection has the picked channels alone, where
    /// the reference's has the stream's full width.
    ///
    /// # Errors
    /// None that is known: a spec has a place in JSON.
    pub fn writer(&self) -> Result<Writer<'_>> {
        let spec = serde_json::to_string(&self.spec)?;
        let picked = self.slimmed.as_ref().map(Slimmed::positions);
        let beside = self
            .beside
            .iter()
            .map(|(name, tensor)| Ok((name, reference::indexes_now(name, tensor, picked)?)));
        let writer =
            Writer::new(&self.vs).tensors(beside.collect::<Result<Vec<_>>>()?).metadata(SPEC, spec);
        let writer = self
            .dataset
            .iter()
            .fold(writer, |writer, dataset| writer.metadata(DATASET, dataset.to_string()));
        Ok(self.slimmed.iter().fold(writer, Writer::slimmed))
    }

    /// Draws γ from U(0, 1), so that something ranks the channels of a network that nobody has
    /// trained.
    pub fn draw_scales(&self) {
        let _no_grad = tch::no_grad_guard();
        for (name, mut variable) in self.vs.variables().into_iter().collect::<BTreeMap<_, _>>() {
            if name.ends_with("weight") && variable.dim() == 1 {
                let _ = variable.uniform_(0., 1.);
            }
        }
    }
}

/// Puts the name of the file in front of an error that does not begin with it.
fn naming(path: &Path) -> impl FnOnce(anyhow::Error) -> anyhow::Error + '_ {
    move |error| if names_file(&error) { error } else { anyhow!("{}: {error:#}", path.display()) }
}

/// Whether the text of an error begins with the file.
fn names_file(error: &anyhow::Error) -> bool {
    use Error::{Checkpoint, CheckpointModel, CheckpointPositions, Format, Io};
    let error = error.downcast_ref();
    matches!(
        error,
        Some(
            Checkpoint { .. }
                | CheckpointModel { .. }
                | CheckpointPositions { .. }
                | Format { .. }
                | Io { .. }
        )
    )
}

impl Wanted {
    /// Checks that a file's network is the wanted one.
    fn agree(&self, spec: &Spec) -> Result<()> {
        let says = |option: &str, value: &dyn std::fmt::Display| {
            format!("it holds {spec}, and --{option} says {value}; leave that out")
        };
        if let Some(arch) = self.arch {
            ensure!(arch == spec.arch, says("arch", &arch));
        }
        if let Some(depth) = self.depth {
            ensure!(Some(depth) == spec.depth(), says("depth", &depth));
        }
        if let Some(cfg) = &self.cfg {
            ensure!(Some(cfg) == spec.widths()?.as_ref(), says("cfg", cfg));
        }
        Ok(())
    }
}
