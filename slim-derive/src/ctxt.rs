//! Collects errors, so that all of a struct's come in one go.

use std::cell::RefCell;

use quote::ToTokens;

/// Errors so far.
pub(crate) struct Ctxt {
    /// `None` once checked.
    errors: RefCell<Option<Vec<syn::Error>>>,
}

impl Ctxt {
    pub(crate) fn new() -> Self {
        Ctxt { errors: RefCell::new(Some(Vec::new())) }
    }

    /// An error at these tokens. State the rule, then the fix.
    pub(crate) fn error(&self, at: impl ToTokens, message: impl std::fmt::Display) {
        self.syn_error(syn::Error::new_spanned(at, message));
    }

    pub(crate) fn syn_error(&self, error: syn::Error) {
        if let Some(errors) = self.errors.borrow_mut().as_mut() {
            errors.push(error);
        }
    }

    /// How many errors there are so far.
    pub(crate) fn len(&self) -> usize {
        self.errors.borrow().as_ref().map_or(0, Vec::len)
    }

    /// All errors, if there are any.
    pub(crate) fn check(self) -> Result<(), Vec<syn::Error>> {
        match self.errors.take() {
            Some(errors) if !errors.is_empty() => Err(errors),
            _ => Ok(()),
        }
    }
}

impl Drop for Ctxt {
    fn drop(&mut self) {
        // An error that is collected and never reported would make a wrong impl out of a wrong
        // struct.
        debug_assert!(
            self.errors.borrow().is_none() || std::thread::panicking(),
            "errors were not checked"
        );
    }
}
