//! Layers behind one trait: tch's and the drop-ins, at every rank.

use std::collections::BTreeMap;

use slim_runtime::{
    Flow, Prunable, Result, Tracer, nn as own, per_channel_scale, per_channel_shift,
};
use tch::Tensor;
use tch::nn::{
    self, BatchNormConfig, ConvConfig, ConvTransposeConfig, Module, ModuleT, PaddingMode,
};

use crate::graph::{Conv, Groups, Shape, Spec};

/// A layer that can be run.
pub trait Part: Prunable {
    fn forward(&self, xs: &Tensor) -> Vec<Tensor>;
}

/// A layer and its tensors by name.
type Made = (Box<dyn Part>, BTreeMap<&'static str, Tensor>);

macro_rules! modules {
    ($($ty:ty),+ $(,)?) => {
        $(impl Part for $ty {
            fn forward(&self, xs: &Tensor) -> Vec<Tensor> {
                vec![Module::forward(self, xs)]
            }
        })+
    };
}

modules!(nn::Conv1D, nn::Conv2D, nn::Conv3D, own::Conv1D, own::Conv2D, own::Conv3D);
modules!(nn::ConvTranspose1D, nn::ConvTranspose2D, nn::ConvTranspose3D);
modules!(own::ConvTranspose1D, own::ConvTranspose2D, own::ConvTranspose3D);
modules!(nn::GroupNorm, nn::LayerNorm, own::Shuffle, own::ChannelSelect, own::MaxPool2d);

impl Part for nn::Linear {
    fn forward(&self, xs: &Tensor) -> Vec<Tensor> {
        vec![Module::forward(self, &xs.flatten(1, -1))]
    }
}

impl Part for own::Linear {
    fn forward(&self, xs: &Tensor) -> Vec<Tensor> {
        vec![Module::forward(self, &xs.flatten(1, -1))]
    }
}

impl Part for nn::BatchNorm {
    fn forward(&self, xs: &Tensor) -> Vec<Tensor> {
        vec![self.forward_t(xs, false)]
    }
}

impl Part for own::BatchNorm {
    fn forward(&self, xs: &Tensor) -> Vec<Tensor> {
        vec![self.forward_t(xs, false)]
    }
}

impl Part for own::Split {
    fn forward(&self, xs: &Tensor) -> Vec<Tensor> {
        own::Split::forward(self, xs)
    }
}

/// A layer with one value per channel.
struct PerChannel {
    value: Tensor,
    shift: bool,
}

impl Prunable for PerChannel {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let trace = if self.shift { per_channel_shift } else { per_channel_scale };
        trace(&self.value, cx, input)
    }
}

impl Part for PerChannel {
    fn forward(&self, xs: &Tensor) -> Vec<Tensor> {
        let per_channel: Vec<i64> =
            (1..xs.dim()).map(|dim| if dim == 1 { -1 } else { 1 }).collect();
        let value = self.value.view(&per_channel[..]);
        vec![if self.shift { xs + value } else { xs * value }]
    }
}

/// Binds the tied tensors of a layer, and lists all its tensors.
macro_rules! made {
    ($layer:expr, $tied:expr, [$($field:ident $name:literal),*], [$($optional:ident $optional_name:literal),*]) => {{
        #[allow(unused_mut)]
        let mut layer = $layer;
        #[allow(unused_mut)]
        let mut tensors = BTreeMap::new();
        $(
            if let Some(tensor) = $tied($name) {
                layer.$field = tensor;
            }
            tensors.insert($name, layer.$field.shallow_clone());
        )*
        $(
            if let Some(tensor) = $tied($optional_name) {
                layer.$optional = Some(tensor);
            }
            if let Some(tensor) = &layer.$optional {
                tensors.insert($optional_name, tensor.shallow_clone());
            }
        )*
        (Box::new(layer) as Box<dyn Part>, tensors)
    }};
}

/// Gives the tensor that the tensor of this name is tied to.
type Tied<'a> = &'a dyn Fn(&str) -> Option<Tensor>;

