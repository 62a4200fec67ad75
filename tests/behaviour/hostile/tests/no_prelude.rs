//! The derive without the prelude, with all warnings denied and the crate renamed. Every name that
//! an expansion might use is taken by something else.
#![no_implicit_prelude]
#![deny(
    warnings,
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::pedantic
)]
#![allow(clippy::default_trait_access)] // of this file's own code

/// Shadows of the names that careless macros use.
mod shadows {
    #![allow(dead_code)]
    pub(crate) struct Result;
    pub(crate) struct Option;
    pub(crate) struct Vec;
    pub(crate) struct Box;
    pub(crate) struct String;
    pub(crate) struct Ok;
    pub(crate) struct Err;
    pub(crate) struct Some;
    pub(crate) struct Tracer;
    pub(crate) struct Flow;
    pub(crate) struct LayerVisitor;
    pub(crate) trait Prunable {}
    pub(crate) trait Clone {}
    pub(crate) mod core {}
    pub(crate) mod std {}
}

use shadows::{
    Box, Clone, Err, Flow, LayerVisitor, Ok, Option, Prunable, Result, Some, String, Tracer, Vec,
};

/// Types are written with their full paths, and fields have the names of the expansion's local
/// variables.
#[derive(::core::fmt::Debug, ::pruning::Prunable)]
#[prune(sequential)]
#[prune(crate = "::pruning", input = 3)]
struct Net {
    cx: ::torch::nn::Conv2D,
    visit: ::torch::nn::BatchNorm,
    input: ::core::option::Option<::torch::nn::Conv2D>,
    node0: ::torch::nn::BatchNorm,
    r#type: ::torch::nn::Conv2D,
    #[prune(elementwise)]
    r#fn: Option,
    #[prune(keep)]
    flow: ::torch::nn::BatchNorm,
    #[prune(skip)]
    _unused: (Result, Vec, Box, String, Ok, Err, Some, Tracer, Flow, LayerVisitor),
    last: ::torch::nn::Linear,
}

#[derive(::core::fmt::Debug)]
struct Shadowed;

macro_rules! debug {
    ($($name:ident),*) => {$(
        impl ::core::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&Shadowed, f)
            }
        }
    )*};
}

debug!(Option, Result, Vec, Box, String, Ok, Err, Some, Tracer, Flow, LayerVisitor);

impl Clone for Shadowed {}
impl Prunable for Shadowed {}

/// Declares a struct inside `macro_rules!`, with names and types from outside and from inside.
macro_rules! declare {
    ($name:ident, $field:ident, $ty:ty) => {
        /// Made by a macro.
        #[derive(::core::fmt::Debug, ::pruning::Prunable)]
        #[prune(sequential)]
        #[prune(crate = "::pruning")]
        struct $name {
            $field: $ty,
            norm: ::torch::nn::BatchNorm,
            last: ::torch::nn::Conv2D,
        }
    };
}

declare!(FromMacro, norm_of_the_caller, ::torch::nn::Conv2D);

fn conv(p: &::torch::nn::Path<'_>, name: &str, inputs: i64, outputs: i64) -> ::torch::nn::Conv2D {
    ::torch::nn::conv2d(p / name, inputs, outputs, 1, ::core::default::Default::default())
}

fn norm(p: &::torch::nn::Path<'_>, name: &str, channels: i64) -> ::torch::nn::BatchNorm {
    ::torch::nn::batch_norm2d(p / name, channels, ::core::default::Default::default())
}

#[test]
fn a_net_of_taken_names_slims() {
    let vs = ::torch::nn::VarStore::new(::torch::Device::Cpu);
    let p = &vs.root();
    let mut net = Net {
        cx: conv(p, "a", 3, 8),
        visit: norm(p, "b", 8),
        input: ::core::option::Option::Some(conv(p, "c", 8, 8)),
        node0: norm(p, "d", 8),
        r#type: conv(p, "e", 8, 4),
        r#fn: Option,
        flow: norm(p, "f", 4),
        _unused: (Result, Vec, Box, String, Ok, Err, Some, Tracer, Flow, LayerVisitor),
        last: ::torch::nn::linear(p / "g", 4, 2, ::core::default::Default::default()),
    };
    let ::core::result::Result::Ok(slimmed) = ::pruning::Prunable::slim(&mut net, 0.5) else {
        ::core::panic!("must slim")
    };
    let Option = net.r#fn;
    ::core::assert_eq!(slimmed.plan().channels().before, 20);
    ::core::assert_eq!(slimmed.plan().removable(), 16);
    let paths: ::std::vec::Vec<&str> = ::core::iter::Iterator::collect(
        ::core::iter::Iterator::map(slimmed.plan().layers().iter(), |layer| &*layer.path),
    );
    ::core::assert_eq!(paths, ["cx", "visit", "input", "node0", "type", "flow", "last"]);
}

#[test]
fn a_struct_from_a_macro_slims() {
    let vs = ::torch::nn::VarStore::new(::torch::Device::Cpu);
    let p = &vs.root();
    let mut net = FromMacro {
        norm_of_the_caller: conv(p, "a", 3, 8),
        norm: norm(p, "b", 8),
        last: conv(p, "c", 8, 2),
    };
    ::core::assert!(::pruning::Prunable::slim(&mut net, 0.5).is_ok());
    ::core::assert_eq!(net.last.ws.size(), [2, 3, 1, 1]);
}
