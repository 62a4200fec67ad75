//! Views: the same elements in other dimensions.

use super::attribute::int;
use super::builder::Name;
use super::lower::{Given, Lowered, Lowering, Refusal, Value, from_front};
use crate::graph::ValueId;
use crate::symbolic::Size;

impl Lowering<'_> {
    pub(super) fn views(&mut self, given: &Given) -> Option<Lowered> {
        Some(match given.call.name {
            "view" | "reshape" | "view_as" | "reshape_as" => self.view(given),
            "flatten" => self.flatten(given),
            "unflatten" => self.unflatten(given),
            "permute" => self.permute(given),
            "transpose" => self.transpose(given),
            "movedim" => self.move_dimensions(given),
            "squeeze" | "squeeze_dim" => self.squeeze(given),
            "unsqueeze" => self.unsqueeze(given),
            "expand" => self.expand(given),
            "repeat" => self.repeat(given),
            "repeat_interleave_self_int" => self.repeat_each(given),
            _ => return None,
        })
    }

    fn view_of(&self, given: &Given, name: Name) -> Lowered {
        let element = self.value(given.id(0)?)?.element;
        Ok(vec![Value { name, element }])
    }

    /// Arguments: tensor, sizes.
    fn view(&mut self, given: &Given) -> Lowered {
        let sizes = given.sizes(self.program, 1)?;
        let name = self.viewed(given.id(0)?, &sizes)?;
        self.view_of(given, name)
    }

    /// A value in dimensions of these sizes. One size that is not fixed is left to the runtime.
    pub(super) fn viewed(&mut self, id: ValueId, sizes: &[Size]) -> Result<Name, Refusal> {
        let xs = self.value(id)?;
        let own = self.program.sizes(id).unwrap_or_default();
        let mut sizes = sizes.to_vec();
        // A free size at the place where the tensor has it is copied, which ONNX writes as 0.
        for (dim, size) in sizes.iter_mut().enumerate() {
            if let Size::Of { value, dim: of, times: 1, over: 1 } = *size
                && of == dim
                && own.get(dim) == Some(&None)
                && self.is_same_size((value, of), (id, dim))
            {
                *size = Size::Fixed(0);
            }
        }
        let follows = |size: &Size| !matches!(size, Size::Fixed(size) if *size != -1);
        if sizes.iter().filter(|size| follows(size)).count() == 1 {
            sizes.iter_mut().filter(|size| follows(size)).for_each(|size| *size = Size::Fixed(-1));
        }
        let shape = self.sizes(&sizes)?;
        Ok(self.builder.node("Reshape", &[&xs.name, &shape], Vec::new()))
    }

    /// Whether two dimensions have the same size in all runs.
    fn is_same_size(&self, (a, dim): (ValueId, usize), (b, other): (ValueId, usize)) -> bool {
        a == b && dim == other || self.program.are_equal((a, dim), (b, other))
    }

    /// The dimensions of a value as sizes.
    pub(super) fn own_sizes(&self, id: ValueId) -> Result<Vec<Size>, Refusal> {
        let rank = self.rank(id)?;
        let sizes = self.program.sizes(id).unwrap_or_default();
        let size = |dim: usize| match sizes.get(dim).copied().flatten() {
            Some(size) => Size::Fixed(size),
            None => Size::Of { value: id, dim, times: 1, over: 1 },
        };
        Ok((0..rank).map(size).collect())
    }

    /// Arguments: tensor, first and last dimension.
    fn flatten(&mut self, given: &Given) -> Lowered {
        let id = given.id(0)?;
        let rank = self.rank(id)?;
        let dim =
            |index| Ok::<_, Refusal>(from_front(given.int(self.program, index)?, rank) as usize);
        let (first, last) = (dim(1)?, dim(2)?);
        let xs = self.value(id)?;
        if (first, last) == (1, rank - 1) {
            let name = self.builder.node("Flatten", &[&xs.name], vec![int("axis", 1)]);
            return self.view_of(given, name);
        }
        let own = self.own_sizes(id)?;
        let behind = own.get(last + 1..).unwrap_or_default().iter().copied();
        let joined = [Size::Fixed(-1)];
        let sizes: Vec<Size> = own[..first].iter().copied().chain(joined).chain(behind).collect();
        let name = self.viewed(id, &sizes)?;
        self.view_of(given, name)
    }

    /// Arguments: tensor, dimension, sizes.
    fn unflatten(&mut self, given: &Given) -> Lowered {
        let id = given.id(0)?;
        let own = self.own_sizes(id)?;
        let dim = from_front(given.int(self.program, 1)?, own.len()) as usize;
        let parts = given.sizes(self.program, 2)?;
        let (before, behind) = (&own[..dim], &own[dim + 1..]);
        let sizes = [before, &parts[..], behind].concat();
        let name = self.viewed(id, &sizes)?;
        self.view_of(given, name)
    }

    fn permute(&mut self, given: &Given) -> Lowered {
        let xs = self.value(given.id(0)?)?;
        let order = given.ints(self.program, 1)?;
        let rank = order.len();
        let order: Vec<i64> = order.into_iter().map(|dim| from_front(dim, rank)).collect();
        let name = self.transposed(&xs.name, &order);
        self.view_of(given, name)
    }

    fn transpose(&mut self, given: &Given) -> Lowered {
        let id = given.id(0)?;
        let (xs, rank) = (self.value(id)?, self.rank(id)?);
        let dim =
            |index| Ok::<_, Refusal>(from_front(given.int(self.program, index)?, rank) as usize);
        let (a, b) = (dim(1)?, dim(2)?);
        let mut order: Vec<i64> = (0..rank as i64).collect();
        order.swap(a, b);
        let name = self.transposed(&xs.name, &order);
        self.view_of(given, name)
    }

    fn move_dimensions(&mut self, given: &Given) -> Lowered {
        let id = given.id(0)?;
        let (xs, rank) = (self.value(id)?, self.rank(id)?);
        let dims = |index| {
            let dims = given.ints(self.program, index)?;
            Ok::<_, Refusal>(dims.into_iter().map(|dim| from_front(dim, rank)).collect::<Vec<_>>())
        };
        let (source, destination) = (dims(1)?, dims(2)?);
        let mut order = vec![None; rank];
        for (&from, &to) in source.iter().zip(&destination) {
            order[to as usize] = Some(from);
        }
        let mut others = (0..rank as i64).filter(|dim| !source.contains(dim));
        let order: Vec<i64> =
            order.into_iter().filter_map(|dim| dim.or_else(|| others.next())).collect();
        let name = self.transposed(&xs.name, &order);
        self.view_of(given, name)
    }

    /// Arguments: tensor, and a dimension if it is not all of size 1.
    fn squeeze(&mut self, given: &Given) -> Lowered {
        let id = given.id(0)?;
        let (xs, sizes) = (self.value(id)?, self.program.sizes(id).unwrap_or_default());
        let rank = self.rank(id)?;
        let is_one = |dim: &i64| sizes.get(*dim as usize) == Some(&Some(1));
        let dims: Vec<i64> = if given.is_given(1) {
            vec![from_front(given.int(self.program, 1)?, rank)]
        } else {
            (0..rank as i64).collect()
        };
        let dims: Vec<i64> = dims.into_iter().filter(is_one).collect();
        if dims.is_empty() {
            return Ok(vec![xs]);
        }
        let axes = self.builder.ints(&dims);
        let name = self.builder.node("Squeeze", &[&xs.name, &axes], Vec::new());
        self.view_of(given, name)
    }

    fn unsqueeze(&mut self, given: &Given) -> Lowered {
        let xs = self.value(given.id(0)?)?;
        let axes = self.builder.ints(&[given.int(self.program, 1)?]);
        let name = self.builder.node("Unsqueeze", &[&xs.name, &axes], Vec::new());
        self.view_of(given, name)
    }

    /// Arguments: tensor, sizes, where -1 keeps a dimension.
    fn expand(&mut self, given: &Given) -> Lowered {
        let xs = self.value(given.id(0)?)?;
        let mut sizes = given.sizes(self.program, 1)?;
        // ONNX keeps a dimension that is expanded to 1.
        for size in &mut sizes {
            if *size == Size::Fixed(-1) {
                *size = Size::Fixed(1);
            }
        }
        let shape = self.sizes(&sizes)?;
        let name = self.builder.node("Expand", &[&xs.name, &shape], Vec::new());
        self.view_of(given, name)
    }

    fn repeat(&mut self, given: &Given) -> Lowered {
        let id = given.id(0)?;
        let mut name = self.value(id)?.name;
        let repeats = given.sizes(self.program, 1)?;
        let more = repeats.len().saturating_sub(self.rank(id)?) as i64;
        if more > 0 {
            let axes = self.builder.ints(&(0..more).collect::<Vec<_>>());
            name = self.builder.node("Unsqueeze", &[&name, &axes], Vec::new());
        }
        let repeats = self.sizes(&repeats)?;
        let name = self.builder.node("Tile", &[&name, &repeats], Vec::new());
        self.view_of(given, name)
    }

    /// Arguments: tensor, repeats, dimension.
    fn repeat_each(&mut self, given: &Given) -> Lowered {
        let id = given.id(0)?;
        let (xs, times) = (self.value(id)?, given.int(self.program, 1)?);
        let dim = from_front(given.int(self.program, 2)?, self.rank(id)?);
        let size = self.fixed_size(id, dim as usize)?;
        let positions: Vec<i64> =
            (0..size).flat_map(|at| std::iter::repeat_n(at, times.max(0) as usize)).collect();
        let name = self.gathered(&xs.name, &positions, dim)?;
        self.view_of(given, name)
    }
}
