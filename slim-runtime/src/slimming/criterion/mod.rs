//! Criteria: how important a channel is. One trait, the criteria of the literature, and room for a
//! user's own.

mod activation;
mod candidate;
mod fisher;
mod fpgm;
mod gap;
mod gate;
mod group_taylor;
mod lamp;
mod network;
mod norm;
mod random;
mod ranking;
mod scale;
mod scaled_norm;
mod taylor;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::Result;
pub use crate::analysis::Masking;
pub(crate) use activation::why_unobserved;
pub use activation::{Activations, MeanActivation};
pub use candidate::Candidate;
pub use fisher::Fisher;
pub use fpgm::Fpgm;
pub use gap::Gap;
pub use gate::GateTaylor;
pub use group_taylor::GroupTaylor;
pub use lamp::Lamp;
pub(crate) use network::Network;
pub use norm::{L1, L2};
pub use random::Random;
pub use ranking::Ranking;
pub use scale::BatchNormScale;
pub use scaled_norm::ScaledNorm;
pub use taylor::Taylor;

/// Scores the channels of a layer by importance. The least important go first.
///
/// slim asks the criterion about each layer that has a scale (a batch norm) or makes channels (a
/// convolution, a linear layer). [`Normalisation`] makes scores comparable between layers, and
/// [`Coupling`](crate::Coupling) gives channels that stay or go together one score.
///
/// A criterion of your own takes a few lines. This one ranks filters by their largest weight:
///
/// ```
/// use slim_runtime::criterion::{Candidate, Criterion};
/// use slim_runtime::{Prunable, Result, Slimming};
/// use tch::{Tensor, nn};
///
/// #[derive(Debug)]
/// struct LargestWeight;
///
/// impl Criterion for LargestWeight {
///     fn name(&self) -> String {
///         "largest weight".to_owned()
///     }
///     fn scores(&self, layer: &Candidate) -> Result<Option<Tensor>> {
///         Ok(layer.filters()?.map(|filters| filters.abs().amax(&[1][..], false)))
///     }
/// }
///
/// # #[derive(Debug, Prunable)]
/// # #[prune(sequential)]
/// # struct Net { conv1: nn::Conv2D, conv2: nn::Conv2D }
/// # let vs = nn::VarStore::new(tch::Device::Cpu);
/// # let p = &vs.root();
/// # let net = Net { conv1: nn::conv2d(p / "conv1", 3, 8, 3, Default::default()), conv2: nn::conv2d(p / "conv2", 8, 4, 3, Default::default()) };
/// let plan = net.plan(&Slimming::ratio(0.5).criterion(LargestWeight))?;
/// assert_eq!(plan.slimming().criterion.name(), "largest weight");
/// # assert_eq!(plan.layer("conv1").unwrap().axis("out").unwrap().keep.len(), 3);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
pub trait Criterion: Debug + Send + Sync {
    /// Name of the criterion in plans and files. Two criteria of the same name count as equal.
    fn name(&self) -> String;

    /// Scores `[channels]` of any float kind, finite, larger for more important channels; `None` if
    /// the criterion does not score this layer. Then other layers rank its channels, or none does.
    ///
    /// # Errors
    /// Whatever the criterion cannot do, with the layer's [path](Candidate::path).
    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>>;

    /// What the user has to provide if the criterion scores no layer, as the end of a sentence.
    fn requirement(&self) -> Option<&'static str> {
        None
    }

    /// What has to be zero for a channel to count as removed, and thus which channels may go at
    /// all.
    fn masking(&self) -> Masking {
        Masking::Parameters
    }
}

/// The scores of a layer's channels, each by itself. Made by
/// [`Prunable::scores`](crate::Prunable::scores).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LayerScores {
    /// Field path of the layer: `layer2.0.bn1`.
    pub path: String,
    /// Name of the axis that the channels are on.
    pub axis: String,
    /// Per channel: its score, normalised as the slimming asks for.
    pub scores: Vec<f64>,
}

/// How the scores of different layers are made comparable, before the scores of coupled channels
/// are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Normalisation {
    /// Scores as they are, as in Network Slimming.
    #[default]
    None,
    /// Scores divided by the largest of the layer.
    Max,
    /// Scores divided by the mean of the layer.
    Mean,
    /// Scores divided by the L2 norm of the layer's scores (Molchanov et al., ICLR 2017).
    L2,
}
