//! Files that do not fit, or are damaged.

use std::path::PathBuf;

use super::text::misfits;

/// A file cannot be read as, or written from, this network.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The tensors of a file and of the store are not the same. Nothing was written to the store.
    #[error("{}: {} the store; {fix}:\n  {}", .file.display(), misfits(.problems.len()), .problems.join("\n  "))]
    Checkpoint {
        /// The file.
        file: PathBuf,
        /// Each missing, surplus or misshapen tensor, by name.
        problems: Vec<String>,
        /// What to do.
        fix: String,
    },

    /// A file was saved of another network: the model is neither what was slimmed nor what came of
    /// it.
    #[error(
        "{}: the model is neither the network that the file's was slimmed from nor the slimmed one; build it as the file's network was built; if that was slimmed twice, save it with both slimmings, `first.then(&second)`:\n  dense: {dense}\n  slim: {slim}", .file.display()
    )]
    Model {
        /// The file.
        file: PathBuf,
        /// The first difference from the network that was slimmed.
        dense: String,
        /// The first difference from the slimmed network.
        slim: String,
    },

    /// A layer of the model stores another order of channels than the one in the file.
    #[error("{}: `{state}` picks other channels in the model than in the file; build the network as the file's was built, and leave it dense or slim it by the plan of this file", .file.display())]
    Positions {
        /// The file.
        file: PathBuf,
        /// Field path of the layer, and the name of what it stores.
        state: String,
    },

    /// The file is damaged, is of no format that can be read, or cannot be written so.
    #[error("{}: {reason}", .file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A network cannot be written in this form. What was at the path before is still there.
    #[error("{}: cannot export: {reason}", .file.display())]
    Export {
        /// The file that was to be written.
        file: PathBuf,
        /// Why not, and the fix.
        reason: String,
    },
}
