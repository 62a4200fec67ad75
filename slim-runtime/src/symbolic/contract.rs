//! Matrix products: sums over a dimension of two tensors.

use std::borrow::Borrow;
use std::panic::Location;
use std::rc::Rc;

use smallvec::smallvec;
use tch::Tensor;

use super::arguments::IntsOption;
use super::arithmetic::Operand;
use super::heads::{self, Meeting, Spread, channel_dims, spread};
use super::lift::{self, Join};
use super::norms::{AffineTensor, real};
use super::pass::OneCall;
use super::table::operations;
use super::traced::{refused, shaped};
use super::{Traced, pass};
use crate::graph::shape::{Dim, Factor, Shape, answer, holds_channels, is_assumed, size};
use crate::graph::{Effect, Form, Gate, LayerKind, Operator, Tracer, Value, arguments};
use crate::{Flow, Result};

operations! {
    "Matrix products" {
        "matmul", "bmm": "sum over channels: those at one position become one, and stay unless one side is gated; channels that are paired (a Gram matrix) stay; other channels pass";
        "matmul with a tensor of the model", "linear": "a linear layer";
        "scaled_dot_product_attention": "as the products and the softmax that it is";
        "einsum": "`bij,bjk->bik` and the like, of two tensors: as the product that it is";
    }
}

/// The second factor of a matrix product.
pub trait Factor2 {
    /// Multiplies a symbolic tensor by this factor.
    #[doc(hidden)]
    fn multiplied(&self, cx: &mut Tracer, left: &Flow) -> Result<Flow>;
}

impl Factor2 for Traced {
    fn multiplied(&self, cx: &mut Tracer, left: &Flow) -> Result<Flow> {
        let Some(right) = self.flow() else { return Ok(left.clone()) };
        let product = product(cx, "matmul", left, &right)?;
        cx.call("matmul", arguments![left, &right], &product);
        Ok(product)
    }
}

impl Factor2 for Tensor {
    fn multiplied(&self, cx: &mut Tracer, left: &Flow) -> Result<Flow> {
        let product = by_matrix(cx, left, self)?;
        cx.call("matmul", arguments![left, self], &product);
        Ok(product)
    }
}

impl<T: Factor2 + ?Sized> Factor2 for &T {
    fn multiplied(&self, cx: &mut Tracer, left: &Flow) -> Result<Flow> {
        (**self).multiplied(cx, left)
    }
}

/// Multiplies by a real matrix `[in, out]`: a tensor of the model, which makes a linear layer, or a
/// constant.
fn by_matrix(cx: &mut Tracer, left: &Flow, matrix: &Tensor) -> Result<Flow> {
    let parts = cx.parts.clone().unwrap_or_default();
    let sizes = matrix.size();
    let Some((field, [rows, columns])) = lift::matrix(cx, &parts, matrix)? else {
        lift::note_contents(cx, matrix)?;
        if sizes.len() > 2 {
            let dims = sizes.iter().map(|&size| smallvec![Factor::exact(size)]);
            let constant = cx.constant(Operator::constant("constant"), 0, Shape::new(dims));
            return product(cx, "matmul", left, &constant.into());
        }
        let value = cx.channels(left, None)?;
        let (value, shape) = shaped(cx, &value, Some(2));
        let (Some(last), [.., rows, columns]) = (shape.dims().last(), &sizes[..]) else {
            return Err(refused(cx, "`matmul` with a constant that is no matrix".to_owned()));
        };
        if size(last) != *rows && !is_assumed(last) {
            let shape = shape.describe();
            return Err(refused(
                cx,
                format!("`matmul` of {shape} and a constant of shape {sizes:?}"),
            ));
        }
        let form = shape.with(shape.rank() - 1, smallvec![Factor::exact(*columns)]);
        if !holds_channels(last) {
            let operator = Operator::each("matmul", Effect::ZeroOnly);
            return Ok(cx.operate(operator, &[&value], Form::Dims(form)).into());
        }
        let reason = cx.mixed("`matmul` with a constant");
        cx.hold_ids(Rc::clone(&value.ids), reason);
        return Ok(cx.constant_of("matmul", Form::Dims(form)).into());
    };
    let path = field.path.clone();
    cx.at_path(&path, |cx| {
        let mut layer = cx.layer(LayerKind::Linear);
        let read = layer.read_flattened("in", left, sizes[0])?;
        let written = layer.write_features("out", sizes[1])?;
        layer.parameter("value", &field.tensor, &[(rows, read), (columns, written)])?;
        layer.pass(written)
    })
}

