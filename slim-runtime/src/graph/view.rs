//! Views: which factors of a shape become which dimensions, and how a run understood the numbers of
//! a `forward`.

use std::collections::VecDeque;

use smallvec::smallvec;

use super::shape::{Dim, Factor, Shape, answer, holds_channels, is_assumed, size};

/// A view's cut of one channel factor into two: it decides which channels stay or go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The digit that is cut, among the channel factors of the tensor before the view.
    digit: usize,
    inner: usize,
    outer_is_literal: bool,
}

impl Cut {
    /// For each channel, the first channel of those that stay or go together with it, because one
    /// factor of the cut keeps its size.
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

/// How a run understood the numbers that `forward` passed to operations, in the order of the calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions {
    /// For numbers that cut a range of channels, whether they follow the channels; for a size that
    /// meets channels, whether it is written out.
    answers: VecDeque<bool>,
    /// The views with their dimensions and cuts.
    views: VecDeque<View>,
}

/// Decides how to understand numbers that `forward` passes to operations: by the factors that
/// divide them, or as in an earlier run.
#[derive(Debug, Default)]
pub(crate) struct Decider {
    /// The decisions of an earlier run, in which numbers of channels were scaled. They hold for a
    /// run without the scale.
    known: Option<Decisions>,
    pub(crate) made: Decisions,
    /// Whether the network has just been slimmed, so that a factor that follows the channels may be
    /// one.
    pub(crate) is_slimmed: bool,
}

impl Decider {
    pub(crate) fn new(known: Option<Decisions>, is_slimmed: bool) -> Self {
        Self { known, made: Decisions::default(), is_slimmed }
    }

    /// Whether numbers follow the channels: they do if they are multiples of the scale.
    pub(crate) fn multiples(&mut self, numbers: &[i64], scale: i64) -> bool {
        self.decided(|| scale > 1 && numbers.iter().all(|number| number % scale == 0))
    }

    /// The answer of the earlier run to the same question, or that of `decide`.
    pub(crate) fn decided(&mut self, decide: impl FnOnce() -> bool) -> bool {
        let known = self.known.as_mut().and_then(|known| known.answers.pop_front());
        let answer = known.unwrap_or_else(decide);
        self.made.answers.push_back(answer);
        answer
    }

    /// Views a tensor as dimensions of these sizes, one of which may be -1.
    pub(crate) fn view(
        &mut self,
        shape: &Shape,
        sizes: &[i64],
        scale: i64,
    ) -> Result<View, Misfit> {
        let known = self.known.as_mut().and_then(|known| known.views.pop_front());
        // A size that has become one cuts nothing off, so its meaning comes from the earlier run.
        let view = match known.filter(|known| known.shape.rank() == sizes.len()) {
            Some(known) => known.resized(shape, sizes),
            None => view(shape, sizes, scale, self.is_slimmed)?,
        };
        self.made.views.push_back(view.clone());
        Ok(view)
    }
}

/// A view: the new dimensions, and its cuts of channel factors.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) shape: Shape,
    pub(crate) cuts: Vec<Cut>,
}

impl View {
    /// Adapts a view from a run with other numbers of channels: keeps its channel factors, and
    /// takes the other sizes from this run.
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
    /// The sizes do not multiply to the tensor's size.
    Size,
    /// A number of channels is a literal, which would be wrong once channels are removed.
    Literal,
}

/// Views a tensor as dimensions of these sizes, one of which may be -1.
///
/// A number that cuts a channel factor follows the channels if it is a multiple of the scale.
/// Otherwise it is a literal.
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
    // What is left of a factor may be a single channel if -1 takes it: the only head, say.
    let has_hole = hole < sizes.len();
    let may_be_one = OneChannel { taken: is_slimmed, left: is_slimmed || has_hole, has_hole };
    for &size in &sizes[..hole] {
        front.push(take(&mut factors, size, scale, true, &mut cuts, may_be_one)?);
    }
    for &size in sizes.get(hole + 1..).unwrap_or_default().iter().rev() {
        back.push(take(&mut factors, size, scale, false, &mut cuts, may_be_one)?);
    }
    let rest: Dim = factors.into_iter().map(|(factor, _)| factor).collect();
    if hole < sizes.len() {
        // Beside other factors, -1 would change these once channels are removed.
        let is_one =
            |factor: &Factor| matches!(factor, Factor::Channels { count: 1, literal: false });
        if !is_slimmed && rest.len() > 1 && rest.iter().any(is_one) && !cuts.is_empty() {
            return Err(Misfit::Literal);
        }
        front.push(rest);
    } else if answer(&rest, scale) != 1 {
        return Err(Misfit::Size);
    }
    back.reverse();
    front.append(&mut back);
    Ok(View { shape: Shape::new(front), cuts })
}

