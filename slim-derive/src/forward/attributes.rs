//! Which of the user's attributes each generated item carries.

use proc_macro2::Ident;
use syn::spanned::Spanned;
use syn::{AttrStyle, Attribute, Meta};

/// The `#[cfg]` attributes, which decide whether an item exists.
pub(super) fn cfgs(attrs: &[Attribute]) -> Vec<Attribute> {
    kept(attrs, &["cfg"])
}

/// All attributes, for the function that users call.
pub(super) fn front(attrs: &[Attribute]) -> Vec<Attribute> {
    attrs.iter().map(outer).collect()
}

/// The attributes that concern a body, for the real body.
pub(super) fn real(attrs: &[Attribute]) -> Vec<Attribute> {
    kept(
        attrs,
        &["allow", "cfg", "cold", "deny", "expect", "forbid", "inline", "track_caller", "warn"],
    )
}

/// The attributes for the symbolic copy of a body, without those by which a lint would be reported
/// again.
pub(super) fn copy(attrs: &[Attribute]) -> Vec<Attribute> {
    kept(attrs, &["allow", "cfg", "expect", "track_caller"])
}

fn kept(attrs: &[Attribute], names: &[&str]) -> Vec<Attribute> {
    let is_kept = |attr: &&Attribute| names.iter().any(|name| attr.path().is_ident(name));
    attrs.iter().filter(is_kept).map(outer).collect()
}

/// The attribute as an outer attribute, also if it was an inner one. `#[expect(…)]` becomes
/// `#[allow(…)]`, since not all of the generated functions would fulfil the expectation.
fn outer(attr: &Attribute) -> Attribute {
    let mut attr = Attribute { style: AttrStyle::Outer, ..attr.clone() };
    if let Meta::List(list) = &mut attr.meta
        && list.path.is_ident("expect")
    {
        list.path = Ident::new("allow", list.path.span()).into();
    }
    attr
}
