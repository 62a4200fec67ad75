//! `#[forward]`: leaves a forward pass as it is, and adds a copy over symbolic tensors.
//!
//! Stages, each a file: tokens → `item` (the annotated item, typed and checked) → `trait_impl`, or
//! `generic` with `front` and `entry` (code), which use `copy` for the symbolic body.

mod attributes;
mod copy;
mod entry;
mod front;
mod generic;
mod item;
mod signature;
mod trait_impl;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Block, Generics, Ident, Item, Meta, Path, Token, TypeParamBound, WherePredicate, parse_quote,
};

use crate::attr;
use crate::ctxt::Ctxt;
use crate::nesting;
use copy::SymbolicCopy;
use item::Target;

pub(crate) fn forward(arguments: TokenStream, tokens: TokenStream) -> TokenStream {
    with_errors(|cx| expand(cx, arguments, tokens))
}

/// An item of `model!` that has a forward pass, and its symbolic copy.
pub(crate) fn forward_of(krate: &Path, tokens: TokenStream) -> TokenStream {
    with_errors(|cx| read(cx, krate, tokens))
}

fn with_errors(expand: impl FnOnce(&Ctxt) -> TokenStream) -> TokenStream {
    let cx = Ctxt::new();
    let expanded = expand(&cx);
    let errors = cx.check().err().unwrap_or_default();
    let errors = errors.into_iter().map(syn::Error::into_compile_error);
    [expanded].into_iter().chain(errors).collect()
}

/// The user's item and its symbolic copy; the item alone where there is nothing to copy.
pub(crate) fn expand(cx: &Ctxt, arguments: TokenStream, tokens: TokenStream) -> TokenStream {
    let krate = krate(cx, arguments);
    if let Err(error) = nesting::check(tokens.clone()) {
        cx.syn_error(error);
        return tokens;
    }
    let Some(krate) = krate else { return tokens };
    read(cx, &krate, tokens)
}

fn read(cx: &Ctxt, krate: &Path, tokens: TokenStream) -> TokenStream {
    let Ok(item) = syn::parse2::<Item>(tokens.clone()) else {
        // rustc reports syntax errors better than this macro could.
        let copy = trait_impl::without_body(krate, &tokens);
        return quote!(#tokens #copy);
    };
    match Target::parse(cx, &item) {
        Some(Target::Trait(target)) => {
            let copy = trait_impl::copy(krate, &target);
            quote!(#tokens #copy)
        }
        Some(Target::Inherent(target)) => generic::inherent(krate, &target),
        Some(Target::Function(function)) => generic::function(krate, &function),
        None => tokens,
    }
}

/// The path of the runtime; `None` if the value of `crate` is not a path.
fn krate(cx: &Ctxt, arguments: TokenStream) -> Option<Path> {
    let mut krate = Some(parse_quote!(::slim_runtime));
    if let Err(error) = nesting::check(arguments.clone()) {
        cx.syn_error(error);
        return krate;
    }
    let metas = syn::parse::Parser::parse2(
        Punctuated::<Meta, Token![,]>::parse_terminated,
        arguments.clone(),
    );
    const FORM: &str = "`#[forward]` takes nothing, or the path of the runtime";
    let Ok(metas) = metas else {
        cx.error(
            arguments,
            format!(
                "{FORM}; write `#[forward]` or `#[forward(crate = \"path::to::slim_runtime\")]`"
            ),
        );
        return krate;
    };
    for meta in &metas {
        if meta.path().is_ident("crate") {
            krate = attr::path_in_quotes(meta);
            if krate.is_none() {
                cx.error(
                    meta.path(),
                    "`crate` is a path in quotes; write `#[forward(crate = \"path::to::slim_runtime\")]`",
                );
            }
        } else {
            let key = meta.path().to_token_stream().to_string().replace(' ', "");
            cx.error(meta.path(), format!("{FORM}; remove `{key}`"));
        }
    }
    krate
}

/// Silences lints in generated code, since the user's body is linted in its own place. Allows
/// `warnings` instead of lints by name, since it is an error to allow a lint that the user forbids.
fn lints() -> TokenStream {
    quote!(#[allow(warnings, clippy::all, clippy::pedantic)])
}

/// The import of the runtime. If its path does not resolve, the import is the only error.
fn import(krate: &Path) -> TokenStream {
    quote_spanned!(krate.span()=> use #krate as _slim;)
}

/// The path of the runtime after this import.
fn imported() -> Path {
    parse_quote!(_slim)
}

/// The symbolic copy of a body, in which the name of the tensor type means the symbolic type.
fn symbolic_body(krate: &Path, tensor: &Ident, body: &Block) -> TokenStream {
    let (names, copy) = (names(tensor), SymbolicCopy { krate, tensor });
    let statements = body.stmts.iter().map(|statement| copy.of(statement));
    // These braces have no span of the user's code, so that rustc does not report them as
    // unnecessary.
    quote! {
        {
            #(#[allow(unused_imports)] use #krate::Traced as #names;)*
            #[allow(unused_imports)]
            use #krate::__private::SymbolicModule as _;
            { #(#statements)* }
        }
    }
}

/// The names of the tensor type: the name in the signature, and `Tensor`.
fn names(tensor: &Ident) -> Vec<Ident> {
    let own = (tensor != "Tensor").then(|| Ident::new("Tensor", tensor.span()));
    [tensor.clone()].into_iter().chain(own).collect()
}

/// The generics of a symbolic copy, in which every type that is a module is also `Prunable`.
fn prunable(generics: &Generics, krate: &Path) -> Generics {
    let is_module = |bound: &TypeParamBound| {
        let TypeParamBound::Trait(bound) = bound else { return false };
        let last = bound.path.segments.last();
        last.is_some_and(|last| last.ident == "ModuleT" || last.ident == "Module")
    };
    let mut generics = generics.clone();
    for param in generics.type_params_mut() {
        if param.bounds.iter().any(is_module) {
            param.bounds.push(parse_quote!(#krate::Prunable));
        }
    }
    for predicate in generics.where_clause.iter_mut().flat_map(|clause| &mut clause.predicates) {
        if let WherePredicate::Type(predicate) = predicate
            && predicate.bounds.iter().any(is_module)
        {
            predicate.bounds.push(parse_quote!(#krate::Prunable));
        }
    }
    generics
}

#[cfg(test)]
pub(crate) mod tests;
