//! `model!` without the prelude, with all warnings denied and the crate renamed. Every name that an
//! expansion might use is taken by something else.
#![no_implicit_prelude]
#![deny(warnings, missing_docs, unused_qualifications, unreachable_pub, clippy::all)]

/// Shadows of the names that careless macros use.
mod shadows {
    #![allow(dead_code, unused_macros, unused_imports)]
    pub(crate) struct Result;
    pub(crate) struct Option;
    pub(crate) struct Vec;
    pub(crate) struct Box;
    pub(crate) struct String;
    pub(crate) struct Ok;
    pub(crate) struct Some;
    pub(crate) struct Default;
    pub(crate) struct Iterator;
    pub(crate) struct Tensor;
    pub(crate) struct Path;
    pub(crate) struct Conv2D;
    pub(crate) struct BatchNorm;
    pub(crate) struct Linear;
    pub(crate) struct Tracer;
    pub(crate) struct Flow;
    pub(crate) trait Clone {}
    pub(crate) trait Borrow {}
    pub(crate) trait Module {}
    pub(crate) trait ModuleT {}
    pub(crate) trait Prunable {}
    pub(crate) mod core {}
    pub(crate) mod std {}
    pub(crate) mod nn {}
    pub(crate) mod functional {}
    pub(crate) mod _slim {}
    macro_rules! assert {
        ($($any:tt)*) => {
            ::core::compile_error!("an assertion of the user's")
        };
    }
    pub(crate) use assert;
}

#[allow(unused_imports)]
use shadows::*;

