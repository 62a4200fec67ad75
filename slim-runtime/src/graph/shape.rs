//! Shapes: how the dimensions of a tensor hold its channels.
//!
//! A dimension is a product of factors, outermost first: `[N, C·H·W]` behind a flatten,
//! `[N, T, heads, dim]` in attention. The channels of a value are numbered row-major over the
//! channel factors of all dimensions, so a view keeps their order, and only a permutation changes
//! it.

use std::collections::VecDeque;
use std::rc::Rc;

use smallvec::{SmallVec, smallvec};

/// A factor of a dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factor {
    /// So many channels, or a digit of their number.
    Channels {
        count: usize,
        /// The count is a number that `forward` writes out, such as the number of heads: it stays
        /// when channels are removed.
        literal: bool,
    },
    /// Anything else: samples, positions.
    Size {
        size: i64,
        /// It follows from a size of the input that nobody has given.
        assumed: bool,
    },
}

/// A dimension: the product of its factors. Most have one, and are made and copied by each
/// operation, so that they are no memory of their own.
pub(crate) type Dim = SmallVec<[Factor; 2]>;

/// The dimensions of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape(pub(crate) Rc<[Dim]>);

impl Factor {
    /// Channels, whose number follows the network's widths. A single one always stays.
    pub(crate) const fn channels(count: usize) -> Self {
        Factor::Channels { count, literal: count == 1 }
    }

    pub(crate) const fn exact(size: i64) -> Self {
        Factor::Size { size, assumed: false }
    }

    /// The size that `forward` is told: numbers of channels that follow the network's widths are
    /// multiplied by `scale`, so that they differ from numbers that `forward` writes out.
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

    fn is_single(self) -> bool {
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

/// A dimension in its shortest form: without ones, and neighbours of one kind joined.
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

    /// With one dimension replaced.
    pub(crate) fn with(&self, index: usize, dim: Dim) -> Self {
        let mut dims: Vec<_> = self.0.to_vec();
        dims[index] = canonical(dim);
        Shape(dims.into())
    }

    /// Without one dimension.
    pub(crate) fn without(&self, index: usize) -> Self {
        let mut dims: Vec<_> = self.0.to_vec();
        dims.remove(index);
        Shape(dims.into())
    }

    /// The position of a dimension that may be counted from the end; `None` if there is none.
    pub(crate) fn index(&self, dim: i64) -> Option<usize> {
        let rank = self.rank() as i64;
        (-rank..rank).contains(&dim).then(|| dim.rem_euclid(rank.max(1)) as usize)
    }

    /// The channel factors of all dimensions: the dimension and the count of each.
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

    /// The sizes of what is no channel, but those that `forward` has made of a number of channels.
    pub(crate) fn other_sizes(&self) -> impl Iterator<Item = i64> {
        self.0.iter().flatten().filter_map(|factor| match factor {
            Factor::Size { size, .. } => Some(*size),
            Factor::Channels { .. } => None,
        })
    }

    /// Sizes as `forward` is told them.
    pub(crate) fn answers(&self, scale: i64) -> Vec<i64> {
        self.0.iter().map(|dim| answer(dim, scale)).collect()
    }

    /// `[N, 64, 56, 56]`, for error messages.
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

/// The same dimensions, those from `first` on of other sizes; `None` where `resize` returns none.
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

/// The position of each channel in a new order of the digits that count channels. `order` names the
/// old digits in the new order.
pub(crate) fn reordered(counts: &[usize], order: &[usize]) -> Vec<usize> {
    let strides: Vec<usize> =
        (0..counts.len()).map(|digit| counts[digit + 1..].iter().product()).collect();
    order.iter().fold(vec![0], |positions, &digit| {
        let (count, stride) = (counts[digit], strides[digit]);
        let digits = |base: usize| (0..count).map(move |value| base + value * stride);
        positions.into_iter().flat_map(digits).collect()
    })
}

/// The positions of the channels whose digit has one of these values, in this order of values.
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

/// How a view cuts one channel factor into two: which of the channels become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The digit that is cut, among the channel factors of the tensor before.
    digit: usize,
    inner: usize,
    outer_is_literal: bool,
}

impl Cut {
    /// For each channel, the first of those that must stay or go together with it, since one part
    /// of the cut stays as it is.
    pub(crate) fn representatives(&self, counts: &[usize]) -> Vec<usize> {
        let width: usize = counts[self.digit + 1..].iter().product();
        let total: usize = counts.iter().product();
        let representative = |position: usize| {
            let value = position / width % counts[self.digit];
            let kept =
                if self.outer_is_literal { value % self.inner } else { value - value % self.inner };
            position - value * width + kept * width
        };
        (0..total).map(representative).collect()
    }
}

/// What a run has decided of numbers that `forward` gives, in the order in which it gives them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions {
    /// Whether numbers that cut a range of channels follow them.
    follow: VecDeque<bool>,
    /// The views.
    views: VecDeque<View>,
}

