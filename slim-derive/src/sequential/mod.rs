//! The declared wiring: `#[prune(sequential)]` on a type.
//!
//! `wiring` checks and resolves the attributes; `data_flow` and `arms` generate the code for a
//! struct and for an enum. Generation cannot fail: the code names fields, and the runtime does the
//! work.

mod arms;
pub(crate) mod data_flow;
pub(crate) mod flow_expr;
pub(crate) mod wiring;

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::ast::Model;
use crate::expand::{bounded, impl_block};
use crate::tokens::local;
use wiring::{Node, Op, Wiring};

/// The impl for a type whose wiring has no errors.
pub(crate) fn implementation(model: &Model, wiring: &Wiring) -> TokenStream {
    let Some(krate) = &model.attrs.krate else { return TokenStream::new() };
    let (nodes, methods): (Vec<&Node>, _) = match wiring {
        Wiring::Struct(flow) => {
            (flow.nodes.iter().collect(), data_flow::methods(flow, model.ident, model.generics))
        }
        Wiring::Enum(inputs, arms) => (
            arms.iter().filter_map(|arm| arm.node.as_ref()).collect(),
            arms::methods(inputs, arms, model.generics),
        ),
    };
    let layers = nodes.into_iter().filter(|node| matches!(node.op, Op::Layer));
    let generics = bounded(model, layers.map(|node| node.field.ty));
    impl_block(krate, model.ident, &generics, methods, None)
}

/// The call that traces a node: `<Conv2D as Prunable>::trace(&self.conv1, cx, from)`. A type that
/// is not `Prunable` is an error at the type.
fn trace_call(node: &Node, place: &TokenStream, from: &Ident) -> TokenStream {
    let (cx, ty) = (local("cx"), node.field.ty);
    let call = match (&node.op, &node.act) {
        (Op::Layer, _) => quote!(<#ty as _slim::Prunable>::trace(#place, #cx, #from)),
        (Op::Elementwise, None) => quote!(_slim::Tracer::elementwise(#cx, &#from)),
        // The field is the activation.
        (Op::Elementwise, Some(act)) => return act.call(from),
        (Op::Function(path), _) => quote!(#path(#place, #cx, #from)),
    };
    let Some(act) = &node.act else { return call };
    let flow = local("flow");
    let activated = act.call(&flow);
    quote!({ let #flow = #call?; #activated })
}
