//! Pooling, padding and resizing over positions.

use std::panic::Location;

use smallvec::smallvec;

use super::Traced;
use super::arguments::{Doubles, Ints, IntsOption};
use super::table::operations;
use super::traced::refused;
use crate::Result;
use crate::graph::shape::{Factor, Shape, holds_channels, is_assumed, size, slid};
use crate::graph::{
    Argument, Commutes, Effect, Form, LayerKind, Operator, Tracer, Value, arguments,
};

operations! {
    "Pools, pads and resizing" {
        "max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_default", "avg_pool1d", "avg_pool2d", "avg_pool3d", "avg_pool2d_default", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d": "keep channels as they are";
        "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d": "keep channels as they are";
        "upsample_nearest1d_vec", "upsample_nearest2d_vec", "upsample_nearest3d_vec", "upsample_linear1d_vec", "upsample_bilinear2d_vec", "upsample_bicubic2d_vec", "upsample_trilinear3d_vec": "keep channels as they are";
        "zero_pad1d", "zero_pad2d", "constant_pad_nd", "pad", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d": "keep channels as they are; zeros padded to the channels stay, and what they are added to";
    }
}

/// A number for each side of a kernel. A single number is for all sides; `default` replaces an
/// empty list.
fn sides(numbers: &[i64], count: usize, default: &[i64]) -> Vec<i64> {
    let numbers = if numbers.is_empty() { default } else { numbers };
    match numbers {
        [one] => vec![*one; count],
        numbers => numbers.to_vec(),
    }
}

/// A window that slides over an image with this number of sides.
struct Window {
    sides: usize,
    kernel: Vec<i64>,
    stride: Vec<i64>,
    padding: Vec<i64>,
    dilation: Vec<i64>,
    ceil_mode: bool,
}

impl Window {
    fn new(
        count: usize,
        [kernel, stride, padding, dilation]: [Vec<i64>; 4],
        ceil_mode: bool,
    ) -> Self {
        let kernel = sides(&kernel, count, &[1]);
        Window {
            sides: count,
            stride: sides(&stride, count, &kernel),
            padding: sides(&padding, count, &[0]),
            dilation: sides(&dilation, count, &[1]),
            kernel,
            ceil_mode,
        }
    }

    fn size(&self, side: usize, size: i64) -> Option<i64> {
        let of = |numbers: &[i64]| numbers.get(side).copied();
        let window =
            [of(&self.kernel)?, of(&self.stride)?, of(&self.padding)?, of(&self.dilation)?];
        slid(size, window, self.ceil_mode)
    }

    /// The arguments of a pool of `image` with this window, and more behind them.
    fn arguments(&self, image: &Traced, more: impl IntoIterator<Item = Argument>) -> Vec<Argument> {
        let Window { kernel, stride, padding, dilation, ceil_mode, .. } = self;
        let window = arguments![image, kernel, stride, padding, dilation, *ceil_mode];
        window().into_iter().chain(more).collect()
    }

    fn numbers(&self) -> Vec<f64> {
        let all = [&self.kernel, &self.stride, &self.padding, &self.dilation];
        all.into_iter().flatten().map(|&number| number as f64).collect()
    }
}

/// Resizes the positions of an image: its last `sides` dimensions.
fn resized(
    cx: &Tracer,
    name: &str,
    shape: &Shape,
    sides: usize,
    resize: impl Fn(usize, i64) -> Option<i64>,
) -> Result<Shape> {
    let first = shape.rank().checked_sub(sides).filter(|&first| first > 0);
    let over_channels =
        first.is_none_or(|first| shape.dims()[first..].iter().any(|dim| holds_channels(dim)));
    if over_channels {
        let shape = shape.describe();
        return Err(refused(
            cx,
            format!(
                "`{name}` over the last {sides} dimensions of {shape}, which hold channels; `permute` them to [N, C, …] before"
            ),
        ));
    }
    let resized = crate::graph::shape::resized(shape, first.unwrap_or(0), resize);
    resized.ok_or_else(|| cx.too_small(shape))
}

impl Traced {
    #[track_caller]
    fn pooled(
        &self,
        operator: Operator,
        entry: Option<LayerKind>,
        (sides, numbers): (usize, Vec<f64>),
        resize: impl Fn(usize, i64) -> Option<i64>,
    ) -> Traced {
        self.on_value(Location::caller(), |cx, value| {
            let (value, shape) = super::traced::shaped(cx, value, Some(sides + 2));
            let form = Form::Dims(resized(cx, operator.name, &shape, sides, resize)?);
            // The pool is an entry of a cfg, like a max-pool that is a field.
            if let Some(entry) = entry {
                cx.layer(entry);
            }
            cx.numbers = numbers;
            Ok(cx.operate(operator, &[&value], form))
        })
    }
}

