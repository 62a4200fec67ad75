//! What a file of weights holds, whatever its format, and the network that it is of.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use pytorch_reader::DType;
use slim_runtime::Cfg;
use tch::{Kind, Tensor};

use super::archive::MOST_PER_BYTE;
use super::{Wanted, names, reference};
use crate::network::{Arch, Spec};

/// The reference's default.
const CLASSES: i64 = 10;

pub(super) struct Contents {
    /// By the names that they have in the network.
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// The widths of a network that the reference slimmed.
    pub(super) cfg: Option<Cfg>,
    /// The network, where the file says it.
    pub(super) arch: Option<Arch>,
    pub(super) note: Option<String>,
}

impl Contents {
    /// Tensors, of which nothing else is said.
    ///
    /// # Errors
    /// Two of one name.
    pub(super) fn of(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        Ok(Self { tensors: names::unwrapped(tensors)?, cfg: None, arch: None, note: None })
    }

    /// What network it is, by what the user says, then by what the file says, then by the reference's defaults.
    ///
    /// # Errors
    /// One that contradicts the other.
    pub(super) fn spec(&self, wanted: &Wanted) -> Result<Spec> {
        let arch = agreed("arch", self.arch, wanted.arch)?.unwrap_or(Arch::Vgg);
        let cfg = agreed("cfg", self.cfg.clone(), wanted.cfg.clone())?;
        let classes = agreed("classes", self.classes(arch), wanted.classes)?.unwrap_or(CLASSES);
        let selections = if arch.selects() { reference::selections(&self.tensors)? } else { Default::default() };
        let narrow = selections.iter().find(|(path, kept)| !reference::is_all(kept, &self.tensors[&reference::indexes(path)]));
        let spec = match (cfg, narrow) {
            (Some(cfg), _) if arch.default_depth().is_none() => {
                bail!("the cfg is {cfg}, and {arch} is not built from one: say --arch vgg, preresnet or densenet")
            }
            (Some(_), _) if arch.selects() && selections.is_empty() => {
                bail!("no tensor in it says what selections pick, so it is no slimmed {arch}")
            }
            (Some(cfg), _) if arch.selects() => Spec::narrow(arch, cfg, selections, classes)?,
            (None, Some((path, kept))) => {
                let of = self.tensors[&reference::indexes(path)].numel();
                bail!("`{path}` picks {} of {of} channels, so the network is slimmed, and the file has no cfg: say --cfg", kept.len())
            }
            (cfg, _) => {
                let depth = if cfg.is_some() { None } else { wanted.depth };
                Spec::new(arch, depth, cfg, classes)?
            }
        };
        wanted.agree(&spec)?;
        Ok(spec)
    }

    /// How many rows the classifier has.
    fn classes(&self, arch: Arch) -> Option<i64> {
        self.tensors.get(arch.classifier()).and_then(|weight| weight.size().first().copied())
    }
}

/// # Errors
/// Both say something, and not the same.
fn agreed<T: PartialEq + std::fmt::Display>(option: &str, said: Option<T>, wanted: Option<T>) -> Result<Option<T>> {
    match (said, wanted) {
        (Some(said), Some(wanted)) if said != wanted => bail!("the file says {option} {said}, and --{option} {wanted}; leave that out"),
        (said, wanted) => Ok(said.or(wanted)),
    }
}

/// Reads the values of tensors.
///
/// # Errors
/// Tensors that libtorch has no type for, and those without values, all at once; a file whose tensors claim far more than it holds.
pub(super) fn tensors(named: BTreeMap<String, pytorch_reader::Tensor>, path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let claimed = named.values().fold(0_u64, |sum, tensor| sum.saturating_add(tensor.byte_len() as u64));
    let length = path.metadata().context("cannot read")?.len();
    if claimed > length.saturating_mul(MOST_PER_BYTE) {
        let largest = named.iter().max_by_key(|(_, tensor)| tensor.byte_len());
        let largest = largest.map_or_else(String::new, |(name, tensor)| format!(", `{name}` alone {}", tensor.byte_len()));
        bail!("its tensors would take {claimed} bytes{largest}, and the file has {length}: they are views of the same values");
    }
    let typed = named.into_iter().map(|(name, tensor)| {
        let typed = kind(tensor.dtype()).zip(shape(&tensor));
        typed
            .ok_or_else(|| format!("`{name}` is of type {:?} and shape {:?}, which is not supported", tensor.dtype(), tensor.shape()))
            .map(|(kind, shape)| (name, tensor, kind, shape))
    });
    let (typed, odd): (Vec<_>, Vec<_>) = typed.partition(Result::is_ok);
    let odd: Vec<_> = odd.into_iter().filter_map(Result::err).collect();
    ensure!(odd.is_empty(), "it holds what no network does:\n  {}", odd.join("\n  "));
    let value = |(name, tensor, kind, shape): (String, pytorch_reader::Tensor, Kind, Vec<i64>)| {
        Ok((name, Tensor::f_from_data_size(&tensor.read()?, &shape, kind)?))
    };
    typed.into_iter().flatten().map(value).collect()
}

/// Of a tensor that has values.
fn shape(tensor: &pytorch_reader::Tensor) -> Option<Vec<i64>> {
    let shape = tensor.shape().iter().map(|&size| i64::try_from(size).ok());
    shape.collect::<Option<Vec<_>>>().filter(|shape| !shape.contains(&0))
}

fn kind(dtype: DType) -> Option<Kind> {
    Some(match dtype {
        DType::F64 => Kind::Double,
        DType::F32 => Kind::Float,
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
        DType::I64 => Kind::Int64,
        DType::I32 => Kind::Int,
        DType::I16 => Kind::Int16,
        DType::I8 => Kind::Int8,
        DType::U8 => Kind::Uint8,
        DType::Bool => Kind::Bool,
        DType::U64 | DType::U32 | DType::U16 => return None,
    })
}
