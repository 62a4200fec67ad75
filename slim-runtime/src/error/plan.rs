//! Plans and cfgs that do not fit.

/// A plan or a cfg does not fit the model, or contradicts itself.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The plan was made for another network.
    #[error("the plan does not fit this model: {difference}")]
    Mismatch {
        /// The first difference.
        difference: String,
    },

    /// The plan contradicts itself or empties a layer.
    #[error("the plan cannot be used: {reason}")]
    Invalid {
        /// Where and why.
        reason: String,
    },

    /// A later plan was not made for what the earlier one leaves.
    #[error(
        "the plans do not follow each other: {difference}; make the later plan of the network that the earlier one was applied to"
    )]
    Sequence {
        /// The first difference.
        difference: String,
    },

    /// A cfg is of another network, or does not say which channels of this one stay.
    #[error("cfg `{cfg}` does not fit this model: {difference}")]
    CfgMismatch {
        /// The cfg, as text.
        cfg: String,
        /// The first difference.
        difference: String,
    },

    /// A tensor of the model is in none of the store's variables.
    #[error(
        "`{path}.{tensor}` is no variable of this store; pass the store that the model was built with"
    )]
    NotInStore {
        /// Field path of the layer.
        path: String,
        /// Name of the tensor in it.
        tensor: String,
    },
}
