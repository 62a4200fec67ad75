//! A safetensors file that is read once, to take several things from it.

use std::collections::BTreeMap;
#[cfg(feature = "pytorch")]
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata as Header, SafeTensors, TensorView};
use tch::Tensor;
use tch::nn::VarStore;

use super::metadata::Metadata;
use super::tensors::{self, Source};
use super::{no_safetensors, values};
use crate::analysis;
use crate::error::FileError;
use crate::plan::{self, Plan, Slimmed, Variables};
use crate::surgery::{self, Fit};
use crate::{Cfg, Error, Prunable, Result};

/// A safetensors file in memory: its metadata and its tensors.
///
/// [`open`](Self::open) reads and checks the file once; later changes of the file on the disk have
/// no effect.
///
/// ```
/// # #[derive(Debug, slim_runtime::Prunable)]
/// # #[prune(sequential)]
/// # struct Net { conv: nn::Conv2D, bn: nn::BatchNorm, fc: nn::Linear }
/// # impl Net { fn new(p: nn::Path) -> Net { Net {
/// #     conv: nn::conv2d(&p / "conv", 3, 8, 3, Default::default()), bn: nn::batch_norm2d(&p / "bn", 8, Default::default()), fc: nn::linear(&p / "fc", 8, 10, Default::default()) } } }
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("slim.safetensors");
/// use slim_runtime::Prunable;
/// use slim_runtime::checkpoint::{File, Writer};
/// use tch::{Device, nn};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let mut net = Net::new(vs.root());
/// let slimmed = net.slim(0.5)?;
/// Writer::new(&vs).slimmed(&slimmed).metadata("epoch", "12").write(&path)?;
///
/// let file = File::open(&path)?;
/// assert!(file.is_slimmed());
/// assert_eq!((file.metadata("epoch"), file.cfg()?), (Some("12"), slimmed.cfg()));
/// let mut vs = nn::VarStore::new(Device::Cpu);
/// let mut net = Net::new(vs.root());
/// assert_eq!(file.load(&mut vs, &mut net)?, slimmed);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
pub struct File {
    pub(super) path: PathBuf,
    bytes: Vec<u8>,
    header: Header,
    metadata: Metadata,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError::Format`](crate::error::FileError::Format) when it is not a valid safetensors
    /// file, or was written by a later version of this crate; [`Error::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let bytes = std::fs::read(&path).map_err(|cause| Error::Io {
            file: path.clone(),
            action: "read",
            cause,
        })?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| {
            let reason = no_safetensors(&error);
            let reason = if is_zip_or_pickle(&bytes) { reason + READ_BY_WEIGHTS } else { reason };
            Error::File(FileError::Format { file: path.clone(), reason })
        })?;
        let metadata = Metadata::new(&path, header.metadata().clone())?;
        Ok(Self { path, bytes, header, metadata })
    }

    /// An entry of the metadata, written by [`Writer::metadata`](super::Writer::metadata) or by
    /// another program; `None` when there is no such entry.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key)
    }

    /// Whether the file has a plan, as [`save`](super::save) writes it, so that
    /// [`load`](Self::load) can read it.
    pub fn is_slimmed(&self) -> bool {
        self.metadata.has_plan()
    }

    /// The cfg that [`save`](super::save) wrote; see [`cfg()`](super::cfg()).
    ///
    /// # Errors
    /// [`FileError::Format`](crate::error::FileError::Format) when the file has no cfg,
    /// [`ArgumentError::Cfg`](crate::error::ArgumentError::Cfg).
    pub fn cfg(&self) -> Result<Cfg> {
        self.metadata.cfg()
    }

    /// The plan that [`save`](super::save) wrote; see [`plan`](super::plan).
    ///
    /// # Errors
    /// [`FileError::Format`](crate::error::FileError::Format) when the file has no plan, or an
    /// invalid one.
    pub fn plan(&self) -> Result<Plan> {
        self.metadata.plan()
    }

    /// All tensors of the file by name, unconverted and on the CPU: variables, and those of
    /// [`Writer::tensors`](super::Writer::tensors).
    ///
    /// # Errors
    /// [`FileError::Format`](crate::error::FileError::Format) for a type that libtorch does not
    /// have, [`Error::Torch`].
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let unsupported = |name: &str, view: &TensorView| {
            Error::File(FileError::Format {
                file: self.path.clone(),
                reason: format!("`{name}` is of type {:?}, which is not supported", view.dtype()),
            })
        };
        let tensor = |name: String| {
            let view = self.view(&name)?;
            let tensor = match tensors::plain(&view) {
                Some(tensor) => tensor.map_err(Error::torch(&name)),
                None => Err(unsupported(&name, &view)),
            };
            Some(tensor.map(|tensor| (name, tensor)))
        };
        self.names().into_iter().filter_map(tensor).collect()
    }

    /// Reads a slimmed network into a model of the same definition, whose variables are in `vs`;
    /// see [`load`](super::load).
    ///
    /// # Errors
    /// Those of [`load`](super::load). Model and store are then unchanged, to the bit.
    pub fn load<M: Prunable + ?Sized>(&self, vs: &mut VarStore, model: &mut M) -> Result<Slimmed> {
        let plan = self.metadata.plan()?;
        let graph = analysis::trace(model, plan.masking())?;
        let fit = surgery::fit(&graph, &plan);
        let fit = fit.map_err(|misfit| {
            Error::File(FileError::Model {
                file: self.path.clone(),
                dense: misfit.dense,
                slim: misfit.slim,
            })
        })?;
        let step = match fit {
            Fit::Dense => plan.clone(),
            Fit::Slim => plan.keeping_what_is_left(),
        };
        let positions = surgery::positions(model, &graph, &step)?;
        let stored = self.metadata.positions()?;
        if let Some(state) = positions
            .keys()
            .chain(stored.keys())
            .find(|state| positions.get(*state) != stored.get(*state))
        {
            return Err(Error::File(FileError::Positions {
                file: self.path.clone(),
                state: state.clone(),
            }));
        }
        let misnamed = values::misnamed(&graph, &plan, &Variables::new(vs))?;
        let variables = values::after(vs, &graph, &step);
        let values = values::of(
            &self.path,
            Source::File(self),
            &self.metadata.beside()?,
            &variables,
            misnamed,
        )?;

        match fit {
            // The file's weights already contain the absorbed constants.
            Fit::Dense => {
                surgery::apply_with(model, &graph, &plan::without_absorption(&plan), values)
                    .map(drop)?;
            }
            Fit::Slim => surgery::replace(values)?,
        }
        Ok(Slimmed::new(plan, &graph, positions, Vec::new()))
    }

    /// Reads all variables of `vs`; see [`load_weights`](super::load_weights).
    ///
    /// # Errors
    /// Those of [`load_weights`](super::load_weights). The store is then unchanged, to the bit.
    pub fn load_weights(&self, vs: &mut VarStore) -> Result<()> {
        values::assign(&self.path, Source::File(self), &self.metadata.beside()?, vs)
    }

    /// Names of the tensors that are not variables, and all entries of the metadata.
    #[cfg(feature = "pytorch")]
    pub(in crate::io) fn beside_and_metadata(
        &self,
    ) -> Result<(BTreeSet<String>, impl Iterator<Item = (&String, &String)>)> {
        Ok((self.metadata.beside()?, self.metadata.entries()))
    }

    /// Names of the tensors, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = self.header.offset_keys();
        names.sort_unstable();
        names
    }

    /// A view of a tensor in the file; `None` when the file has no tensor of this name.
    pub(super) fn view(&self, name: &str) -> Option<TensorView<'_>> {
        let info = self.header.info(name)?;
        let data = self.bytes.get(self.bytes.len() - self.header.data_len()..)?;
        TensorView::new(
            info.dtype,
            info.shape.clone(),
            data.get(info.data_offsets.0..info.data_offsets.1)?,
        )
        .ok()
    }
}

