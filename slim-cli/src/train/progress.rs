//! Display of training: a bar on a terminal, lines elsewhere.

use std::fmt::Display;
use std::io::{IsTerminal, stdout};

use indicatif::{ProgressBar, ProgressStyle};

use super::epoch::Progress;
use super::{Output, Recipe, Score};
use crate::data::DataSet;
use crate::terminal::say;

/// The bar and the lines.
pub(super) struct ProgressDisplay {
    bar: ProgressBar,
    /// Whether no lines are printed.
    quiet: bool,
    /// Whether steps print lines: if the bar is not visible together with the lines.
    of_steps: bool,
    interval: usize,
    size: Size,
}

/// Amount of work.
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

impl ProgressDisplay {
    /// Starts at this progress. The bar is on standard error, and hidden if that is not a terminal.
    /// With `shows` false, it shows nothing at all.
    pub(super) fn new(size: Size, progress: &Progress, output: &Output, shows: bool) -> Self {
        // The template is a constant, so the fallback is not needed.
        let style = ProgressStyle::with_template("{bar:30} {msg}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = if shows {
            ProgressBar::new((size.epochs * size.steps) as u64).with_style(style)
        } else {
            ProgressBar::hidden()
        };
        bar.set_position((progress.epoch * size.steps + progress.step) as u64);
        bar.reset_eta();
        let of_steps = bar.is_hidden() || !stdout().is_terminal();
        let quiet = output.quiet || !shows;
        Self { bar, quiet, of_steps, interval: output.log_interval.max(1), size }
    }

    /// Shows that a step is done, and its loss, if it was fetched.
    pub(super) fn step(&self, progress: &Progress, loss: Option<f64>) {
        let Size { epochs, steps, images, batch } = self.size;
        let Progress { epoch, step, sums } = progress;
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
            // As in the reference: the images before this step, and the loss of this step.
            let share = 100. * *step as f64 / steps as f64;
            self.line(format_args!(
                "Train Epoch: {epoch} [{}/{images} ({share:.1}%)]\tLoss: {loss:.6}",
                step * batch
            ));
        }
    }

    /// Shows the score after an epoch, and whether γ show a gap at the watched ratio.
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

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
