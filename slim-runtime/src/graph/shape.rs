//! Shapes: how the dimensions of a tensor hold its channels.
//!
//! A dimension is a product of factors, outermost first: `[N, C·H·W]` behind a flatten,
//! `[N, T, heads, dim]` in attention. The channels of a value are numbered row-major over the
//! channel factors of all dimensions, so a view keeps their order, and only a permutation changes
//! it. Each channel factor is a digit of the channel number.

use std::rc::Rc;

use smallvec::{SmallVec, smallvec};

/// A factor of a dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factor {
    /// This many channels, or one digit of the channel number.
    Channels {
        count: usize,
        /// Whether the count is a number that `forward` writes out, such as the number of heads: it
        /// stays when channels are removed.
        literal: bool,
    },
    /// Any other size: samples, positions.
    Size {
        size: i64,
        /// Whether the size follows from a size of the input that is not given.
        assumed: bool,
    },
}

/// A dimension: the product of its factors. Most dimensions have one factor, and every operation
/// copies them, so they are stored without an allocation.
pub(crate) type Dim = SmallVec<[Factor; 2]>;

/// The dimensions of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape(pub(crate) Rc<[Dim]>);

impl Factor {
    /// A number of channels that follows the network's widths. A single channel always stays.
    pub(crate) const fn channels(count: usize) -> Self {
        Factor::Channels { count, literal: count == 1 }
    }

    pub(crate) const fn exact(size: i64) -> Self {
        Factor::Size { size, assumed: false }
    }

    /// The size that `forward` is told. Numbers of channels that follow the network's widths are
    /// multiplied by `scale`, so that they differ from literals in `forward`.
    pub(crate) fn answer(self, scale: i64) -> i64 {
        match self {
            Factor::Channels { count, literal: true } => count as i64,
            Factor::Channels { count, literal: false } => (count as i64).saturating_mul(scale),
            Factor::Size { size, .. } => size,
        }
    }

    /// The size in the network.
    pub(crate) fn size(self) -> i64 {
        self.answer(1)
    }

    pub(crate) fn is_channels(self) -> bool {
        matches!(self, Factor::Channels { .. })
    }

    pub(super) fn is_single(self) -> bool {
        matches!(self, Factor::Channels { count: 1, .. })
    }

    fn is_assumed(self) -> bool {
        matches!(self, Factor::Size { assumed: true, .. })
    }
}

/// The size of a dimension that `forward` is told.
pub(crate) fn answer(dim: &[Factor], scale: i64) -> i64 {
    dim.iter().map(|factor| factor.answer(scale)).fold(1, i64::saturating_mul)
}

/// The size of a dimension in the network.
pub(crate) fn size(dim: &[Factor]) -> i64 {
    answer(dim, 1)
}

pub(crate) fn holds_channels(dim: &[Factor]) -> bool {
    dim.iter().any(|factor| factor.is_channels())
}

pub(crate) fn is_assumed(dim: &[Factor]) -> bool {
    dim.iter().any(|factor| factor.is_assumed())
}

/// A dimension in its shortest form: without factors of one, and with adjacent factors of one kind
/// joined.
pub(crate) fn canonical(dim: impl IntoIterator<Item = Factor>) -> Dim {
    let mut joined = Dim::new();
    for factor in dim {
        let merged = match (joined.last().copied(), factor) {
            (_, Factor::Size { size: 1, .. }) => continue,
            (
                Some(Factor::Channels { count: a, literal: x }),
                Factor::Channels { count: b, literal: y },
            ) => Some(Factor::Channels { count: a.saturating_mul(b), literal: x && y }),
            (Some(Factor::Size { size: a, assumed: x }), Factor::Size { size: b, assumed: y }) => {
                Some(Factor::Size { size: a.saturating_mul(b), assumed: x || y })
            }
            _ => None,
        };
        match merged {
            Some(factor) => {
                joined.pop();
                joined.push(factor);
            }
            None => joined.push(factor),
        }
    }
    joined
}

impl Shape {
    pub(crate) fn new(dims: impl IntoIterator<Item = Dim>) -> Self {
        Shape(dims.into_iter().map(canonical).collect())
    }