/// What is decided of numbers that `forward` gives: by what they are multiples of, or as in an
/// earlier run.
#[derive(Debug, Default)]
pub(crate) struct Decider {
    /// An earlier run, where numbers of channels were scaled: its decisions hold for a run where
    /// they are not.
    known: Option<Decisions>,
    pub(crate) made: Decisions,
    /// Whether the network has been slimmed, so that what follows the channels may be a single one.
    pub(crate) is_slimmed: bool,
}

impl Decider {
    pub(crate) fn new(known: Option<Decisions>, is_slimmed: bool) -> Self {
        Self { known, made: Decisions::default(), is_slimmed }
    }

    /// Whether numbers follow the channels: they do where they are multiples of the scale.
    pub(crate) fn multiples(&mut self, numbers: &[i64], scale: i64) -> bool {
        let known = self.known.as_mut().and_then(|known| known.follow.pop_front());
        let multiples = || scale > 1 && numbers.iter().all(|number| number % scale == 0);
        let follows = known.unwrap_or_else(multiples);
        self.made.follow.push_back(follows);
        follows
    }

    /// A tensor seen as dimensions of these sizes, one of which may be -1.
    pub(crate) fn view(
        &mut self,
        shape: &Shape,
        sizes: &[i64],
        scale: i64,
    ) -> Result<View, Misfit> {
        let known = self.known.as_mut().and_then(|known| known.views.pop_front());
        // A number that has become one cuts nothing off, so what it meant is remembered.
        let view = match known.filter(|known| known.shape.rank() == sizes.len()) {
            Some(known) => known.resized(shape, sizes),
            None => view(shape, sizes, scale, self.is_slimmed)?,
        };
        self.made.views.push_back(view.clone());
        Ok(view)
    }
}

/// For each channel, the one at the same position of the first part of this size.
pub(crate) fn same_position(counts: &[usize], digit: usize, part: usize) -> Vec<usize> {
    let inner: usize = counts[digit + 1..].iter().product();
    let total: usize = counts.iter().product();
    let representative = |position: usize| {
        let value = position / inner % counts[digit];
        position - value * inner + value % part * inner
    };
    (0..total).map(representative).collect()
}

/// A view: the new dimensions, and where it cuts channel factors.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) shape: Shape,
    pub(crate) cuts: Vec<Cut>,
}

impl View {
    /// The view of a run that was told other numbers of channels: its channels, and the sizes of
    /// this run.
    fn resized(self, shape: &Shape, sizes: &[i64]) -> View {
        let total = size(&shape.dims().concat());
        let named = |(index, dim): (usize, &Dim)| match sizes[index] {
            -1 => 1,
            _ if holds_channels(dim) => size(dim),
            named => named,
        };
        let others: i64 = self.shape.dims().iter().enumerate().map(named).product();
        let dims = self.shape.dims().iter().zip(sizes).map(|(dim, &named)| {
            let here = if named == -1 { total / others.max(1) } else { named };
            match holds_channels(dim) {
                true => dim.clone(),
                false => smallvec![Factor::Size { size: here, assumed: is_assumed(dim) }],
            }
        });
        View { shape: Shape::new(dims.collect::<Vec<_>>()), cuts: self.cuts }
    }
}

/// Why a view is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The numbers do not multiply to the tensor's size.
    Size,
    /// A number of channels that is written out would be wrong once some are gone.
    Literal,
}

/// The dimensions of a tensor seen as dimensions of these sizes, one of which may be -1.
///
/// A number that cuts a channel factor follows the channels if it is a multiple of the scale, else
/// it is written out.
fn view(shape: &Shape, sizes: &[i64], scale: i64, is_slimmed: bool) -> Result<View, Misfit> {
    let mut digit = 0;
    let mut factors: Vec<(Factor, Option<usize>)> = Vec::new();
    for factor in shape.dims().iter().flatten() {
        let own = factor.is_channels().then_some(digit);
        digit += usize::from(factor.is_channels());
        factors.push((*factor, own));
    }
    let mut cuts = Vec::new();
    let hole = sizes.iter().position(|&size| size == -1).unwrap_or(sizes.len());
    let (mut front, mut back) = (Vec::new(), Vec::new());
    for &size in &sizes[..hole] {
        front.push(take(&mut factors, size, scale, true, &mut cuts, is_slimmed)?);
    }
    for &size in sizes.get(hole + 1..).unwrap_or_default().iter().rev() {
        back.push(take(&mut factors, size, scale, false, &mut cuts, is_slimmed)?);
    }
    let rest: Dim = factors.into_iter().map(|(factor, _)| factor).collect();
    if hole < sizes.len() {
        front.push(rest);
    } else if answer(&rest, scale) != 1 {
        return Err(Misfit::Size);
    }
    back.reverse();
    front.append(&mut back);
    Ok(View { shape: Shape::new(front), cuts })
}

