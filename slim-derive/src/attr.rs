//! `#[prune(…)]` on the struct and on its fields.

use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Lit, LitInt, Meta, Path, Token, parse_quote};

use crate::ctxt::Ctxt;
use crate::suggest::did_you_mean;

/// On the struct.
pub(crate) struct ModelAttrs {
    /// Where the runtime is.
    pub(crate) krate: Path,
    /// How many channels the input has.
    pub(crate) input: Option<LitInt>,
}

/// On a field: the keys that are given, each with its tokens.
#[derive(Default)]
pub(crate) struct FieldAttrs {
    pub(crate) skip: Option<Path>,
    pub(crate) keep: Option<Path>,
    pub(crate) elementwise: Option<Path>,
}

const MODEL_KEYS: &[&str] = &["input", "crate"];
const FIELD_KEYS: &[&str] = &["skip", "keep", "elementwise"];

impl ModelAttrs {
    pub(crate) fn parse(cx: &Ctxt, attrs: &[Attribute]) -> Self {
        let (mut input, mut krate) = (None, None);
        for meta in metas(cx, attrs) {
            match key(&meta).as_str() {
                "input" => set(cx, &mut input, &meta, channel_count(cx, &meta)),
                "crate" => set(cx, &mut krate, &meta, crate_path(cx, &meta)),
                key => unknown(cx, &meta, key, ("the struct", MODEL_KEYS), ("a field", FIELD_KEYS)),
            }
        }
        ModelAttrs { krate: krate.unwrap_or_else(|| parse_quote!(::slim_runtime)), input }
    }
}

impl FieldAttrs {
    pub(crate) fn parse(cx: &Ctxt, attrs: &[Attribute]) -> Self {
        let mut found = FieldAttrs::default();
        for meta in metas(cx, attrs) {
            match key(&meta).as_str() {
                "skip" => set(cx, &mut found.skip, &meta, flag(cx, &meta)),
                "keep" => set(cx, &mut found.keep, &meta, flag(cx, &meta)),
                "elementwise" => set(cx, &mut found.elementwise, &meta, flag(cx, &meta)),
                key => unknown(cx, &meta, key, ("a field", FIELD_KEYS), ("the struct", MODEL_KEYS)),
            }
        }
        found
    }
}

/// The entries of all `#[prune(…)]`.
fn metas(cx: &Ctxt, attrs: &[Attribute]) -> Vec<Meta> {
    let mut entries = Vec::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("prune")) {
        match attr.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) {
            Ok(metas) => entries.extend(metas),
            Err(error) => cx.syn_error(error),
        }
    }
    entries
}

fn key(meta: &Meta) -> String {
    meta.path().to_token_stream().to_string()
}

fn set<T>(cx: &Ctxt, slot: &mut Option<T>, meta: &Meta, value: Option<T>) {
    if slot.is_some() {
        cx.error(meta.path(), format!("`{}` is given twice; remove one", key(meta)));
    } else {
        *slot = value;
    }
}

fn unknown(cx: &Ctxt, meta: &Meta, key: &str, (here, keys): (&str, &[&str]), (elsewhere, foreign): (&str, &[&str])) {
    let known = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let message = match did_you_mean(key, keys) {
        _ if foreign.contains(&key) => format!("`{key}` belongs on {elsewhere}; {here} takes {known}"),
        Some(meant) => format!("`prune` has no key `{key}`; did you mean `{meant}`?"),
        None => format!("`prune` has no key `{key}`; {here} takes {known}"),
    };
    cx.error(meta.path(), message);
}

fn flag(cx: &Ctxt, meta: &Meta) -> Option<Path> {
    if let Meta::Path(path) = meta {
        return Some(path.clone());
    }
    let key = key(meta);
    cx.error(meta, format!("`{key}` takes no value; write `#[prune({key})]`"));
    None
}

fn channel_count(cx: &Ctxt, meta: &Meta) -> Option<LitInt> {
    if let Some(Lit::Int(count)) = literal(meta)
        && count.base10_parse::<i64>().is_ok_and(|count| count > 0)
    {
        return Some(count.clone());
    }
    cx.error(meta, "`input` is a number of channels, at least 1; write `#[prune(input = 3)]`");
    None
}

fn crate_path(cx: &Ctxt, meta: &Meta) -> Option<Path> {
    let path = match literal(meta) {
        Some(Lit::Str(path)) => path.parse_with(Path::parse_mod_style).ok(),
        _ => None,
    };
    if path.is_none() {
        cx.error(meta, "`crate` is a path in quotes; write `#[prune(crate = \"path::to::slim_runtime\")]`");
    }
    path
}

fn literal(meta: &Meta) -> Option<&Lit> {
    match meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit { lit, .. }) => Some(lit),
            _ => None,
        },
        _ => None,
    }
}
