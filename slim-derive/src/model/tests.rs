//! Snapshots of the formatted expansion of models of `tests/parity/models`, where they are compiled
//! and run.

use std::path::Path;

use quote::quote;
use syn::{File, Item};

/// The expansion of the model `name` in a file of `tests/parity/models`.
fn expansion(file: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/models").join(file);
    let file =
        syn::parse_file(&std::fs::read_to_string(path).expect("can be read")).expect("is Rust");
    let definitions = file.items.into_iter().filter_map(|item| match item {
        Item::Macro(item) if item.mac.path.is_ident("model") => Some(item.mac.tokens),
        _ => None,
    });
    let is_it =
        |tokens: &proc_macro2::TokenStream| tokens.to_string().contains(&format!("struct {name} "));
    let definition = definitions.into_iter().find(is_it).expect("is defined there");
    let expanded: File =
        syn::parse2(super::model(quote!(::slim_runtime; #definition))).expect("is Rust");
    prettyplease::unparse(&expanded)
}

#[test]
fn a_chain() {
    insta::assert_snapshot!(expansion("forms.rs", "Sigmoid"));
}

#[test]
fn a_residual_block_with_a_parameter() {
    insta::assert_snapshot!(expansion("resnet18.rs", "Block"));
}

#[test]
fn several_inputs_and_outputs() {
    insta::assert_snapshot!(expansion("forms.rs", "Pair"));
}

/// The stack of this test is half of the compiler's.
#[test]
fn the_longest_chain_fits_the_stack() {
    let run = || {
        let chain = |calls: usize| {
            let calls = ".relu()".repeat(calls);
            let text = format!("::slim_runtime; struct Net {{ last = input{calls}; }}");
            super::model(text.parse().expect("is tokens")).to_string()
        };
        let longest = (1..500).rev().find(|&calls| !chain(calls).contains("nested too deep"));
        assert!(longest.is_some_and(|calls| calls > 90), "{longest:?}");
    };
    let thread = std::thread::Builder::new().stack_size(4 << 20).spawn(run);
    thread.expect("can be started").join().expect("fits");
}
