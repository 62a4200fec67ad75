//! Indexing by `i`.

use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use tch::{NewAxis, Tensor, TensorIndexer};

use super::Traced;

impl Traced {
    /// Indexing: an index, ranges, a tensor of indices, [`NewAxis`](tch::NewAxis), or a tuple of
    /// these.
    #[track_caller]
    pub fn i<I: Indices>(&self, indices: I) -> Traced {
        let mut xs = self.shallow_clone();
        let mut dim = 0;
        for index in indices.indexers() {
            xs = match index {
                TensorIndexer::Select(index) => xs.select(dim, index),
                TensorIndexer::InsertNewAxis => {
                    dim += 1;
                    xs.unsqueeze(dim - 1)
                }
                TensorIndexer::IndexSelect(index) => {
                    dim += 1;
                    xs.index_select(dim - 1, &index)
                }
                TensorIndexer::Narrow(from, to) => {
                    use std::ops::Bound::{Excluded, Included, Unbounded};
                    let start = match from {
                        Included(start) => Some(start),
                        Excluded(start) => Some(start + 1),
                        Unbounded => None,
                    };
                    let end = match to {
                        Included(end) => Some(end + 1),
                        Excluded(end) => Some(end),
                        Unbounded => None,
                    };
                    dim += 1;
                    match (start, end) {
                        (None, None) => xs,
                        _ => xs.slice(dim - 1, start, end, 1),
                    }
                }
            };
        }
        xs
    }
}

/// The argument of [`Traced::i`].
pub trait Indices {
    /// One indexer for each dimension.
    fn indexers(self) -> Vec<TensorIndexer>;
}

macro_rules! single_indices {
    ($($index:ty)+) => {
        $(impl Indices for $index {
            fn indexers(self) -> Vec<TensorIndexer> {
                vec![self.into()]
            }
        })+
    };
}

single_indices! {
    i64
    Range<i64>
    RangeFrom<i64>
    RangeFull
    RangeInclusive<i64>
    RangeTo<i64>
    RangeToInclusive<i64>
    NewAxis
    &[i64]
    Vec<i64>
    &Tensor
}

macro_rules! tuples_of_indices {
    ($(($($part:ident $index:tt),+))+) => {
        $(impl<$($part: Into<TensorIndexer>),+> Indices for ($($part,)+) {
            fn indexers(self) -> Vec<TensorIndexer> {
                vec![$(self.$index.into()),+]
            }
        })+
    };
}

tuples_of_indices! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}
