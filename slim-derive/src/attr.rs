//! `#[prune(…)]` on the type and on its fields.

use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, ExprPath, Lit, LitInt, Meta, Path, Token, parse_quote};

use crate::activation::{self, Applied};
use crate::ctxt::Ctxt;
use crate::suggest::did_you_mean;
use crate::tokens::peeled;

/// The keys of `#[prune(…)]` on the type.
pub(crate) struct ModelAttrs {
    /// The path of the runtime; `None` after an error.
    pub(crate) krate: Option<Path>,
    /// The wiring is declared: data flows through the fields in the order of their declaration.
    pub(crate) sequential: Option<Attr<()>>,
    /// The channels or shapes of the inputs.
    pub(crate) input: Option<InputAttr>,
    /// The expression of the output.
    pub(crate) output: Option<Attr<Expr>>,
}

/// The value of `input`.
#[derive(Clone)]
pub(crate) enum InputAttr {
    /// `3` channels.
    Width(LitInt),
    /// `(3, 1)`: the channels of several inputs.
    Widths(Vec<LitInt>),
    /// `[3, 224, 224]`: the shape of one input, without the batch. The list has one element.
    Shape(Vec<Vec<LitInt>>),
    /// `([3, 224, 224], [1, 224, 224])`
    Shapes(Vec<Vec<LitInt>>),
}

impl InputAttr {
    /// The first number, as the place of an error.
    pub(crate) fn first(&self) -> Option<&LitInt> {
        match self {
            InputAttr::Width(width) => Some(width),
            InputAttr::Widths(widths) => widths.first(),
            InputAttr::Shape(shapes) | InputAttr::Shapes(shapes) => shapes.first()?.first(),
        }
    }
}

/// The keys of `#[prune(…)]` on a field.
#[derive(Default)]
pub(crate) struct FieldAttrs {
    /// The role of the field, if its type does not determine it.
    pub(crate) role: Option<Attr<Role>>,
    /// Its output channels are never removed.
    pub(crate) keep: Option<Attr<()>>,
    /// The expression that the field reads.
    pub(crate) from: Option<Attr<Expr>>,
    /// The activation that is applied to its output.
    pub(crate) act: Option<Attr<Applied>>,
}

/// The role of a field in the data flow.
pub(crate) enum Role {
    Skip,
    Elementwise,
    PerChannel { shift: bool },
    With(ExprPath),
}

/// The value of a key, with the key as the place of errors.
pub(crate) struct Attr<T> {
    pub(crate) key: Path,
    pub(crate) value: T,
}

const MODEL_KEYS: &[&str] = &["sequential", "input", "output", "crate"];
const FIELD_KEYS: &[&str] = &["from", "skip", "keep", "act", "elementwise", "per_channel", "with"];

impl ModelAttrs {
    pub(crate) fn parse(cx: &Ctxt, attrs: &[Attribute]) -> Self {
        let (mut sequential, mut input, mut output, mut krate) = (None, None, None, None);
        for meta in metas(cx, attrs) {
            match key(&meta).as_str() {
                // A `sequential` that wrongly has a value declares the wiring nevertheless.
                "sequential" => {
                    flag(cx, &meta);
                    set(cx, &mut sequential, &meta, Some(()));
                }
                "input" => set(cx, &mut input, &meta, input_attr(cx, &meta)),
                "output" => set(cx, &mut output, &meta, expression(cx, &meta, "bn2 + shortcut")),
                "crate" => set(cx, &mut krate, &meta, Some(crate_path(cx, &meta))),
                key => unknown(cx, &meta, key, ("the struct", MODEL_KEYS), ("a field", FIELD_KEYS)),
            }
        }
        let krate = match krate {
            None => Some(parse_quote!(::slim_runtime)),
            Some(Attr { value, .. }) => value,
        };
        let input = input.map(|input: Attr<InputAttr>| input.value);
        ModelAttrs { krate, sequential, input, output }
    }
}

impl FieldAttrs {
    pub(crate) fn parse(cx: &Ctxt, attrs: &[Attribute]) -> Self {
        let mut found = FieldAttrs::default();
        for meta in metas(cx, attrs) {
            match key(&meta).as_str() {
                "keep" => set(cx, &mut found.keep, &meta, flag(cx, &meta)),
                "from" => set(cx, &mut found.from, &meta, expression(cx, &meta, "input")),
                "act" => set(cx, &mut found.act, &meta, act(cx, &meta)),
                "skip" => set(cx, &mut found.role, &meta, flag(cx, &meta).map(|()| Role::Skip)),
                "elementwise" => {
                    set(cx, &mut found.role, &meta, flag(cx, &meta).map(|()| Role::Elementwise));
                }
                "per_channel" => set(cx, &mut found.role, &meta, per_channel(cx, &meta)),
                "with" => set(cx, &mut found.role, &meta, function(cx, &meta)),
                key => unknown(cx, &meta, key, ("a field", FIELD_KEYS), ("the struct", MODEL_KEYS)),
            }
        }
        found
    }
}

/// Reports an error at every `#[prune(…)]`, where the attribute has no meaning.
pub(crate) fn refuse(cx: &Ctxt, attrs: &[Attribute], message: &str) {
    attrs
        .iter()
        .filter(|attr| attr.path().is_ident("prune"))
        .for_each(|attr| cx.error(attr, message));
}

/// Reports an error at a key that gives a skipped field a part in the data flow.
pub(crate) fn contradicts_skip(cx: &Ctxt, key: &Path) {
    let name = key.to_token_stream();
    cx.error(
        key,
        format!("`{name}` contradicts `skip`, which takes the field out of the data flow; remove one of the two"),
    );
}

