//! Strategies for types and definitions of networks, which are often invalid.

use proptest::prelude::*;
use proptest::sample::select;

pub(super) fn pieces(pieces: &'static [&'static str]) -> BoxedStrategy<String> {
    select(pieces).prop_map(str::to_owned).boxed()
}

/// Up to `at_most` values of `of`, joined by `by`.
fn several(
    of: impl Strategy<Value = String> + 'static,
    at_most: usize,
    by: &'static str,
) -> BoxedStrategy<String> {
    prop::collection::vec(of, 0..=at_most).prop_map(move |parts| parts.join(by)).boxed()
}

pub(super) fn name() -> BoxedStrategy<String> {
    pieces(&[
        "conv", "bn", "bn2", "input", "r#type", "output", "self", "Self", "crate", "_", "x", "T",
        "é", "relu", "chunk", "prune", "fn", "0", "1",
    ])
}

pub(super) fn number() -> BoxedStrategy<String> {
    pieces(&[
        "0",
        "1",
        "2",
        "3",
        "64",
        "0.1",
        "1.0",
        "1.",
        "1e9",
        "0x10",
        "3usize",
        "3i64",
        "-1",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "340282366920938463463374607431768211456",
        "N",
        "{ N }",
        "\"3\"",
        "'3'",
        "true",
        "b'3'",
        "self.0",
    ])
}

/// An expression: of flows, of numbers, or of neither.
pub(super) fn expression() -> BoxedStrategy<String> {
    let leaf = prop_oneof![4 => name(), 2 => number(), 1 => pieces(&["()", "[]", "a::b", "..", "|xs| xs.sin()", "vec![1]", "\"\"", "if a {} else {}"])];
    leaf.prop_recursive(5, 24, 4, |inner| {
        let one = inner.clone();
        let list =
            move || prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| parts.join(", "));
        prop_oneof![
            (
                one.clone(),
                pieces(&["+", "*", "-", "/", "<", "&&", "=", "=>", "..", ".", "|", "as"]),
                one.clone()
            )
                .prop_map(|(a, operator, b)| format!("{a} {operator} {b}")),
            list().prop_map(|parts| format!("[{parts}]")),
            list().prop_map(|parts| format!("({parts})")),
            (name(), list()).prop_map(|(function, parts)| format!("{function}({parts})")),
            (
                pieces(&["chunk", "shuffle", "pixel_shuffle", "flatten", "unflatten", "ungate"]),
                list()
            )
                .prop_map(|(function, parts)| format!("{function}({parts})")),
            (one.clone(), number()).prop_map(|(a, index)| format!("{a}.{index}")),
            (one.clone(), name(), list())
                .prop_map(|(a, function, parts)| format!("{a}.{function}({parts})")),
            one.prop_map(|a| format!("{{ {a} }}")),
        ]
    })
    .boxed()
}

pub(super) fn attribute() -> BoxedStrategy<String> {
    let key = || {
        pieces(&[
            "from",
            "skip",
            "keep",
            "elementwise",
            "per_channel",
            "with",
            "input",
            "output",
            "crate",
            "form",
            "a::b",
            "r#from",
            "\"from\"",
            "3",
        ])
    };
    let value = prop_oneof![4 => expression(), 1 => pieces(&["shift", "\"\"", "\"::a\"", "\"a b\"", "path::to::f", "f::<T>", "(3, 1)", "()"])];
    let meta = prop_oneof![
        2 => key(),
        5 => (key(), value.clone()).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => (key(), value.clone()).prop_map(|(key, value)| format!("{key}({value})")),
        1 => value,
    ];
    prop_oneof![
        8 => several(meta, 3, ", ").prop_map(|metas| format!("#[prune({metas})]")),
        3 => Just("#[prune(sequential)]".to_owned()),
        1 => pieces(&["#[prune]", "#[prune = 3]", "#[prune[]]", "#[prune{}]", "#[doc = \"\"]", "#[prune(,)]", "#[prune(from = input,,)]"]),
    ]
    .boxed()
}

fn layer_type() -> BoxedStrategy<String> {
    let leaf = pieces(&[
        "nn::Conv2D",
        "BatchNorm",
        "T",
        "Tensor",
        "Self",
        "()",
        "!",
        "_",
        "dyn A",
        "impl A",
        "fn(A) -> B",
        "&'a A",
        "*const A",
        "[A; N]",
        "m!()",
        "<A as B>::C",
    ]);
    leaf.prop_recursive(3, 8, 2, |inner| {
        (
            pieces(&[
                "Vec<X>",
                "Option<X>",
                "Box<X>",
                "[X; 3]",
                "(X, X)",
                "A<'a, X, 3>",
                "(X)",
                "fn(X) -> X",
                "dyn Fn(X) -> X",
            ]),
            inner,
        )
            .prop_map(|(outer, inner)| outer.replace('X', &inner))
    })
    .boxed()
}

