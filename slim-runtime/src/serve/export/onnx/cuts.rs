//! Concatenation, cuts and reordering along a dimension.

use super::attribute::{int, text};
use super::builder::Name;
use super::lower::{Element, Given, Lowered, Lowering, Refusal, Value, from_front};
use crate::symbolic::Size;

impl Lowering<'_> {
    pub(super) fn cuts(&mut self, given: &Given) -> Option<Lowered> {
        Some(match given.call.name {
            "cat" => self.concatenated(given),
            "stack" => self.stacked(given),
            "chunk" | "split" | "split_with_sizes" => self.split(given),
            "unbind" => self.unbound(given),
            "narrow" => self.narrowed(given),
            "slice" => self.sliced(given),
            "select" => self.selected(given),
            "index_select" => self.index_selected(given),
            "flip" => self.flipped(given),
            "roll" => self.rolled(given),
            "pixel_shuffle" => self.pixel_shuffled(given),
            "pixel_unshuffle" => self.pixel_unshuffled(given),
            "channel_shuffle" => self.channel_shuffled(given),
            _ => return None,
        })
    }

    /// Several tensors with one kind of elements.
    fn alike(&mut self, given: &Given) -> Result<(Vec<Name>, Element), Refusal> {
        let parts =
            given.ids(0)?.iter().map(|&id| self.value(id)).collect::<Result<Vec<_>, _>>()?;
        let first = parts.first().map_or(Element::Float, |part| part.element);
        if parts.iter().all(|part| part.element == first) {
            return Ok((parts.into_iter().map(|part| part.name).collect(), first));
        }
        Ok((parts.iter().map(|part| self.as_float(part)).collect(), Element::Float))
    }

    fn joined_along(&mut self, parts: &[Name], axis: i64, element: Element) -> Lowered {
        let parts: Vec<&Name> = parts.iter().collect();
        let name = self.builder.node("Concat", &parts, vec![int("axis", axis)]);
        Ok(vec![Value { name, element }])
    }

    fn concatenated(&mut self, given: &Given) -> Lowered {
        let (parts, element) = self.alike(given)?;
        let axis = given.int(self.program, 1)?;
        self.joined_along(&parts, axis, element)
    }

    fn stacked(&mut self, given: &Given) -> Lowered {
        let (parts, element) = self.alike(given)?;
        let axis = given.int(self.program, 1)?;
        let axes = self.builder.ints(&[axis]);
        let parts: Vec<Name> = parts
            .iter()
            .map(|part| self.builder.node("Unsqueeze", &[part, &axes], Vec::new()))
            .collect();
        self.joined_along(&parts, axis, element)
    }

    /// Parts of the sizes that the results have.
    fn split(&mut self, given: &Given) -> Lowered {
        let id = given.id(0)?;
        let xs = self.value(id)?;
        let dim = from_front(given.int(self.program, 2)?, self.rank(id)?);
        let sizes = given.call.results.iter().map(|&part| self.fixed_size(part, dim as usize));
        let sizes = self.builder.ints(&sizes.collect::<Result<Vec<_>, _>>()?);
        let inputs = [&xs.name, &sizes];
        let count = given.call.results.len();
        let parts = self.builder.nodes("Split", &inputs, count, vec![int("axis", dim)]);
        Ok(parts.into_iter().map(|name| Value { name, element: xs.element }).collect())
    }

    fn unbound(&mut self, given: &Given) -> Lowered {
        let (xs, dim) = (self.value(given.id(0)?)?, given.int(self.program, 1)?);
        let part = |lowering: &mut Self, index: usize| {
            let index = lowering.builder.int(index as i64);
            let attributes = vec![int("axis", dim)];
            let name = lowering.builder.node("Gather", &[&xs.name, &index], attributes);
            Value { name, element: xs.element }
        };
        Ok((0..given.call.results.len()).map(|index| part(self, index)).collect())
    }

    /// A range of a dimension.
    fn cut(&mut self, xs: &Value, [start, end, step]: [&Name; 3], dim: i64) -> Lowered {
        let axes = self.builder.ints(&[dim]);
        let name = self.builder.node("Slice", &[&xs.name, start, end, &axes, step], Vec::new());
        Ok(vec![Value { name, element: xs.element }])
    }

    /// Arguments: tensor, dimension, start, length.
    fn narrowed(&mut self, given: &Given) -> Lowered {
        let (xs, dim) = (self.value(given.id(0)?)?, given.int(self.program, 1)?);
        let (first, length) = (given.sizes(self.program, 2)?, given.sizes(self.program, 3)?);
        let start = self.sizes(&first)?;
        let end = match (&first[..], &length[..]) {
            // From the end on, 0 would be the front.
            ([Size::Fixed(first)], [Size::Fixed(length)]) if *first < 0 && first + length == 0 => {
                self.builder.ints(&[i64::MAX])
            }
            ([Size::Fixed(first)], [Size::Fixed(length)]) => self.builder.ints(&[first + length]),
            _ => {
                let length = self.sizes(&length)?;
                self.builder.node("Add", &[&start, &length], Vec::new())
            }
        };
        let step = self.builder.ints(&[1]);
        self.cut(&xs, [&start, &end, &step], dim)
    }

    /// Arguments: tensor, dimension, start, end, step.
    fn sliced(&mut self, given: &Given) -> Lowered {
        let (xs, dim) = (self.value(given.id(0)?)?, given.int(self.program, 1)?);
        let start = given.sizes(self.program, 2)?;
        let start = self.sizes(&start)?;
        let end = if given.is_given(3) {
            given.sizes(self.program, 3)?
        } else {
            vec![Size::Fixed(i64::MAX)]
        };
        let end = self.sizes(&end)?;
        let step = self.builder.ints(&[given.int(self.program, 4)?]);
        self.cut(&xs, [&start, &end, &step], dim)
    }

    fn selected(&mut self, given: &Given) -> Lowered {
        let (xs, dim) = (self.value(given.id(0)?)?, given.int(self.program, 1)?);
        let index = given.int(self.program, 2)?;
        let index = self.builder.int(index);
        let name = self.builder.node("Gather", &[&xs.name, &index], vec![int("axis", dim)]);
        Ok(vec![Value { name, element: xs.element }])
    }

    fn index_selected(&mut self, given: &Given) -> Lowered {
        let (xs, dim) = (self.value(given.id(0)?)?, given.int(self.program, 1)?);
        let index = self.value(given.id(2)?)?;
        let index = self.as_int(&index);
        let name = self.builder.node("Gather", &[&xs.name, &index], vec![int("axis", dim)]);
        Ok(vec![Value { name, element: xs.element }])
    }

    fn flipped(&mut self, given: &Given) -> Lowered {
        let xs = self.value(given.id(0)?)?;
        let dims = given.ints(self.program, 1)?;
        let mut list = |number: i64| self.builder.ints(&vec![number; dims.len()]);
        let (start, end, step) = (list(-1), list(i64::MIN), list(-1));
        let axes = self.builder.ints(&dims);
        let inputs = [&xs.name, &start, &end, &axes, &step];
        let name = self.builder.node("Slice", &inputs, Vec::new());
        Ok(vec![Value { name, element: xs.element }])
    }

    fn rolled(&mut self, given: &Given) -> Lowered {
        let mut xs = self.value(given.id(0)?)?;
        let (shifts, dims) = (given.ints(self.program, 1)?, given.ints(self.program, 2)?);
        let rank = self.rank(given.id(0)?)?;
        for (&shift, &dim) in shifts.iter().zip(&dims) {
            let size = self.fixed_size(given.id(0)?, from_front(dim, rank) as usize)?.max(1);
            // The last elements come first.
            let [cut, start, end, step] = [size - shift.rem_euclid(size), 0, i64::MAX, 1]
                .map(|number| self.builder.ints(&[number]));
            let last = self.cut(&xs, [&cut, &end, &step], dim)?.remove(0);
            let first = self.cut(&xs, [&start, &cut, &step], dim)?.remove(0);
            xs = self.joined_along(&[last.name, first.name], dim, xs.element)?.remove(0);
        }
        Ok(vec![xs])
    }

    fn pixel_shuffled(&mut self, given: &Given) -> Lowered {
        let (xs, factor) = (self.float_of(given, 0)?, given.int(self.program, 1)?);
        let attributes = vec![int("blocksize", factor), text("mode", "CRD")];
        let name = self.builder.node("DepthToSpace", &[&xs], attributes);
        Ok(vec![Value::float(name)])
    }

    /// By views: runtimes differ in the order of `SpaceToDepth`.
    fn pixel_unshuffled(&mut self, given: &Given) -> Lowered {
        let (id, factor) = (given.id(0)?, given.int(self.program, 1)?);
        let channels = self.fixed_size(id, 1)?;
        let own = self.own_sizes(id)?;
        let [batch, _, height, width] = own[..] else {
            return Err("it takes an image [N, C, H, W]".to_owned());
        };
        let smaller = |size: Size| match size {
            Size::Fixed(size) => Size::Fixed(size / factor.max(1)),
            Size::Of { value, dim, times, over } => {
                Size::Of { value, dim, times, over: over * factor }
            }
        };
        let (rows, columns) = (smaller(height), smaller(width));
        let (channels, factor) = (Size::Fixed(channels), Size::Fixed(factor));
        let blocks = self.viewed(id, &[batch, channels, rows, factor, columns, factor])?;
        let blocks = self.transposed(&blocks, &[0, 1, 3, 5, 2, 4]);
        let all = self.program.sizes(given.call.results[0]).and_then(|sizes| sizes[1]);
        let all = Size::Fixed(all.unwrap_or(-1));
        let sizes = self.sizes(&[batch, all, rows, columns])?;
        let name = self.builder.node("Reshape", &[&blocks, &sizes], Vec::new());
        Ok(vec![Value::float(name)])
    }

    fn channel_shuffled(&mut self, given: &Given) -> Lowered {
        let (xs, groups) = (self.value(given.id(0)?)?, given.int(self.program, 1)?);
        let channels = self.fixed_size(given.id(0)?, 1)?;
        let order = crate::graph::shuffled(channels as usize, groups.max(1) as usize);
        let order: Vec<i64> = order.map(|position| position as i64).collect();
        let name = self.gathered(&xs.name, &order, 1)?;
        Ok(vec![Value { name, element: xs.element }])
    }
}
