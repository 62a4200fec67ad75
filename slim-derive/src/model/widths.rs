//! How many channels flow, as far as that is known while compiling.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, Lit};

use crate::ctxt::Ctxt;
use crate::tokens::peeled;
use crate::tokens::{local, mentions};

use super::ast::Parameter;

/// A width.
#[derive(Clone)]
pub(crate) enum Width {
    /// A literal.
    Literal(i64),
    /// So many channels, flattened by a `flatten` that does not say of how many positions.
    Flattened(i64),
    /// An expression of constants and parameters.
    Symbolic(TokenStream),
    /// Not known: of a model that is a layer, of the input.
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

    /// Of a concatenation.
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

    /// Of one of so many equal parts.
    pub(crate) fn part(&self, parts: Option<i64>) -> Self {
        match (self, parts) {
            (Width::Literal(width), Some(parts)) if parts > 0 && width % parts == 0 => {
                Width::Literal(width / parts)
            }
            _ => Width::Unknown,
        }
    }

    /// Of a flatten that does not say of how many positions.
    pub(crate) fn flattened(self) -> Self {
        if let Width::Literal(width) = self { Width::Flattened(width) } else { Width::Unknown }
    }

    /// Of a flatten of so many positions.
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

/// A sum of sums doubles with each statement. What is longer than this is left for `plan` to
/// compare.
const MOST_TOKENS: usize = 1000;

fn count(tokens: TokenStream) -> usize {
    let inside =
        |token| if let TokenTree::Group(group) = token { count(group.stream()) } else { 0 };
    tokens.into_iter().map(|token| 1 + inside(token)).sum()
}

/// A layer that reads channels.
pub(crate) struct Reader<'a> {
    pub(crate) name: &'a str,
    /// How many it takes, where it is written.
    pub(crate) takes: &'a Expr,
    /// Whether it may read the flatten of them, so that it takes a multiple.
    pub(crate) flattens: bool,
}

/// Where widths are compared that are no literals.
pub(crate) enum Check {
    /// While compiling: constants alone.
    Constant(TokenStream),
    /// In the constructor: parameters too.
    Constructor(TokenStream),
}

/// Compares what a layer takes with what flows. Literals are compared here, anything else by an
/// assertion.
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

/// Compares the two sides of a sum, as [`check`] does; two literals are compared where the sum is
/// made.
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

/// An assertion about two widths, where both are known: while compiling, or in the constructor.
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
        // A message that is made while compiling cannot have numbers in it, so it has what is
        // written; and braces mean a number.
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
