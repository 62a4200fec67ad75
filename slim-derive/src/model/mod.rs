//! `model!`: struct, constructor and forward pass from one definition.
//!
//! Stages, each a file: tokens → `ast` (the parsed definition) → `resolve` (the checked network;
//! with `joins`, `layers`, `norms`, `sequences`, `functions`, `widths`, `checks` and `reads`) →
//! `expand` (tokens). The wiring is read from the forward pass, as with `#[forward]` and
//! `#[derive(Prunable)]`.

mod arguments;
mod ast;
mod checks;
mod expand;
mod functions;
mod joins;
mod layers;
mod norms;
mod reads;
pub(crate) mod resolve;
mod sequences;
mod widths;

use proc_macro2::TokenStream;

use crate::ctxt::Ctxt;
use crate::nesting;

pub(crate) fn model(tokens: TokenStream) -> TokenStream {
    let definition = match nesting::check(tokens).and_then(syn::parse2::<ast::Definition>) {
        Ok(definition) => definition,
        Err(error) => return error.into_compile_error(),
    };
    let cx = Ctxt::new();
    let network = resolve::resolve(&cx, &definition);
    match cx.check() {
        Ok(()) => expand::network(&definition, &network),
        Err(errors) => errors
            .into_iter()
            .map(syn::Error::into_compile_error)
            .chain([expand::fallback(&definition, network)])
            .collect(),
    }
}

#[cfg(test)]
mod tests;
