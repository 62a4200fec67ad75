//! How weights can lie in memory.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use tch::{Device, Kind, TchError, Tensor};

use super::form::{LayerInfo, LayerTensors, ModelSnapshot, Weights};
use crate::numeric::packed::{Geometry, Packed};
use crate::{Error, Result, fault};

/// How the weights of convolutions lie in memory, and with them the images that they make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layout {
    /// As they did before; unless they were laid out otherwise, as PyTorch's and tch's do:
    /// `[out, in, height, width]`, the last dimension in a row.
    Contiguous,
    /// The values of all channels at one position in a row.
    ChannelsLast,
    /// Channels-last, and weights packed as oneDNN's kernels read them, on a CPU. Weights are there
    /// twice.
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

/// The form with all images channels-last; why not, where there are none.
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

/// A copy that says by its strides that it is channels-last also where a dimension has a single
/// position.
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

/// What packing has to know of a model.
pub(super) struct Packing<'p> {
    pub(super) traits: &'p HashMap<String, LayerInfo>,
    /// Of what size images are that each convolution is given.
    pub(super) given: HashMap<String, Vec<i64>>,
}

impl Packing<'_> {
    /// The form with packed weights beside the others, where oneDNN can use them; why not, where
    /// that is nowhere.
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
                Err(cause) => return Ok(Err(Error::torch(path)(cause).to_string())),
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
