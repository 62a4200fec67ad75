//! Values that are out of their range.

/// A number or text that is given is out of its range.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// The share to remove is not in `[0, 1)`, or is NaN.
    #[error(
        "ratio {0}: the share of channels to remove must be in [0, 1), for instance 0.5 for half of them"
    )]
    Ratio(f64),

    /// The parameter of an activation is infinite or NaN.
    #[error(
        "an activation with the parameter {0}: it must be finite, for instance `Activation::LeakyRelu(0.01)`"
    )]
    Activation(f64),

    /// The factor of the sparsity penalty is negative, infinite or NaN.
    #[error("sparsity factor {0}: it must be finite and not negative, for instance 1e-4")]
    SparsityFactor(f64),

    /// A group lasso has no proximal step in closed form.
    #[error(
        "a group lasso cannot shrink parameters in one step: a weight is in the group that it makes and in the one that it reads; use `add_gradient`"
    )]
    NoProximalStep,

    /// The ridge term of a reconstruction is negative, infinite or NaN.
    #[error(
        "ridge {0}: it must be finite and not negative, for instance 1e-3, or 0 for plain least squares"
    )]
    Ridge(f64),

    /// The temperature of a distillation is not positive, or infinite or NaN.
    #[error("temperature {0}: it must be finite and positive, for instance 4")]
    Temperature(f64),

    /// The outputs of student and teacher are not logits of the same samples and classes.
    #[error(
        "the student's outputs have shape {student:?} and the teacher's {teacher:?}: distillation compares logits [N, classes] of the same samples; give both networks the same batch, and take a teacher of the same classes"
    )]
    Logits {
        /// The shape of the student's outputs.
        student: Vec<i64>,
        /// The shape of the teacher's outputs.
        teacher: Vec<i64>,
    },

    /// The tolerance of a comparison is negative, infinite or NaN.
    #[error(
        "tolerance {0}: it must be finite and not negative, for instance 1e-4 of the largest output"
    )]
    Tolerance(f64),

    /// A cfg is not of the form `[64, 'M', 128]`.
    #[error(
        "cfg `{text}`: {reason}; write `[64, 'M', 128]`: widths of at least 1, and 'M' for a max-pool"
    )]
    Cfg {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A layer was given a batch where the cost of one sample is asked for.
    #[error(
        "`{path}` is given a batch of {batch}, but costs are counted for one sample: run `forward` on a batch of one, or pass the number of samples to `cost_of_batch` (1 if the batch is made of parts of one sample)"
    )]
    Batch {
        /// Field path of the layer.
        path: String,
        /// Size of the first dimension of its input.
        batch: i64,
    },

    /// A latency table holds for other conditions than those at hand.
    #[error("the latency table is {difference}")]
    LatencyTable {
        /// The first difference, and the fix.
        difference: String,
    },

    /// A text is no latency table.
    #[error("no latency table: {reason}")]
    LatencyJson {
        /// The rule that it breaks.
        reason: String,
    },

    /// A forward pass cannot have this number of samples.
    #[error("{samples} samples: {reason}")]
    Samples {
        /// How many they are said to be.
        samples: i64,
        /// Why they cannot be, and the fix.
        reason: String,
    },
}
