//! The widths (numbers of channels) of values, as far as they are known while compiling.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, Lit};

use crate::ctxt::Ctxt;
use crate::tokens::peeled;
use crate::tokens::{local, mentions};

use super::ast::Parameter;

/// The width of a value: its number of channels.
#[derive(Clone)]
pub(crate) enum Width {
    /// A literal.
    Literal(i64),
    /// This many channels, flattened by a `flatten` without a number of positions.
    Flattened(i64),
    /// An expression of constants and parameters.
    Symbolic(TokenStream),
    /// Not known, as the width of the input, or of the output of a model that is a layer.
    Unknown,
}

impl Width {
    pub(crate) fn of(expr: &Expr) -> Self {
        match peeled(expr) {
            Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => {
                number.base10_parse().map_or(Width::Unknown, Width::Literal)
            }
            expr => Width::Symbolic(expr.to_token_stream()),
        }
    }

    /// The width of a concatenation.
    pub(crate) fn sum(parts: &[Width]) -> Self {
        parts
            .iter()
            .cloned()
            .reduce(|a, b| match (a, b) {
                (Width::Literal(a), Width::Literal(b)) => {
                    a.checked_add(b).map_or(Width::Unknown, Width::Literal)
                }
                (
                    Width::Literal(a) | Width::Flattened(a),
                    Width::Literal(b) | Width::Flattened(b),
                ) => a.checked_add(b).map_or(Width::Unknown, Width::Flattened),
                (Width::Unknown | Width::Flattened(_), _)
                | (_, Width::Unknown | Width::Flattened(_)) => Width::Unknown,
                (a, b) => {
                    let (a, b) = (a.tokens(), b.tokens());
                    let sum = quote!((#a) + (#b));
                    if count(sum.clone()) > MOST_TOKENS {
                        Width::Unknown
                    } else {
                        Width::Symbolic(sum)
                    }
                }
            })
            .unwrap_or(Width::Unknown)
    }

    /// The width of one of `parts` equal parts.
    pub(crate) fn part(&self, parts: Option<i64>) -> Self {
        match (self, parts) {
            (Width::Literal(width), Some(parts)) if parts > 0 && width % parts == 0 => {
                Width::Literal(width / parts)
            }
            _ => Width::Unknown,
        }
    }

    /// The width after a flatten without a number of positions.
    pub(crate) fn flattened(self) -> Self {
        if let Width::Literal(width) = self { Width::Flattened(width) } else { Width::Unknown }
    }

    /// The width after a flatten of `positions` positions.
    pub(crate) fn times(&self, positions: i64) -> Self {
        match self {
            Width::Literal(width) => {
                width.checked_mul(positions).map_or(Width::Unknown, Width::Literal)
            }
            _ => Width::Unknown,
        }
    }

    fn tokens(&self) -> TokenStream {
        match self {
            Width::Literal(width) => {
                proc_macro2::Literal::i64_unsuffixed(*width).into_token_stream()
            }
            Width::Symbolic(tokens) => tokens.clone(),
            Width::Flattened(_) | Width::Unknown => TokenStream::new(),
        }
    }
}

/// The largest number of tokens of a width. A sum of sums may double with each statement; a longer
/// one becomes unknown here, and is compared by `plan`.
const MOST_TOKENS: usize = 1000;

fn count(tokens: TokenStream) -> usize {
    let inside =
        |token| if let TokenTree::Group(group) = token { count(group.stream()) } else { 0 };
    tokens.into_iter().map(|token| 1 + inside(token)).sum()
}

/// A layer that reads channels.
pub(crate) struct Reader<'a> {
    pub(crate) name: &'a str,
    /// The number of channels that it takes, as written.
    pub(crate) takes: &'a Expr,
    /// Whether the layer may read flattened channels, and so takes a multiple of the width.
    pub(crate) flattens: bool,
}

/// Where widths that are not literals are compared.
pub(crate) enum Check {
    /// While compiling, for constants alone.
    Constant(TokenStream),
    /// In the constructor, for widths with parameters.
    Constructor(TokenStream),
}

/// Compares the width that a layer takes with the width of its input. Literals are compared here,
/// other widths by a generated assertion.
pub(crate) fn check(
    cx: &Ctxt,
    parameters: &[Parameter],
    reader: &Reader,
    source: &str,
    gives: &Width,
) -> Option<Check> {
    let (name, verb) = (reader.name, if reader.flattens { "features" } else { "channels" });
    match (Width::of(reader.takes), gives) {
        (Width::Literal(takes), Width::Literal(gives)) => {
            let fits = takes == *gives || (reader.flattens && *gives > 0 && takes % gives == 0);
            if !fits {
                cx.error(
                    reader.takes,
                    format!("`{name}` takes {takes} {verb}, but {source} gives {gives}"),
                );
            }
            None
        }
        (Width::Literal(takes), Width::Flattened(gives)) => {
            let fits = takes == *gives || (reader.flattens && *gives > 0 && takes % gives == 0);
            if !fits {
                let hint = "if they were flattened of several positions, say how many: `flatten(positions)`";
                cx.error(
                    reader.takes,
                    format!("`{name}` takes {takes} {verb}, but {source} gives {gives}; {hint}"),
                );
            }
            None
        }
        (Width::Unknown | Width::Flattened(_), _) | (_, Width::Unknown | Width::Flattened(_)) => {
            None
        }
        (takes, gives) => {
            let (t, g) = (local("takes"), local("gives"));
            let fits =
                if reader.flattens { quote!(#g > 0 && #t % #g == 0) } else { quote!(#t == #g) };
            let text = |takes: &str, gives: &str| {
                format!("`{name}` takes {takes} {verb}, but {source} gives {gives}")
            };
            Some(assertion(parameters, reader.takes.span(), [takes, gives.clone()], &fits, text))
        }
    }
}

/// Compares the widths of the two sides of a sum, like [`check`]. Two literals are compared where
/// the sum is resolved.
pub(crate) fn check_sum(
    parameters: &[Parameter],
    at: Span,
    [left, right]: [(&str, &Width); 2],
) -> Option<Check> {
    let compared = |width: &Width| matches!(width, Width::Literal(_) | Width::Symbolic(_));
    let literals = matches!((left.1, right.1), (Width::Literal(_), Width::Literal(_)));
    if literals || !compared(left.1) || !compared(right.1) {
        return None;
    }
    let (t, g) = (local("takes"), local("gives"));
    let text = |one: &str, other: &str| {
        format!("{} ({one} channels) + {} ({other} channels): widths differ", left.0, right.0)
    };
    Some(assertion(parameters, at, [left.1.clone(), right.1.clone()], &quote!(#t == #g), text))
}

/// An assertion about two widths, in the place where both are known: while compiling, or in the
/// constructor.
fn assertion(
    parameters: &[Parameter],
    at: Span,
    [takes, gives]: [Width; 2],
    fits: &TokenStream,
    text: impl Fn(&str, &str) -> String,
) -> Check {
    let (takes, gives) = (takes.tokens(), gives.tokens());
    let (t, g) = (local("takes"), local("gives"));
    let runtime = [&takes, &gives]
        .into_iter()
        .any(|tokens| parameters.iter().any(|parameter| mentions(tokens, &parameter.ident)));
    let assertion = if runtime {
        let message = text("{}", "{}");
        quote_spanned!(at=> ::core::assert!(#fits, #message, #t, #g))
    } else {
        // A message that is made while compiling cannot format numbers, so it has the expressions
        // as they are written. Their braces are escaped, since braces are placeholders.
        let written =
            |tokens: &TokenStream| format!("`{tokens}`").replace('{', "{{").replace('}', "}}");
        let message = text(&written(&takes), &written(&gives));
        quote_spanned!(at=> ::core::assert!(#fits, #message))
    };
    let check = quote! {{
        let (#t, #g): (i64, i64) = (#takes, #gives);
        #assertion;
    }};
    if runtime { Check::Constructor(check) } else { Check::Constant(check) }
}