pub(super) fn derive_input() -> BoxedStrategy<String> {
    let attributes = || several(attribute(), 2, " ");
    let named = (attributes(), name(), layer_type())
        .prop_map(|(attributes, name, ty)| format!("{attributes} {name}: {ty}"))
        .boxed();
    let unnamed = (attributes(), layer_type())
        .prop_map(|(attributes, ty)| format!("{attributes} {ty}"))
        .boxed();
    let named = || several(named.clone(), 5, ", ");
    let unnamed = || several(unnamed.clone(), 4, ", ");
    let variant = prop_oneof![
        unnamed().prop_map(|fields| format!("({fields})")),
        named().prop_map(|fields| format!("{{ {fields} }}")),
        Just(String::new()),
    ];
    let variant = (attributes(), pieces(&["A", "B", "r#C"]), variant)
        .prop_map(|(attributes, name, fields)| format!("{attributes} {name} {fields}"));
    let generics =
        pieces(&["", "", "", "<T>", "<'a, T: A + 'a, const N: usize>", "<T = A>", "<T,>"]);
    let kind = prop_oneof![
        5 => (generics.clone(), named()).prop_map(|(generics, fields)| format!("struct Net {generics} {{ {fields} }}")),
        3 => (generics.clone(), unnamed()).prop_map(|(generics, fields)| format!("struct Net {generics} ({fields});")),
        1 => Just("struct Net;".to_owned()),
        3 => (generics, several(variant, 3, ", ")).prop_map(|(generics, variants)| format!("enum Net {generics} {{ {variants} }}")),
        1 => named().prop_map(|fields| format!("union Net {{ {fields} }}")),
    ];
    (attributes(), kind).prop_map(|(attributes, kind)| format!("{attributes} pub {kind}")).boxed()
}

fn statement() -> BoxedStrategy<String> {
    let operation = pieces(&[
        "conv2d",
        "conv1d",
        "conv_transpose2d",
        "batch_norm",
        "linear",
        "max_pool",
        "avg_pool",
        "adaptive_avg_pool",
        "relu",
        "sigmoid",
        "map",
        "dropout",
        "interpolate",
        "flatten",
        "chunk",
        "shuffle",
        "pixel_shuffle",
        "repeat",
        "Block",
        "a::Block",
        "input",
        "conv",
        "nothing",
        "leaky_relu",
    ]);
    let key = pieces(&[
        "kernel",
        "stride",
        "padding",
        "bias",
        "groups",
        "eps",
        "affine",
        "whole_groups",
        "ceil_mode",
        "kernle",
        "gamma_init",
    ]);
    let argument = prop_oneof![
        4 => number(),
        3 => (number(), number()).prop_map(|(a, b)| format!("{a} => {b}")),
        4 => (key, number()).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => expression(),
        1 => pieces(&["Block(64)", "Block()", "|xs| xs.sin()", "|xs| xs * conv", "padding_mode = nn::PaddingMode::Zeros", "= 3", "=> 3"]),
    ];
    let call = (operation, several(argument, 3, ", "))
        .prop_map(|(operation, arguments)| format!("{operation}({arguments})"))
        .boxed();
    let value = prop_oneof![
        6 => call.clone(),
        2 => (name(), call.clone()).prop_map(|(name, call)| format!("{name}.{call}")),
        2 => name(),
        2 => expression(),
        1 => (call.clone(), call).prop_map(|(a, b)| format!("{a}.{b}")),
    ];
    let named = (name(), value.clone()).prop_map(|(name, value)| format!("{name} = {value}"));
    let sound = pieces(&[
        "conv = conv2d(3 => 64, kernel = 3)",
        "bn = batch_norm(64)",
        "bn2 = batch_norm(64)",
        "x = relu",
        "relu",
        "sigmoid",
        "chunk(2, 0)",
        "map(|xs| xs.sin())",
    ]);
    let statement = prop_oneof![12 => sound, 4 => named, 2 => value, 1 => pieces(&["", "= 3", "#[doc]", "relu", "a = ", "relu relu"])];
    (pieces(&["", "", "", "", "/// A layer.\n", "#[prune(keep)] ", "#[cfg(a)] "]), statement)
        .prop_map(|(attributes, statement)| format!("{attributes}{statement}"))
        .boxed()
}

pub(super) fn definition() -> BoxedStrategy<String> {
    let header = pieces(&[
        "struct Net",
        "pub struct Net",
        "pub(crate) struct Net",
        "struct Net(classes: i64)",
        "struct Net(N: i64, x: &str,)",
        "#[derive(Debug)] struct Net",
        "struct Net()",
        "struct r#type",
        "struct Net<T>",
        "struct Net(classes)",
        "enum Net",
        "struct",
    ]);
    (header, several(statement(), 5, "; "), pieces(&[";", ";", ";", ""]))
        .prop_map(|(header, statements, end)| format!("{header} {{ {statements}{end} }}"))
        .boxed()
}
