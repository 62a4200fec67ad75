//! Operations that are no fields: activations, and what a forward pass does with tensors.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Expr, ExprLit, Lit, Path};

use super::arguments::Arguments;
use super::ast::Argument;
use super::widths::Width;
use crate::activation::{self, ACTIVATIONS};
use crate::ctxt::Ctxt;
use crate::tokens::peeled;

/// What a function does to a tensor, and to how many channels it has.
pub(crate) struct Applied {
    pub(crate) tensor: TokenStream,
    pub(crate) width: Width,
}

/// All words, for suggestions.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    let others = ["dropout", "flatten", "chunk", "shuffle", "pixel_shuffle", "interpolate", "map"];
    ACTIVATIONS
        .iter()
        .filter(|activation| activation.tensor.is_some())
        .map(|activation| activation.word)
        .chain(others)
}

/// The result of a function on `xs`, which may be changed if it is `spare`; `None` if there is no
/// such function, `Some(None)` after an error.
pub(crate) fn apply(
    cx: &Ctxt,
    krate: &Path,
    (operation, arguments): (&Path, &[Argument]),
    width: Width,
    spare: bool,
) -> Option<Option<Applied>> {
    let name = operation.get_ident()?.to_string();
    let xs = crate::tokens::local("xs");
    if let Some(method) = activation::find(&name).and_then(|activation| activation.tensor) {
        Arguments::new(cx, operation, "relu()", arguments).finish();
        let method: TokenStream = method.parse().unwrap_or_default();
        let tensor = match name.as_str() {
            "relu" if spare => quote!(#krate::functional::relu_into(#xs)),
            _ => quote!(#xs.#method),
        };
        return Some(Some(Applied { tensor, width }));
    }
    Some(match name.as_str() {
        "dropout" => one(cx, operation, "dropout(0.5)", arguments).map(|share| {
            let train = crate::tokens::local("train");
            Applied { tensor: quote!(#xs.dropout(#share, #train)), width }
        }),
        "flatten" if arguments.is_empty() => {
            Some(Applied { tensor: quote!(#xs.flatten(1, -1)), width: width.flattened() })
        }
        "flatten" => one(cx, operation, "flatten(49)", arguments).map(|positions| {
            let width =
                literal(positions).map_or(Width::Unknown, |positions| width.times(positions));
            Applied { tensor: quote!(#krate::functional::flatten(&#xs, #positions)), width }
        }),
        "interpolate" => one(cx, operation, "interpolate(2)", arguments).map(|factor| Applied {
            tensor: quote!(#krate::functional::interpolate(&#xs, #factor)),
            width,
        }),
        "map" => one(cx, operation, "map(|xs| xs.sin())", arguments).map(|closure| Applied {
            tensor: quote!(#krate::functional::map(&#xs, #closure)),
            width,
        }),
        "chunk" => {
            let mut arguments = Arguments::new(cx, operation, "chunk(2, 0)", arguments);
            let (chunks, index) = (arguments.next(), arguments.next());
            arguments.finish();
            chunks.zip(index).map(|(chunks, index)| {
                if let (Some(chunks), Some(number)) = (literal(chunks), literal(index))
                    && number >= chunks
                {
                    cx.error(index, format!("there is no chunk {number} of {chunks}"));
                }
                let tensor = quote!(#krate::functional::chunk(&#xs, #chunks, #index));
                Applied { tensor, width: width.part(literal(chunks)) }
            })
        }
        "shuffle" => one(cx, operation, "shuffle(2)", arguments).map(|groups| Applied {
            tensor: quote!(#krate::functional::shuffle(&#xs, #groups)),
            width,
        }),
        "pixel_shuffle" => one(cx, operation, "pixel_shuffle(2)", arguments).map(|factor| {
            let squared = literal(factor).and_then(|factor| factor.checked_mul(factor));
            Applied { tensor: quote!(#xs.pixel_shuffle(#factor)), width: width.part(squared) }
        }),
        _ => return None,
    })
}

fn one<'a>(
    cx: &'a Ctxt,
    operation: &'a Path,
    form: &'static str,
    arguments: &'a [Argument],
) -> Option<&'a Expr> {
    let mut arguments = Arguments::new(cx, operation, form, arguments);
    let argument = arguments.next();
    arguments.finish();
    argument
}

fn literal(expr: &Expr) -> Option<i64> {
    match peeled(expr) {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse().ok(),
        _ => None,
    }
}

/// `relu`, or `nn::relu`, as it is written.
pub(crate) fn written(path: &Path) -> String {
    path.to_token_stream().to_string().replace(' ', "")
}
