//! Batch dimensions of matrix products: which heads of one tensor meet which of the other. In
//! grouped-query attention several heads of the query read one head of key and value.

use std::rc::Rc;

use crate::graph::shape::{Dim, Factor, Shape, answer, holds_channels, is_assumed, size};
use crate::graph::{Form, Operator, Tracer, Value};

/// A value whose batch dimensions hold the channels that those of the other factor hold.
pub(super) struct Spread {
    pub(super) value: Value,
    pub(super) shape: Shape,
    /// Whether heads that can be removed one by one all read the same channels of this value, which
    /// are held.
    pub(super) is_shared: bool,
}

/// Repeats the channels of a value over the batch dimensions in which the other factor has heads
/// and it has one, or copies. `None` if the heads of the two are not laid out alike.
pub(super) fn spread(
    cx: &mut Tracer,
    name: &'static str,
    value: &Value,
    shape: &Shape,
    other: &Shape,
) -> Option<Spread> {
    let scale = cx.probe.scale;
    let (mut shape, mut is_shared) = (shape.clone(), false);
    let mut copies: Option<Vec<usize>> = None;
    for from_end in 3..=shape.rank().min(other.rank()) {
        let dim = shape.rank() - from_end;
        let theirs = &other.dims()[other.rank() - from_end];
        let own = shape.dims()[dim].clone();
        if count(theirs) == 1 || count(&own) > 1 && !has_sizes(&own) {
            continue;
        }
        let fits = !has_sizes(&own) || answer(&own, scale) == answer(theirs, scale);
        let factors = match &theirs[..] {
            _ if holds_channels(&own) && has_sizes(&own) => own,
            &[Factor::Channels { literal, .. }] if fits => {
                is_shared |= !literal;
                theirs.clone()
            }
            _ => return None,
        };
        let (positions, repeated) = repeated(cx, name, &shape, dim, factors)?;
        copies = Some(match copies {
            Some(before) => positions.into_iter().map(|at| before[at]).collect(),
            None => positions,
        });
        shape = repeated;
        if count(&shape.dims()[dim]) != count(theirs) && !has_sizes(theirs) {
            return None;
        }
    }
    let value = match copies {
        // The value has as many channels however many heads read them.
        _ if is_shared => {
            let reason = cx.mixed(&format!("`{name}` gives them to all heads"));
            cx.hold_ids(Rc::clone(&value.ids), reason);
            value.clone()
        }
        Some(copies) => {
            let form = Form::Dims(shape.clone());
            cx.operate(Operator::select(name, copies), &[value], form)
        }
        None => value.clone(),
    };
    Some(Spread { value, shape, is_shared })
}

impl Spread {
    /// The value as it is.
    pub(super) fn whole(value: Value, shape: Shape) -> Self {
        Spread { value, shape, is_shared: false }
    }
}

/// A shape with `factors` in dimension `dim`, all of which hold channels: those that did not repeat
/// the channels of the others. For each channel, its position among those before.
fn repeated(
    cx: &Tracer,
    name: &'static str,
    shape: &Shape,
    dim: usize,
    factors: Dim,
) -> Option<(Vec<usize>, Shape)> {
    let inside: usize = shape.dims()[dim + 1..].iter().map(count).product();
    let whole_before: usize = shape.dims()[..dim].iter().map(count).product();
    // The positions in the value of the channels of this dimension, factor after factor.
    let mut positions = vec![0];
    let mut stride = count(&shape.dims()[dim]);
    let mut channels = Dim::new();
    for &factor in &factors {
        let (size, is_copied) = match factor {
            Factor::Channels { count, .. } => (count, stride == 1),
            Factor::Size { size, .. } => (usize::try_from(size).ok()?, true),
        };
        cx.count(name, size.saturating_mul(positions.len()).saturating_mul(inside) as i64).ok()?;
        if !is_copied {
            stride /= size;
        }
        let step = if is_copied { 0 } else { stride };
        positions = positions
            .iter()
            .flat_map(|&at| (0..size).map(move |index| at + index * step))
            .collect();
        let literal = !matches!(factor, Factor::Channels { literal: false, .. });
        channels.push(Factor::Channels { count: size, literal });
    }
    let block = count(&shape.dims()[dim]) * inside;
    let select = (0..whole_before).flat_map(|before| {
        positions
            .iter()
            .flat_map(move |&at| (0..inside).map(move |i| before * block + at * inside + i))
    });
    Some((select.collect(), shape.with(dim, channels)))
}

/// Whether the batch dimensions of two factors fit each other.
pub(super) enum Meeting {
    /// They do, whatever is removed.
    Fits,
    /// They do as long as no channels are removed: a size is written out, or is the input's, where
    /// the other factor has channels.
    Literal,
    Differs,
}

/// How the batch dimensions of two factors that were spread meet.
pub(super) fn meeting(cx: &mut Tracer, left: &Shape, right: &Shape) -> Meeting {
    let batch = |shape: &Shape| shape.dims()[..shape.rank() - 2].iter().rev().cloned().collect();
    let (left, right): (Vec<Dim>, Vec<Dim>) = (batch(left), batch(right));
    let scale = cx.probe.scale;
    let fit = |(a, b): (&Dim, &Dim)| {
        let [one, other] = [answer(a, scale), answer(b, scale)];
        one == other || one == 1 || other == 1
    };
    let literal = |(a, b): (&Dim, &Dim)| {
        holds_channels(a) != holds_channels(b)
            && (size(a) == size(b) || is_assumed(a) || is_assumed(b))
    };
    let is_unknown = |(a, b): (&Dim, &Dim)| is_assumed(a) || is_assumed(b);
    let mut meeting = Meeting::Fits;
    for pair in left.iter().zip(&right) {
        // A run with the true numbers of channels cannot tell the literal.
        if (holds_channels(pair.0) || holds_channels(pair.1))
            && cx.decider.decided(|| !fit(pair) && literal(pair))
        {
            meeting = Meeting::Literal;
        } else if !fit(pair) && !is_unknown(pair) {
            return Meeting::Differs;
        }
    }
    meeting
}

/// The batch dimensions of the product of two factors that were spread.
pub(super) fn batch(left: &Shape, right: &Shape) -> Vec<Dim> {
    let (longer, shorter) = if left.rank() >= right.rank() { (left, right) } else { (right, left) };
    let more = longer.rank() - shorter.rank();
    let dims = longer.dims()[..longer.rank() - 2].iter().enumerate();
    dims.map(|(at, dim)| {
        let other = at.checked_sub(more).map(|at| &shorter.dims()[at]);
        match other {
            Some(other) if dim.is_empty() || holds_channels(other) && !holds_channels(dim) => {
                other.clone()
            }
            _ => dim.clone(),
        }
    })
    .collect()
}

fn has_sizes(dim: &Dim) -> bool {
    dim.iter().any(|factor| !factor.is_channels())
}

/// The number of channels in a dimension.
fn count(dim: &Dim) -> usize {
    let counts = dim.iter().map(|factor| match factor {
        Factor::Channels { count, .. } => *count,
        Factor::Size { .. } => 1,
    });
    counts.product()
}

/// The number of channels in each dimension that has several, counted from the end.
pub(super) fn channel_dims(shape: &Shape) -> Vec<(usize, usize)> {
    let dims = shape.dims().iter().enumerate();
    dims.map(|(at, dim)| (shape.rank() - at, count(dim))).filter(|&(_, count)| count > 1).collect()
}
