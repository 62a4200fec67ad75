//! The fields of a type whose wiring is read from its `forward`: finds out which are parts, which
//! are tensors, and which are neither.
//!
//! The derive does not know the types of fields. It calls `visit_part` on references to references
//! of a [`Field`], and the compiler takes the implementation that needs the fewest references: the
//! one for `Prunable` types, else the one for tensors, else the one that does nothing.
#![doc(hidden)]

use tch::Tensor;

use crate::{LayerVisitor, PartVisitor, Prunable, Result};

/// A reference to a field.
#[derive(Debug)]
pub struct Field<'a, T: ?Sized>(pub &'a T);

/// First choice: the field is a part. An empty name stands for the path of its owner.
pub trait VisitPart {
    /// Visits the part.
    ///
    /// # Errors
    /// Those of [`Prunable::parts`].
    fn visit_part(&self, visit: &mut PartVisitor<'_>, name: &'static str, keep: bool)
    -> Result<()>;
}

impl<P: Prunable + ?Sized> VisitPart for &&Field<'_, P> {
    fn visit_part(
        &self,
        visit: &mut PartVisitor<'_>,
        name: &'static str,
        keep: bool,
    ) -> Result<()> {
        match (name, keep) {
            ("", false) => visit.same(self.0),
            ("", true) => visit.kept(self.0),
            (_, false) => visit.field(name, self.0),
            (_, true) => visit.kept_field(name, self.0),
        }
    }
}

/// A tensor, or a container of tensors.
pub trait IsTensor {
    /// The tensors, with their names inside the container.
    fn tensors(&self) -> Vec<(String, &Tensor)>;
}

impl IsTensor for Tensor {
    fn tensors(&self) -> Vec<(String, &Tensor)> {
        vec![(String::new(), self)]
    }
}

impl<T: IsTensor> IsTensor for Option<T> {
    fn tensors(&self) -> Vec<(String, &Tensor)> {
        self.as_ref().map(IsTensor::tensors).unwrap_or_default()
    }
}

impl<T: IsTensor> IsTensor for Vec<T> {
    fn tensors(&self) -> Vec<(String, &Tensor)> {
        numbered(self)
    }
}

impl<T: IsTensor, const N: usize> IsTensor for [T; N] {
    fn tensors(&self) -> Vec<(String, &Tensor)> {
        numbered(self)
    }
}

fn numbered<T: IsTensor>(list: &[T]) -> Vec<(String, &Tensor)> {
    let name = |index: usize, name: String| match name.as_str() {
        "" => index.to_string(),
        name => format!("{index}.{name}"),
    };
    let all = list.iter().enumerate();
    all.flat_map(|(index, part)| {
        part.tensors().into_iter().map(move |(inner, tensor)| (name(index, inner), tensor))
    })
    .collect()
}

/// Second choice: the field is a tensor.
pub trait VisitTensor {
    /// Visits the tensor.
    ///
    /// # Errors
    /// None.
    fn visit_part(&self, visit: &mut PartVisitor<'_>, name: &'static str, keep: bool)
    -> Result<()>;
}

impl<T: IsTensor> VisitTensor for &Field<'_, T> {
    fn visit_part(&self, visit: &mut PartVisitor<'_>, name: &'static str, _: bool) -> Result<()> {
        for (inner, tensor) in self.0.tensors() {
            match inner.as_str() {
                "" => visit.tensor(name, tensor),
                inner => visit.tensor(format!("{name}.{inner}"), tensor),
            }
        }
        Ok(())
    }
}

/// Last choice: the field is neither, and is not visited.
pub trait VisitOther {
    /// Visits nothing.
    ///
    /// # Errors
    /// None.
    fn visit_part(&self, visit: &mut PartVisitor<'_>, name: &'static str, keep: bool)
    -> Result<()>;
}

impl<T: ?Sized> VisitOther for Field<'_, T> {
    fn visit_part(&self, _: &mut PartVisitor<'_>, _: &'static str, _: bool) -> Result<()> {
        Ok(())
    }
}

/// A mutable reference to a field.
#[derive(Debug)]
pub struct FieldMut<'a, T: ?Sized>(pub &'a mut T);

/// First choice: the field is a part. An empty name stands for the path of its owner.
pub trait VisitLayer {
    /// Visits the layers of the part.
    ///
    /// # Errors
    /// Those of [`Prunable::layers_mut`].
    fn visit_layer(&mut self, visit: &mut LayerVisitor<'_>, name: &'static str) -> Result<()>;
}

impl<P: Prunable + ?Sized> VisitLayer for FieldMut<'_, P> {
    fn visit_layer(&mut self, visit: &mut LayerVisitor<'_>, name: &'static str) -> Result<()> {
        match name {
            "" => self.0.layers_mut(visit),
            _ => visit.field(name, |visit| self.0.layers_mut(visit)),
        }
    }
}

/// Last choice: the field is no part, and is not visited.
pub trait VisitNoLayer {
    /// Visits nothing.
    ///
    /// # Errors
    /// None.
    fn visit_layer(&mut self, visit: &mut LayerVisitor<'_>, name: &'static str) -> Result<()>;
}

impl<T: ?Sized> VisitNoLayer for &mut FieldMut<'_, T> {
    fn visit_layer(&mut self, _: &mut LayerVisitor<'_>, _: &'static str) -> Result<()> {
        Ok(())
    }
}
