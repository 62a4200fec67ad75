//! Small helpers on tokens that all macros share.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Expr, ExprLit, Lit};

/// A variable that cannot collide with the user's names.
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

/// The value of an integer literal; `None` for any other expression.
pub(crate) fn literal(expr: &Expr) -> Option<i64> {
    match peeled(expr) {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse().ok(),
        _ => None,
    }
}

pub(crate) const NO_PARTS: &str = "nothing can be cut into 0 parts";

/// The error of taking chunk `index` of `chunks`, if both are literals, and whether the index is at
/// fault.
pub(crate) fn chunk_error(chunks: &Expr, index: &Expr) -> Option<(String, bool)> {
    match (literal(chunks), literal(index)) {
        (Some(0), _) => Some((NO_PARTS.to_owned(), false)),
        (Some(chunks), Some(index)) if index >= chunks => {
            let last = chunks - 1;
            Some((format!("there is no chunk {index} of {chunks}; the last is {last}"), true))
        }
        _ => None,
    }
}
