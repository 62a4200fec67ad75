//! What is seen of training: a bar on a terminal, lines elsewhere.

use std::fmt::Display;
use std::io::{IsTerminal, stdout};

use indicatif::{ProgressBar, ProgressStyle};

use super::epoch::Place;
use super::{Output, Recipe, Score};
use crate::data::DataSet;
use crate::program::say;

/// What is shown, and to whom.
pub(super) struct Progress {
    bar: ProgressBar,
    /// Whether there are lines at all.
    quiet: bool,
    /// Whether steps have some: where whoever reads the lines does not see the bar.
    of_steps: bool,
    interval: usize,
    size: Size,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) epochs: usize,
    pub(super) steps: usize,
    pub(super) images: usize,
    pub(super) batch: usize,
}

impl Size {
    pub(super) fn new(data: &DataSet, recipe: &Recipe) -> Self {
        let (images, batch) = (data.train.len(), recipe.batch_size);
        Self { epochs: recipe.epochs, steps: images.div_ceil(batch), images, batch }
    }
}

impl Progress {
    /// From a place on. The bar is on standard error, and not there where that is no terminal.
    pub(super) fn new(size: Size, place: &Place, output: &Output) -> Self {
        // The template is a constant, and the fallback a bar all the same.
        let style = ProgressStyle::with_template("{bar:30} {msg}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new((size.epochs * size.steps) as u64).with_style(style);
        bar.set_position((place.epoch * size.steps + place.step) as u64);
        bar.reset_eta();
        let of_steps = bar.is_hidden() || !stdout().is_terminal();
        Self { bar, quiet: output.quiet, of_steps, interval: output.log_interval.max(1), size }
    }

    /// A step that was made, and its loss, if it was fetched.
    pub(super) fn step(&self, place: &Place, loss: Option<f64>) {
        let Size { epochs, steps, images, batch } = self.size;
        let Place { epoch, step, sums } = place;
        self.bar.inc(1);
        let Some(loss) = loss else { return };
        self.bar.set_message(format!(
            "epoch {epoch} of 0-{}, loss {:.3}, accuracy {:.1} %, {:.0} images/s",
            epochs - 1,
            sums.loss(),
            sums.accuracy(),
            sums.images_per_second()
        ));
        if self.of_steps && step.is_multiple_of(self.interval) {
            // As the reference counts: what was done before this step, and its own loss.
            let share = 100. * *step as f64 / steps as f64;
            self.line(format_args!(
                "Train Epoch: {epoch} [{}/{images} ({share:.1}%)]\tLoss: {loss:.6}",
                step * batch
            ));
        }
    }

    /// What an epoch has led to, and whether γ show the gap that is watched for.
    pub(super) fn score(&self, score: &Score, has_gap: Option<bool>) {
        let Score { loss, correct, total } = score;
        let gap = match has_gap {
            Some(true) => ", gap: yes",
            Some(false) => ", gap: no",
            None => "",
        };
        self.line(format_args!(
            "\nTest set: Average loss: {loss:.4}, Accuracy: {correct}/{total} ({:.1}%){gap}\n",
            score.accuracy()
        ));
    }

    fn line(&self, line: impl Display) {
        if !self.quiet {
            self.bar.suspend(|| say(line));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
