//! What a file of weights holds, whatever its format, and the network that it is of.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use slim_runtime::Cfg;
use tch::Tensor;

use super::{Wanted, names, reference};
use crate::network::{Arch, Spec};

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

    /// What network it is, by what the user says, then by what the file says, then by the
    /// reference's defaults.
    ///
    /// # Errors
    /// One that contradicts the other.
    pub(super) fn spec(&self, wanted: &Wanted) -> Result<Spec> {
        let arch = agreed("arch", self.arch, wanted.arch)?.unwrap_or(Arch::Vgg);
        let cfg = agreed("cfg", self.cfg.clone(), wanted.cfg.clone())?;
        let classes = self.classes(arch).unwrap_or(Spec::CLASSES);
        let selections =
            if arch.selects() { reference::selections(&self.tensors)? } else { Default::default() };
        let narrow = selections.iter().find(|(path, kept)| {
            !reference::is_all(kept, &self.tensors[&reference::indexes(path)])
        });
        let spec = match (cfg, narrow) {
            (Some(cfg), _) if arch.default_depth().is_none() => {
                bail!(
                    "the cfg is {cfg}, and {arch} is not built from one: say --arch vgg, preresnet or densenet"
                )
            }
            (Some(_), _) if arch.selects() && selections.is_empty() => {
                bail!("no tensor in it says what selections pick, so it is no slimmed {arch}")
            }
            (Some(cfg), _) if arch.selects() => Spec::narrow(arch, cfg, selections, classes)?,
            (None, Some((path, kept))) => {
                let of = self.tensors[&reference::indexes(path)].numel();
                bail!(
                    "`{path}` picks {} of {of} channels, so the network is slimmed, and the file has no cfg: say --cfg",
                    kept.len()
                )
            }
            (cfg, _) => {
                let depth = if cfg.is_some() { None } else { wanted.depth };
                Spec::new(arch, depth, cfg, classes)?
            }
        };
        wanted.agree(&spec)?;
        Ok(spec)
    }

    /// How many values its tensors have.
    pub(super) fn values(&self) -> usize {
        self.tensors.values().map(Tensor::numel).sum()
    }

    /// How many rows the classifier has.
    fn classes(&self, arch: Arch) -> Option<i64> {
        self.tensors.get(arch.classifier()).and_then(|weight| weight.size().first().copied())
    }
}

/// # Errors
/// Both say something, and not the same.
fn agreed<T: PartialEq + std::fmt::Display>(
    option: &str,
    said: Option<T>,
    wanted: Option<T>,
) -> Result<Option<T>> {
    match (said, wanted) {
        (Some(said), Some(wanted)) if said != wanted => {
            bail!("the file says {option} {said}, and --{option} {wanted}; leave that out")
        }
        (said, wanted) => Ok(said.or(wanted)),
    }
}