macro_rules! pools {
    ($($sides:literal $max:ident $avg:ident $adaptive_avg:ident $adaptive_max:ident;)+) => {
        impl Traced {$(
            /// The largest element of each window.
            #[track_caller]
            pub fn $max(
                &self,
                kernel_size: impl Ints,
                stride: impl Ints,
                padding: impl Ints,
                dilation: impl Ints,
                ceil_mode: bool,
            ) -> Traced {
                let numbers = [kernel_size.ints(), stride.ints(), padding.ints(), dilation.ints()];
                let window = Window::new($sides, numbers, ceil_mode);
                let given = (window.sides, window.numbers());
                let operator = Operator::pool(stringify!($max), true, false);
                self.pooled(operator, Some(LayerKind::MaxPool), given, |side, size| window.size(side, size))
                    .called("max_pool", || window.arguments(self, []))
            }

            /// The mean of each window, with one window for each position of the output.
            #[track_caller]
            pub fn $adaptive_avg(&self, output_size: impl Ints) -> Traced {
                let output = sides(&output_size.ints(), $sides, &[1]);
                let operator = Operator::pool(stringify!($adaptive_avg), false, false);
                self.pooled(operator, None, ($sides, Vec::new()), |side, _| output.get(side).copied())
                    .called("adaptive_avg_pool", arguments![self, &output])
            }

            /// The largest element of each window and its index, with one window for each position
            /// of the output.
            #[track_caller]
            pub fn $adaptive_max(&self, output_size: impl Ints) -> (Traced, Traced) {
                let output = sides(&output_size.ints(), $sides, &[1]);
                let operator = Operator::pool(stringify!($adaptive_max), true, false);
                let resize = |side: usize, _| output.get(side).copied();
                let ys = self.pooled(operator, None, ($sides, Vec::new()), resize)
                    .called("adaptive_max_pool", arguments![self, &output]);
                let places = ys.on_flow(Location::caller(), |cx, flow| {
                    cx.each_of(flow, &Operator::ungated("places"))
                })
                .called("positions of adaptive_max_pool", arguments![self]);
                (ys, places)
            }
        )+}
    };
}

pools! {
    1 max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d;
    2 max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d;
    3 max_pool3d avg_pool3d adaptive_avg_pool3d adaptive_max_pool3d;
}

impl Traced {
    #[track_caller]
    fn averaged(
        &self,
        name: &'static str,
        sides: usize,
        [kernel, stride, padding]: [Vec<i64>; 3],
        (ceil_mode, count_include_pad): (bool, bool),
        divisor: Option<i64>,
    ) -> Traced {
        let padded = count_include_pad && padding.iter().any(|&side| side != 0);
        // A window's sum divided by another number than its size is no mean: it turns a constant
        // into another constant.
        let no_mean = padded || divisor.is_some();
        let window = Window::new(sides, [kernel, stride, padding, Vec::new()], ceil_mode);
        let more = [Argument::from(count_include_pad), Argument::from(divisor)];
        let divisor = divisor.map(|divisor| divisor as f64);
        let given = (sides, window.numbers().into_iter().chain(divisor).collect());
        self.pooled(Operator::pool(name, false, no_mean), None, given, |side, size| {
            window.size(side, size)
        })
        .called("avg_pool", || window.arguments(self, more))
    }

