//! Norms other than batch norms, and the activation with slopes.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Expr, Path, parse_quote};

use super::arguments::Arguments;
use super::ast::Argument;
use super::layers::{Applied, Layer, PATH, Takes, config, fields};
use crate::ctxt::Ctxt;
use crate::tokens::{literal, peeled};

const LAYER_NORM: &[(&str, &str)] = &[
    ("eps", "eps"),
    ("affine", "elementwise_affine"),
    ("gamma_init", "ws_init"),
    ("beta_init", "bs_init"),
];
const GROUP_NORM: &[(&str, &str)] =
    &[("eps", "eps"), ("affine", "affine"), ("gamma_init", "ws_init"), ("beta_init", "bs_init")];

/// A layer that keeps the number of channels.
fn keeps<'a>(krate: &Path, ty: &str, make: TokenStream, takes: Takes<'a>) -> Layer<'a> {
    let ty = quote::format_ident!("{ty}");
    Layer {
        ty: parse_quote!(#krate::nn::#ty),
        make,
        takes,
        gives: None,
        has_variables: true,
        applied: Applied::Layer,
        fresh: true,
    }
}

/// `layer_norm(64)`, or `layer_norm([8, 8])` over several dimensions.
pub(super) fn layer_norm<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
) -> Option<Layer<'a>> {
    let form = "layer_norm(64, eps = 1e-5, affine = true)";
    let mut arguments = Arguments::new(cx, operation, form, arguments);
    let shape = arguments.next();
    let config = config(krate, "LayerNormConfig", fields(&mut arguments, LAYER_NORM));
    arguments.finish();
    let shape = shape?;
    let (sizes, takes) = match peeled(shape) {
        Expr::Array(sizes) => (quote!(#sizes), Takes::Any),
        width => (quote!([#width]), Takes::Channels(shape)),
    };
    let make = quote!(#krate::nn::layer_norm(#PATH, <[i64]>::to_vec(&#sizes), #config));
    Some(keeps(krate, "LayerNorm", make, takes))
}

pub(super) fn rms_norm<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
) -> Option<Layer<'a>> {
    let mut arguments = Arguments::new(cx, operation, "rms_norm(64, eps = 1e-6)", arguments);
    let (width, eps) = (arguments.next(), arguments.optional("eps"));
    arguments.finish();
    let (width, eps) = (width?, eps.map_or_else(|| quote!(1e-6), |eps| quote!(#eps)));
    let make = quote!(#krate::nn::rms_norm(#PATH, #width, #eps));
    Some(keeps(krate, "RmsNorm", make, Takes::Channels(width)))
}

pub(super) fn group_norm<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
) -> Option<Layer<'a>> {
    let form = "group_norm(64, groups = 8, eps = 1e-5, affine = true)";
    let mut arguments = Arguments::new(cx, operation, form, arguments);
    let (width, groups) = (arguments.next(), arguments.required("groups"));
    let config = config(krate, "GroupNormConfig", fields(&mut arguments, GROUP_NORM));
    arguments.finish();
    let (width, groups) = (width?, groups?);
    divides(cx, width, groups, "channels", "groups");
    let make = quote!(#krate::nn::group_norm(#PATH, #groups, #width, #config));
    Some(keeps(krate, "GroupNorm", make, Takes::Channels(width)))
}

pub(super) fn instance_norm<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
) -> Option<Layer<'a>> {
    let form = "instance_norm(64, eps = 1e-5, affine = false)";
    let mut arguments = Arguments::new(cx, operation, form, arguments);
    let (width, affine) = (arguments.next(), arguments.optional("affine"));
    let eps = arguments.optional("eps").map(|eps| quote!(eps: #eps,));
    arguments.finish();
    let width = width?;
    let is_affine = affine.map_or_else(|| quote!(false), |affine| quote!(#affine));
    let norm = quote!(#krate::nn::instance_norm(#PATH, #width, #is_affine));
    let make = match eps {
        None => norm,
        Some(eps) => quote!(#krate::nn::InstanceNorm { #eps ..#norm }),
    };
    let layer = keeps(krate, "InstanceNorm", make, Takes::Channels(width));
    Some(Layer { has_variables: affine.is_some(), ..layer })
}

/// `prelu(64)`, or `prelu(1)` with one slope for all channels.
pub(super) fn prelu<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
) -> Option<Layer<'a>> {
    let mut arguments = Arguments::new(cx, operation, "prelu(64)", arguments);
    let slopes = arguments.next();
    arguments.finish();
    let slopes = slopes?;
    let takes = if literal(slopes) == Some(1) { Takes::Any } else { Takes::Channels(slopes) };
    let make = quote!(#krate::nn::prelu(#PATH, #slopes));
    Some(keeps(krate, "PRelu", make, takes))
}

/// Reports literals of which the first is no multiple of the second.
pub(super) fn divides(cx: &Ctxt, width: &Expr, parts: &Expr, of: &str, kind: &str) {
    if let (Some(width), Some(count)) = (literal(width), literal(parts))
        && (count < 1 || width % count != 0)
    {
        cx.error(parts, format!("{width} {of} cannot be divided into {count} {kind} of one size"));
    }
}
