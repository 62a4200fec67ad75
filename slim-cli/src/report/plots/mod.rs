//! The pictures of a report, as SVG. Their colours are placeholders, to which the page's style
//! gives light and dark values.

mod canvas;
mod curves;
mod ink;
mod layers;
mod lines;
mod range;
mod rows;
mod scale;
mod scores;
mod stages;

pub(super) use curves::{Curve, all_curves, curve};
pub(super) use ink::{ALL as INKS, Ink};
pub(super) use layers::channels;
pub(super) use lines::lines;
pub(super) use range::Range;
pub(super) use scores::{histogram, strips};
pub(super) use stages::{accuracy, sizes};
