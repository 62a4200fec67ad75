//! The macros of [slim](https://docs.rs/slim-runtime), which re-exports them: depend on
//! `slim-runtime` and not on this crate.
//!
//! `#[derive(Prunable)]` parses a type with `ast` and `attr`. `traced` generates the methods for a
//! type whose wiring is read from its forward pass, `sequential` those for a declared wiring;
//! `expand` puts either into the impl. `forward` is the attribute that makes a forward pass run
//! symbolically, and `model` defines a whole network. A `ctxt` collects the errors of all stages,
//! which are then reported together, each at its token.

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
/// The wiring is read from the forward pass, of which [`#[forward]`](macro@forward) makes a
/// symbolic copy:
///
/// ```text
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
/// A field may be a layer, a type with this derive, a container of these, a tensor, or any other
/// type. A field of any other type holds no channels.
///
/// | on a field | meaning |
/// | --- | --- |
/// | `#[prune(keep)]` | its output channels are never removed |
/// | `#[prune(skip)]` | it is not part of the network |
///
/// | on the type | meaning |
/// | --- | --- |
/// | `#[prune(input = 3)]` | the input has 3 channels, which is checked; `input = (3, 1)` for two inputs |
/// | `#[prune(input = [3, 224, 224])]` | the shape of the input without the batch, which is checked |
/// | `#[prune(crate = "path::to::slim_runtime")]` | the path of the runtime, if it is not `::slim_runtime` |
/// | `#[prune(sequential)]` | the wiring is declared, and not read from the forward pass |
///
/// Field types that mention a type parameter get a `Prunable` bound.
///
/// # A declared wiring
/// With `#[prune(sequential)]`, data flows through the fields in the order of their declaration:
/// the first field reads the input, each other field reads the output of the field before it, and
/// the output of the last field is the output of the type. Attributes declare branches. Nothing
/// checks that the forward pass does the same. A variant of an enum has one field or none.
///
/// | on a field | meaning |
/// | --- | --- |
/// | nothing | a layer, a derived type, a container of these, or a plain value, which passes its input on |
/// | `#[prune(from = EXPR)]` | reads this expression instead of the field before it |
/// | `#[prune(elementwise)]` | is an elementwise operation that maps zero to zero; its type need not implement `Prunable`. `elementwise, act = relu` also names the activation |
/// | `#[prune(act = relu)]` | `forward` applies this activation to its output, which absorption has to know |
/// | `#[prune(per_channel)]` | a `Tensor` with one value per channel, for an operation that maps zero to zero: a scale, the slopes of a PReLU |
/// | `#[prune(per_channel = shift)]` | a `Tensor` with one value per channel that is added |
/// | `#[prune(with = path)]` | `path` is a `fn(&T, &mut Tracer, Flow) -> Result<Flow>` that traces a layer of another crate |
/// | `#[prune(skip)]` | is not part of the data flow |
/// | `#[prune(keep)]` | its output channels are never removed |
///
/// `#[prune(output = EXPR)]` on the type declares its output.
///
/// | an expression | is |
/// | --- | --- |
/// | `field` | the output of a field that is declared before; a field of a tuple struct is named by its number |
/// | `input` | the input of the struct; `input.0`, `input.1` if it has several input tensors |
/// | `field(a)` | the field applied once more, to `a` |
/// | `a + b` | a residual sum |
/// | `a * b` | a product (a gate); one operand may have a single channel, which multiplies all channels of the other |
/// | `[a, b]` | a concatenation along the channels |
/// | `(a, b)` | several tensors; `a.0` is the first tensor of `a` |
/// | `chunk(a, chunks, index)` | `a.chunk(chunks, 1)[index]` |
/// | `shuffle(a, groups)` | a channel shuffle by `view` and `transpose` |
/// | `pixel_shuffle(a, factor)` | `a.pixel_shuffle(factor)` |
/// | `flatten(a, positions)` | each channel as `positions` features; not needed before a linear layer, which infers the number |
/// | `unflatten(a, positions)` | `positions` features as one channel: a decoder's first image |
/// | `relu(a)` | `a.relu()`; absorption has to know the activation |
///
/// Activations are `identity`, `relu`, `relu6`, `leaky_relu`, `elu`, `silu`, `gelu`, `mish`,
/// `hardswish` and `tanh`, with tch's definitions. `leaky_relu(0.1)` and `elu(0.5)` set the slope
/// and α; in an expression, this is `leaky_relu(a, 0.1)`. `sigmoid` and `hardsigmoid` do not map
/// zero to zero, so a layer that reads them keeps their channels.
#[proc_macro_derive(Prunable, attributes(prune))]
pub fn derive_prunable(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derive(input.into()).into()
}

/// Makes a forward pass run symbolically, so that `#[derive(Prunable)]` can read the wiring from
/// it.
///
/// | written on | what it does |
/// | --- | --- |
/// | `impl nn::ModuleT for Net`, `impl nn::Module for Net` | leaves the impl as it is, and makes a symbolic copy of the body of `forward_t` or `forward` |
/// | `impl Net` | makes each method that takes a `Tensor` generic over real and symbolic tensors. A method `forward` that takes `&self` and tensors, or `forward_t` that takes `&self`, tensors and `train: bool`, is the forward pass of `Net`; a network with several inputs or outputs has such a method |
/// | a function that takes a `Tensor` | makes it generic over real and symbolic tensors |
///
/// In the copy, `Tensor` is a symbolic value with a tensor's methods. Loops, matches, closures and
/// helper methods run as they are. An operation that symbolic tensors do not have is a compile
/// error at its name; wrap it in `functional::map` (elementwise, maps zero to zero) or
/// `functional::opaque` (anything else), whose closure takes real tensors. Methods and functions
/// that receive symbolic tensors need a `#[forward]` of their own.
///
/// `#[forward(crate = "path::to::slim_runtime")]` gives the path of the runtime, if it is not
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
/// | `fs(&[&a, &b])` where `fs` takes `&[Tensor]`, or returns a reference | all arguments have one type: either real or symbolic tensors |
///
/// Such a function cannot be `const`, `async`, `unsafe` or `extern`. It returns tensors, or tuples,
/// `Vec`, arrays, `Option` or `Result` of tensors. It cannot return a struct with tensors in it,
/// since the struct cannot hold symbolic ones.
#[proc_macro_attribute]
pub fn forward(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    forward::forward(arguments.into(), item.into()).into()
}

/// The implementation of `slim_runtime::model!`, which passes the path of the runtime and documents
/// the syntax.
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
