//! The forms in which a network can run.

use std::fmt;

use serde::Serialize;

/// A form in which libtorch runs a network. All have constant weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Form {
    /// The operations of `forward`, one by one.
    Traced = 0,
    /// With batch norms, and factors and summands per channel, folded into the layers beside them.
    Folded = 1,
    /// Folded, with channels-last weights of convolutions.
    ChannelsLast = 2,
    /// Folded, with weights and values in oneDNN's blocked layout. Only on the CPU.
    Packed = 3,
    /// Folded, with the operations that oneDNN Graph fuses. Only on the CPU.
    Fused = 4,
}

impl Form {
    /// All forms, the simplest first.
    pub(crate) const ALL: [Form; 5] =
        [Form::Traced, Form::Folded, Form::ChannelsLast, Form::Packed, Form::Fused];
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Traced => "as traced",
            Form::Folded => "folded",
            Form::ChannelsLast => "channels-last",
            Form::Packed => "packed",
            Form::Fused => "fused",
        })
    }
}