/// Takes factors whose product is `size` from the front or from the back, and cuts one where that
/// is needed.
fn take(
    factors: &mut Vec<(Factor, Option<usize>)>,
    size: i64,
    scale: i64,
    from_front: bool,
    cuts: &mut Vec<Cut>,
    is_slimmed: bool,
) -> Result<Dim, Misfit> {
    if size < 1 {
        return Err(Misfit::Size);
    }
    let (mut left, mut taken) = (size, Dim::new());
    let next = |factors: &[_]| if from_front { 0 } else { factors.len().saturating_sub(1) };
    // A single channel is a dimension of one.
    if size == 1 && factors.get(next(factors)).is_some_and(|&(factor, _)| factor.is_single()) {
        taken.push(factors.remove(next(factors)).0);
    }
    while left > 1 {
        let at = next(factors);
        let &(factor, digit) = factors.get(at).ok_or(Misfit::Size)?;
        let value = factor.answer(scale);
        if left % value == 0 {
            left /= value;
            factors.remove(at);
            taken.push(factor);
            continue;
        }
        if value % left != 0 {
            // The number fits the network as it is, but not one of another width.
            let fits = factor.is_channels() && factor.size() % left == 0;
            return Err(if fits { Misfit::Literal } else { Misfit::Size });
        }
        let (part, rest) = match factor {
            Factor::Size { assumed, .. } => {
                (Factor::Size { size: left, assumed }, Factor::Size { size: value / left, assumed })
            }
            Factor::Channels { count, literal: true } => {
                let part = left as usize;
                let literal = true;
                (
                    Factor::Channels { count: part, literal },
                    Factor::Channels { count: count / part, literal },
                )
            }
            Factor::Channels { count, literal: false } => {
                let follows = scale > 1 && left % scale == 0;
                let part = if follows { left / scale } else { left } as usize;
                if part == 0 || !count.is_multiple_of(part) {
                    return Err(Misfit::Literal);
                }
                let rest = count / part;
                // One of the two follows the channels. If that is a single channel, the other is
                // the width, written out.
                if !is_slimmed && (if follows { part } else { rest }) == 1 && count > 1 {
                    return Err(Misfit::Literal);
                }
                let inner = if from_front { rest } else { part };
                let outer_is_literal = from_front != follows;
                if let Some(digit) = digit {
                    cuts.push(Cut { digit, inner, outer_is_literal });
                }
                (
                    Factor::Channels { count: part, literal: !follows },
                    Factor::Channels { count: rest, literal: follows },
                )
            }
        };
        taken.push(part);
        factors[at].0 = rest;
        left = 1;
    }
    if !from_front {
        taken.reverse();
    }
    Ok(taken)
}

/// The number of positions behind a window that slides over `size` positions (libtorch's formula
/// for convolutions and pools); `None` if the window does not fit.
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
    // The last window starts inside of the image or of the padding on its left.
    if ceil_mode && (out - 1) * stride >= size + padding {
        out -= 1;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: i64 = 10_007;

    fn image(channels: usize) -> Shape {
        let size = |size| smallvec![Factor::Size { size, assumed: true }];
        Shape::new([size(2), smallvec![Factor::channels(channels)], size(6), size(5)])
    }

    #[test]
    fn a_number_that_follows_the_channels_is_told_from_one_that_is_written_out() {
        let view = |sizes: &[i64]| view(&image(8), sizes, SCALE, false);
        // `view([n, 2, c / 2, h, w])`: two parts, whose channels at one position are one.
        let halves = view(&[2, 2, 4 * SCALE, 6, 5]).unwrap_or_else(|_| panic!("fits"));
        assert_eq!(halves.shape.digits(), [(1, 2), (2, 4)]);
        assert_eq!(halves.cuts[0].representatives(&[8]), [0, 1, 2, 3, 0, 1, 2, 3]);
        // `view([n, c / 2, 2, h, w])`: pairs, each of which is one.
        let pairs = view(&[2, 4 * SCALE, 2, 6, 5]).unwrap_or_else(|_| panic!("fits"));
        assert_eq!(pairs.cuts[0].representatives(&[8]), [0, 0, 2, 2, 4, 4, 6, 6]);
        // `view([-1, 2, h, w])` cuts from the back.
        let back = view(&[-1, 2, 6, 5]).unwrap_or_else(|_| panic!("fits"));
        assert_eq!(back.shape.answers(SCALE), [2 * 4 * SCALE, 2, 6, 5]);
        assert_eq!(back.cuts[0].representatives(&[8]), [0, 0, 2, 2, 4, 4, 6, 6]);
        // The width itself, or all of a cut, written out.
        assert_eq!(view(&[2, 8, 6, 5]).err(), Some(Misfit::Literal));
        assert_eq!(view(&[2, 2, 4, 6, 5]).err(), Some(Misfit::Literal));
        assert_eq!(view(&[2, 3, -1]).err(), Some(Misfit::Size));
    }

    #[test]
    fn a_flatten_keeps_factors_and_a_permutation_reorders_digits() {
        let flat = view(&image(8), &[2, -1], SCALE, false).unwrap_or_else(|_| panic!("fits"));
        assert_eq!(flat.shape.dims()[1][0], Factor::channels(8));
        assert_eq!(size(&flat.shape.dims()[1]), 240);
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
