//! Contents of a file of weights in any format, and the network that they belong to.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use slim_runtime::Cfg;
use tch::Tensor;

use super::{Wanted, names, reference};
use crate::network::{Arch, Spec};

pub(super) struct Contents {
    /// By their names in the network.
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// The widths of a network that the reference slimmed.
    pub(super) cfg: Option<Cfg>,
    /// The network, if the file names it.
    pub(super) arch: Option<Arch>,
    pub(super) note: Option<String>,
}

impl Contents {
    /// Contents that are only tensors.
    ///
    /// # Errors
    /// Duplicate names.
    pub(super) fn of(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        Ok(Self { tensors: names::unwrapped(tensors)?, cfg: None, arch: None, note: None })
    }

    /// Determines the network from the user's options, then from the file, then from the
    /// reference's defaults.
    ///
    /// # Errors
    /// The options contradict the file, or the cfg and the tensors do not describe a network.
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

    /// Number of values in all tensors.
    pub(super) fn values(&self) -> usize {
        self.tensors.values().map(Tensor::numel).sum()
    }

    /// Number of rows of the classifier's weight.
    fn classes(&self, arch: Arch) -> Option<i64> {
        self.tensors.get(arch.classifier()).and_then(|weight| weight.size().first().copied())
    }
}

/// The value of an option, from the file or from the user.
///
/// # Errors
/// Both give a value, and the values differ.
fn agreed<T: PartialEq + std::fmt::Display>(
    option: &str,
    said: Option<T>,
    wanted: Option<T>,
) -> Result<Option<T>> {
    match (said, wanted) {
        (Some(said), Some(wanted)) if said != wanted => {
            bail!("the file says {option} {said}, and --{option} {wanted}; leave out --{option}")
        }
        (said, wanted) => Ok(said.or(wanted)),
    }
}