    /// The mean of each window.
    #[track_caller]
    pub fn avg_pool1d(
        &self,
        kernel_size: impl Ints,
        stride: impl Ints,
        padding: impl Ints,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> Traced {
        let numbers = [kernel_size.ints(), stride.ints(), padding.ints()];
        self.averaged("avg_pool1d", 1, numbers, (ceil_mode, count_include_pad), None)
    }

    /// The mean of each window.
    #[track_caller]
    pub fn avg_pool2d(
        &self,
        kernel_size: impl Ints,
        stride: impl Ints,
        padding: impl Ints,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: impl Into<Option<i64>>,
    ) -> Traced {
        let numbers = [kernel_size.ints(), stride.ints(), padding.ints()];
        self.averaged(
            "avg_pool2d",
            2,
            numbers,
            (ceil_mode, count_include_pad),
            divisor_override.into(),
        )
    }

    /// The mean of each window.
    #[track_caller]
    pub fn avg_pool3d(
        &self,
        kernel_size: impl Ints,
        stride: impl Ints,
        padding: impl Ints,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: impl Into<Option<i64>>,
    ) -> Traced {
        let numbers = [kernel_size.ints(), stride.ints(), padding.ints()];
        self.averaged(
            "avg_pool3d",
            3,
            numbers,
            (ceil_mode, count_include_pad),
            divisor_override.into(),
        )
    }

    /// The sum of each window, without overlap: tch's method divides by one.
    #[track_caller]
    pub fn avg_pool2d_default(&self, ksize: i64) -> Traced {
        self.avg_pool2d([ksize, ksize], [ksize, ksize], [0, 0], false, true, 1)
    }

    /// The largest element of each window, without overlap.
    #[track_caller]
    pub fn max_pool2d_default(&self, ksize: i64) -> Traced {
        self.max_pool2d([ksize, ksize], [ksize, ksize], [0, 0], [1, 1], false)
    }

    /// Resizes an image to the sizes `output`, or by `factors` if there are none.
    #[track_caller]
    fn interpolated(
        &self,
        name: &'static str,
        sides: usize,
        output: Option<Vec<i64>>,
        (factors, align_corners): (Vec<f64>, bool),
    ) -> Traced {
        self.on_value(Location::caller(), |cx, value| {
            let (value, shape) = super::traced::shaped(cx, value, Some(sides + 2));
            if let Some(output) = &output {
                cx.recording.asked.given.extend_from_slice(output);
            }
            let form = resized(cx, name, &shape, sides, |side, size| match &output {
                Some(output) => output.get(side).copied(),
                None => factors.get(side).map(|factor| (size as f64 * factor).floor() as i64),
            })?;
            cx.numbers = factors.clone();
            let operator =
                Operator { commutes: Commutes::Affine, ..Operator::each(name, Effect::Keep) };
            Ok(cx.operate(operator, &[&value], Form::Dims(form)))
        })
        .called(name, arguments![self, output.as_ref(), &factors[..], align_corners])
    }
}

macro_rules! upsamplings {
    ($($(#[$doc:meta])* $name:ident $vec:ident $sides:literal ($($align:ident: $align_ty:ty)?) ($($scale:ident),+);)+) => {
        impl Traced {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(
                &self,
                output_size: impl Ints,
                $($align: $align_ty,)?
                $($scale: impl Into<Option<f64>>,)+
            ) -> Traced {
                let align_corners = false $(|| $align)?;
                let factors: Vec<f64> = [$($scale.into()),+].into_iter().flatten().collect();
                let output = Some(output_size.ints());
                self.interpolated(stringify!($name), $sides, output, (factors, align_corners))
            }

            $(#[$doc])*
            #[track_caller]
            pub fn $vec(
                &self,
                output_size: impl IntsOption,
                $($align: $align_ty,)?
                scale_factors: impl Doubles,
            ) -> Traced {
                let align_corners = false $(|| $align)?;
                let output = output_size.ints_option();
                let factors = (scale_factors.doubles(), align_corners);
                self.interpolated(stringify!($name), $sides, output, factors)
            }
        )+}
    };
}

upsamplings! {
    /// Each position repeated.
    upsample_nearest1d upsample_nearest1d_vec 1 () (scales);
    /// Each position repeated.
    upsample_nearest2d upsample_nearest2d_vec 2 () (scales_h, scales_w);
    /// Each position repeated.
    upsample_nearest3d upsample_nearest3d_vec 3 () (scales_d, scales_h, scales_w);
    /// Positions interpolated.
    upsample_linear1d upsample_linear1d_vec 1 (_align_corners: bool) (scales);
    /// Positions interpolated.
    upsample_bilinear2d upsample_bilinear2d_vec 2 (_align_corners: bool) (scales_h, scales_w);
    /// Positions interpolated.
    upsample_bicubic2d upsample_bicubic2d_vec 2 (_align_corners: bool) (scales_h, scales_w);
    /// Positions interpolated.
    upsample_trilinear3d upsample_trilinear3d_vec 3 (_align_corners: bool) (scales_d, scales_h, scales_w);
}

/// Pads dimensions, from the last to the first, by pairs of numbers: before and behind.
fn padded(
    cx: &mut Tracer,
    name: &'static str,
    value: &Value,
    shape: &Shape,
    padding: &[i64],
    of_zeros: bool,
) -> Result<Value> {
    let wrong = |cx: &Tracer| {
        let shape = shape.describe();
        refused(
            cx,
            format!(
                "`{name}` of {shape} by {padding:?}: name two numbers for each dimension, from the last"
            ),
        )
    };
    if !padding.len().is_multiple_of(2) || padding.len() / 2 > shape.rank() {
        return Err(wrong(cx));
    }
    let (mut value, mut shape) = (value.clone(), shape.clone());
    for (back, sides) in padding.chunks(2).enumerate() {
        let [before, behind] = sides else { return Err(wrong(cx)) };
        let dim = shape.rank() - 1 - back;
        if (*before, *behind) == (0, 0) {
            continue;
        }
        if holds_channels(&shape.dims()[dim]) {
            (value, shape) = more_channels(cx, name, &value, &shape, dim, [*before, *behind])?;
            continue;
        }
        let assumed = is_assumed(&shape.dims()[dim]);
        let padded = size(&shape.dims()[dim]).saturating_add(*before).saturating_add(*behind);
        if padded < 1 {
            return Err(cx.too_small(&shape));
        }
        shape = shape.with(dim, smallvec![Factor::Size { size: padded, assumed }]);
        cx.numbers = vec![*before as f64, *behind as f64];
        // Zeros around a constant channel are a border; a border made of the image keeps it
        // constant.
        let effect = if of_zeros { Effect::Border } else { Effect::Keep };
        value = cx.operate(Operator::each(name, effect), &[&value], Form::Dims(shape.clone()));
    }
    Ok(value)
}

/// Adds channels of zeros before and behind the channels. The added channels are held, because
/// `forward` writes out their number.
fn more_channels(
    cx: &mut Tracer,
    name: &'static str,
    value: &Value,
    shape: &Shape,
    dim: usize,
    sides: [i64; 2],
) -> Result<(Value, Shape)> {
    if shape.channel_dim() != Some(dim) || sides.iter().any(|&side| side < 0) {
        let shape = shape.describe();
        return Err(refused(
            cx,
            format!(
                "`{name}` of the channels of {shape} by {sides:?}: they can be padded where they are a dimension of their own, by at least 0"
            ),
        ));
    }
    let mut parts = Vec::new();
    for (index, &side) in sides.iter().enumerate() {
        if index == 1 {
            parts.push(value.clone());
        }
        if side > 0 {
            let count = cx.count(name, side)?;
            let form = shape.with(dim, smallvec![Factor::channels(count)]);
            let zeros = cx.constant(Operator::zeros(name), count, form);
            let reason = cx.mixed(&format!("`{name}` by a fixed number of channels"));
            cx.hold_ids(std::rc::Rc::clone(&zeros.ids), reason);
            parts.push(zeros);
        }
    }
    let width = parts.iter().map(Value::len).sum();
    let shape = shape.with(dim, smallvec![Factor::channels(width)]);
    let operands: Vec<_> = parts.iter().collect();
    let value = cx.operate(Operator::concat(name), &operands, Form::Dims(shape.clone()));
    Ok((value, shape))
}

impl Traced {
    #[track_caller]
    fn with_border(
        &self,
        name: &'static str,
        padding: Vec<i64>,
        border: Border,
        mode: &str,
    ) -> Traced {
        self.on_shape(Location::caller(), |cx, value, shape| match border {
            Border::Number(number) if number != 0.0 => {
                let padded = padded(cx, name, value, shape, &padding, true)?;
                let form = padded.form.clone();
                cx.numbers.push(number);
                Ok(cx.operate(Operator::ungated(name), &[&padded], form))
            }
            border => padded(cx, name, value, shape, &padding, border != Border::Image),
        })
        .called("pad", arguments![self, &padding, mode, border.number()])
    }

    /// Pads with zeros, from the last dimension to the first.
    #[track_caller]
    pub fn constant_pad_nd(&self, padding: impl Ints) -> Traced {
        self.with_border("constant_pad_nd", padding.ints(), Border::Number(0.0), "constant")
    }

    /// Pads with zeros left and right.
    #[track_caller]
    pub fn zero_pad1d(&self, left: i64, right: i64) -> Traced {
        self.with_border("zero_pad1d", vec![left, right], Border::Number(0.0), "constant")
    }

    /// Pads an image with zeros.
    #[track_caller]
    pub fn zero_pad2d(&self, left: i64, right: i64, top: i64, bottom: i64) -> Traced {
        let padding = vec![left, right, top, bottom];
        self.with_border("zero_pad2d", padding, Border::Number(0.0), "constant")
    }

    /// Pads with a number, or with a border made of the image.
    #[track_caller]
    pub fn pad(&self, padding: impl Ints, mode: &str, value: impl Into<Option<f64>>) -> Traced {
        let number = value.into().unwrap_or(0.0);
        let border = if mode == "constant" { Border::Number(number) } else { Border::Image };
        self.with_border("pad", padding.ints(), border, mode)
    }
}

/// The values of a border: one number, or elements of the image.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Border {
    Number(f64),
    Image,
}

impl Border {
    fn number(self) -> f64 {
        if let Border::Number(number) = self { number } else { 0.0 }
    }
}

macro_rules! image_pads {
    ($($name:ident $mode:literal)+) => {
        impl Traced {$(
            /// Pads with a border made of the image.
            #[track_caller]
            pub fn $name(&self, padding: impl Ints) -> Traced {
                self.with_border(stringify!($name), padding.ints(), Border::Image, $mode)
            }
        )+}
    };
}

image_pads! {
    reflection_pad1d "reflect"
    reflection_pad2d "reflect"
    reflection_pad3d "reflect"
    replication_pad1d "replicate"
    replication_pad2d "replicate"
    replication_pad3d "replicate"
}
