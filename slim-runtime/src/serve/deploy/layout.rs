//! Memory layouts of weights.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use tch::{Device, Kind, TchError, Tensor};

use super::form::{LayerInfo, LayerTensors, ModelSnapshot, Weights};
use crate::numeric::packed::{Geometry, Packed};
use crate::{Error, Result, fault};

/// The memory layout of the weights of convolutions, and with it that of the images that they make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layout {
    /// The layout before deploying. Unless it was changed, that is the default of PyTorch and tch:
    /// `[out, in, height, width]`, with the last dimension contiguous.
    Contiguous,
    /// The values of all channels at one position are contiguous.
    ChannelsLast,
    /// Channels-last, and weights packed as oneDNN's kernels read them, on a CPU. The weights are
    /// in memory twice.
    Packed,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Layout::Contiguous => "contiguous",
            Layout::ChannelsLast => "channels-last",
            Layout::Packed => "packed (oneDNN)",
        })
    }
}

/// The snapshot with channels-last weights for every convolution of images, or the reason why it
/// would change nothing.
///
/// # Errors
/// [`Error::Torch`].
pub(super) fn channels_last(form: &ModelSnapshot) -> Result<Result<ModelSnapshot, String>> {
    let mut changed = form.shallow_clone();
    let mut any = false;
    for (path, weights) in form.all_weights().filter(|(_, weights)| weights.weight.dim() >= 4) {
        let weight = permuted(&weights.weight).map_err(Error::torch(path))?;
        changed.set(
            path,
            LayerTensors::Weights(Weights {
                weight,
                bias: weights.bias.as_ref().map(Tensor::shallow_clone),
                packed: None,
            }),
        );
        any = true;
    }
    Ok(if any { Ok(changed) } else { Err("there is no convolution of images".to_owned()) })
}

/// A channels-last copy. Its strides show the layout even if a dimension has a single position.
fn permuted(weight: &Tensor) -> Result<Tensor, TchError> {
    fault::point()?;
    let size = weight.size();
    let last: Vec<i64> = [&size[..1], &size[2..], &size[1..2]].concat();
    let back: Vec<i64> =
        [0, size.len() as i64 - 1].into_iter().chain(1..size.len() as i64 - 1).collect();
    let mut copy = Tensor::f_empty(last, (weight.f_kind()?, weight.device()))?.f_permute(back)?;
    copy.f_copy_(weight)?;
    Ok(copy)
}

/// What packing needs to know about a model.
pub(super) struct Packing<'p> {
    pub(super) traits: &'p HashMap<String, LayerInfo>,
    /// The shape of the images that each convolution is given.
    pub(super) given: HashMap<String, Vec<i64>>,
}

impl Packing<'_> {
    /// The snapshot with packed weights beside the others wherever oneDNN can use them, or the
    /// reason why it can use them nowhere.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(super) fn of(&self, form: &ModelSnapshot) -> Result<Result<ModelSnapshot, String>> {
        let mut changed = form.shallow_clone();
        let mut any = false;
        for (path, weights) in form.all_weights() {
            let Some((geometry, given)) = self.place(path, weights) else { continue };
            fault::point().map_err(Error::torch(path))?;
            let packed = match Packed::new(&weights.weight, weights.bias.as_ref(), geometry, given)
            {
                Ok(packed) => Some(packed),
                Err(cause) => return Ok(Err(Error::torch(path)(cause).full_text())),
            };
            let (weight, bias) =
                (weights.weight.shallow_clone(), weights.bias.as_ref().map(Tensor::shallow_clone));
            changed.set(path, LayerTensors::Weights(Weights { weight, bias, packed }));
            any = true;
        }
        let reason = "no `slim_runtime::nn::Conv2D` in single precision on a CPU, padded with zeros, is given a batch of images";
        Ok(if any { Ok(changed) } else { Err(reason.to_owned()) })
    }

    fn place(&self, path: &str, weights: &Weights) -> Option<(Geometry, &[i64])> {
        let Some(LayerInfo::Weights { geometry: Some(geometry), .. }) = self.traits.get(path)
        else {
            return None;
        };
        let given = self.given.get(path).filter(|given| given.len() == 4)?;
        let fits = weights.weight.device() == Device::Cpu
            && weights.weight.kind() == Kind::Float
            && weights.weight.numel() > 0;
        (fits && tch::utils::has_mkldnn()).then_some((*geometry, given))
    }
}
