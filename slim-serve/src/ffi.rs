//! The calls of the shim, `shim/serve.cpp`: the crate's only unsafe code.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};
use std::ptr::{NonNull, null_mut};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::form::Form;

#[repr(C)]
struct RawNetwork {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawProgram {
    _opaque: [u8; 0],
}

// The build script links the shim; with `doc-only` there is none.
unsafe extern "C" {
    fn slim_serve_load(
        bytes: *const c_char,
        count: usize,
        error: *mut *mut c_char,
    ) -> *mut RawNetwork;
    fn slim_serve_fixed_states(network: *const RawNetwork) -> *const c_char;
    fn slim_serve_same(one: *const RawNetwork, other: *const RawNetwork) -> bool;
    fn slim_serve_compile(
        network: *const RawNetwork,
        form: c_int,
        input: *const C_tensor,
        error: *mut *mut c_char,
    ) -> *mut RawProgram;
    fn slim_serve_run(
        program: *const RawProgram,
        input: *const C_tensor,
        error: *mut *mut c_char,
    ) -> *mut C_tensor;
    fn slim_serve_free_network(network: *mut RawNetwork);
    fn slim_serve_free_program(program: *mut RawProgram);
    fn slim_serve_free_text(text: *mut c_char);
}

/// Calls a function of the shim, which returns null and sets the error when it fails.
fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> *mut T) -> Result<NonNull<T>, String> {
    let mut error = null_mut();
    NonNull::new(call(&raw mut error)).ok_or_else(|| {
        if error.is_null() {
            return "there is no memory for it".to_owned();
        }
        // SAFETY: the shim has set a text that ends with zero, which is this function's to free.
        let text = unsafe {
            let text = CStr::from_ptr(error).to_string_lossy().into_owned();
            slim_serve_free_text(error);
            text
        };
        last_words(&text)
    })
}

/// The last line of an error of the interpreter; the lines before it give the position in the code.
fn last_words(text: &str) -> String {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or(text);
    line.strip_prefix("RuntimeError: ").unwrap_or(line).to_owned()
}

/// A network, whose weights are constants of its graph, before the shape of its input is known.
#[derive(Debug)]
pub(crate) struct Network(NonNull<RawNetwork>);

/// A network in one form, for inputs of one shape.
#[derive(Debug)]
pub(crate) struct Program(NonNull<RawProgram>);

// SAFETY: neither has a thread of its own or thread-local state. A program does not change after it
// was made: every run has an interpreter of its own, and the kernels that oneDNN compiles at the
// first run are guarded by a flag that is set once.
unsafe impl Send for Network {}
unsafe impl Send for Program {}
unsafe impl Sync for Program {}

impl Network {
    /// Reads TorchScript, makes its weights constants and folds batch norms.
    ///
    /// # Errors
    /// libtorch's words.
    pub(crate) fn load(bytes: &[u8]) -> Result<Self, String> {
        // SAFETY: the shim reads these bytes and keeps none.
        let load = |error| unsafe { slim_serve_load(bytes.as_ptr().cast(), bytes.len(), error) };
        checked(load).map(Self)
    }

    /// The first recurrent operation whose states are for one batch.
    pub(crate) fn fixed_states(&self) -> Option<&'static str> {
        // SAFETY: the network is alive; the text is a literal, or null.
        unsafe {
            let name = slim_serve_fixed_states(self.0.as_ptr());
            (!name.is_null()).then(|| CStr::from_ptr(name).to_str().unwrap_or_default())
        }
    }

    /// Whether both have the same operations and the same constants.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        // SAFETY: both are alive.
        unsafe { slim_serve_same(self.0.as_ptr(), other.0.as_ptr()) }
    }

    /// # Errors
    /// libtorch's words, when the form does not exist for this network.
    pub(crate) fn compile(&self, form: Form, input: &Tensor) -> Result<Program, String> {
        // SAFETY: the network and the tensor are alive, and the shim keeps neither.
        let compile = |error| unsafe {
            slim_serve_compile(self.0.as_ptr(), form as c_int, input.as_ptr(), error)
        };
        checked(compile).map(Program)
    }
}

impl Program {
    /// # Errors
    /// libtorch's words.
    pub(crate) fn run(&self, input: &Tensor) -> Result<Tensor, String> {
        // SAFETY: the program and the tensor are alive. The shim returns a new tensor, of which
        // `from_ptr` becomes the owner.
        let run = |error| unsafe { slim_serve_run(self.0.as_ptr(), input.as_ptr(), error) };
        checked(run).map(|output| unsafe { Tensor::from_ptr(output.as_ptr()) })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // SAFETY: it is dropped once.
        unsafe { slim_serve_free_network(self.0.as_ptr()) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it is dropped once.
        unsafe { slim_serve_free_program(self.0.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreters_error_is_its_last_line() {
        let text =
            "The following operation failed.\nTraceback:\n  at x\nRuntimeError: sizes differ\n\n";
        assert_eq!(last_words(text), "sizes differ");
        assert_eq!(last_words(""), "");
    }

    #[test]
    fn bytes_that_are_no_torch_script_are_refused() {
        for bytes in [&b""[..], b"PK\x03\x04", &[0; 4096]] {
            assert!(Network::load(bytes).is_err());
        }
    }
}