pub fn make(p: nn::Path, rank: usize, side: i64, spec: &Spec, tied: Tied) -> Made {
    match spec {
        Spec::Conv(conv) => make_conv(&p, rank, conv, tied),
        Spec::ConvTranspose(conv) => make_conv_transpose(&p, rank, conv, tied),
        Spec::Linear { inputs, outputs, bias, plain } => {
            let config = nn::LinearConfig { bias: *bias, ..Default::default() };
            match plain {
                true => {
                    made!(nn::linear(p, *inputs, *outputs, config), tied, [ws "weight"], [bs "bias"])
                }
                false => {
                    made!(own::linear(p, *inputs, *outputs, config), tied, [ws "weight"], [bs "bias"])
                }
            }
        }
        Spec::Norm { shape, affine, plain } => make_norm(&p, rank, *shape, *affine, *plain, tied),
        Spec::Scale { shape } => make_per_channel(&p, *shape, false, tied),
        Spec::Shift { shape } => make_per_channel(&p, *shape, true, tied),
        Spec::GroupNorm { width, groups } => {
            made!(nn::group_norm(p, *groups, *width, Default::default()), tied, [], [ws "weight", bs "bias"])
        }
        Spec::LayerNorm { shape } => {
            let sides = if shape.flat { 0 } else { rank };
            let normalized =
                std::iter::once(shape.width).chain(std::iter::repeat_n(side, sides)).collect();
            made!(nn::layer_norm(p, normalized, Default::default()), tied, [], [ws "weight", bs "bias"])
        }
        Spec::Split { sizes } => made!(own::split(&sizes[..]), tied, [], []),
        Spec::Shuffle { width, groups } => made!(own::shuffle(*width, *groups), tied, [], []),
        Spec::Select { width } => made!(own::channel_select(*width), tied, [], []),
        Spec::MaxPool => {
            made!(own::MaxPool2d { padding: [1; 2], ..own::max_pool2d(3, 1) }, tied, [], [])
        }
    }
}

fn make_conv(p: &nn::Path, rank: usize, conv: &Conv, tied: Tied) -> Made {
    let Conv { inputs, outputs, kernel, groups, bias, plain, circular } = *conv;
    let padding_mode = if circular { PaddingMode::Circular } else { PaddingMode::Zeros };
    let config = ConvConfig {
        padding: kernel / 2,
        groups: groups.count(),
        bias,
        padding_mode,
        ..Default::default()
    };
    macro_rules! plain {
        ($conv:path) => {
            made!($conv(p, inputs, outputs, kernel, config), tied, [ws "weight"], [bs "bias"])
        };
    }
    macro_rules! own {
        ($conv:path) => {{
            let layer = $conv(p, inputs, outputs, kernel, config);
            let layer = if matches!(groups, Groups::Whole(_)) { layer.whole_groups() } else { layer };
            made!(layer, tied, [ws "weight"], [bs "bias"])
        }};
    }
    match (rank, plain) {
        (1, true) => plain!(nn::conv1d),
        (2, true) => plain!(nn::conv2d),
        (_, true) => plain!(nn::conv3d),
        (1, false) => own!(own::conv1d),
        (2, false) => own!(own::conv2d),
        (_, false) => own!(own::conv3d),
    }
}

fn make_conv_transpose(p: &nn::Path, rank: usize, conv: &Conv, tied: Tied) -> Made {
    let Conv { inputs, outputs, kernel, groups, bias, plain, .. } = *conv;
    let config = ConvTransposeConfig {
        padding: kernel / 2,
        groups: groups.count(),
        bias,
        ..Default::default()
    };
    macro_rules! made_by {
        ($conv:path) => {
            made!($conv(p, inputs, outputs, kernel, config), tied, [ws "weight"], [bs "bias"])
        };
    }
    match (rank, plain) {
        (1, true) => made_by!(nn::conv_transpose1d),
        (2, true) => made_by!(nn::conv_transpose2d),
        (_, true) => made_by!(nn::conv_transpose3d),
        (1, false) => made_by!(own::conv_transpose1d),
        (2, false) => made_by!(own::conv_transpose2d),
        (_, false) => made_by!(own::conv_transpose3d),
    }
}

fn make_norm(
    p: &nn::Path,
    rank: usize,
    shape: Shape,
    affine: bool,
    plain: bool,
    tied: Tied,
) -> Made {
    let config = BatchNormConfig { affine, ..Default::default() };
    macro_rules! made_by {
        ($norm:path) => {
            made!($norm(p, shape.width, config), tied, [running_mean "running_mean", running_var "running_var"], [ws "weight", bs "bias"])
        };
    }
    match (if shape.flat { 1 } else { rank }, plain) {
        (1, true) => made_by!(nn::batch_norm1d),
        (2, true) => made_by!(nn::batch_norm2d),
        (_, true) => made_by!(nn::batch_norm3d),
        (1, false) => made_by!(own::batch_norm1d),
        (2, false) => made_by!(own::batch_norm2d),
        (_, false) => made_by!(own::batch_norm3d),
    }
}

fn make_per_channel(p: &nn::Path, shape: Shape, shift: bool, tied: Tied) -> Made {
    // Any shape works: `[channels]` for a scale, `[channels, 1, 1]` for a shift of images.
    let sides = if shift && !shape.flat { 2 } else { 0 };
    let size: Vec<i64> =
        std::iter::once(shape.width).chain(std::iter::repeat_n(1, sides)).collect();
    let value = p.var("value", &size, nn::Init::Const(1.));
    let mut part = PerChannel { value, shift };
    if let Some(tensor) = tied("value") {
        part.value = tensor;
    }
    let value = part.value.shallow_clone();
    (Box::new(part), BTreeMap::from([("value", value)]))
}
