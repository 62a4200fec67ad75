//! Operations that become fields of the struct: layers.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::{Expr, Path, Type, parse_quote};

use super::arguments::Arguments;
use super::ast::{Argument, Definition, is_type};
use super::widths::Width;
use super::{norms, sequences};
use crate::ctxt::Ctxt;

/// A layer: the type of its field, the expression that makes it, and its widths.
pub(crate) struct Layer<'a> {
    pub(crate) ty: Type,
    /// The expression that makes the layer, from its variable path in the local variable `path`.
    pub(crate) make: TokenStream,
    pub(crate) takes: Takes<'a>,
    /// The number of output channels; `None` if it is the number of input channels.
    pub(crate) gives: Option<Width>,
    /// Whether the layer has variables, and so needs a name.
    pub(crate) has_variables: bool,
    pub(crate) applied: Applied,
    /// Whether the layer always makes a new tensor, which no backward pass needs.
    pub(crate) fresh: bool,
}

/// The input of a layer.
#[derive(Clone, Copy)]
pub(crate) enum Takes<'a> {
    /// Channels of any number.
    Any,
    /// This many channels.
    Channels(&'a Expr),
    /// This many features, which may be flattened channels.
    Features(&'a Expr),
    /// Indices, which have no channels.
    Indices,
}

/// How the forward pass applies a field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// By `ModuleT`.
    Layer,
    /// One after the other: the field is a `Vec` of several layers in a row.
    Chain,
    /// By a method `forward` that takes the tensor and an optional mask.
    Attention,
}

const CONV: &[(&str, &str)] = &[
    ("stride", "stride"),
    ("padding", "padding"),
    ("dilation", "dilation"),
    ("groups", "groups"),
    ("bias", "bias"),
    ("padding_mode", "padding_mode"),
    ("weight_init", "ws_init"),
    ("bias_init", "bs_init"),
];
const CONV_TRANSPOSE: &[(&str, &str)] = &[
    ("stride", "stride"),
    ("padding", "padding"),
    ("output_padding", "output_padding"),
    ("dilation", "dilation"),
    ("groups", "groups"),
    ("bias", "bias"),
    ("weight_init", "ws_init"),
    ("bias_init", "bs_init"),
];
const BATCH_NORM: &[(&str, &str)] = &[
    ("eps", "eps"),
    ("momentum", "momentum"),
    ("affine", "affine"),
    ("gamma_init", "ws_init"),
    ("beta_init", "bs_init"),
];
const LINEAR: &[(&str, &str)] = &[("bias", "bias"), ("weight_init", "ws_init")];

/// The names of all layers, for suggestions.
pub(crate) const WORDS: &[&str] = &[
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "batch_norm",
    "batch_norm1d",
    "batch_norm2d",
    "batch_norm3d",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "instance_norm",
    "prelu",
    "linear",
    "embedding",
    "lstm",
    "gru",
    "rnn",
    "rnn_tanh",
    "rnn_relu",
    "multi_head_attention",
    "grouped_query_attention",
    "max_pool",
    "max_pool1d",
    "max_pool3d",
    "avg_pool",
    "avg_pool1d",
    "avg_pool3d",
    "adaptive_avg_pool",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool3d",
    "repeat",
];

/// The layer of an operation; `None` if the operation is not a layer, `Some(None)` after an error.
pub(crate) fn layer<'a>(
    cx: &'a Ctxt,
    definition: &Definition,
    operation: &'a Path,
    arguments: &'a [Argument],
) -> Option<Option<Layer<'a>>> {
    let krate = &definition.krate;
    if is_type(operation) {
        return Some(Some(submodel(
            operation,
            arguments.iter().filter_map(|argument| plain(cx, argument)).collect(),
            None,
        )));
    }
    let name = operation.get_ident()?.to_string();
    let (kind, rank) = match name
        .strip_suffix('d')
        .and_then(|name| name.split_at_checked(name.len().checked_sub(1)?))
    {
        Some((kind, rank @ ("1" | "2" | "3"))) => (kind, rank),
        _ => (name.as_str(), "2"),
    };
    Some(match kind {
        "conv" if name != "conv" => conv(cx, krate, operation, arguments, rank),
        "conv_transpose" if name != "conv_transpose" => {
            conv_transpose(cx, krate, operation, arguments, rank)
        }
        "batch_norm" => batch_norm(cx, krate, operation, arguments, rank),
        "layer_norm" => norms::layer_norm(cx, krate, operation, arguments),
        "rms_norm" => norms::rms_norm(cx, krate, operation, arguments),
        "group_norm" => norms::group_norm(cx, krate, operation, arguments),
        "instance_norm" => norms::instance_norm(cx, krate, operation, arguments),
        "prelu" => norms::prelu(cx, krate, operation, arguments),
        "linear" => linear(cx, krate, operation, arguments),
        "embedding" => sequences::embedding(cx, krate, operation, arguments),
        "lstm" => sequences::lstm(cx, krate, operation, arguments),
        "gru" | "rnn" | "rnn_tanh" | "rnn_relu" => {
            sequences::recurrent(cx, krate, operation, arguments, kind)
        }
        "multi_head_attention" => sequences::multi_head_attention(cx, krate, operation, arguments),
        "grouped_query_attention" => {
            sequences::grouped_query_attention(cx, krate, operation, arguments)
        }
        "max_pool" | "avg_pool" => pool(cx, krate, operation, arguments, kind, rank),
        "adaptive_avg_pool" => adaptive_pool(cx, krate, operation, arguments, rank),
        "repeat" => repeat(cx, operation, arguments),
        _ => return None,
    })
}