/// The product of two symbolic matrices, or of batches of them.
fn product(cx: &mut Tracer, name: &'static str, left: &Flow, right: &Flow) -> Result<Flow> {
    let (a, b) = (cx.channels(left, None)?, cx.channels(right, None)?);
    let ((a, left), (b, right)) = (shaped(cx, &a, Some(3)), shaped(cx, &b, Some(3)));
    let wrong = |cx: &Tracer, why: &str| {
        let (left, right) = (left.describe(), right.describe());
        refused(cx, format!("`{name}` of {left} and {right}: {why}"))
    };
    if left.rank() < 2 || right.rank() < 2 {
        return Err(wrong(cx, "each needs at least two dimensions"));
    }
    let (rows, inner) = (left.rank() - 2, left.rank() - 1);
    let (other_inner, columns) = (right.rank() - 2, right.rank() - 1);
    let scale = cx.probe.scale;
    // A single channel that is left is told with the scale or without it.
    let summed = [&left.dims()[inner], &right.dims()[other_inner]];
    let are_single = summed.iter().all(|dim| size(dim) == 1);
    let is_unknown = summed.iter().any(|dim| is_assumed(dim));
    if !are_single && !is_unknown && !cx.have_one_size(summed[0], summed[1]) {
        return Err(wrong(cx, "the dimension that is summed over has two sizes"));
    }
    if !holds_channels(&left.dims()[inner]) {
        cx.sizes.push(answer(&left.dims()[inner], scale));
    }
    let (a, b) = match (a.len(), b.len()) {
        (1.., 1..) => {
            let spread = spread(cx, name, &a, &left, &right)
                .zip(spread(cx, name, &b, &right, &left))
                .filter(|(a, _)| !a.is_shared);
            spread.ok_or_else(|| wrong(cx, "their heads are not laid out alike"))?
        }
        _ => (Spread::whole(a, left.clone()), Spread::whole(b, right.clone())),
    };
    let is_shared = b.is_shared;
    let ((a, left), (b, right)) = ((a.value, a.shape), (b.value, b.shape));
    match heads::meeting(cx, &left, &right) {
        Meeting::Fits => {}
        Meeting::Literal => {
            let reason = cx.mixed(&format!(
                "`{name}` multiplies them by a tensor in which their number is written out; compute it from `size()`"
            ));
            for value in [&a, &b] {
                cx.hold_ids(Rc::clone(&value.ids), reason.clone());
            }
        }
        Meeting::Differs => {
            return Err(wrong(
                cx,
                "their dimensions before the last two differ; each pair must have one size, or one of them 1; if a size depends on the input's, write its shape on the struct, as in `#[prune(input = [3, 224, 224])]`",
            ));
        }
    }
    let last = [left.dims()[rows].clone(), right.dims()[columns].clone()];
    let form = Form::Dims(Shape::new(heads::batch(&left, &right).into_iter().chain(last)));
    let summed = (holds_channels(&left.dims()[inner]), holds_channels(&right.dims()[other_inner]));
    match summed {
        (true, true) => scores(cx, name, (&a, &left), (&b, &right), is_shared, form)
            .ok_or_else(|| wrong(cx, "the channels that are summed over are not alike in both")),
        (false, false) => {
            let each = || Operator::each(name, Effect::ZeroOnly);
            let in_columns = holds_channels(&right.dims()[columns]);
            let in_rows = holds_channels(&left.dims()[rows]);
            match (a.len(), b.len()) {
                (0, 0) => Ok(cx.constant_of(name, form).into()),
                (0, _) => Ok(cx.operate(each(), &[&b], form).into()),
                (_, 0) => Ok(cx.operate(each(), &[&a], form).into()),
                // Sums of values with weights for each head: the weights of a head are removed with
                // its values.
                _ if in_columns && !in_rows && are_heads(&left, &right) => {
                    let outputs: usize =
                        channel_dims(&right).iter().map(|&(_, count)| count).product();
                    let times = outputs / a.len();
                    let each = (0..a.len()).flat_map(|head| std::iter::repeat_n(head, times));
                    let select = Operator::select(name, each);
                    if is_shared {
                        // The shared values stay, so the outputs of a head are zero where its
                        // weights are, and other numbers of the weights do not stay as they are.
                        let product = Operator { effect: Effect::ZeroOnly, ..select };
                        return Ok(cx.operate(product, &[&a], form).into());
                    }
                    let weights = cx.operate(select, &[&a], Form::Dims(right.clone()));
                    let product = Operator::zip(name, Gate::Any);
                    Ok(cx.operate(product, &[&b, &weights], form).into())
                }
                // A number for each pair of channels, as in a Gram matrix: all channels are held.
                _ => {
                    for value in [&a, &b] {
                        let reason = cx.mixed(&format!("`{name}` pairs them with each other"));
                        cx.hold_ids(Rc::clone(&value.ids), reason);
                    }
                    Ok(cx.constant_of(name, plain(form, scale)).into())
                }
            }
        }
        _ => {
            // Only one side has channels in the summed dimension: each sum depends on all of them.
            let (value, other) = if summed.0 { (&a, &b) } else { (&b, &a) };
            let reason = cx.mixed(&format!("`{name}` sums over them"));
            cx.hold_ids(Rc::clone(&value.ids), reason);
            if other.len() > 0 {
                return Err(wrong(
                    cx,
                    "channels of one are summed over, but the other's are in another dimension",
                ));
            }
            Ok(cx.constant_of(name, plain(form, scale)).into())
        }
    }
}

