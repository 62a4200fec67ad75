//! An enum: one arm for each variant.

use proc_macro2::TokenStream;
use quote::quote;

use super::wiring::{Arm, Inputs, Node, Op};
use super::{data_flow, trace_call};
use crate::expand::{Body, Methods};
use crate::tokens::{local, parameter};

pub(super) fn methods(inputs: &Inputs, arms: &[Arm]) -> Methods {
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
    Methods {
        trace: Body { parameters: vec![cx, input], statements: quote!(#checked #traces) },
        parts: Body {
            parameters: vec![visit.clone()],
            statements: matched(arms.iter().map(part).collect()),
        },
        layers_mut: Body {
            parameters: vec![visit],
            statements: matched(arms.iter().map(layer).collect()),
        },
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

fn part(arm: &Arm) -> TokenStream {
    visited(arm, |node| {
        let (visit, binding, ty) = (local("visit"), local("field"), node.field.ty);
        let method = if node.keep { quote!(kept) } else { quote!(same) };
        quote!(_slim::PartVisitor::#method::<#ty>(#visit, #binding))
    })
}

fn layer(arm: &Arm) -> TokenStream {
    visited(arm, |node| {
        let (visit, binding, ty) = (local("visit"), local("field"), node.field.ty);
        quote!(<#ty as _slim::Prunable>::layers_mut(#binding, #visit))
    })
}

fn visited(arm: &Arm, visit: impl Fn(&Node) -> TokenStream) -> TokenStream {
    match &arm.node {
        Some(node) if matches!(node.op, Op::Layer) => {
            let (pattern, visited) = (pattern(arm, true), visit(node));
            quote!(#pattern => #visited)
        }
        _ => {
            let pattern = pattern(arm, false);
            quote!(#pattern => ::core::result::Result::Ok(()))
        }
    }
}

/// `Self::Conv { 0: field }`, or without a binding `Self::Conv { .. }`, whatever the form of the variant.
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
