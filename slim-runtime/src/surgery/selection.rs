//! Selection: takes the positions that stay, in every dimension that follows channels.

use tch::{TchError, Tensor};

use super::layout;

/// A dimension and the positions of it that stay: an index tensor on the tensor's device.
pub(super) type Cut<'i> = (usize, &'i Tensor);

/// Number of values in a block of rows: one megabyte in single precision, which fits the
/// second-level cache.
const BLOCK: i64 = 1 << 18;

/// Scratch memory, reused from tensor to tensor: fresh memory costs more than writing to it, since
/// the system maps it page by page. It grows to what the largest tensor needs: a block of its rows,
/// or the index of its kernels.
#[derive(Default)]
pub(super) struct Workspace {
    values: Buffer,
    indices: Buffer,
}

#[derive(Default)]
struct Buffer(Option<Tensor>);

impl Workspace {
    /// Copies the values at the positions that stay, in the memory order of `tensor`: channels-last
    /// weights stay channels-last. Without cuts it returns the tensor itself.
    pub(super) fn select(&mut self, tensor: &Tensor, cuts: &[Cut]) -> Result<Tensor, TchError> {
        if cuts.is_empty() {
            return Ok(tensor.shallow_clone());
        }
        // Such tensors have no strides.
        if tensor.is_sparse() || tensor.is_mkldnn() {
            return one_by_one(tensor, cuts);
        }
        let order = layout::order(tensor);
        if order.is_sorted() {
            return self.select_in_order(tensor, cuts);
        }
        let place = |dim: usize| order.iter().position(|&at| at == dim);
        let mut in_memory: Vec<Cut> =
            cuts.iter().filter_map(|&(dim, positions)| Some((place(dim)?, positions))).collect();
        in_memory.sort_unstable_by_key(|&(dim, _)| dim);
        let dims: Vec<_> = order.iter().map(|&dim| dim as i64).collect();
        self.select_in_order(&tensor.f_permute(dims)?, &in_memory)?
            .f_permute(layout::inverse(&order))
    }

    /// Selects from a tensor whose first dimension is the outermost in memory. The cuts are sorted
    /// by dimension.
    fn select_in_order(&mut self, tensor: &Tensor, cuts: &[Cut]) -> Result<Tensor, TchError> {
        let size = tensor.size();
        let mut selected = size.clone();
        cuts.iter().for_each(|(dim, positions)| selected[*dim] = positions.size()[0]);
        let is_last = |dim: usize| size[dim + 1..].iter().all(|&size| size == 1);
        let values = match *cuts {
            _ if !tensor.is_contiguous() => return one_by_one(tensor, cuts),
            [(dim @ 1.., columns)] if is_last(dim) => {
                pick(&tensor.f_view([-1, size[dim]])?, columns)?
            }
            [(0, rows), (dim, columns)] if is_last(dim) => {
                self.rows_and_columns(&tensor.f_view([size[0], -1, size[dim]])?, rows, columns)?
            }
            [(0, rows), (1, columns)] => {
                self.kernels(&tensor.f_view([size[0] * size[1], -1])?, rows, (columns, size[1]))?
            }
            _ => return one_by_one(tensor, cuts),
        };
        values.f_view(&selected[..])
    }

    /// Selects from `[rows, …, columns]` in blocks of rows, so that a block is still in the
    /// processor's cache when its columns are picked.
    fn rows_and_columns(
        &mut self,
        tensor: &Tensor,
        rows: &Tensor,
        columns: &Tensor,
    ) -> Result<Tensor, TchError> {
        let (size, kept, width) = (tensor.size(), rows.size()[0], columns.size()[0]);
        let selected = Tensor::f_empty([kept, size[1], width], (tensor.kind(), tensor.device()))?;
        let at_a_time = (BLOCK / (size[1] * size[2]).max(1)).clamp(1, kept.max(1));
        for begin in (0..kept).step_by(at_a_time as usize) {
            let count = at_a_time.min(kept - begin);
            let block = self.values.of_size(&[count, size[1], size[2]], tensor)?;
            let block = tensor
                .f_index_select_out(&block, 0, &rows.f_narrow(0, begin, count)?)?
                .f_view([-1, size[2]])?;
            let to = selected.f_narrow(0, begin, count)?.f_view([-1, width])?;
            let _ = block.f_gather_out(
                &to,
                1,
                &columns.f_expand([count * size[1], -1], false)?,
                false,
            )?;
        }
        Ok(selected)
    }

    /// Selects from `[rows · columns, values of a kernel]`: the kernels whose row and column stay,
    /// in one call.
    fn kernels(
        &mut self,
        kernels: &Tensor,
        rows: &Tensor,
        (columns, width): (&Tensor, i64),
    ) -> Result<Tensor, TchError> {
        let index = self.indices.of_size(&[rows.size()[0], columns.size()[0]], rows)?;
        let index = rows.f_unsqueeze(1)?.f_mul_scalar(width)?.f_add_out(&index, columns)?;
        kernels.f_index_select(0, &index.f_view(-1)?)
    }
}