/// Whether the channels of weights are the heads of values: the outermost channels in the same
/// batch dimensions.
fn are_heads(weights: &Shape, values: &Shape) -> bool {
    channel_dims(values).starts_with(&channel_dims(weights))
}

/// The same dimensions without channels: each channel factor becomes the size that `forward` is
/// told.
fn plain(form: Form, scale: i64) -> Form {
    let Form::Dims(shape) = form else { return form };
    let size = |factor: &Factor| match factor {
        Factor::Channels { .. } => Factor::exact(answer(&Dim::from_slice(&[*factor]), scale)),
        size => *size,
    };
    Form::Dims(Shape::new(shape.dims().iter().map(|dim| dim.iter().map(size).collect())))
}

/// Sums over the products of both tensors' channels: one number for each pair of positions, or for
/// each head where heads can be removed.
///
/// `None` if the channels are not laid out alike in both tensors.
fn scores(
    cx: &mut Tracer,
    name: &'static str,
    (a, left): (&Value, &Shape),
    (b, right): (&Value, &Shape),
    is_shared: bool,
    form: Form,
) -> Option<Flow> {
    let counts = |shape: &Shape| channel_dims(shape).into_iter().map(|(_, count)| count);
    if !counts(left).eq(counts(right)) {
        return None;
    }
    let follows = |shape: &Shape, summed: usize| {
        let others = shape.dims().iter().enumerate().filter(|&(at, _)| at != summed);
        let mut factors = others.flat_map(|(_, dim)| dim);
        factors.any(|factor| matches!(factor, Factor::Channels { literal: false, .. }))
    };
    let heads_may_go = (follows(left, left.rank() - 1), follows(right, right.rank() - 2));
    let products = if is_shared {
        cx.operate(Operator::each(name, Effect::ZeroOnly), &[a], a.form.clone())
    } else {
        cx.operate(Operator::zip(name, Gate::Any), &[a, b], a.form.clone())
    };
    match heads_may_go {
        // The summed channels can be removed, at the same position of all heads at once.
        (false, false) => {
            cx.sums_over(&products);
            Some(cx.constant_of(name, plain(form, cx.probe.scale)).into())
        }
        // Whole heads can be removed: the channels of a head are one group already.
        (true, true) => {
            let size = left.dims().last().map(|dim| size(dim))?;
            let heads = Operator::blocks(name, usize::try_from(size).ok()?);
            Some(cx.operate(heads, &[&products], form).into())
        }
        _ => None,
    }
}

impl Traced {
    /// The product of two matrices, or of batches of them.
    #[track_caller]
    pub fn matmul<T: Factor2>(&self, other: T) -> Traced {
        self.on_flow(Location::caller(), |cx, flow| other.multiplied(cx, flow))
    }

    /// The products of batches of matrices.
    #[track_caller]
    pub fn bmm<T: Factor2>(&self, other: T) -> Traced {
        self.matmul(other)
    }

