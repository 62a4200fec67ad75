//! An enum: one arm for each variant.

use proc_macro2::TokenStream;
use quote::quote;

use super::{data_flow, local, methods, parameter, trace_call};
use crate::wiring::{Arm, Inputs, Node, Op};

pub(super) fn trace_and_visit(inputs: &Inputs, arms: &[Arm]) -> TokenStream {
    let traces = arms.iter().map(trace);
    let visits = arms.iter().map(visit);
    // An enum without variants has no value to match.
    let (trace, layers_mut) = match arms {
        [] => (quote!(match *self {}), quote!(match *self {})),
        _ => {
            let inputs = data_flow::inputs(inputs, true);
            (quote!(#inputs match self { #(#traces),* }), quote!(match self { #(#visits),* }))
        }
    };
    let nodes = || arms.iter().filter_map(|arm| arm.node.as_ref());
    let checks_input = !arms.is_empty() && !matches!(inputs, Inputs::Any);
    let uses_cx = checks_input || nodes().next().is_some();
    let uses_visit = nodes().any(|node| matches!(node.op, Op::Layer));
    methods(
        &parameter("cx", uses_cx),
        &parameter("input", !arms.is_empty()),
        &trace,
        &parameter("visit", uses_visit),
        &layers_mut,
    )
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

fn visit(arm: &Arm) -> TokenStream {
    match &arm.node {
        Some(Node { op: Op::Layer, field, .. }) => {
            let (pattern, binding, visit, ty) =
                (pattern(arm, true), local("field"), local("visit"), field.ty);
            quote!(#pattern => <#ty as _slim::Prunable>::layers_mut(#binding, #visit))
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
    match (&arm.variant.field, bind) {
        (Some(field), true) => {
            let (member, binding) = (&field.member, local("field"));
            quote!(Self::#ident { #member: #binding })
        }
        _ => quote!(Self::#ident { .. }),
    }
}