/// Whether a cut may make a factor of channels that is a single channel: the part that a size
/// takes, and what is left.
#[derive(Clone, Copy)]
struct OneChannel {
    taken: bool,
    left: bool,
    /// Whether -1 takes what no size takes.
    has_hole: bool,
}

/// Takes factors whose product is `size` from the front or from the back, and cuts a factor where
/// that is needed.
fn take(
    factors: &mut Vec<(Factor, Option<usize>)>,
    size: i64,
    scale: i64,
    from_front: bool,
    cuts: &mut Vec<Cut>,
    may_be_one: OneChannel,
) -> Result<Dim, Misfit> {
    if size < 1 {
        return Err(Misfit::Size);
    }
    let (mut left, mut taken) = (size, Dim::new());
    let next = |factors: &[_]| if from_front { 0 } else { factors.len().saturating_sub(1) };
    // A size of one takes a factor that is a single channel, unless -1 takes it: what is left of a
    // factor that another size has cut.
    let is_left = |factor| {
        let one = Factor::Channels { count: 1, literal: false };
        may_be_one.has_hole && !cuts.is_empty() && factor == one
    };
    let is_taken = |&(factor, _): &(Factor, _)| factor.is_single() && !is_left(factor);
    if size == 1 && factors.get(next(factors)).is_some_and(is_taken) {
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
            // The literal fits the current width, but would not fit another one.
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
                // One of the two factors follows the channels. If that one is a single channel, the
                // other is the whole width as a literal.
                let is_one = if follows {
                    part == 1 && !may_be_one.taken
                } else {
                    rest == 1 && !may_be_one.left
                };
                if is_one && count > 1 {
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
        // `view([n, 2, c / 2, h, w])`: two parts, whose channels at one position stay or go
        // together.
        let halves = view(&[2, 2, 4 * SCALE, 6, 5]).unwrap_or_else(|_| panic!("fits"));
        assert_eq!(halves.shape.digits(), [(1, 2), (2, 4)]);
        assert_eq!(halves.cuts[0].representatives(&[8]), [0, 1, 2, 3, 0, 1, 2, 3]);
        // `view([n, c / 2, 2, h, w])`: pairs, whose two channels stay or go together.
        let pairs = view(&[2, 4 * SCALE, 2, 6, 5]).unwrap_or_else(|_| panic!("fits"));
        assert_eq!(pairs.cuts[0].representatives(&[8]), [0, 0, 2, 2, 4, 4, 6, 6]);
        // `view([-1, 2, h, w])` cuts from the back.
        let back = view(&[-1, 2, 6, 5]).unwrap_or_else(|_| panic!("fits"));
        assert_eq!(back.shape.answers(SCALE), [2 * 4 * SCALE, 2, 6, 5]);
        assert_eq!(back.cuts[0].representatives(&[8]), [0, 0, 2, 2, 4, 4, 6, 6]);
        // The whole width, or both factors of a cut, as literals.
        assert_eq!(view(&[2, 8, 6, 5]).err(), Some(Misfit::Literal));
        assert_eq!(view(&[2, 2, 4, 6, 5]).err(), Some(Misfit::Literal));
        assert_eq!(view(&[2, 3, -1]).err(), Some(Misfit::Size));
    }

    #[test]
    fn a_flatten_keeps_factors() {
        let flat = view(&image(8), &[2, -1], SCALE, false).unwrap_or_else(|_| panic!("fits"));
        assert_eq!(flat.shape.dims()[1][0], Factor::channels(8));
        assert_eq!(size(&flat.shape.dims()[1]), 240);
    }
}