/// What a user should call for a file of PyTorch or tch.
const READ_BY_WEIGHTS: &str =
    "; a file of PyTorch or tch is read by `slim_runtime::weights`, with the feature `pytorch`";

/// Whether a file begins like those of `torch.save` and `VarStore::save`: as a zip, or as a pickle
/// of protocol 2 or later.
fn is_zip_or_pickle(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK") || matches!(bytes, [0x80, 2..=5, ..])
}

impl fmt::Debug for File {
    /// Without the tensors' bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .field("tensors", &self.names())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::checkpoint;
    use tch::{Device, nn};

    #[test]
    fn what_was_opened_stays_whatever_is_on_the_disk() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let store = |value: f64| {
            let vs = VarStore::new(Device::Cpu);
            let _ = vs.root().var("scale", &[3], nn::Init::Const(value));
            vs
        };
        checkpoint::Writer::new(&store(1.)).metadata("epoch", "1").write(&path)?;
        let file = File::open(&path)?;
        checkpoint::Writer::new(&store(2.)).metadata("epoch", "2").write(&path)?;
        let mut vs = store(0.);
        file.load_weights(&mut vs)?;
        assert_eq!((file.metadata("epoch"), file.is_slimmed()), (Some("1"), false));
        assert_eq!(vs.variables()["scale"].sum(tch::Kind::Double).double_value(&[]), 3.);
        assert!(file.tensors()?["scale"].equal(&vs.variables()["scale"]));
        std::fs::remove_file(&path).expect("it is there");
        assert!(file.load_weights(&mut vs).is_ok() && File::open(&path).is_err());
        assert_eq!(
            format!("{file:?}"),
            format!("File {{ path: {path:?}, tensors: [\"scale\"], .. }}")
        );
        Ok(())
    }
}
