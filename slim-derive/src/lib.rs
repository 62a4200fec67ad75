//! The derive macro of [slim](https://docs.rs/slim-runtime), which re-exports it: depend on `slim-runtime` and not on this crate.
//!
//! Stages, each a file: tokens → `ast` (what is written, typed) → `wiring` (what it means, checked) → `expand` (tokens).
//! Errors of all stages are collected in a `ctxt` and reported together, each at its token.

mod ast;
mod attr;
mod ctxt;
mod expand;
mod forward;
mod model;
mod nesting;
mod sequential;
mod suggest;
mod tokens;
mod traced;

use proc_macro2::TokenStream;
use syn::DeriveInput;

/// Derives `Prunable` for a struct of layers, or an enum whose variants have one field or none.
///
/// Data flows through the fields in the order of their declaration: each reads the one before it, the first reads the input, and the last is the output.
/// Branches are said where they are.
///
/// | on a field | meaning |
/// | --- | --- |
/// | nothing | a layer, a derived type, a container of these, or a plain value, which passes channels on |
/// | `#[prune(from = EXPR)]` | reads this |
/// | `#[prune(elementwise)]` | keeps channels as they are and maps zero to zero; its type need not implement `Prunable`. `elementwise, act = relu` says which it is, too |
/// | `#[prune(act = relu)]` | what it gives passes this activation in `forward`, which absorption has to know |
/// | `#[prune(per_channel)]` | a `Tensor` with one value per channel that maps zero to zero: a scale, the slopes of a PReLU |
/// | `#[prune(per_channel = shift)]` | a `Tensor` with one value per channel that is added |
/// | `#[prune(with = path)]` | `path` is a `fn(&T, &mut Tracer, Flow) -> Result<Flow>` that says what a layer of another crate does |
/// | `#[prune(skip)]` | is not part of the data flow |
/// | `#[prune(keep)]` | its output channels are never removed |
///
/// | on the struct | meaning |
/// | --- | --- |
/// | `#[prune(output = EXPR)]` | this is the output |
/// | `#[prune(input = 3)]` | takes 3 channels, which is checked; `input = (3, 1)` for two inputs |
/// | `#[prune(crate = "path::to::slim_runtime")]` | where the runtime is, if not at `::slim_runtime` |
///
/// | an expression | is |
/// | --- | --- |
/// | `field` | what a field gives that is declared before; a field of a tuple struct is its number |
/// | `input` | what the struct is given; `input.0`, `input.1` where it is several tensors |
/// | `field(a)` | a field applied once more |
/// | `a + b` | a residual sum |
/// | `a * b` | a gate; one channel may multiply all |
/// | `[a, b]` | a concatenation along the channels |
/// | `(a, b)` | several tensors, `a.0` the first of several |
/// | `chunk(a, chunks, index)` | `a.chunk(chunks, 1)[index]` |
/// | `shuffle(a, groups)` | a channel shuffle by `view` and `transpose` |
/// | `pixel_shuffle(a, factor)` | `a.pixel_shuffle(factor)` |
/// | `flatten(a, positions)` | each channel as `positions` features, for anything but a linear layer, which finds out by itself |
/// | `unflatten(a, positions)` | `positions` features as one channel: a decoder's first image |
/// | `relu(a)` | `a.relu()`, which absorption has to know |
///
/// Activations are `identity`, `relu`, `relu6`, `leaky_relu`, `elu`, `silu`, `gelu`, `mish`, `hardswish` and `tanh`, as tch has them; `leaky_relu(0.1)` and
/// `elu(0.5)`, in expressions `leaky_relu(a, 0.1)`, have another slope or α. `sigmoid` and `hardsigmoid` do not map zero to zero, so who reads them keeps their channels.
///
/// Field types that mention a type parameter get a `Prunable` bound.
#[proc_macro_derive(Prunable, attributes(prune))]
pub fn derive_prunable(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derive(input.into()).into()
}

/// Reads a forward pass.
#[proc_macro_attribute]
pub fn forward(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    forward::forward(arguments.into(), item.into()).into()
}

/// What `slim_runtime::model!` calls with the path of the runtime; see there.
#[doc(hidden)]
#[proc_macro]
pub fn model(tokens: proc_macro::TokenStream) -> proc_macro::TokenStream {
    model::model(tokens.into()).into()
}

fn derive(tokens: TokenStream) -> TokenStream {
    match nesting::check(tokens).and_then(syn::parse2) {
        Ok(input) => prunable(&input),
        Err(error) => error.into_compile_error(),
    }
}

fn prunable(input: &DeriveInput) -> TokenStream {
    let cx = ctxt::Ctxt::new();
    let model = ast::Model::parse(&cx, input);
    let wiring = match &model.attrs.sequential {
        Some(_) => Some(sequential::wiring::resolve(&cx, &model)),
        None => {
            traced::check(&cx, &model);
            None
        }
    };
    match cx.check() {
        Ok(()) => match &wiring {
            Some(wiring) => sequential::implementation(&model, wiring),
            None => traced::implementation(&model),
        },
        Err(errors) => {
            let errors = errors.into_iter().map(syn::Error::into_compile_error);
            errors.chain([expand::fallback(&model)]).collect()
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
