//! Tensor fields with one value per channel, marked `#[prune(per_channel)]`.

use tch::Tensor;

use crate::error::WiringError;
use crate::{Error, Flow, LayerKind, Result, Tracer};

/// Field types that `#[prune(per_channel)]` can mark: a [`Tensor`], or an `Option<Tensor>`, where
/// `None` is the identity.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no value per channel",
    label = "not a tensor",
    note = "`#[prune(per_channel)]` stands on a field of type `Tensor` or `Option<Tensor>`"
)]
pub trait PerChannel {
    /// The tensor, if there is one.
    fn tensor(&self) -> Option<&Tensor>;
}

impl PerChannel for Tensor {
    fn tensor(&self) -> Option<&Tensor> {
        Some(self)
    }
}

impl PerChannel for Option<Tensor> {
    fn tensor(&self) -> Option<&Tensor> {
        self.as_ref()
    }
}

/// Traces a tensor with one value per channel that maps zero to zero: a scale, the slopes of a
/// PReLU. All dimensions but one are 1.
///
/// The derive calls it for `#[prune(per_channel)]`.
///
/// # Errors
/// [`WiringError::Shape`](crate::error::WiringError::Shape) when the tensor has another shape,
/// [`WiringError::Width`](crate::error::WiringError::Width),
/// [`WiringError::NotALeaf`](crate::error::WiringError::NotALeaf).
pub fn per_channel_scale<T: PerChannel>(value: &T, cx: &mut Tracer, input: Flow) -> Result<Flow> {
    value.tensor().map_or(Ok(input.clone()), |tensor| trace_per_channel(tensor, cx, &input, true))
}

/// Traces a tensor with one value per channel that is added. The channel then carries that value
/// whatever the scale of its batch norm, so the channel is kept if a layer reads it.
///
/// The derive calls it for `#[prune(per_channel = shift)]`.
///
/// # Errors
/// As for [`per_channel_scale`].
pub fn per_channel_shift<T: PerChannel>(value: &T, cx: &mut Tracer, input: Flow) -> Result<Flow> {
    value.tensor().map_or(Ok(input.clone()), |tensor| trace_per_channel(tensor, cx, &input, false))
}

fn trace_per_channel(
    tensor: &Tensor,
    cx: &mut Tracer,
    input: &Flow,
    maps_zero_to_zero: bool,
) -> Result<Flow> {
    let shape = tensor.size();
    let width: i64 = shape.iter().product();
    let Some(dim) = shape.iter().position(|&size| size == width) else {
        let rule = "has not one value per channel".to_owned();
        return Err(Error::Wiring(WiringError::Shape {
            path: cx.path(),
            tensor: "value".to_owned(),
            shape,
            rule,
        }));
    };
    let mut layer = cx.layer(LayerKind::PerChannel);
    let channels = layer.follow("channels", input, width)?;
    layer.parameter("value", tensor, &[(dim, channels)])?;
    if maps_zero_to_zero { layer.pass(channels) } else { layer.shift(channels) }
}
