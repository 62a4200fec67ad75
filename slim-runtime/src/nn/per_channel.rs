//! Raw tensors with one value per channel, as fields that say so.

use tch::Tensor;

use crate::{Error, Flow, LayerKind, Result, Tracer};

/// What `#[prune(per_channel)]` can stand on: a [`Tensor`], or an [`Option`] of one, where `None`
/// is the identity.
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

/// A tensor with one value per channel that maps zero to zero: a scale, the slopes of a PReLU. Any
/// shape with one dimension that is not 1 will do.
///
/// What `#[prune(per_channel)]` calls.
///
/// # Errors
/// [`Error::Shape`] when the tensor has another shape, [`Error::Width`], [`Error::NotALeaf`].
pub fn per_channel_scale<T: PerChannel>(value: &T, cx: &mut Tracer, input: Flow) -> Result<Flow> {
    value.tensor().map_or(Ok(input.clone()), |tensor| trace_per_channel(tensor, cx, &input, true))
}

/// A tensor with one value per channel that is added. The channel then carries it whatever its
/// batch norm's scale, so who reads it keeps it.
///
/// What `#[prune(per_channel = shift)]` calls.
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
        return Err(Error::Shape { path: cx.path(), tensor: "value".to_owned(), shape, rule });
    };
    let mut layer = cx.layer(LayerKind::PerChannel);
    let channels = layer.follow("channels", input, width)?;
    layer.parameter("value", tensor, &[(dim, channels)])?;
    if maps_zero_to_zero { layer.pass(channels) } else { layer.shift(channels) }
}
