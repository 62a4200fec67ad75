//! Layers over sequences: embeddings, recurrent layers, attention.

use quote::{format_ident, quote};
use syn::{Expr, ExprLit, Lit, Path, parse_quote};

use super::arguments::Arguments;
use super::ast::Argument;
use super::layers::{Applied, Layer, PATH, Takes, config, fields};
use super::norms::divides;
use super::widths::Width;
use crate::ctxt::Ctxt;
use crate::tokens::peeled;

const EMBEDDING: &[(&str, &str)] = &[
    ("padding_idx", "padding_idx"),
    ("scale_grad_by_freq", "scale_grad_by_freq"),
    ("sparse", "sparse"),
    ("weight_init", "ws_init"),
];
const RECURRENT: &[(&str, &str)] = &[
    ("layers", "num_layers"),
    ("bias", "has_biases"),
    ("dropout", "dropout"),
    ("batch_first", "batch_first"),
];
const ATTENTION: &[(&str, &str)] = &[("bias", "bias"), ("removal", "removal")];

/// `embedding(1000 => 64)`
pub(super) fn embedding<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
) -> Option<Layer<'a>> {
    let form = "embedding(1000 => 64, padding_idx = 0)";
    let mut arguments = Arguments::new(cx, operation, form, arguments);
    let widths = arguments.widths();
    let config = config(krate, "EmbeddingConfig", fields(&mut arguments, EMBEDDING));
    arguments.finish();
    let (entries, gives) = widths?;
    Some(Layer {
        ty: parse_quote!(#krate::nn::Embedding),
        make: quote!(#krate::nn::embedding(#PATH, #entries, #gives, #config)),
        takes: Takes::Indices,
        gives: Some(Width::of(gives)),
        has_variables: true,
        applied: Applied::Layer,
        fresh: true,
    })
}

/// `lstm(32 => 64)`, and with projections `lstm(32 => 64, proj = 16)`.
pub(super) fn lstm<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
) -> Option<Layer<'a>> {
    let form = "lstm(32 => 64, layers = 1, bidirectional = false, bias = true, dropout = 0., batch_first = true, proj = 16)";
    let mut arguments = Arguments::new(cx, operation, form, arguments);
    let proj = arguments.optional("proj");
    cells(krate, arguments, "lstm", proj)
}

/// `gru(32 => 64)` or `rnn(32 => 64)`, which is a network of hyperbolic tangents.
pub(super) fn recurrent<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
    kind: &str,
) -> Option<Layer<'a>> {
    let form = if kind == "gru" {
        "gru(32 => 64, layers = 1, bidirectional = false, bias = true, dropout = 0., batch_first = true)"
    } else {
        "rnn(32 => 64, layers = 1, bidirectional = false, bias = true, dropout = 0., batch_first = true)"
    };
    let make = if kind == "rnn" { "rnn_tanh" } else { kind };
    cells(krate, Arguments::new(cx, operation, form, arguments), make, None)
}

/// A recurrent layer by the name of its constructor, with `proj` channels of its output if there
/// are projections.
fn cells<'a>(
    krate: &Path,
    mut arguments: Arguments<'a>,
    make: &str,
    proj: Option<&'a Expr>,
) -> Option<Layer<'a>> {
    let widths = arguments.widths();
    let both = arguments.optional("bidirectional");
    let weight_init = arguments.optional("weight_init");
    let bias_init = arguments.optional("bias_init");
    let more = both
        .map(|both| quote!(bidirectional: #both))
        .into_iter()
        .chain(weight_init.map(|init| quote!(w_ih_init: #init, w_hh_init: #init)))
        .chain(bias_init.map(|init| {
            let some = quote!(::core::option::Option::Some(#init));
            quote!(b_ih_init: #some, b_hh_init: #some)
        }));
    let config = config(krate, "RNNConfig", more.chain(fields(&mut arguments, RECURRENT)));
    arguments.finish();
    let (takes, hidden) = widths?;
    let make = match proj {
        Some(proj) => {
            quote!(#krate::nn::projected_lstm(#PATH, #takes, #hidden, #proj, #config))
        }
        None => {
            let make = format_ident!("{make}");
            quote!(#krate::nn::#make(#PATH, #takes, #hidden, #config))
        }
    };
    let outputs = Width::of(proj.unwrap_or(hidden));
    let gives = match both.map(peeled) {
        None => outputs,
        Some(Expr::Lit(ExprLit { lit: Lit::Bool(both), .. })) if both.value => {
            Width::sum(&[outputs.clone(), outputs])
        }
        Some(Expr::Lit(ExprLit { lit: Lit::Bool(_), .. })) => outputs,
        Some(_) => Width::Unknown,
    };
    Some(Layer {
        ty: parse_quote!(#krate::nn::Recurrent),
        make,
        takes: Takes::Channels(takes),
        gives: Some(gives),
        has_variables: true,
        applied: Applied::Layer,
        // The backward pass of an LSTM needs its output.
        fresh: false,
    })
}

/// `multi_head_attention(64, heads = 8)`
pub(super) fn multi_head_attention<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
) -> Option<Layer<'a>> {
    let form = "multi_head_attention(64, heads = 8, bias = true, removal = nn::Removal::Heads)";
    let mut arguments = Arguments::new(cx, operation, form, arguments);
    let (width, heads) = (arguments.next(), arguments.required("heads"));
    let config = config(krate, "AttentionConfig", fields(&mut arguments, ATTENTION));
    arguments.finish();
    let (width, heads) = (width?, heads?);
    divides(cx, width, heads, "embedding dimensions", "heads");
    Some(Layer {
        ty: parse_quote!(#krate::nn::MultiHeadAttention),
        make: quote!(#krate::nn::multi_head_attention(#PATH, #width, #heads, #config)),
        takes: Takes::Channels(width),
        gives: None,
        has_variables: true,
        applied: Applied::Attention,
        fresh: true,
    })
}

/// `grouped_query_attention(64, heads = 8, kv_heads = 2, head_dim = 8)`
pub(super) fn grouped_query_attention<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
) -> Option<Layer<'a>> {
    let form = "grouped_query_attention(64, heads = 8, kv_heads = 2, head_dim = 8, bias = true, removal = nn::Removal::Heads)";
    let mut arguments = Arguments::new(cx, operation, form, arguments);
    let (width, heads) = (arguments.next(), arguments.required("heads"));
    let (kv_heads, dim) = (arguments.required("kv_heads"), arguments.required("head_dim"));
    let config = config(krate, "AttentionConfig", fields(&mut arguments, ATTENTION));
    arguments.finish();
    let (width, heads, kv_heads, dim) = (width?, heads?, kv_heads?, dim?);
    divides(cx, heads, kv_heads, "heads", "groups");
    Some(Layer {
        ty: parse_quote!(#krate::nn::GroupedQueryAttention),
        make: quote! {
            #krate::nn::grouped_query_attention(#PATH, #width, [#heads, #kv_heads], #dim, #config)
        },
        takes: Takes::Channels(width),
        gives: None,
        has_variables: true,
        applied: Applied::Attention,
        fresh: true,
    })
}