/// The entries of all `#[prune(…)]` attributes.
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

fn set<T>(cx: &Ctxt, slot: &mut Option<Attr<T>>, meta: &Meta, value: Option<T>) {
    let Some(before) = slot else {
        *slot = value.map(|value| Attr { key: meta.path().clone(), value });
        return;
    };
    let (key, before) = (key(meta), before.key.to_token_stream().to_string());
    cx.error(
        meta.path(),
        if key == before {
            format!("`{key}` is given twice; remove one")
        } else {
            format!("`{key}` contradicts `{before}`: a field has one role; remove one of the two")
        },
    );
}

fn unknown(
    cx: &Ctxt,
    meta: &Meta,
    key: &str,
    (here, keys): (&str, &[&str]),
    (elsewhere, foreign): (&str, &[&str]),
) {
    let known = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let message = match did_you_mean(key, keys) {
        _ if foreign.contains(&key) => {
            format!("`{key}` belongs on {elsewhere}; {here} takes {known}")
        }
        Some(meant) => format!("`prune` has no key `{key}`; did you mean `{meant}`?"),
        None => format!("`prune` has no key `{key}`; {here} takes {known}"),
    };
    cx.error(meta.path(), message);
}

fn flag(cx: &Ctxt, meta: &Meta) -> Option<()> {
    if matches!(meta, Meta::Path(_)) {
        return Some(());
    }
    let key = key(meta);
    cx.error(meta.path(), format!("`{key}` takes no value; write `#[prune({key})]`"));
    None
}

fn expression(cx: &Ctxt, meta: &Meta, example: &str) -> Option<Expr> {
    if let Meta::NameValue(pair) = meta {
        return Some(pair.value.clone());
    }
    let key = key(meta);
    cx.error(
        meta.path(),
        format!("`{key}` says what is read; write `#[prune({key} = {example})]`"),
    );
    None
}

fn input_attr(cx: &Ctxt, meta: &Meta) -> Option<InputAttr> {
    let input = match value(meta) {
        Some(Expr::Tuple(tuple)) if !tuple.elems.is_empty() => {
            let widths = tuple.elems.iter().map(channel_count).collect::<Option<_>>();
            let shapes = || tuple.elems.iter().map(shape).collect::<Option<_>>();
            widths.map(InputAttr::Widths).or_else(|| shapes().map(InputAttr::Shapes))
        }
        Some(one) => {
            let width = channel_count(one).map(InputAttr::Width);
            width.or_else(|| shape(one).map(|shape| InputAttr::Shape(vec![shape])))
        }
        None => None,
    };
    if input.is_none() {
        cx.error(
            meta.path(),
            "`input` is a number of channels, at least 1, or a shape without the batch; write `#[prune(input = 3)]` or `#[prune(input = [3, 224, 224])]`, and `#[prune(input = (3, 1))]` for two inputs",
        );
    }
    input
}

fn shape(expr: &Expr) -> Option<Vec<LitInt>> {
    match peeled(expr) {
        Expr::Array(array) if !array.elems.is_empty() => {
            array.elems.iter().map(channel_count).collect()
        }
        _ => None,
    }
}

fn channel_count(expr: &Expr) -> Option<LitInt> {
    match peeled(expr) {
        Expr::Lit(ExprLit { lit: Lit::Int(count), .. })
            if count.suffix().is_empty()
                && count.base10_parse::<i64>().is_ok_and(|count| count > 0) =>
        {
            Some(count.clone())
        }
        _ => None,
    }
}

fn crate_path(cx: &Ctxt, meta: &Meta) -> Option<Path> {
    let path = path_in_quotes(meta);
    if path.is_none() {
        cx.error(
            meta.path(),
            "`crate` is a path in quotes; write `#[prune(crate = \"path::to::slim_runtime\")]`",
        );
    }
    path
}

/// The path of `crate = "path::to::slim_runtime"`.
pub(crate) fn path_in_quotes(meta: &Meta) -> Option<Path> {
    match value(meta) {
        Some(Expr::Lit(ExprLit { lit: Lit::Str(path), .. })) => {
            path.parse_with(Path::parse_mod_style).ok()
        }
        _ => None,
    }
}

fn per_channel(cx: &Ctxt, meta: &Meta) -> Option<Role> {
    let shift = match (meta, value(meta)) {
        (Meta::Path(_), _) => Some(false),
        (_, Some(Expr::Path(path))) if path.path.is_ident("shift") => Some(true),
        _ => None,
    };
    if shift.is_none() {
        cx.error(meta.path(), "`per_channel` maps zero to zero, or is `shift` for a tensor that is added; write `#[prune(per_channel)]` or `#[prune(per_channel = shift)]`");
    }
    shift.map(|shift| Role::PerChannel { shift })
}

fn act(cx: &Ctxt, meta: &Meta) -> Option<Applied> {
    let parsed = value(meta).and_then(|value| activation::parse(cx, value));
    if parsed.is_none() {
        cx.error(
            meta.path(),
            "`act` is the activation behind the field; write `#[prune(act = relu)]`, or `act = identity` where there is none",
        );
    }
    parsed
}

fn function(cx: &Ctxt, meta: &Meta) -> Option<Role> {
    if let Some(Expr::Path(path)) = value(meta) {
        return Some(Role::With(path.clone()));
    }
    cx.error(
        meta.path(),
        "`with` is the path of a function `fn(&T, &mut Tracer, Flow) -> Result<Flow>`; write `#[prune(with = my::trace_layer)]`",
    );
    None
}

fn value(meta: &Meta) -> Option<&Expr> {
    match meta {
        Meta::NameValue(pair) => Some(peeled(&pair.value)),
        _ => None,
    }
}
