//! How a tensor's values lie in memory.

use tch::Tensor;

/// The dimensions by falling stride; where two have the same, one has a single position, and they
/// stay as they are.
pub(super) fn order(tensor: &Tensor) -> Vec<usize> {
    let stride = tensor.stride();
    let mut dims: Vec<_> = (0..stride.len()).collect();
    dims.sort_by_key(|&dim| std::cmp::Reverse(stride[dim]));
    dims
}

/// Where each dimension is in an order: permuting by it undoes a permutation by the order.
pub(super) fn inverse(order: &[usize]) -> Vec<i64> {
    let mut inverse = vec![0; order.len()];
    order.iter().zip(0..).for_each(|(&dim, position)| inverse[dim] = position);
    inverse
}
