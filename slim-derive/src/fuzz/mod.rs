//! Fuzz tests of the macros: any tokens expand to valid Rust or to errors, without a panic, a hang,
//! or excessively long code.
//!
//! Inputs come from a grammar that often makes invalid code, or are cases of other tests with some
//! tokens changed. A run tries a few thousand inputs;
//! `SLIM_FUZZ_CASES=1000000 cargo test -p slim-derive fuzz` tries a million of each kind.

mod changes;
mod grammar;

use std::cell::Cell;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use proc_macro2::{Span, TokenStream, TokenTree};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use quote::quote;
use syn::File;

use super::{derive, forward, model, nesting};
use changes::{changed, definitions, passes, types};
use grammar::{definition, derive_input};

/// Far more than any input takes on the slowest machine.
const HANG: Duration = Duration::from_secs(60);
/// The size of the compiler's stack.
const STACK: usize = 8 << 20;

fn defined(tokens: TokenStream) -> TokenStream {
    model::model(quote!(::slim_runtime; #tokens))
}

/// Expands `#[forward]` on the tokens. Tokens that are not Rust stay as they are, for rustc to
/// report.
fn read(tokens: TokenStream) -> TokenStream {
    let expanded = forward::forward(TokenStream::new(), tokens.clone());
    if let Err(error) = nesting::check(tokens.clone()) {
        return error.into_compile_error();
    }
    match syn::parse2::<File>(tokens.clone()) {
        Ok(_) => expanded,
        Err(_) => {
            assert!(expanded.to_string().starts_with(&tokens.to_string()));
            syn::Error::new_spanned(tokens, "this is no Rust").into_compile_error()
        }
    }
}

/// Whether `text` expands without errors. Asserts that the expansion is Rust and not much longer
/// than `text`, and that every error has a place.
fn accepted(text: &str, expand: fn(TokenStream) -> TokenStream) -> bool {
    // An error without a place points at the first line, which is empty.
    let Ok(tokens) = format!("\n{text}").parse::<TokenStream>() else { return false };
    let expanded = expand(tokens);
    let errors = errors(expanded.clone());
    for (error, message) in &errors {
        assert!(
            error.start().line > 1 || message.contains("unexpected end of input"),
            "{message} has no place"
        );
    }
    let expanded = expanded.to_string();
    // A name that is written once is repeated in messages, the constructor and the wiring.
    assert!(
        expanded.len() <= 10_000 + 200 * text.len(),
        "{} bytes of {}",
        expanded.len(),
        text.len()
    );
    let file: File =
        syn::parse_str(&expanded).unwrap_or_else(|error| panic!("{error}: {expanded}"));
    assert!(!file.items.is_empty());
    errors.is_empty()
}

/// The places and messages of errors in the expansion.
fn errors(expanded: TokenStream) -> Vec<(Span, String)> {
    let tokens: Vec<_> = expanded.into_iter().collect();
    let error = |tokens: &[TokenTree]| match tokens {
        [TokenTree::Ident(ident), _, message] if ident == "compile_error" => {
            Some((ident.span(), message.to_string()))
        }
        _ => None,
    };
    tokens.windows(3).filter_map(error).collect()
}

/// Runs `SLIM_FUZZ_CASES` inputs, 800 by default, on a stack of the compiler's size. Asserts that
/// some are accepted, and some are not.
fn fuzz<S: Strategy<Value = String> + 'static>(
    inputs: fn() -> S,
    expand: fn(TokenStream) -> TokenStream,
) {
    let cases = std::env::var("SLIM_FUZZ_CASES")
        .map_or(800, |cases| cases.parse().expect("SLIM_FUZZ_CASES is a number"));
    let at_hand = Arc::new(Mutex::new(String::new()));
    let (alive, signs) = mpsc::channel();
    let work = {
        let at_hand = Arc::clone(&at_hand);
        move || {
            let config =
                ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
            let good = Cell::new(0);
            let run = TestRunner::new(config).run(&inputs(), |text| {
                at_hand.lock().expect("is sound").clone_from(&text);
                good.set(good.get() + u32::from(accepted(&text, expand)));
                let _ = alive.send(());
                Ok(())
            });
            run.unwrap_or_else(|failure| panic!("{failure}"));
            println!("{} of {cases} inputs were accepted", good.get());
            assert!((1..cases).contains(&good.get()));
        }
    };
    let worker = thread::Builder::new().stack_size(STACK).spawn(work).expect("a thread starts");
    loop {
        match signs.recv_timeout(HANG) {
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("a hang: {}", at_hand.lock().expect("is sound"))
            }
        }
    }
    worker.join().expect("no input fails");
}

/// Inputs that once expanded to invalid Rust, or to an error without a place.
#[test]
fn what_once_failed() {
    for text in ["struct Net { _: A }", "struct Net { a: A +, b: B }", "struct Net(A +);"] {
        assert!(!accepted(text, derive), "{text}");
    }
    for text in ["struct Net { #[doc] }", "struct Net { relu; #[doc] relu relu"] {
        assert!(!accepted(text, defined), "{text}");
    }
}

#[test]
fn any_type() {
    fuzz(derive_input, derive);
}

#[test]
fn changed_types() {
    fuzz(|| changed(types()), derive);
}

#[test]
fn any_definition() {
    fuzz(definition, defined);
}

#[test]
fn changed_definitions() {
    fuzz(|| changed(definitions()), defined);
}

#[test]
fn changed_passes() {
    fuzz(|| changed(passes()), read);
}

#[test]
fn what_is_deep_fits_the_stack_or_is_refused() {
    let deep = || {
        for (piece, end) in [
            ("(", ")"),
            ("[", "]"),
            ("{", "}"),
            ("conv(", ")"),
            ("if a {", "}"),
            ("match a { _ => ", "}"),
            ("a::<A<", ">>::b"),
            ("|x| ", ""),
            ("|x, y| ", ""),
            ("!", ""),
            ("& ", ""),
            ("bn + ", ""),
            ("bn.", "relu()"),
            ("return ", ""),
            ("else if a {} ", ""),
        ] {
            for depth in [10, 40, 80, 130, 200, 390, 20_000] {
                let nested = format!("{}bn{}", piece.repeat(depth), end.repeat(depth));
                for text in [
                    format!("#[prune(output = {nested})] struct Net {{ conv: A, bn: B }}"),
                    format!("struct Net {{ #[prune(skip)] a: [u8; {nested}], bn: B }}"),
                ] {
                    accepted(&text, derive);
                }
                accepted(&format!("fn f(xs: &Tensor) {{ {nested}; }}"), read);
                accepted(
                    &format!(
                        "struct Net {{ bn = batch_norm(3); x = {nested}; conv = conv2d(3 => 4, kernel = {nested}); }}"
                    ),
                    defined,
                );
            }
        }
    };
    thread::Builder::new()
        .stack_size(STACK)
        .spawn(deep)
        .expect("a thread starts")
        .join()
        .expect("nothing fails");
}

#[test]
fn widths_that_double_do_not_flood() {
    let doubled: String = (0..60).map(|i| format!("x{} = [x{i}, x{i}]; ", i + 1)).collect();
    let text = format!(
        "struct Net {{ x0 = conv2d(3 => W, kernel = 3); {doubled} fc = linear(64 => 10); }}"
    );
    assert!(accepted(&text, defined));
}
