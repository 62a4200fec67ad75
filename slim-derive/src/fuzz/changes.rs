//! The cases of other tests, with some tokens changed.

use std::path::Path;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use quote::ToTokens;
use syn::Item;

use super::grammar::{attribute, expression, name, number, pieces};

/// The tokens that `select` gives for the items in the files of these folders.
fn seeds(folders: &[&str], select: fn(Item) -> Option<TokenStream>) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in folders {
        let entries = root
            .join(folder)
            .read_dir()
            .expect("is there")
            .map(|entry| entry.expect("can be read").path());
        let mut files: Vec<_> = entries
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .collect();
        files.sort();
        for file in files {
            let file = syn::parse_file(&std::fs::read_to_string(file).expect("can be read"))
                .expect("is Rust");
            found
                .extend(file.items.into_iter().filter_map(select).map(|tokens| tokens.to_string()));
        }
    }
    assert!(found.len() > 20);
    found
}

pub(super) fn types() -> Vec<String> {
    let select = |item: Item| match &item {
        Item::Struct(_) | Item::Enum(_) | Item::Union(_) => Some(item.into_token_stream()),
        _ => None,
    };
    seeds(
        &[
            "tests/ui/cases/attributes",
            "tests/ui/cases/expressions",
            "tests/ui/cases/names",
            "tests/ui/cases/enums",
            "tests/behaviour/api/branches",
            "slim-zoo/src",
        ],
        select,
    )
}

pub(super) fn definitions() -> Vec<String> {
    let select = |item: Item| match item {
        Item::Macro(item) if item.mac.path.is_ident("model") => Some(item.mac.tokens),
        _ => None,
    };
    seeds(&["tests/ui/cases/model", "tests/parity/models"], select)
}

/// Items for `#[forward]`.
pub(super) fn passes() -> Vec<String> {
    let forms = crate::forward::tests::forms();
    forms.into_iter().map(|form| form.into_token_stream().to_string()).collect()
}

#[derive(Debug, Clone)]
enum Change {
    Replace(Index, String),
    Insert(Index, String),
    Delete(Index),
    Swap(Index, Index),
    Copy(Index, Index),
}

/// One of `seeds`, with a few tokens changed.
pub(super) fn changed(seeds: Vec<String>) -> BoxedStrategy<String> {
    let piece = || {
        prop_oneof![
            3 => name(),
            2 => number(),
            2 => expression(),
            2 => attribute(),
            2 => pieces(&[",", ";", "=", "=>", "+", "*", ".", ":", "::", "<", ">", "|", "#", "'a", "$", "?", "!", "pub", "struct", "where", "\"text\""]),
            1 => ("[(\\[{]", 1_usize..300).prop_map(|(open, depth)| {
                let close = match open.as_str() { "(" => ")", "[" => "]", _ => "}" };
                format!("{}a{}", open.repeat(depth), close.repeat(depth))
            }),
        ]
    };
    let at = any::<Index>;
    let change = prop_oneof![
        (at(), piece()).prop_map(|(at, piece)| Change::Replace(at, piece)),
        (at(), piece()).prop_map(|(at, piece)| Change::Insert(at, piece)),
        at().prop_map(Change::Delete),
        (at(), at()).prop_map(|(a, b)| Change::Swap(a, b)),
        (at(), at()).prop_map(|(from, to)| Change::Copy(from, to)),
    ];
    (select(seeds), prop::collection::vec(change, 0..4))
        .prop_map(|(seed, changes)| {
            let mut words = words(seed.parse().expect("is tokens"));
            changes.iter().for_each(|change| change.apply(&mut words));
            words.join(" ")
        })
        .boxed()
}

/// The tokens and delimiters as a flat list of words.
fn words(tokens: TokenStream) -> Vec<String> {
    let mut words = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                words.push(open.to_owned());
                words.extend(self::words(group.stream()));
                words.push(close.to_owned());
            }
            // Marked as joint, so that `=` `>` stays `=>`.
            TokenTree::Punct(punct) if punct.spacing() == Spacing::Joint => {
                words.push(punct.to_string() + "\u{0}");
            }
            token => words.push(token.to_string()),
        }
    }
    let mut joined: Vec<String> = Vec::new();
    for word in words {
        match joined.last_mut() {
            Some(last) if last.ends_with('\u{0}') => {
                last.pop();
                last.push_str(&word);
            }
            _ => joined.push(word),
        }
    }
    joined
}

impl Change {
    /// Applies the change. Delimiters stay, so that the result still parses as tokens.
    fn apply(&self, words: &mut Vec<String>) {
        let free: Vec<_> = (0..words.len())
            .filter(|&at| !matches!(words[at].as_str(), "(" | ")" | "[" | "]" | "{" | "}" | ""))
            .collect();
        if free.is_empty() {
            return;
        }
        let place = |at: &Index| free[at.index(free.len())];
        match self {
            Change::Replace(at, piece) => words[place(at)].clone_from(piece),
            Change::Insert(at, piece) => words.insert(place(at), piece.clone()),
            Change::Delete(at) => drop(words.remove(place(at))),
            Change::Swap(a, b) => words.swap(place(a), place(b)),
            Change::Copy(from, to) => words.insert(place(to), words[place(from)].clone()),
        }
    }
}
