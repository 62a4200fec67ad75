//! What running the network has shown, or could not show.

/// Running the network has shown that something is not as it should be, or has shown nothing.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The slimmed network is not the masked one: the wiring and `forward` disagree. The model is
    /// as it was.
    #[error(
        "the slimmed network is not the masked one, so `forward` does something that the fields do not declare (another order, another consumer, an activation that does not map zero to zero); compare `forward` with the fields here:\n  {}",
        .places.join("\n  ")
    )]
    Diverged {
        /// For each set of channels that makes a difference by itself: their layers, by path, and
        /// the difference.
        places: Vec<String>,
    },

    /// The output on a sample cannot tell whether two networks are the same.
    #[error("nothing was verified: {reason}")]
    Unverified {
        /// Why not, and the fix.
        reason: String,
    },

    /// A closure that was to measure the network has changed its running statistics. They are what
    /// they were again.
    #[error(
        "the closure changed `{tensor}`, so it runs the network in training mode; call its forward pass with `train = false`"
    )]
    TrainingMode {
        /// Path of the first tensor that changed.
        tensor: String,
    },

    /// The network with its batch norms folded is not the network. The model is as it was.
    #[error(
        "the network with its batch norms folded computes something else, so `forward` has an operation between a layer and its batch norm that the fields do not declare, such as an activation; declare it (`#[prune(act = relu)]` on the layer), and this batch norm is not folded:\n  {}",
        .places.join("\n  ")
    )]
    Folding {
        /// For each set of batch norms that make a difference by themselves: where they went, and
        /// the difference.
        places: Vec<String>,
    },

    /// The network has been deployed: weights and batch norms are not what they were.
    #[error(
        "`{path}` has been deployed, and is for inference alone; build the network anew, load its weights, and do this before `deploy`"
    )]
    Deployed {
        /// Field path of the first layer that shows it.
        path: String,
    },

    /// The statistics of a batch norm could not be estimated anew. They are what they were.
    #[error("cannot recalibrate `{path}`: {reason}")]
    Recalibration {
        /// Field path of the batch norm, or `model`.
        path: String,
        /// Why not, and the fix.
        reason: String,
    },

    /// The ranges of activations could not be recorded, for an export in 8 bits.
    #[error("cannot calibrate `{path}`: {reason}")]
    Calibration {
        /// Field path of the layer, or `model`.
        path: String,
        /// Why not, and the fix.
        reason: String,
    },

    /// Weights could not be solved anew. The model is as it was.
    #[error("cannot reconstruct `{path}`: {reason}")]
    Reconstruction {
        /// Field path of the layer, or `model`.
        path: String,
        /// Why not, and the fix.
        reason: String,
    },

    /// The mean activations of a layer are not known, for a criterion that ranks by them.
    #[error("no mean activations of `{path}`: {reason}")]
    Activations {
        /// Field path of the layer, or `model`.
        path: String,
        /// Why not, and the fix.
        reason: String,
    },

    /// What was to be measured cannot be, or panics.
    #[error("nothing was measured: {reason}")]
    Benchmark {
        /// Why not, and the fix.
        reason: String,
    },

    /// Measurements cannot be continued on this network.
    #[error("these measurements cannot be continued: {difference}; start anew")]
    Resume {
        /// What has changed.
        difference: String,
    },

    /// A text does not hold measurements that could be continued.
    #[error("these are no measurements to continue: {reason}")]
    Measurements {
        /// Where and why.
        reason: String,
    },

    /// The MACs of a network are asked for, and not all of its layers are counted.
    #[error("the MACs of this network are not all counted:\n  {}", .reasons.join("\n  "))]
    Uncounted {
        /// Each layer that is not counted, why, and the fix.
        reasons: Vec<String>,
    },
}
