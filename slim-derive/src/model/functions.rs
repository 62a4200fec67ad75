//! Operations that have no field: activations, and functions of tensors in the forward pass.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Expr, Path};

use super::arguments::Arguments;
use super::ast::Argument;
use super::widths::Width;
use crate::activation::{self, ACTIVATIONS};
use crate::ctxt::Ctxt;
use crate::tokens::{chunk_error, literal};

/// The result of a function: the expression of the tensor, and its width.
pub(crate) struct Applied {
    pub(crate) tensor: TokenStream,
    pub(crate) width: Width,
}

/// The names of all functions, for suggestions.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    let others = [
        "dropout",
        "flatten",
        "chunk",
        "shuffle",
        "pixel_shuffle",
        "interpolate",
        "map",
        "mean",
        "transpose",
    ];
    ACTIVATIONS
        .iter()
        .filter(|activation| activation.tensor.is_some())
        .map(|activation| activation.word)
        .chain(others)
}

/// The result of a function on `xs`, which may be changed in place if it is `spare`. `None` if
/// there is no such function, `Some(None)` after an error.
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
        // The dimension may be that of the channels or of positions, so the width is not known.
        "mean" => one(cx, operation, "mean(1)", arguments).map(|dim| Applied {
            tensor: quote!(#xs.mean_dim(#dim, false, ::core::option::Option::None)),
            width: Width::Unknown,
        }),
        "transpose" => {
            let mut arguments = Arguments::new(cx, operation, "transpose(1, 2)", arguments);
            let (one, other) = (arguments.next(), arguments.next());
            arguments.finish();
            one.zip(other).map(|(one, other)| {
                let tensor = quote!(#xs.transpose(#one, #other));
                Applied { tensor, width: Width::Unknown }
            })
        }
        "chunk" => {
            let mut arguments = Arguments::new(cx, operation, "chunk(2, 0)", arguments);
            let (chunks, index) = (arguments.next(), arguments.next());
            arguments.finish();
            chunks.zip(index).map(|(chunks, index)| {
                if let Some((message, is_index)) = chunk_error(chunks, index) {
                    cx.error(if is_index { index } else { chunks }, message);
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

/// A path as the user writes it: `relu`, or `nn::relu`.
pub(crate) fn written(path: &Path) -> String {
    path.to_token_stream().to_string().replace(' ', "")
}
