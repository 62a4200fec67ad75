//! Failures on demand, so that tests can stop surgery at every step of it. Outside of tests there
//! are none.

/// A step that may fail: an allocation, a call of libtorch's, a user's code.
///
/// # Errors
/// Where a test asks for one.
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

    /// How a step fails.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Failure {
        Error,
        Panic,
    }

    thread_local! {
        /// How many steps are still to go well, and what happens then.
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

    /// Runs `body` with a failure at its `step`-th step, counted from 0, and says whether it came
    /// to that.
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
