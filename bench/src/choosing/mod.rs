//! What methods of slimming are worth: networks that are trained, slimmed in several ways, repaired
//! and fine-tuned on CIFAR-10, row by row. Finished rows are kept in a file, so a run that was
//! stopped goes on.

mod results;
mod rows;
mod runs;

pub use results::{Measured, Results};
pub use rows::{Budget, Choice, Limits, ROWS, Row, Training};
pub use runs::{Runs, Setup};
