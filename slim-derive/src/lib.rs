//! The macros of [slim](https://docs.rs/slim-runtime), which re-exports them: depend on
//! `slim-runtime` and not on this crate.
//!
//! `#[derive(Prunable)]` parses a type into `ast` and `attr`. `traced` makes the code of a type
//! whose wiring is read from its forward pass, `sequential` that of a declared wiring; both fill
//! the impl of `expand`. `forward` is the attribute that runs a forward pass symbolically, and
//! `model` the definition of a whole network. Errors of all stages are collected in a `ctxt` and
//! reported together, each at its token.

mod activation;
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

/// Derives `Prunable` for a struct or an enum of layers.
///
/// The wiring is read from the forward pass, which [`#[forward]`](macro@forward) makes readable:
///
/// ```ignore
/// #[derive(Debug, Prunable)]
/// struct Block {
///     conv: nn::Conv2D,
///     bn: nn::BatchNorm,
/// }
///
/// #[forward]
/// impl nn::ModuleT for Block {
///     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
///         xs.apply(&self.conv).apply_t(&self.bn, train).relu()
///     }
/// }
/// ```
///
/// A field may be a layer, a type with this derive, a container of these, a tensor, or anything
/// else: what is no layer holds no channels.
///
/// | on a field | meaning |
/// | --- | --- |
/// | `#[prune(keep)]` | its output channels are never removed |
/// | `#[prune(skip)]` | it is no part of the network |
///
/// | on the type | meaning |
/// | --- | --- |
/// | `#[prune(input = 3)]` | it takes 3 channels, which is checked; `input = (3, 1)` for two inputs |
/// | `#[prune(input = [3, 224, 224])]` | the same with the size of an image, without the batch |
/// | `#[prune(crate = "path::to::slim_runtime")]` | where the runtime is, if not at `::slim_runtime` |
/// | `#[prune(sequential)]` | the wiring is declared, and not read |
///
/// Field types that mention a type parameter get a `Prunable` bound.
///
/// # A declared wiring
/// With `#[prune(sequential)]`, data flows through the fields in the order of their declaration:
/// each reads the one before it, the first reads the input, and the last is the output. Attributes
/// say where data branches. Nothing checks that the forward pass does the same. An enum has
/// variants with one field or none.
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
/// `#[prune(output = EXPR)]` on the type says what the output is.
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
/// Activations are `identity`, `relu`, `relu6`, `leaky_relu`, `elu`, `silu`, `gelu`, `mish`,
/// `hardswish` and `tanh`, as tch has them; `leaky_relu(0.1)` and `elu(0.5)`, in expressions
/// `leaky_relu(a, 0.1)`, have another slope or α. `sigmoid` and `hardsigmoid` do not map zero to
/// zero, so who reads them keeps their channels.
#[proc_macro_derive(Prunable, attributes(prune))]
pub fn derive_prunable(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derive(input.into()).into()
}

/// Reads a forward pass: runs it symbolically, as `#[derive(Prunable)]` needs it.
///
/// | above | what it does |
/// | --- | --- |
/// | `impl nn::ModuleT for Net`, `impl nn::Module for Net` | leaves the impl as it is, and copies the body of `forward_t` or `forward` |
/// | `impl Net` | makes each method that takes a `Tensor` generic, for real and for symbolic tensors. A `forward_t` or `forward` that takes `&self` and tensors, `forward_t` a `train: bool` behind them, is the forward pass of `Net`: that of a network of several inputs or outputs |
/// | a function that takes a `Tensor` | makes it generic, for real and for symbolic tensors |
///
/// In the copy, `Tensor` is a symbolic value with a tensor's methods. Loops, matches, closures and
/// helper methods run as they are. An operation without a symbolic meaning is an error of the
/// compiler at its name; wrap it in `functional::map` (elementwise, maps zero to zero) or
/// `functional::opaque` (anything else), whose closure takes real tensors. Methods and functions
/// that are given symbolic tensors need a `#[forward]` of their own.
///
/// `#[forward(crate = "path::to::slim_runtime")]` says where the runtime is, if not at
/// `::slim_runtime`.
///
/// # What changes for methods and functions
/// An `impl ModuleT` does not change. A method or function that becomes generic is called as
/// before, with these exceptions:
///
/// | before | now |
/// | --- | --- |
/// | `f::<M>(&m, &xs)` | type arguments are inferred: `f(&m, &xs)` |
/// | `f(&wrapped)`, where `wrapped` dereferences to a `Tensor` | `f(&*wrapped)`; references, `Box`, `Rc` and `Arc` need no change |
/// | `f(&1.0.into())` | the type has to be known: `f(&Tensor::from(1.0))` |
/// | `fs(&[&a, &b])` where `fs` takes `&[Tensor]`, or returns a reference | all arguments are one type: real or symbolic tensors, not some of each |
///
/// Such a function is not `const`, `async`, `unsafe` or `extern`. It returns tensors, tuples,
/// `Vec`, arrays, `Option` or `Result` of them: a struct with tensors in it cannot hold symbolic
/// ones.
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
