//! The sizes that a `forward` is told.

use std::panic::Location;

use tch::{Device, Kind, TchError};

use super::table::operations;
use super::traced::shaped;
use super::{Traced, pass};
use crate::graph::shape::Shape;
use crate::graph::{ElementCount, Form};

operations! {
    "Sizes" {
        "size", "size1", "size2", "size3", "size4", "size5", "size6", "dim", "numel": "numbers: those of channels follow the network's widths when they are given to `view` and the like";
        "kind", "device", "requires_grad", "defined": "those of the network";
    }
}

impl Traced {
    /// The sizes of the tensor. If its dimensions are unknown, it is assumed to have this rank.
    #[track_caller]
    fn sizes(&self, rank: Option<usize>) -> Option<Vec<i64>> {
        let flow = self.flow()?;
        let at = Location::caller();
        let sizes = pass::record(at, |cx| {
            let value = cx.channels(&flow, None)?;
            let (_, shape) = shaped(cx, &value, rank);
            let sizes = shape.answers(cx.probe.scale);
            cx.recording.asked.sizes.push((at, sizes.clone()));
            cx.ask(&value, &sizes);
            Ok((sizes, shape))
        });
        sizes.map(|(sizes, shape)| {
            self.know(&shape);
            sizes
        })
    }

    /// Stores the dimensions, so that all handles of the tensor keep an assumed rank.
    fn know(&self, shape: &Shape) {
        let Some(flow) = self.flow() else { return };
        let Some(value) = flow.value() else { return };
        let form = Form::Dims(shape.clone());
        let value = crate::graph::Value { form, ..value.clone() };
        self.memory.set(Some(value.into()));
    }

    /// The size of each dimension.
    #[track_caller]
    pub fn size(&self) -> Vec<i64> {
        // After an error every size is one, so that loops end.
        self.sizes(None).unwrap_or_else(|| vec![1; 4])
    }

    /// The number of dimensions. If it is unknown, the tensor is assumed to be an image, or
    /// features, and the report names the line.
    #[track_caller]
    pub fn dim(&self) -> usize {
        let at = Location::caller();
        let Some(flow) = self.flow() else { return 4 };
        let rank = pass::record(at, |cx| {
            let form = flow.value().map(|value| &value.form);
            if let Some(shape) = form.and_then(Form::shape) {
                return Ok(shape.rank());
            }
            cx.recording.asked.ranks.push(at);
            Ok(if matches!(form, Some(Form::Loose(ElementCount::One))) { 2 } else { 4 })
        });
        rank.unwrap_or(4)
    }

    /// The number of elements.
    #[track_caller]
    pub fn numel(&self) -> usize {
        self.size().iter().product::<i64>().try_into().unwrap_or(0)
    }

    /// The kind of the network's tensors.
    #[track_caller]
    pub fn kind(&self) -> Kind {
        self.options().0
    }

    /// The device of the network's tensors.
    #[track_caller]
    pub fn device(&self) -> Device {
        self.options().1
    }

    #[track_caller]
    fn options(&self) -> (Kind, Device) {
        let options = pass::record(Location::caller(), |cx| {
            cx.recording.asked.options = true;
            Ok(cx.probe.options)
        });
        options.unwrap_or(tch::kind::FLOAT_CPU)
    }

    /// Whether a gradient is computed: never in a symbolic pass.
    pub fn requires_grad(&self) -> bool {
        false
    }

    /// Whether the tensor is defined: always in a symbolic pass.
    pub fn defined(&self) -> bool {
        true
    }
}

macro_rules! sizes {
    ($($name:ident $rank:literal ($($part:ident),+) -> $ty:ty;)+) => {
        impl Traced {$(
            /// The sizes of a tensor with this number of dimensions.
            ///
            /// # Errors
            /// When the tensor has another number of dimensions.
            #[track_caller]
            pub fn $name(&self) -> Result<$ty, TchError> {
                match self.sizes(Some($rank)).as_deref() {
                    Some(&[$($part),+]) => Ok(sizes!(@ $($part),+)),
                    Some(sizes) => {
                        Err(TchError::Shape(format!("expected {} dims, got {sizes:?}", $rank)))
                    }
                    None => {
                        $(let $part = 1;)+
                        Ok(sizes!(@ $($part),+))
                    }
                }
            }
        )+}
    };
    (@ $only:ident) => { $only };
    (@ $($part:ident),+) => { ($($part),+) };
}

sizes! {
    size1 1 (a) -> i64;
    size2 2 (a, b) -> (i64, i64);
    size3 3 (a, b, c) -> (i64, i64, i64);
    size4 4 (a, b, c, d) -> (i64, i64, i64, i64);
    size5 5 (a, b, c, d, e) -> (i64, i64, i64, i64, i64);
    size6 6 (a, b, c, d, e, f) -> (i64, i64, i64, i64, i64, i64);
}
