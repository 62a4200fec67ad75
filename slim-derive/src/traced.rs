//! The derive of a type whose wiring is read from `#[forward]`.
//!
//! `trace` runs the symbolic forward pass; `parts` and `layers_mut` visit every field. Traits
//! decide whether a field is a part, a tensor or neither, through autoref specialisation.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Member, Path, parse_quote};

use crate::ast::{Field, Model, Shape, Variant};
use crate::attr::{self, Attr, FieldAttrs, InputAttr, Role};
use crate::ctxt::Ctxt;
use crate::expand::{
    Body, Methods, bounded, expect_shapes, impl_block, is_generic, layer_traits, part_traits,
    reads_forward, visit_layer, visit_part,
};
use crate::tokens::{local, parameter};

/// Reports keys that belong to a declared wiring.
pub(crate) fn check(cx: &Ctxt, model: &Model) {
    let declared = |key: &Path| {
        let name = key.to_token_stream();
        cx.error(
            key,
            format!("`{name}` belongs to a declared wiring; this type's wiring is read from `#[forward]`: remove it, or write `#[prune(sequential)]` on the type"),
        );
    };
    model.attrs.output.iter().for_each(|output| declared(&output.key));
    for field in model.fields() {
        let FieldAttrs { role, keep, from, act } = &field.attrs;
        match role {
            Some(Attr { value: Role::Skip, .. }) => {
                keep.iter().for_each(|keep| attr::contradicts_skip(cx, &keep.key));
            }
            Some(role) => declared(&role.key),
            None => {}
        }
        from.iter().for_each(|from| declared(&from.key));
        act.iter().for_each(|act| declared(&act.key));
    }
}

/// The impl for a type without errors.
pub(crate) fn implementation(model: &Model) -> TokenStream {
    let Some(krate) = &model.attrs.krate else { return TokenStream::new() };
    let visited = || model.fields().filter(|field| is_visited(field));
    let mut generics = bounded(model, visited().map(|field| field.ty));
    if model.generics.type_params().next().is_some() {
        // With this bound, a generic type without `#[forward]` is an error at its first use.
        let (ident, (_, ty_generics, _)) = (model.ident, model.generics.split_for_impl());
        let bound = parse_quote!(#ident #ty_generics: _slim::Forward);
        generics.make_where_clause().predicates.push(bound);
    }
    let (uses_visit, is_specialised) =
        (visited().next().is_some(), visited().any(|field| !is_generic(model.generics, field.ty)));
    let visit = |import: TokenStream, access: Access| {
        let (import, visits) = (is_specialised.then_some(import), visits(model, access));
        let parameters = vec![parameter("visit", uses_visit)];
        Body { parameters, statements: quote!(#import #visits) }
    };
    let methods = Methods {
        trace: trace(model),
        parts: visit(part_traits(), Access::Shared),
        layers_mut: visit(layer_traits(), Access::Mutable),
    };
    impl_block(krate, model.ident, &generics, methods, Some(reads_forward(model)))
}

fn is_visited(field: &Field) -> bool {
    !matches!(field.attrs.role, Some(Attr { value: Role::Skip, .. }))
}

/// Checks the input, and runs the symbolic forward pass.
fn trace(model: &Model) -> Body {
    let (cx, input) = (local("cx"), local("input"));
    let checked = match &model.attrs.input {
        None => TokenStream::new(),
        Some(InputAttr::Width(width)) => {
            quote!(_slim::Tracer::expect_input(#cx, &#input, #width)?;)
        }
        Some(InputAttr::Widths(widths)) => {
            quote!(_slim::Tracer::expect_inputs(#cx, &#input, &[#(#widths),*])?;)
        }
        Some(InputAttr::Shape(shapes) | InputAttr::Shapes(shapes)) => expect_shapes(shapes),
    };
    let checked = model.attrs.input.as_ref().map(|_| quote!(let #input = #checked));
    // Spanned, so that a type without `#[forward]` is an error at its name.
    let place = Span::call_site().located_at(model.ident.span());
    let call = quote_spanned!(place=> _slim::__private::trace_forward(self, #cx, #input));
    Body { parameters: vec![quote!(#cx), quote!(#input)], statements: quote!(#checked #call) }
}

/// Visits all fields, immutably for `parts` and mutably for `layers_mut`.
fn visits(model: &Model, access: Access) -> TokenStream {
    let borrow = match access {
        Access::Shared => quote!(&),
        Access::Mutable => quote!(&mut),
    };
    match &model.shape {
        Shape::Struct(fields) => {
            let visits = fields.iter().filter(|field| is_visited(field)).map(|field| {
                let member = &field.member;
                let (name, place) = (field.name(), quote!(#borrow self.#member));
                visit(model, field, &name, &place, access)
            });
            quote!(#(#visits)* ::core::result::Result::Ok(()))
        }
        Shape::Enum(variants) if variants.is_empty() => quote!(match *self {}),
        Shape::Enum(variants) => {
            let arms = variants.iter().map(|variant| arm(model, variant, access));
            quote!(match self { #(#arms)* } ::core::result::Result::Ok(()))
        }
    }
}

/// `Self::Conv { 0: field0, 1: field1, .. } => { … }`
fn arm(model: &Model, variant: &Variant, access: Access) -> TokenStream {
    let ident = variant.ident;
    let visited: Vec<(Ident, &Field)> = variant
        .fields
        .iter()
        .enumerate()
        .filter(|(_, field)| is_visited(field))
        .map(|(i, field)| (format_ident!("field{}", i, span = Span::mixed_site()), field))
        .collect();
    let bindings = visited.iter().map(|(binding, field)| {
        let member = &field.member;
        quote!(#member: #binding,)
    });
    // The only field of a tuple variant has the path of its owner.
    let is_owner = variant.fields.len() == 1
        && variant.fields.iter().all(|field| matches!(field.member, Member::Unnamed(_)));
    let visits = visited.iter().map(|(binding, field)| {
        let name = if is_owner { String::new() } else { field.name() };
        visit(model, field, &name, &binding.to_token_stream(), access)
    });
    quote!(Self::#ident { #(#bindings)* .. } => { #(#visits)* })
}

#[derive(Clone, Copy)]
enum Access {
    Shared,
    Mutable,
}

fn visit(
    model: &Model,
    field: &Field,
    name: &str,
    place: &TokenStream,
    access: Access,
) -> TokenStream {
    let (ty, is_generic) = (field.ty, is_generic(model.generics, field.ty));
    match access {
        Access::Shared => visit_part(ty, name, place, field.attrs.keep.is_some(), is_generic),
        Access::Mutable => visit_layer(ty, name, place, is_generic),
    }
}
