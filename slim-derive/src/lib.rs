//! The derive macro of [slim](https://docs.rs/slim-runtime), which re-exports it: depend on `slim-runtime` and not on this crate.
//!
//! Stages, each a file: tokens → `ast` (what is written, typed) → `wiring` (what it means, checked) → `expand` (tokens).
//! Errors of all stages are collected in a `ctxt` and reported together, each at its token.

mod ast;
mod attr;
mod ctxt;
mod expand;
mod suggest;
mod wiring;

use proc_macro2::TokenStream;
use syn::DeriveInput;

/// Derives `Prunable` for a struct of layers: data flows through the fields in the order of their declaration.
///
/// | on a field | meaning |
/// | --- | --- |
/// | nothing | a layer, a derived struct, a container of these, or a plain value, which passes channels on |
/// | `#[prune(elementwise)]` | keeps channels as they are; its type need not implement `Prunable` |
/// | `#[prune(skip)]` | is not part of the data flow |
/// | `#[prune(keep)]` | its output channels are never removed |
///
/// | on the struct | meaning |
/// | --- | --- |
/// | `#[prune(input = 3)]` | takes 3 channels, which is checked |
/// | `#[prune(crate = "path::to::slim_runtime")]` | where the runtime is, if not at `::slim_runtime` |
///
/// Field types that mention a type parameter get a `Prunable` bound.
#[proc_macro_derive(Prunable, attributes(prune))]
pub fn derive_prunable(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    prunable(&input).into()
}

fn prunable(input: &DeriveInput) -> TokenStream {
    let cx = ctxt::Ctxt::new();
    let model = ast::Model::parse(&cx, input);
    let wiring = wiring::resolve(&cx, &model);
    match cx.check() {
        Ok(()) => expand::implementation(&model, &wiring),
        Err(errors) => {
            let errors = errors.into_iter().map(syn::Error::into_compile_error);
            errors.chain([expand::fallback(&model)]).collect()
        }
    }
}
