//! A network with its weights, and the files that it is read from and written to.
//!
//! [`Model::read`] takes a file of any of these kinds, and detects the kind from its contents:
//!
//! | file | |
//! | --- | --- |
//! | safetensors | files of this program, which name their network and the removed channels; files of PyTorch |
//! | all others that [`weights`] reads | PyTorch's `.pth`, `.pt` and `.pth.tar`, tch's `.ot`, the index of several safetensors files |
//! | the reference's | `{'cfg', 'state_dict'}` of a VGG, a pre-activation ResNet or a DenseNet that was slimmed |
//!
//! Nothing in a file is executed. Memory use is proportional to the tensors in the file: a network
//! that is far larger than these tensors is not built. The exception is the dense network that a
//! slimmed network in a file of this program is cut from; its size follows from the network's name.
//! A VGG is built with its slimmed widths.

mod contents;
mod names;
mod own;
mod reference;
mod room;
mod trainer;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use slim_runtime::checkpoint::{self, File, Writer};
use slim_runtime::criterion::Random;
use slim_runtime::error::{FileError, SelectionError};
use slim_runtime::weights::{self, Format};
use slim_runtime::{Cfg, Error, Prunable, Slimmed, Slimming};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::data::Name;
use crate::network::{Arch, Net, Spec};
use contents::Contents;

/// Metadata key of a file's [`Spec`].
const SPEC: &str = "network";
/// Metadata key of the data set that the network was trained on.
const DATASET: &str = "dataset";

/// Advice if a file does not name its network, and does not hold the network that was assumed.
const AS_TRAINED: &str = "say the --arch, --depth or --cfg that it was trained with";

/// A network of the zoo with its weights, dense or slimmed.
#[derive(Debug)]
pub struct Model {
    /// The dense network before slimming. For a file that the reference slimmed, the slimmed
    /// network in that file.
    pub spec: Spec,
    /// The network.
    pub net: Net,
    /// The network's variables.
    pub vs: VarStore,
    /// Everything that was removed from the dense network.
    pub slimmed: Option<Slimmed>,
    /// Tensors in the file that are not variables of the network and are carried through: PyTorch's
    /// `num_batches_tracked`, and the reference's `select.indexes`, which [`writer`](Self::writer)
    /// updates.
    pub beside: BTreeMap<String, Tensor>,
    /// The data set that the network was trained on, if the file names it.
    pub dataset: Option<Name>,
    /// Further information in the file, as text: `epoch 160, accuracy 93.77`.
    pub note: Option<String>,
}

/// The user's options for the network in a file. An option that is not given is taken from the
/// file, or else from the reference's defaults.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The network.
    pub arch: Option<Arch>,
    /// The depth.
    pub depth: Option<u32>,
    /// Widths that differ from those of the depth.
    pub cfg: Option<Cfg>,
}

impl Model {
    /// A dense network with initial weights. All γ are equal, as in the reference.
    ///
    /// # Errors
    /// Errors of [`Spec::build`].
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

    /// Reads the network in a file.
    ///
    /// # Errors
    /// A file that cannot be read, holds no network, or holds another network than the wanted one.
    /// The error names the file and every tensor that does not fit.
    pub fn read(path: &Path, wanted: &Wanted, device: Device) -> Result<Self> {
        let read = || match Format::of(path)? {
            Format::Safetensors => own::read(&File::open(path)?, path, wanted, device),
            _ => {
                let contents = trainer::contents(weights::File::open(path)?)?;
                Self::holding(contents, path, wanted, device)
            }
        };
        read().map_err(naming(path))
    }

    /// Reads the network in an open safetensors file, whose name is `path`.
    ///
    /// # Errors
    /// Errors of [`read`](Self::read).
    pub(crate) fn of(file: &File, path: &Path, wanted: &Wanted, device: Device) -> Result<Self> {
        own::read(file, path, wanted, device).map_err(naming(path))
    }

    /// Builds the network for the contents of a file without a [`Spec`].
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
            Error::File(FileError::Checkpoint { problems, .. }) => {
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

    /// A writer of the network: its variables, the removed channels, the carried tensors, its
    /// [`Spec`] and its data set.
    ///
    /// The reference's `select.indexes` have the stream's full width, with ones where a channel is
    /// picked now. The batch norm after such a selection has only the picked channels, whereas the
    /// reference's has the stream's full width.
    ///
    /// # Errors
    /// None are expected: every spec can be written as JSON.
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

    /// An error of planning, with the name in the file of the tensor whose scores are wrong: an
    /// error of the library names the field.
    pub fn explained(&self, error: Error) -> anyhow::Error {
        let Error::Selection(SelectionError::NonFinite { path, tensor, .. }) = &error else {
            return error.into();
        };
        let field = format!("{path}.{tensor}");
        match self.variable(&field) {
            Some(name) if name != field => anyhow!("{error}\n  in the file, `{field}` is `{name}`"),
            _ => error.into(),
        }
    }

    /// The variable of a field's tensor. A plan has these names; scores that are drawn make one
    /// whatever the weights are.
    fn variable(&self, field: &str) -> Option<String> {
        let drawn = Slimming::ratio(0.).criterion(Random { seed: 0 });
        let plan = self.net.plan(&drawn).and_then(|plan| plan.with_variables(&self.net, &self.vs));
        let plan = plan.ok()?;
        plan.tensors().find(|(path, _)| path == field).and_then(|(_, name)| name.map(str::to_owned))
    }

    /// A hash of the names, shapes and values of all variables, which tells networks apart: FNV-1a
    /// by words, since there may be hundreds of millions of values.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |word: u64| hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        for (name, variable) in self.vs.variables().into_iter().collect::<BTreeMap<_, _>>() {
            name.bytes().for_each(|byte| add(u64::from(byte)));
            variable.size().iter().for_each(|&size| add(size as u64));
            let values = variable.f_detach()?.f_to_kind(Kind::Float)?.f_flatten(0, -1)?;
            let values = Vec::<f32>::try_from(values.f_to_device(Device::Cpu)?)?;
            values.iter().for_each(|value| add(u64::from(value.to_bits())));
        }
        Ok(format!("{hash:016x}"))
    }

    /// Draws γ from U(0, 1), so that the channels of an untrained network have different scores.
    pub fn draw_scales(&self) {
        let _no_grad = tch::no_grad_guard();
        for (name, mut variable) in self.vs.variables().into_iter().collect::<BTreeMap<_, _>>() {
            if name.ends_with("weight") && variable.dim() == 1 {
                let _ = variable.uniform_(0., 1.);
            }
        }
    }
}

/// Prefixes an error with the file's name, unless it begins with the name.
fn naming(path: &Path) -> impl FnOnce(anyhow::Error) -> anyhow::Error + '_ {
    move |error| if names_file(&error) { error } else { anyhow!("{}: {error:#}", path.display()) }
}

/// Whether the text of an error begins with the file's name.
fn names_file(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::File(_) | Error::Io { .. }))
}

impl Wanted {
    /// Checks that the network of a file is the wanted one.
    fn agree(&self, spec: &Spec) -> Result<()> {
        let says = |option: &str, value: &dyn std::fmt::Display| {
            format!("it holds {spec}, and --{option} says {value}; leave out --{option}")
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
