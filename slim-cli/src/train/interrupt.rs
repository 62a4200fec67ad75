//! Ctrl-C and SIGTERM: the first signal ends training in order, the second at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Exit code of a program that Ctrl-C or SIGTERM ended: the code that shells use for Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// A request to end training. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// Training was ended by a request, before its last epoch was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("interrupted in epoch {epoch} after {step} of {steps} steps{}", saved(.checkpoint))]
pub struct Interrupted {
    /// The current epoch, from 0.
    pub epoch: usize,
    /// Number of its steps that are done.
    pub step: usize,
    /// Number of steps of an epoch.
    pub steps: usize,
    /// The file to resume from, with [`Resume::read`](super::Resume::read).
    pub checkpoint: Option<PathBuf>,
}

fn saved(checkpoint: &Option<PathBuf>) -> String {
    checkpoint.as_ref().map_or_else(String::new, |file| format!("; saved as {}", file.display()))
}

impl Interrupt {
    /// The interrupt of this process: Ctrl-C and SIGTERM request the end. A second signal ends the
    /// process at once.
    ///
    /// # Errors
    /// Errors of the operating system.
    pub fn on_signals() -> Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            let install = || {
                // In this order: on the first signal, the shutdown finds the flag unset, then the
                // flag is set.
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

    /// Requests the end of training.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end of training was requested.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
