//! The memory order of a tensor's dimensions.

use tch::Tensor;

/// The dimensions by descending stride. Of two with the same stride, one has a single position;
/// they keep their order.
pub(super) fn order(tensor: &Tensor) -> Vec<usize> {
    let stride = tensor.stride();
    let mut dims: Vec<_> = (0..stride.len()).collect();
    dims.sort_by_key(|&dim| std::cmp::Reverse(stride[dim]));
    dims
}

/// The inverse of a permutation of dimensions.
pub(super) fn inverse(order: &[usize]) -> Vec<i64> {
    let mut inverse = vec![0; order.len()];
    order.iter().zip(0..).for_each(|(&dim, position)| inverse[dim] = position);
    inverse
}
