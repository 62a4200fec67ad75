//! Small helpers on tokens that all macros share.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::Expr;

/// A variable that cannot collide with a name of the user's.
pub(crate) fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// The name of a parameter: `_` if the body does not use it.
pub(crate) fn parameter(name: &str, used: bool) -> TokenStream {
    if used { local(name).into_token_stream() } else { quote!(_) }
}

/// Whether `ident` occurs in the tokens, at any depth.
pub(crate) fn mentions(tokens: &impl ToTokens, ident: &Ident) -> bool {
    tokens.to_token_stream().into_iter().any(|token| match token {
        TokenTree::Ident(found) => found == *ident,
        TokenTree::Group(group) => mentions(&group.stream(), ident),
        _ => false,
    })
}

/// The expression without parentheses, and without the invisible group around a `macro_rules!`
/// fragment.
pub(crate) fn peeled(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(inner) => peeled(&inner.expr),
        Expr::Paren(inner) => peeled(&inner.expr),
        expr => expr,
    }
}