    pub(crate) fn rank(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// The shape with one dimension replaced.
    pub(crate) fn with(&self, index: usize, dim: Dim) -> Self {
        let mut dims: Vec<_> = self.0.to_vec();
        dims[index] = canonical(dim);
        Shape(dims.into())
    }

    /// The shape without one dimension.
    pub(crate) fn without(&self, index: usize) -> Self {
        let mut dims: Vec<_> = self.0.to_vec();
        dims.remove(index);
        Shape(dims.into())
    }

    /// The index of a dimension that may be counted from the end; `None` if there is no such
    /// dimension.
    pub(crate) fn index(&self, dim: i64) -> Option<usize> {
        let rank = self.rank() as i64;
        (-rank..rank).contains(&dim).then(|| dim.rem_euclid(rank.max(1)) as usize)
    }

    /// The channel factors of all dimensions, as pairs of dimension and count.
    pub(crate) fn digits(&self) -> Vec<(usize, usize)> {
        let of = |(index, dim): (usize, &Dim)| {
            let counts = dim.iter().filter_map(|factor| match factor {
                Factor::Channels { count, .. } => Some(*count),
                Factor::Size { .. } => None,
            });
            counts.map(move |count| (index, count)).collect::<Vec<_>>()
        };
        self.0.iter().enumerate().flat_map(of).collect()
    }

    /// The dimension that holds all channels and nothing else, if there is one.
    pub(crate) fn channel_dim(&self) -> Option<usize> {
        match self.digits()[..] {
            [(dim, _)] if self.0[dim].len() == 1 => Some(dim),
            _ => None,
        }
    }

    /// The sizes that are not numbers of channels.
    pub(crate) fn other_sizes(&self) -> impl Iterator<Item = i64> {
        self.0.iter().flatten().filter_map(|factor| match factor {
            Factor::Size { size, .. } => Some(*size),
            Factor::Channels { .. } => None,
        })
    }

    /// The sizes that `forward` is told.
    pub(crate) fn answers(&self, scale: i64) -> Vec<i64> {
        self.0.iter().map(|dim| answer(dim, scale)).collect()
    }

    /// The shape in error messages: `[N, 64, 56, 56]`.
    pub(crate) fn describe(&self) -> String {
        let factor = |factor: &Factor| match factor {
            Factor::Channels { count, .. } => format!("{count} channels"),
            Factor::Size { assumed: true, .. } => "?".to_owned(),
            Factor::Size { size, .. } => size.to_string(),
        };
        let dim = |dim: &Dim| match &dim[..] {
            [] => "1".to_owned(),
            factors => factors.iter().map(factor).collect::<Vec<_>>().join(" · "),
        };
        format!("[{}]", self.0.iter().map(dim).collect::<Vec<_>>().join(", "))
    }
}

/// The shape with other sizes for the dimensions from `first` on; `None` where `resize` returns
/// `None`.
pub(crate) fn resized(
    shape: &Shape,
    first: usize,
    resize: impl Fn(usize, i64) -> Option<i64>,
) -> Option<Shape> {
    let dims = shape.dims().iter().enumerate().map(|(i, dim)| {
        let Some(position) = i.checked_sub(first) else { return Some(dim.clone()) };
        let size = resize(position, size(dim)).filter(|&size| size > 0)?;
        Some(smallvec![Factor::Size { size, assumed: is_assumed(dim) }])
    });
    Some(Shape::new(dims.collect::<Option<Vec<_>>>()?))
}

/// The old position of each channel after the digits of the channel number are reordered. `order`
/// names the old digits in the new order.
pub(crate) fn reordered(counts: &[usize], order: &[usize]) -> Vec<usize> {
    let strides: Vec<usize> =
        (0..counts.len()).map(|digit| counts[digit + 1..].iter().product()).collect();
    order.iter().fold(vec![0], |positions, &digit| {
        let (count, stride) = (counts[digit], strides[digit]);
        let digits = |base: usize| (0..count).map(move |value| base + value * stride);
        positions.into_iter().flat_map(digits).collect()
    })
}

/// The positions of the channels whose digit has one of these values, in the order of `values`.
pub(crate) fn with_digit(counts: &[usize], digit: usize, values: &[usize]) -> Vec<usize> {
    let inner: usize = counts[digit + 1..].iter().product();
    let outer: usize = counts[..digit].iter().product();
    let block = counts[digit] * inner;
    let within = |outer: usize| {
        values
            .iter()
            .flat_map(move |value| (0..inner).map(move |at| outer * block + value * inner + at))
    };
    (0..outer).flat_map(within).collect()
}

/// For each channel, the channel at the same position of the first of several equal parts, where a
/// part has `part` values of the digit.
pub(crate) fn same_position(counts: &[usize], digit: usize, part: usize) -> Vec<usize> {
    let inner: usize = counts[digit + 1..].iter().product();
    let total: usize = counts.iter().product();
    let representative = |position: usize| {
        let value = position / inner % counts[digit];
        position - value * inner + value % part * inner
    };
    (0..total).map(representative).collect()
}

/// The number of positions after a window slides over `size` positions (libtorch's formula for
/// convolutions and pools); `None` if the window does not fit.
pub(crate) fn slid(
    size: i64,
    [kernel, stride, padding, dilation]: [i64; 4],
    ceil_mode: bool,
) -> Option<i64> {
    let stride = stride.clamp(1, 1 << 40);
    let span = size
        .checked_add(padding.checked_mul(2)?)?
        .checked_sub(dilation.checked_mul(kernel.checked_sub(1)?)?)?
        - 1;
    if span < 0 {
        return None;
    }
    let mut out = if ceil_mode { (span + stride - 1) / stride } else { span / stride } + 1;
    // The last window must start inside the image or its left padding.
    if ceil_mode && (out - 1) * stride >= size + padding {
        out -= 1;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_reorders_digits() {
        assert_eq!(reordered(&[2, 3], &[1, 0]), [0, 3, 1, 4, 2, 5]);
        assert_eq!(with_digit(&[2, 3], 1, &[2, 0]), [2, 0, 5, 3]);
        assert_eq!(same_position(&[2, 4], 1, 2), [0, 1, 0, 1, 4, 5, 4, 5]);
    }

    #[test]
    fn windows_slide_as_libtorchs() {
        use tch::{Tensor, kind::FLOAT_CPU};
        for size in 3..20 {
            for (kernel, stride, padding, dilation) in
                [(3, 2, 1, 1), (2, 2, 0, 1), (3, 3, 1, 2), (1, 2, 0, 1), (3, 2, 0, 1)]
            {
                for ceil in [false, true] {
                    let xs = Tensor::zeros([1, 1, size], FLOAT_CPU);
                    let pooled = xs.f_max_pool1d(kernel, stride, padding, dilation, ceil);
                    let expected = pooled.ok().map(|ys| ys.size()[2]);
                    let found = slid(size, [kernel, stride, padding, dilation], ceil);
                    assert_eq!(
                        found, expected,
                        "{size} {kernel} {stride} {padding} {dilation} {ceil}"
                    );
                }
            }
        }
    }
}
