//! How a tensor's values lie in memory.

use tch::{TchError, Tensor};

/// `values` with its dimensions in memory as `like` has them: channels-last weights stay so. They have the same number of dimensions.
pub(super) fn laid_out_as(like: &Tensor, values: Tensor) -> Result<Tensor, TchError> {
    // These have no strides.
    if like.is_sparse() || like.is_mkldnn() {
        return Ok(values);
    }
    let outermost_first = order(like);
    if outermost_first.is_sorted() {
        return Ok(values);
    }
    let size = values.size();
    let mut inverse = vec![0; size.len()];
    outermost_first.iter().zip(0..).for_each(|(&dim, position)| inverse[dim] = position);
    let size: Vec<_> = outermost_first.iter().map(|&dim| size[dim]).collect();
    // Not `contiguous`, which leaves strides alone where a dimension has a single position, and these say that a 1×1 weight is channels-last.
    let mut laid_out = Tensor::f_empty(size, (values.f_kind()?, values.device()))?.f_permute(inverse)?;
    laid_out.f_copy_(&values)?;
    Ok(laid_out)
}

/// The dimensions by falling stride; where two have the same, one has a single position, and they stay as they are.
fn order(tensor: &Tensor) -> Vec<usize> {
    let stride = tensor.stride();
    let mut dims: Vec<_> = (0..stride.len()).collect();
    dims.sort_by_key(|&dim| std::cmp::Reverse(stride[dim]));
    dims
}

#[cfg(test)]
mod tests {
    use tch::kind::FLOAT_CPU;

    use super::*;

    #[test]
    fn the_order_in_memory_is_kept_and_gaps_are_closed() {
        let values = || Tensor::randn([4, 2, 3, 5], FLOAT_CPU);
        let channels_last = Tensor::zeros([6, 3, 5, 4], FLOAT_CPU).permute([0, 3, 1, 2]);
        for (like, stride) in [
            (Tensor::zeros([6, 4, 3, 5], FLOAT_CPU), [30, 15, 5, 1]),
            (channels_last.shallow_clone(), [30, 1, 10, 2]),
            (channels_last.slice(1, 0, 4, 2), [30, 1, 10, 2]),
            (channels_last.transpose(0, 1), [1, 60, 20, 4]),
            // A kernel of one position.
            (Tensor::zeros([6, 1, 1, 4], FLOAT_CPU).permute([0, 3, 1, 2]), [30, 1, 10, 2]),
        ] {
            let values = values();
            let laid_out = laid_out_as(&like, values.shallow_clone()).unwrap();
            assert_eq!(laid_out.stride(), stride);
            assert!(laid_out.equal(&values));
        }
        let sparse = values().to_sparse(None, None::<i64>, None);
        assert!(laid_out_as(&sparse, sparse.shallow_clone()).unwrap().is_sparse());
    }
}
