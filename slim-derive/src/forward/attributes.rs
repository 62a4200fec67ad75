//! Which attributes of the user's stand above which of the generated items.

use proc_macro2::Ident;
use syn::spanned::Spanned;
use syn::{AttrStyle, Attribute, Meta};

/// Those without which an item is not there.
pub(super) fn cfgs(attrs: &[Attribute]) -> Vec<Attribute> {
    kept(attrs, &["cfg"])
}

/// All, above the function that is called.
pub(super) fn front(attrs: &[Attribute]) -> Vec<Attribute> {
    attrs.iter().map(outer).collect()
}

/// Those that say something about a body, above the real one.
pub(super) fn real(attrs: &[Attribute]) -> Vec<Attribute> {
    kept(
        attrs,
        &["allow", "cfg", "cold", "deny", "expect", "forbid", "inline", "track_caller", "warn"],
    )
}

/// Those above the symbolic copy of a body, in which nothing is reported again.
pub(super) fn copy(attrs: &[Attribute]) -> Vec<Attribute> {
    kept(attrs, &["allow", "cfg", "expect", "track_caller"])
}

fn kept(attrs: &[Attribute], names: &[&str]) -> Vec<Attribute> {
    let is_kept = |attr: &&Attribute| names.iter().any(|name| attr.path().is_ident(name));
    attrs.iter().filter(is_kept).map(outer).collect()
}

/// In front of its item, where it may have stood inside. `#[expect(…)]` is `#[allow(…)]`: of
/// several functions with it, not all would fulfil it.
fn outer(attr: &Attribute) -> Attribute {
    let mut attr = Attribute { style: AttrStyle::Outer, ..attr.clone() };
    if let Meta::List(list) = &mut attr.meta
        && list.path.is_ident("expect")
    {
        list.path = Ident::new("allow", list.path.span()).into();
    }
    attr
}