fn conv<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
    rank: &str,
) -> Option<Layer<'a>> {
    let form = "conv2d(3 => 32, kernel = 3, stride = 1, padding = 1, dilation = 1, groups = 1, bias = false)";
    let mut arguments = Arguments::new(cx, operation, form, arguments);
    let whole = arguments.optional("whole_groups");
    let layer = convolution(krate, arguments, CONV, ["conv", "Conv"], rank)?;
    let conv = &layer.make;
    let make = match whole {
        None => conv.clone(),
        Some(whole) => quote!(if #whole { #conv.whole_groups() } else { #conv }),
    };
    Some(Layer { make, ..layer })
}

fn conv_transpose<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
    rank: &str,
) -> Option<Layer<'a>> {
    let form = "conv_transpose2d(64 => 32, kernel = 2, stride = 2, padding = 0, output_padding = 0, dilation = 1, groups = 1, bias = false)";
    convolution(
        krate,
        Arguments::new(cx, operation, form, arguments),
        CONV_TRANSPOSE,
        ["conv_transpose", "ConvTranspose"],
        rank,
    )
}

/// A convolution or a transposed convolution, by the names of its constructor and its type.
fn convolution<'a>(
    krate: &Path,
    mut arguments: Arguments<'a>,
    config: &[(&str, &str)],
    [make, ty]: [&str; 2],
    rank: &str,
) -> Option<Layer<'a>> {
    let (widths, kernel) = (arguments.widths(), arguments.required("kernel"));
    let config = self::config(krate, &format!("{ty}Config"), fields(&mut arguments, config));
    let (make, ty) = (format_ident!("{make}{rank}d"), format_ident!("{ty}{rank}D"));
    arguments.finish();
    let ((takes, gives), kernel) = (widths?, kernel?);
    Some(Layer {
        ty: parse_quote!(#krate::nn::#ty),
        make: quote!(#krate::nn::#make(#PATH, #takes, #gives, #kernel, #config)),
        takes: Takes::Channels(takes),
        gives: Some(Width::of(gives)),
        has_variables: true,
        applied: Applied::Layer,
        fresh: true,
    })
}

fn batch_norm<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
    rank: &str,
) -> Option<Layer<'a>> {
    let mut arguments = Arguments::new(
        cx,
        operation,
        "batch_norm(32, eps = 1e-5, momentum = 0.1, affine = true)",
        arguments,
    );
    let width = arguments.next();
    let config = config(krate, "BatchNormConfig", fields(&mut arguments, BATCH_NORM));
    let make = format_ident!("batch_norm{rank}d");
    arguments.finish();
    let width = width?;
    let make = quote!(#krate::nn::#make(#PATH, #width, #config));
    Some(Layer {
        ty: parse_quote!(#krate::nn::BatchNorm),
        make,
        takes: Takes::Channels(width),
        gives: None,
        has_variables: true,
        applied: Applied::Layer,
        fresh: true,
    })
}

fn linear<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
) -> Option<Layer<'a>> {
    let mut arguments =
        Arguments::new(cx, operation, "linear(512 => classes, bias = true)", arguments);
    let widths = arguments.widths();
    let bias_init = arguments
        .optional("bias_init")
        .map(|init| quote!(bs_init: ::core::option::Option::Some(#init)));
    let config =
        config(krate, "LinearConfig", bias_init.into_iter().chain(fields(&mut arguments, LINEAR)));
    arguments.finish();
    let (takes, gives) = widths?;
    let make = quote!(#krate::nn::linear(#PATH, #takes, #gives, #config));
    Some(Layer {
        ty: parse_quote!(#krate::nn::Linear),
        make,
        takes: Takes::Features(takes),
        gives: Some(Width::of(gives)),
        has_variables: true,
        applied: Applied::Layer,
        fresh: true,
    })
}

fn pool<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
    kind: &str,
    rank: &str,
) -> Option<Layer<'a>> {
    let mut arguments =
        Arguments::new(cx, operation, "max_pool(2, stride = 2, padding = 0)", arguments);
    let kernel = arguments.next();
    let stride = arguments.optional("stride");
    let sides: Expr = syn::parse_str(rank).ok()?;
    let padding = arguments.optional("padding").map(|padding| quote!(padding: [#padding; #sides],));
    let ceil = arguments.optional("ceil_mode").map(|ceil| quote!(ceil_mode: #ceil,));
    arguments.finish();
    let kernel = kernel?;
    let stride = stride.unwrap_or(kernel);
    let (make, ty) = (
        format_ident!("{kind}{rank}d"),
        if kind == "max_pool" { quote!(MaxPool) } else { quote!(AvgPool) },
    );
    let make = quote!(#krate::nn::#ty { #padding #ceil ..#krate::nn::#make(#kernel, #stride) });
    Some(Layer {
        ty: parse_quote!(#krate::nn::#ty<#sides>),
        make,
        takes: Takes::Any,
        gives: None,
        has_variables: false,
        applied: Applied::Layer,
        // A pooling layer may return its input itself.
        fresh: false,
    })
}

fn adaptive_pool<'a>(
    cx: &'a Ctxt,
    krate: &Path,
    operation: &'a Path,
    arguments: &'a [Argument],
    rank: &str,
) -> Option<Layer<'a>> {
    let mut arguments = Arguments::new(cx, operation, "adaptive_avg_pool(1)", arguments);
    let output = arguments.next();
    arguments.finish();
    let output = output?;
    let (make, sides): (_, Expr) =
        (format_ident!("adaptive_avg_pool{rank}d"), syn::parse_str(rank).ok()?);
    let make = quote!(#krate::nn::#make(#output));
    Some(Layer {
        ty: parse_quote!(#krate::nn::AdaptiveAvgPool<#sides>),
        make,
        takes: Takes::Any,
        gives: None,
        has_variables: false,
        applied: Applied::Layer,
        // A pooling layer may return its input itself.
        fresh: false,
    })
}

/// `repeat(3, Block(64))`
fn repeat<'a>(cx: &'a Ctxt, operation: &'a Path, arguments: &'a [Argument]) -> Option<Layer<'a>> {
    match arguments {
        [Argument::Plain(count), Argument::Layer(path, arguments)] => {
            Some(submodel(path, arguments.iter().collect(), Some(count)))
        }
        _ => {
            cx.error(operation, "write `repeat(3, Block(64))`: how many, and a model with the arguments of its constructor");
            None
        }
    }
}

/// A layer that is a model itself, made by its `new`; a `Vec` of `count` of them, if given.
fn submodel<'a>(path: &Path, arguments: Vec<&'a Expr>, count: Option<&Expr>) -> Layer<'a> {
    let make = match count {
        None => quote!(<#path>::new(#PATH, #(#arguments),*)),
        Some(count) => {
            let i = crate::tokens::local("i");
            quote! {
                ::core::iter::Iterator::collect(::core::iter::Iterator::map(0..#count, |#i| <#path>::new(#PATH / #i, #(#arguments),*)))
            }
        }
    };
    let ty =
        if count.is_some() { parse_quote!(::std::vec::Vec<#path>) } else { parse_quote!(#path) };
    Layer {
        ty,
        make,
        takes: Takes::Any,
        gives: Some(Width::Unknown),
        has_variables: true,
        applied: if count.is_some() { Applied::Chain } else { Applied::Layer },
        // A model may return its input itself.
        fresh: false,
    }
}

fn plain<'a>(cx: &Ctxt, argument: &'a Argument) -> Option<&'a Expr> {
    match argument {
        Argument::Plain(value) => Some(value),
        Argument::Named(name, _) => {
            cx.error(
                name,
                "the constructor of a model takes its arguments in order, without names",
            );
            None
        }
        Argument::Widths(from, _) => {
            cx.error(
                from,
                "the constructor of a model takes its arguments in order; write `Block(32, 64)`",
            );
            None
        }
        Argument::Layer(path, _) => {
            cx.error(path, "a model that makes others is written as its own `model!`");
            None
        }
    }
}

/// A config of tch's or of the runtime, with these fields and else as its default.
pub(super) fn config(
    krate: &Path,
    name: &str,
    fields: impl IntoIterator<Item = TokenStream>,
) -> TokenStream {
    let (name, fields) = (format_ident!("{name}"), fields.into_iter());
    quote!(#krate::nn::#name { #(#fields,)* ..::core::default::Default::default() })
}

/// The fields of a config that are given by the arguments with these names.
pub(super) fn fields(arguments: &mut Arguments, names: &[(&str, &str)]) -> Vec<TokenStream> {
    let given = arguments.config(names).into_iter();
    given.map(|(field, value)| quote!(#field: #value)).collect()
}

/// Stands for the layer's variable path in [`Layer::make`].
pub(super) struct VariablePath;
pub(super) const PATH: VariablePath = VariablePath;

impl ToTokens for VariablePath {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        crate::tokens::local("path").to_tokens(tokens);
    }
}
