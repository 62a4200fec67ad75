//! Tensor names in files.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::network::Arch;

/// Prefix that PyTorch's `DataParallel` adds to every name.
const WRAPPER: &str = "module.";
/// Suffix of PyTorch's count of batches.
const BATCH_COUNT: &str = ".num_batches_tracked";
/// Suffix of the index tensors of the reference's selections.
const INDEXES: &str = "select.indexes";
/// Prefixes of the auxiliary heads of torchvision's GoogLeNet, and of its Inception v3.
const AUXILIARY: [&str; 2] = ["aux1.", "aux2."];
const AUXILIARY_V3: &str = "AuxLogits.";

/// Tensors by their names in the network itself, without `DataParallel`'s prefix.
///
/// # Errors
/// Duplicate names.
pub(super) fn unwrapped<T>(
    named: impl IntoIterator<Item = (String, T)>,
) -> Result<BTreeMap<String, T>> {
    let (mut tensors, mut twice) = (BTreeMap::new(), Vec::new());
    for (name, tensor) in named {
        let mut inner = name.as_str();
        while let Some(rest) = inner.strip_prefix(WRAPPER) {
            inner = rest;
        }
        if tensors.insert(inner.to_owned(), tensor).is_some() {
            twice.push(format!("`{inner}`"));
        }
    }
    if !twice.is_empty() {
        twice.sort();
        bail!("it has {} twice, with and without `{WRAPPER}` in front", twice.join(", "));
    }
    Ok(tensors)
}

/// Whether a tensor is not a variable of the network, but carried through.
pub(super) fn is_beside(arch: Arch, name: &str) -> bool {
    name.ends_with(BATCH_COUNT) || (arch.selects() && selection(name).is_some())
}

/// Whether a tensor belongs to the auxiliary heads, which only training uses and the zoo's networks
/// do not have.
pub(super) fn is_auxiliary(arch: Arch, name: &str) -> bool {
    match arch {
        Arch::Googlenet => AUXILIARY.iter().any(|head| name.starts_with(head)),
        Arch::InceptionV3 => name.starts_with(AUXILIARY_V3),
        _ => false,
    }
}

/// The selection that an index tensor belongs to.
pub(super) fn selection(name: &str) -> Option<&str> {
    let inner = name.strip_suffix(INDEXES)?;
    (inner.is_empty() || inner.ends_with('.')).then(|| name.trim_end_matches(".indexes"))
}
