//! Fault injection: tests let surgery fail at any of its steps. Without `cfg(test)` nothing is
//! injected.

/// Marks a step that may fail: an allocation, a call into libtorch, a user's code.
///
/// # Errors
/// The error that a test injects.
#[cfg(not(test))]
pub(crate) fn point() -> Result<(), tch::TchError> {
    Ok(())
}

#[cfg(test)]
pub(crate) use injected::{Failure, inject, point};

#[cfg(test)]
mod injected {
    use std::cell::Cell;

    use tch::TchError;

    /// How an injected step fails.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Failure {
        Error,
        Panic,
    }

    thread_local! {
        /// How many steps still succeed, and how the next one fails.
        static NEXT: Cell<Option<(usize, Failure)>> = const { Cell::new(None) };
    }

    pub(crate) fn point() -> Result<(), TchError> {
        match NEXT.take() {
            None => Ok(()),
            Some((0, Failure::Error)) => Err(TchError::Torch("injected".to_owned())),
            Some((0, Failure::Panic)) => panic!("injected"),
            Some((left, failure)) => {
                NEXT.set(Some((left - 1, failure)));
                Ok(())
            }
        }
    }

    /// Runs `body` with a failure at its `step`-th step, counted from 0. The flag is whether that
    /// step was reached.
    pub(crate) fn inject<T>(
        step: usize,
        failure: Failure,
        body: impl FnOnce() -> T,
    ) -> (std::thread::Result<T>, bool) {
        NEXT.set(Some((step, failure)));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        (done, NEXT.take().is_none())
    }
}
