//! Compares the macros' own messages and their places with the `.stderr` files of `tests/ui/cases`,
//! on any rustc.

use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, DeriveInput, Item, Meta};

use super::{ast, ctxt, forward, model, sequential, traced};

/// A message and the place that is underlined: line from 1, column from 1, number of characters.
type Message = (String, usize, usize, usize);

#[test]
fn messages_and_places_are_those_of_the_compile_error_tests() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/ui/cases");
    let mut compared = 0;
    for case in cases
        .read_dir()
        .expect("is there")
        .flat_map(|folder| files(&folder.expect("can be read").path()))
    {
        // The compile-error tests write the `.stderr` file of a new case.
        let text = case.with_extension("stderr");
        if !text.exists() {
            continue;
        }
        let source = std::fs::read_to_string(&case).expect("can be read");
        // rustc reports syntax errors, not the macros.
        let Ok(file) = syn::parse_file(&source) else { continue };
        let (mut found, mut expected) = (messages(file), expected(&text));
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{}", case.display());
        compared += found.len();
    }
    assert!(compared > 50, "{compared} messages");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files =
        folder.read_dir().expect("is a folder").map(|file| file.expect("can be read").path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The messages of the derive about every type in a file, of `#[forward]` about its items, and of
/// `model!` about every definition.
fn messages(file: syn::File) -> Vec<Message> {
    let of_item = |mut item: Item| {
        if let Some(forward) = take_forward(&mut item) {
            return forward_errors(&forward, &item);
        }
        let derives = match &item {
            Item::Macro(item) if item.mac.path.is_ident("model") => {
                return model_errors(&item.mac.tokens);
            }
            Item::Struct(item) => derives_prunable(&item.attrs),
            Item::Enum(item) => derives_prunable(&item.attrs),
            Item::Union(item) => derives_prunable(&item.attrs),
            _ => false,
        };
        if derives {
            errors(&syn::parse2(item.into_token_stream()).expect("was parsed before"))
        } else {
            Vec::new()
        }
    };
    file.items.into_iter().flat_map(of_item).map(message).collect()
}

fn model_errors(definition: &TokenStream) -> Vec<syn::Error> {
    let cx = ctxt::Ctxt::new();
    match syn::parse2(quote!(::slim_runtime; #definition)) {
        Ok(definition) => drop(model::resolve::resolve(&cx, &definition)),
        Err(error) => cx.syn_error(error),
    }
    cx.check().err().unwrap_or_default()
}

/// Removes the `#[forward]` of an item, and returns it.
fn take_forward(item: &mut Item) -> Option<Attribute> {
    let attrs = match item {
        Item::Enum(item) => &mut item.attrs,
        Item::Fn(item) => &mut item.attrs,
        Item::Impl(item) => &mut item.attrs,
        Item::Mod(item) => &mut item.attrs,
        Item::Struct(item) => &mut item.attrs,
        Item::Trait(item) => &mut item.attrs,
        _ => return None,
    };
    let at = attrs.iter().position(|attr| attr.path().is_ident("forward"))?;
    Some(attrs.remove(at))
}

fn forward_errors(attribute: &Attribute, item: &Item) -> Vec<syn::Error> {
    let cx = ctxt::Ctxt::new();
    let arguments = match &attribute.meta {
        Meta::List(list) => list.tokens.clone(),
        _ => TokenStream::new(),
    };
    forward::expand(&cx, arguments, item.to_token_stream());
    cx.check().err().unwrap_or_default()
}

fn derives_prunable(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        attr.path().is_ident("derive") && attr.to_token_stream().to_string().contains("Prunable")
    })
}

fn errors(input: &DeriveInput) -> Vec<syn::Error> {
    let cx = ctxt::Ctxt::new();
    let model = ast::Model::parse(&cx, input);
    match &model.attrs.sequential {
        Some(_) => drop(sequential::wiring::resolve(&cx, &model)),
        None => traced::check(&cx, &model),
    }
    cx.check().err().unwrap_or_default()
}

fn message(error: syn::Error) -> Message {
    let (start, end) = (error.span().start(), error.span().end());
    assert_eq!(start.line, end.line, "a case is easier to read where what is wrong is in one line");
    (error.to_string(), start.line, start.column + 1, end.column - start.column)
}

/// The macros' errors in a text of rustc: the errors without a code.
fn expected(text: &Path) -> Vec<Message> {
    let text = std::fs::read_to_string(text).expect("every case has its text");
    let lines: Vec<_> = text.lines().collect();
    // Five lines: the message, its place, an empty line, the line of the file, its underlining.
    let ours = lines.windows(5).filter_map(|lines| {
        Some((lines[0].strip_prefix("error: ")?, lines[1].trim().strip_prefix("--> ")?, lines[4]))
    });
    ours.map(|(message, place, underlined)| {
        let mut numbers = place.rsplit(':').map(|number| number.parse().expect("is a number"));
        let (column, line) =
            (numbers.next().expect("has a column"), numbers.next().expect("has a line"));
        (message.to_owned(), line, column, underlined.matches('^').count())
    })
    .collect()
}