    /// The product with a matrix `[out, in]` of the model, plus a bias.
    #[track_caller]
    pub fn linear<T: AffineTensor>(&self, weight: &Tensor, bias: Option<T>) -> Traced {
        let at = Location::caller();
        let given = bias.as_ref().and_then(AffineTensor::real);
        let product = match weight.f_tr() {
            Ok(weight) => self.on_flow(at, |cx, flow| by_matrix(cx, flow, &weight)),
            Err(cause) => {
                pass::record(at, |cx| -> Result<()> { Err(crate::Error::torch(cx.path())(cause)) });
                Traced::failed()
            }
        };
        match bias {
            Some(bias) => product.on_flow(at, |cx, flow| {
                lift::joined(cx, "linear", flow, &real(cx, "linear", &bias)?, Join::Shift)
            }),
            None => product,
        }
        .called("linear", arguments![self, weight, given.as_ref()])
    }

    /// Attention: `softmax(query · keyᵀ · scale) · value`.
    #[track_caller]
    #[allow(clippy::too_many_arguments)]
    pub fn scaled_dot_product_attention<T: Operand>(
        query: &Traced,
        key: &Traced,
        value: &Traced,
        attn_mask: Option<T>,
        _dropout_p: f64,
        is_causal: bool,
        scale: impl Into<Option<f64>>,
        enable_gqa: bool,
    ) -> Traced {
        let repeated = |heads: &Traced| match (&query.size()[..], &heads.size()[..]) {
            ([.., all, _, _], [.., own, _, _]) if enable_gqa && *own > 0 => {
                heads.repeat_interleave_self_int(all / own, -3, None)
            }
            _ => heads.shallow_clone(),
        };
        let (key, value) = (repeated(key), repeated(value));
        let scores = query.matmul(key.transpose(-2, -1));
        let scores = match scale.into() {
            Some(scale) => scores.g_mul_scalar(scale),
            None => scores.scaled_by_width(query),
        };
        let scores = match is_causal {
            true => scores.same("causal").called("causal", arguments![&scores]),
            false => scores,
        };
        // A mask leaves no zeros where a head is removed, whether it hides elements or is added.
        let scores = match attn_mask {
            Some(mask) => {
                let (one, given) = (OneCall::begin(), mask.argument());
                let masked = scores.g_add(mask);
                drop(one);
                masked.called("attention_mask", arguments![&scores, given])
            }
            None => scores,
        };
        scores.softmax(-1, None).matmul(&value)
    }

    /// Divides by the square root of the last dimension of `query`. Channels in that dimension are
    /// held, because its size must not change.
    #[track_caller]
    fn scaled_by_width(&self, query: &Traced) -> Traced {
        let scores = self.shallow_clone();
        query.on_shape(Location::caller(), |cx, query, shape| {
            if shape.dims().last().is_some_and(|dim| holds_channels(dim)) {
                let reason = cx.mixed("`scaled_dot_product_attention` divides by the root of their number; give it a `scale`");
                cx.hold_ids(Rc::clone(&query.ids), reason);
            }
            Ok(query.clone())
        });
        scores
            .same("scaled_dot_product_attention")
            .called("scaled_by_width", arguments![&scores, query])
    }

    /// The sum of products that `equation` states, if it is a matrix product of two tensors.
    #[track_caller]
    pub fn einsum<T: Borrow<Traced>>(
        equation: &str,
        tensors: &[T],
        _path: impl IntsOption,
    ) -> Traced {
        let at = Location::caller();
        let plain = equation.replace(' ', "");
        let parsed = plain.split_once("->").and_then(|(left, result)| {
            let (a, b) = left.split_once(',')?;
            Some((a.chars().collect::<Vec<_>>(), b.chars().collect::<Vec<_>>(), result.to_owned()))
        });
        if let (Some((a, b, result)), [x, y]) = (parsed, tensors)
            && let ([batch_a @ .., i, j], [batch_b @ .., k, l]) = (&a[..], &b[..])
            && batch_a == batch_b
        {
            let batch: String = batch_a.iter().collect();
            let (x, y) = (x.borrow(), y.borrow());
            let is = |rows: &char, columns: &char| result == format!("{batch}{rows}{columns}");
            if j == k && is(i, l) {
                return x.matmul(y);
            }
            if j == l && is(i, k) {
                return x.matmul(y.transpose(-2, -1));
            }
            if i == k && is(j, l) {
                return x.transpose(-2, -1).matmul(y);
            }
        }
        pass::record(at, |cx| -> Result<()> {
            Err(refused(
                cx,
                format!(
                    "`einsum` of `{equation}` is not understood; write it as `matmul` of two tensors with `transpose` and `view`"
                ),
            ))
        });
        Traced::failed()
    }
}
