//! Outlines, by which two networks are compared: their layers, and the names, shapes and ties of
//! their tensors.

use super::{Dim, LayerPlan, Plan};
use crate::graph::LayerKind;

/// A layer without the decisions of a plan.
pub(crate) struct Outline<'a> {
    pub(crate) path: &'a str,
    pub(crate) kind: &'a LayerKind,
    /// Name and width of each axis.
    pub(crate) axes: Vec<(&'a str, usize)>,
    pub(crate) tensors: Vec<TensorOutline<'a>>,
}

pub(crate) struct TensorOutline<'a> {
    pub(crate) name: &'a str,
    pub(crate) dims: Vec<DimOutline<'a>>,
    pub(crate) shape: Vec<i64>,
    /// Path of the same tensor at its first use, if an earlier layer shares it.
    pub(crate) tied: Option<String>,
}

/// A [`Dim`] by reference.
#[derive(PartialEq)]
pub(crate) enum DimOutline<'a> {
    Axis(&'a str),
    Size(i64),
}

impl Plan {
    /// Outlines of the network that the plan was made for.
    pub(crate) fn outlines_before(&self) -> Vec<Outline<'_>> {
        self.layers
            .iter()
            .map(|layer| layer.outline(|axis| axis.width, LayerPlan::shape_before))
            .collect()
    }

    /// Outlines of the network that the plan leaves.
    pub(crate) fn outlines_after(&self) -> Vec<Outline<'_>> {
        self.layers
            .iter()
            .map(|layer| layer.outline(|axis| axis.keep.len(), LayerPlan::shape_after))
            .collect()
    }
}

impl LayerPlan {
    fn outline(
        &self,
        width: impl Fn(&super::AxisPlan) -> usize,
        shape: impl Fn(&Self, &super::TensorPlan) -> Vec<i64>,
    ) -> Outline<'_> {
        let tensors = self.tensors.iter().map(|tensor| TensorOutline {
            name: &tensor.name,
            dims: tensor.dims.iter().map(Dim::outline).collect(),
            shape: shape(self, tensor),
            tied: tensor.tied.clone(),
        });
        Outline {
            path: &self.path,
            kind: &self.kind,
            axes: self.axes.iter().map(|axis| (axis.name.as_str(), width(axis))).collect(),
            tensors: tensors.collect(),
        }
    }
}

impl Dim {
    fn outline(&self) -> DimOutline<'_> {
        match self {
            Dim::Axis(name) => DimOutline::Axis(name),
            Dim::Size(size) => DimOutline::Size(*size),
        }
    }
}

/// The first difference between two networks, as a text that calls them by `names`.
pub(crate) fn difference(a: &[Outline], b: &[Outline], names: [&str; 2]) -> Option<String> {
    let [name_a, name_b] = names;
    let in_layer = a.iter().zip(b).find_map(|(a, b)| layer_difference(a, b, names));
    in_layer.or_else(|| {
        (a.len() != b.len())
            .then(|| format!("{name_a} has {} layers, {name_b} {}", a.len(), b.len()))
    })
}

fn layer_difference(a: &Outline, b: &Outline, [name_a, name_b]: [&str; 2]) -> Option<String> {
    let path = a.path;
    if (path, a.kind) != (b.path, b.kind) {
        return Some(format!(
            "{name_a} has `{path}` ({}) where {name_b} has `{}` ({})",
            a.kind, b.path, b.kind
        ));
    }
    if a.axes != b.axes {
        return Some(format!(
            "`{path}` has the channels {} in {name_a}, {} in {name_b}",
            list(&a.axes),
            list(&b.axes)
        ));
    }
    let tensor_names = |outline: &Outline| {
        outline.tensors.iter().map(|tensor| tensor.name).collect::<Vec<_>>().join(", ")
    };
    if tensor_names(a) != tensor_names(b) {
        return Some(format!(
            "`{path}` has the tensors {} in {name_a}, {} in {name_b}",
            tensor_names(a),
            tensor_names(b)
        ));
    }
    a.tensors.iter().zip(&b.tensors).find_map(|(a, b)| {
        let name = a.name;
        if !same_dims(a, b) {
            return Some(format!(
                "`{path}.{name}` has shape {:?} in {name_a}, {:?} in {name_b}",
                a.shape, b.shape
            ));
        }
        (a.tied != b.tied)
            .then(|| format!("`{path}.{name}` is shared in one of them and not in the other"))
    })
}

/// Whether two tensors have the same dimensions. Dimensions of size 1 are equal, since a layer that
/// was narrowed to one channel cannot tell which dimension of size 1 was the channels'.
fn same_dims(a: &TensorOutline, b: &TensorOutline) -> bool {
    let mut dims = a.dims.iter().zip(&b.dims).zip(a.shape.iter().zip(&b.shape));
    a.dims.len() == b.dims.len()
        && dims.all(|((dim_a, dim_b), (size_a, size_b))| {
            dim_a == dim_b || (*size_a, *size_b) == (1, 1)
        })
}

/// `(in 3, out 8)`
fn list(axes: &[(&str, usize)]) -> String {
    let axes: Vec<_> = axes.iter().map(|(name, width)| format!("{name} {width}")).collect();
    format!("({})", axes.join(", "))
}