::pruning::model! {
    /// A model whose nodes have the names of the expansion's variables.
    #[derive(::core::fmt::Debug)]
    struct Net(vs: i64, p: i64, takes: i64) {
        /// A node with its own documentation.
        path = conv2d(3 => vs, kernel = 3, padding = 1);
        xs = batch_norm(p);
        train = relu;
        previous = conv2d(p => takes, kernel = 1);
        from = batch_norm(takes);
        node0 = from.sigmoid() * from;
        cx = conv2d(takes => 8, kernel = 1, bias_init = ::pruning::nn::Init::Const(0.));
        visit = batch_norm(8);
        field = visit + visit.relu();
        r#type = conv2d(8 => 8, kernel = 1);
        r#fn = batch_norm(8);
        a = [r#fn, field];
        b = a.chunk(2, 0);
        parts = b.map(|xs: &::torch::Tensor| xs.relu());
        gives = max_pool(2);
        new = gives.dropout(0.5);
        slim = new.interpolate(2);
        flatten(16);
        i = linear(8 * 16 => 2);
    }
}

::pruning::model! {
    /// The layers of sequences.
    #[derive(::core::fmt::Debug)]
    pub(crate) struct Sequences(path: i64) {
        embed = embedding(9 => path);
        ln = layer_norm(path);
        train = multi_head_attention(path, heads = 2);
        rms = rms_norm(path);
        lstm = lstm(path => 8, bidirectional = true, bias_init = ::pruning::nn::Init::Const(0.));
        gru = gru(16 => 8);
        transpose(1, 2);
        group = group_norm(8, groups = 2);
        instance_norm(8);
        slopes = prelu(8);
        mean(2);
        plane = layer_norm([4, 2]);
    }
}

::pruning::model! {
    /// A block whose parameter has the name of a counter.
    #[derive(::core::fmt::Debug)]
    pub(crate) struct Block(i: i64) {
        conv = conv2d(i => i, kernel = 1, bias = false);
        bn = batch_norm(i);
        sum = bn + input;
    }
}

/// A module, so that its block has a path.
mod inside {
    ::pruning::model! {
        /// A block that other code names with its module.
        #[derive(::core::fmt::Debug)]
        pub(crate) struct Pathed(width: i64) {
            conv = conv2d(width => width, kernel = 1);
            bn = batch_norm(width);
            sum = bn + input;
        }
    }
}

::pruning::model! {
    /// Blocks in a row.
    #[derive(::core::fmt::Debug)]
    pub(crate) struct Row(i: i64) {
        stem = conv2d(3 => i, kernel = 1);
        bn = batch_norm(i);
        relu;
        blocks = repeat(2, Block(i));
        pathed = inside::Pathed(i);
        last = conv2d(i => 2, kernel = 1);
    }
}

::pruning::model! {
    /// A model with two inputs and two outputs.
    #[derive(::core::fmt::Debug)]
    struct Pair {
        input1 = input.0.conv2d(3 => 4, kernel = 1);
        input0 = input.1.conv2d(3 => 4, kernel = 1);
        (input1, input0);
    }
}

/// A module with a public model.
pub mod public {
    ::pruning::model! {
        /// A public model.
        #[derive(::core::fmt::Debug)]
        pub struct Public {
            conv = conv2d(3 => 8, kernel = 1);
            /// Documented.
            bn = batch_norm(8);
            #[allow(clippy::doc_markdown)]
            last = conv2d(8 => 2, kernel = 1);
        }
    }
}

/// Declares a model inside `macro_rules!`, with names, widths, a layer and a visibility from
/// outside and from inside.
macro_rules! declare {
    ($(#[$attr:meta])* $vis:vis $name:ident, $node:ident, $inside:expr, $kernel:literal, $block:ident, $path:path) => {
        ::pruning::model! {
            $(#[$attr])*
            $vis struct $name(width: i64) {
                $node = conv2d(3 => width, kernel = $kernel);
                norm = batch_norm(width);
                xs = norm.relu() + norm;
                between = xs.conv2d(width => $inside, kernel = 1);
                between_norm = batch_norm($inside);
                block = $block($inside);
                other = $path($inside);
                last = conv2d($inside => 2, kernel = 1);
                sum = $node.chunk(4, 0) + last;
            }
        }
    };
}

declare!(
    /// Made by a macro.
    #[derive(::core::fmt::Debug)]
    pub(crate) FromMacro, node_of_the_caller, 2 + 6, 1, Block, inside::Pathed
);

fn images(width: i64) -> ::torch::Tensor {
    ::torch::Tensor::ones([1, width, 4, 4], ::torch::kind::FLOAT_CPU)
}

/// Asserts that a network runs before and after slimming; returns the paths of its layers.
fn slims<M: ::torch::nn::ModuleT + ::pruning::Prunable>(
    mut net: M,
    size: &[i64],
) -> ::std::vec::Vec<::std::string::String> {
    let output = net.forward_t(&images(3), false);
    ::core::assert_eq!(output.size(), size);
    let slimmed = match net.slim(0.5) {
        ::core::result::Result::Ok(slimmed) => slimmed,
        ::core::result::Result::Err(error) => ::core::panic!("{error}"),
    };
    ::core::assert!(slimmed.plan().channels().after < slimmed.plan().channels().before);
    ::core::assert_eq!(net.forward_t(&images(3), false).size(), size);
    let paths = ::core::iter::Iterator::map(slimmed.plan().layers().iter(), |layer| {
        ::core::clone::Clone::clone(&layer.path)
    });
    ::core::iter::Iterator::collect(paths)
}

#[test]
fn a_model_of_taken_names() {
    let vs = ::torch::nn::VarStore::new(::torch::Device::Cpu);
    let net = Net::new(vs.root(), 8, 8, 6);
    let variables = vs.variables();
    ::core::assert!(
        variables.contains_key("type.weight") && variables.contains_key("fn.running_mean"),
        "{:?}",
        variables.keys()
    );
    let paths = slims(net, &[1, 2]);
    ::core::assert_eq!(
        paths,
        ["path", "xs", "previous", "from", "cx", "visit", "type", "fn", "gives", "i"]
    );
}

#[test]
fn models_in_models() {
    let vs = ::torch::nn::VarStore::new(::torch::Device::Cpu);
    slims(Row::new(vs.root(), 8), &[1, 2, 4, 4]);
    ::core::assert!(vs.variables().contains_key("blocks.1.bn.weight"));
}

#[test]
fn several_inputs_and_outputs() {
    let vs = ::torch::nn::VarStore::new(::torch::Device::Cpu);
    let (one, two) = Pair::new(vs.root()).forward_t(&images(3), &images(3), false);
    ::core::assert_eq!((one.size(), two.size()), (images(4).size(), images(4).size()));
}

#[test]
fn a_public_model_and_one_from_a_macro() {
    let vs = ::torch::nn::VarStore::new(::torch::Device::Cpu);
    let paths = slims(public::Public::new(vs.root() / "public"), &[1, 2, 4, 4]);
    ::core::assert_eq!(paths, ["conv", "bn", "last"]);
    slims(FromMacro::new(vs.root() / "macro", 8), &[1, 2, 4, 4]);
}
