//! The code for an enum: one match arm for each variant.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Generics, Type};

use super::wiring::{Arm, Inputs, Node, Op};
use super::{data_flow, trace_call};
use crate::expand::{Body, Methods, is_generic, part_traits, visit_layer, visit_part};
use crate::tokens::{local, parameter};

pub(super) fn methods(inputs: &Inputs, arms: &[Arm], generics: &Generics) -> Methods {
    // An enum without variants has no value to match.
    let matched = |arms: Vec<TokenStream>| match arms.as_slice() {
        [] => quote!(match *self {}),
        arms => quote!(match self { #(#arms),* }),
    };
    let nodes = || arms.iter().filter_map(|arm| arm.node.as_ref());
    let checks_input = !arms.is_empty() && !matches!(inputs, Inputs::Any);
    let cx = parameter("cx", checks_input || nodes().next().is_some());
    let input = parameter("input", !arms.is_empty());
    let checked = checks_input.then(|| data_flow::inputs(inputs, true));
    let traces = matched(arms.iter().map(trace).collect());
    let visit = parameter("visit", nodes().any(|node| matches!(node.op, Op::Layer)));
    let visits = |visits: Vec<TokenStream>| {
        let (is_empty, visits) = (visits.is_empty(), matched(visits));
        if is_empty { visits } else { quote!(#visits ::core::result::Result::Ok(())) }
    };
    let import = nodes().any(|node| matches!(node.op, Op::Layer)).then(part_traits);
    let parts = visits(
        arms.iter()
            .map(|arm| {
                visited(arm, |node, ty| {
                    visit_part(
                        ty,
                        "",
                        &local("field").into_token_stream(),
                        node.keep,
                        is_generic(generics, ty),
                    )
                })
            })
            .collect(),
    );
    let layers_mut = visits(
        arms.iter()
            .map(|arm| {
                visited(arm, |_, ty| visit_layer(ty, "", &local("field").into_token_stream(), true))
            })
            .collect(),
    );
    Methods {
        trace: Body { parameters: vec![cx, input], statements: quote!(#checked #traces) },
        parts: Body { parameters: vec![visit.clone()], statements: quote!(#import #parts) },
        layers_mut: Body { parameters: vec![visit], statements: layers_mut },
    }
}

fn trace(arm: &Arm) -> TokenStream {
    let input = local("input");
    let Some(node) = &arm.node else {
        let pattern = pattern(arm, false);
        return quote!(#pattern => ::core::result::Result::Ok(#input));
    };
    let (cx, field) = (local("cx"), local("field"));
    let pattern = pattern(arm, !matches!(node.op, Op::Elementwise));
    let traced = trace_call(node, &quote!(#field), &input);
    match node.keep {
        true => quote!(#pattern => _slim::Tracer::kept(#cx, |#cx| #traced)),
        false => quote!(#pattern => #traced),
    }
}

/// The arm that visits the layer of a variant, if it has one.
fn visited(arm: &Arm, visit: impl Fn(&Node, &Type) -> TokenStream) -> TokenStream {
    let layer = arm.node.as_ref().filter(|node| matches!(node.op, Op::Layer));
    let (pattern, visited) =
        (pattern(arm, layer.is_some()), layer.map(|node| visit(node, node.field.ty)));
    quote!(#pattern => { #visited })
}

/// The pattern of a variant of any form: `Self::Conv { 0: field }`, or `Self::Conv { .. }` without
/// a binding.
fn pattern(arm: &Arm, bind: bool) -> TokenStream {
    let ident = arm.variant.ident;
    match (arm.variant.fields.first(), bind) {
        (Some(field), true) => {
            let (member, binding) = (&field.member, local("field"));
            quote!(Self::#ident { #member: #binding })
        }
        _ => quote!(Self::#ident { .. }),
    }
}
