//! Containers: the elements run as a chain, in order. Each element's field name is its position.

use crate::{Flow, LayerVisitor, PartVisitor, Prunable, Result, Tracer};

fn trace_chain<'a, T: Prunable + 'a>(
    cx: &mut Tracer,
    input: Flow,
    parts: impl IntoIterator<Item = &'a T>,
) -> Result<Flow> {
    parts
        .into_iter()
        .enumerate()
        .try_fold(input, |flow, (i, part)| cx.field(i, |cx| part.trace(cx, flow)))
}

fn visit_chain<'a, T: Prunable + 'a>(
    visit: &mut LayerVisitor,
    parts: impl IntoIterator<Item = &'a mut T>,
) -> Result<()> {
    parts
        .into_iter()
        .enumerate()
        .try_for_each(|(i, part)| visit.field(i, |visit| part.layers_mut(visit)))
}

impl<T: Prunable> Prunable for Vec<T> {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        trace_chain(cx, input, self)
    }

    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        self.iter().enumerate().try_for_each(|(i, part)| visit.field(i, part))
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit_chain(visit, self)
    }
}

impl<T: Prunable, const N: usize> Prunable for [T; N] {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        trace_chain(cx, input, self)
    }

    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        self.iter().enumerate().try_for_each(|(i, part)| visit.field(i, part))
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit_chain(visit, self)
    }
}

/// `None` is the identity.
impl<T: Prunable> Prunable for Option<T> {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        match self {
            Some(part) => part.trace(cx, input),
            None => Ok(input),
        }
    }

    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        self.as_ref().map_or(Ok(()), |part| visit.same(part))
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        self.as_mut().map_or(Ok(()), |part| part.layers_mut(visit))
    }
}

/// Also for `Box<dyn Prunable>`.
impl<T: Prunable + ?Sized> Prunable for Box<T> {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        (**self).trace(cx, input)
    }

    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        visit.same(&**self)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        (**self).layers_mut(visit)
    }
}

macro_rules! tuple {
    ($($part:ident $index:tt),+) => {
        impl<$($part: Prunable),+> Prunable for ($($part,)+) {
            fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
                let flow = input;
                $(let flow = cx.field($index, |cx| self.$index.trace(cx, flow))?;)+
                Ok(flow)
            }

            fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
                $(visit.field($index, &self.$index)?;)+
                Ok(())
            }

            fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
                $(visit.field($index, |visit| self.$index.layers_mut(visit))?;)+
                Ok(())
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
