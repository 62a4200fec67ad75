//! Collects errors, so that all errors of a type are reported at once.

use std::cell::RefCell;

use quote::ToTokens;

/// The errors found so far.
pub(crate) struct Ctxt {
    /// `None` once checked.
    errors: RefCell<Option<Vec<syn::Error>>>,
}

impl Ctxt {
    pub(crate) fn new() -> Self {
        Ctxt { errors: RefCell::new(Some(Vec::new())) }
    }

    /// Records an error at these tokens. The message states the rule, then the fix.
    pub(crate) fn error(&self, at: impl ToTokens, message: impl std::fmt::Display) {
        self.syn_error(syn::Error::new_spanned(at, message));
    }

    pub(crate) fn syn_error(&self, error: syn::Error) {
        if let Some(errors) = self.errors.borrow_mut().as_mut() {
            errors.push(error);
        }
    }

    /// The number of errors found so far.
    pub(crate) fn len(&self) -> usize {
        self.errors.borrow().as_ref().map_or(0, Vec::len)
    }

    /// Consumes the context. Returns all errors as `Err`, if there are any.
    pub(crate) fn check(self) -> Result<(), Vec<syn::Error>> {
        match self.errors.take() {
            Some(errors) if !errors.is_empty() => Err(errors),
            _ => Ok(()),
        }
    }
}

impl Drop for Ctxt {
    fn drop(&mut self) {
        // If a collected error were never reported, a wrong struct would expand to a wrong impl.
        debug_assert!(
            self.errors.borrow().is_none() || std::thread::panicking(),
            "errors were not checked"
        );
    }
}
