//! Ctrl-C and SIGTERM: the first ends training in order, the second at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::program::INTERRUPTED;

/// Whether someone wants training to end. Its clones are one.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// Training ended before its last epoch, because someone wanted it to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("interrupted in epoch {epoch} after {step} of {steps} steps{}", saved(.checkpoint))]
pub struct Interrupted {
    /// The epoch under way, from 0.
    pub epoch: usize,
    /// How many of its steps are done.
    pub step: usize,
    /// How many it has.
    pub steps: usize,
    /// The file that it goes on from, by [`Resume::read`](super::Resume::read).
    pub checkpoint: Option<PathBuf>,
}

fn saved(checkpoint: &Option<PathBuf>) -> String {
    checkpoint.as_ref().map_or_else(String::new, |file| format!("; saved as {}", file.display()))
}

impl Interrupt {
    /// That of this process: Ctrl-C and SIGTERM ask for the end. A second signal does not wait for
    /// it.
    ///
    /// # Errors
    /// The system's.
    pub fn on_signals() -> Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            let install = || {
                // In this order: the first signal finds the flag down, and raises it.
                flag::register_conditional_shutdown(
                    signal,
                    INTERRUPTED.into(),
                    interrupt.0.clone(),
                )?;
                flag::register(signal, interrupt.0.clone())
            };
            install().context("cannot watch for Ctrl-C")?;
        }
        Ok(interrupt)
    }

    /// Asks for the end.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether someone has asked for the end.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