impl Buffer {
    /// Scratch memory of this size, of the kind and on the device of `like`.
    fn of_size(&mut self, size: &[i64], like: &Tensor) -> Result<Tensor, TchError> {
        let (len, options) = (size.iter().product::<i64>(), (like.kind(), like.device()));
        let fitting = self.0.take().filter(|buffer| {
            buffer.size()[0] >= len && (buffer.kind(), buffer.device()) == options
        });
        let buffer = fitting.map_or_else(|| Tensor::f_empty([len], options), Ok)?;
        let part = buffer.f_narrow(0, 0, len)?.f_view(size);
        self.0 = Some(buffer);
        part
    }
}

/// Picks columns of a matrix. `gather` uses all threads, `index_select` only one.
fn pick(matrix: &Tensor, columns: &Tensor) -> Result<Tensor, TchError> {
    matrix.f_gather(1, &columns.f_expand([matrix.size()[0], -1], false)?, false)
}

fn one_by_one(tensor: &Tensor, cuts: &[Cut]) -> Result<Tensor, TchError> {
    cuts.iter().try_fold(tensor.shallow_clone(), |values, &(dim, positions)| {
        values.f_index_select(dim as i64, positions)
    })
}

#[cfg(test)]
mod tests {
    use tch::kind::FLOAT_CPU;
    use tch::{Device, Kind};

    use super::*;

    /// The reference: one `index_select` after the other.
    fn expected(tensor: &Tensor, cuts: &[Cut]) -> Tensor {
        cuts.iter().fold(tensor.copy(), |values, (dim, positions)| {
            values.index_select(*dim as i64, positions)
        })
    }

    #[test]
    fn every_layout_and_every_set_of_dimensions_gives_the_values_of_one_selection_after_the_other()
    {
        let channels_last = Tensor::randn([6, 3, 5, 4], FLOAT_CPU).permute([0, 3, 1, 2]);
        let tensors = [
            Tensor::randn([6], FLOAT_CPU),
            Tensor::randn([6, 4], FLOAT_CPU),
            Tensor::randn([4, 6], FLOAT_CPU).transpose(0, 1),
            Tensor::randn([6, 4, 3, 5], FLOAT_CPU),
            Tensor::randn([6, 4, 1, 1], FLOAT_CPU),
            Tensor::randn([6, 1, 1, 4], FLOAT_CPU).permute([0, 3, 1, 2]),
            Tensor::randn([6, 1, 3, 3], FLOAT_CPU),
            Tensor::randn([6, 4, 2, 3, 2], FLOAT_CPU),
            channels_last.shallow_clone(),
            channels_last.slice(1, 0, 4, 2),
            channels_last.transpose(0, 1),
            Tensor::randn([12, 8, 3, 3], FLOAT_CPU).slice(0, 0, 12, 2).slice(1, 1, 8, 2),
            Tensor::randn([6, 4, 3, 5], FLOAT_CPU).to_kind(Kind::BFloat16),
        ];
        let mut workspace = Workspace::default();
        for tensor in &tensors {
            let dims = tensor.dim();
            for chosen in 1_u32..1 << dims {
                let cut = |dim: usize| {
                    (
                        dim,
                        Tensor::from_slice(&(0..tensor.size()[dim]).step_by(2).collect::<Vec<_>>()),
                    )
                };
                let cuts: Vec<_> =
                    (0..dims).filter(|dim| chosen >> dim & 1 == 1).map(cut).collect();
                let cuts: Vec<_> = cuts.iter().map(|(dim, positions)| (*dim, positions)).collect();
                let selected = workspace.select(tensor, &cuts).unwrap();
                let expected = expected(tensor, &cuts);
                assert!(selected.equal(&expected), "{chosen:b} of {tensor:?}");
                assert_eq!(selected.kind(), tensor.kind());
                assert_ne!(selected.data_ptr(), tensor.data_ptr());
            }
        }
    }

    #[test]
    fn the_order_in_memory_is_kept_and_gaps_are_closed() {
        let rows = Tensor::from_slice(&[0_i64, 2, 3]);
        let channels_last = Tensor::zeros([6, 3, 5, 4], FLOAT_CPU).permute([0, 3, 1, 2]);
        for (tensor, stride) in [
            (Tensor::zeros([6, 4, 3, 5], FLOAT_CPU), [60, 15, 5, 1]),
            (channels_last.shallow_clone(), [60, 1, 20, 4]),
            (channels_last.slice(1, 0, 4, 2), [30, 1, 10, 2]),
            (channels_last.transpose(0, 1), [1, 45, 15, 3]),
            // A kernel of one position.
            (Tensor::zeros([6, 1, 1, 4], FLOAT_CPU).permute([0, 3, 1, 2]), [4, 1, 4, 4]),
        ] {
            assert_eq!(
                Workspace::default().select(&tensor, &[(0, &rows)]).unwrap().stride(),
                stride,
                "{:?}",
                tensor.stride()
            );
        }
        let sparse = Tensor::ones([6, 4], FLOAT_CPU).to_sparse(None, None::<i64>, None);
        let selected = Workspace::default().select(&sparse, &[(0, &rows), (1, &rows)]).unwrap();
        assert!(selected.is_sparse());
        assert_eq!((selected.size(), selected.device()), (vec![3, 3], Device::Cpu));
    }
}
