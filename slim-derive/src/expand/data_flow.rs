//! A struct: one statement for each node.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use super::{local, methods, parameter, trace_call};
use crate::flow_expr::{FlowExpr, Join};
use crate::wiring::{DataFlow, Inputs, Node, Op};

pub(crate) fn trace_and_visit(flow: &DataFlow) -> TokenStream {
    let layers = || flow.nodes.iter().filter(|node| matches!(node.op, Op::Layer));
    let uses = Uses::of(flow);
    let cx_variable = local("cx");
    let inputs = inputs(&flow.inputs, uses.input);
    let explicit = flow.explicit.then(|| quote!(_slim::Tracer::explicit(#cx_variable);));
    let statements = statements(flow);
    let output = expression(flow, &flow.output);
    let trace = quote! {
        #explicit
        #inputs
        #(#statements)*
        ::core::result::Result::Ok(#output)
    };
    let visits = layers().map(visit);
    let layers_mut = quote! {
        #(#visits)*
        ::core::result::Result::Ok(())
    };
    let (cx, input) = (
        parameter("cx", uses.cx),
        parameter("input", uses.input || !matches!(flow.inputs, Inputs::Any)),
    );
    methods(&cx, &input, &trace, &parameter("visit", layers().next().is_some()), &layers_mut)
}

/// Which parameters of `trace` its body mentions.
struct Uses {
    cx: bool,
    input: bool,
}

impl Uses {
    fn of(flow: &DataFlow) -> Self {
        let mut uses = Uses {
            cx: flow.explicit || !flow.nodes.is_empty() || !matches!(flow.inputs, Inputs::Any),
            input: false,
        };
        flow.walk(&mut |part| match part {
            FlowExpr::Input => uses.input = true,
            FlowExpr::Node(_) | FlowExpr::Value(_) | FlowExpr::Tuple(_) => {}
            _ => uses.cx = true,
        });
        uses
    }
}

/// Fixes or checks how many inputs there are, and how wide.
pub(super) fn inputs(inputs: &Inputs, used: bool) -> TokenStream {
    let (cx, input) = (local("cx"), local("input"));
    let checked = match inputs {
        Inputs::Any => return TokenStream::new(),
        Inputs::Width(width) => quote!(_slim::Tracer::expect_input(#cx, &#input, #width)?;),
        Inputs::Count(count) => quote!(_slim::Tracer::inputs(#cx, &#input, #count)?;),
        Inputs::Widths(widths) => {
            quote!(_slim::Tracer::expect_inputs(#cx, &#input, &[#(#widths),*])?;)
        }
    };
    if used { quote!(let #input = #checked) } else { checked }
}

/// Nodes, and between them what is computed of them.
fn statements(flow: &DataFlow) -> Vec<TokenStream> {
    let mut values = flow.values.iter().enumerate().peekable();
    let mut statements = Vec::new();
    for nodes in 0..=flow.nodes.len() {
        while let Some((i, value)) = values.next_if(|(_, value)| value.after == nodes) {
            let (this, computed) = (value_variable(i), expression(flow, &value.flow));
            statements.push(quote!(let #this = #computed;));
        }
        statements.extend(flow.nodes.get(nodes).map(|node| statement(flow, nodes, node)));
    }
    statements
}

/// `let node0 = { let from = input; cx.field("conv1", |cx| <Conv2D as Prunable>::trace(&self.conv1, cx, from))? };`
fn statement(flow: &DataFlow, i: usize, node: &Node) -> TokenStream {
    let (this, from) = (variable(i), expression(flow, &node.from));
    let applied = apply(node, &from);
    quote!(let #this = #applied;)
}

/// A node's field, applied to what `from` evaluates to.
fn apply(node: &Node, from: &TokenStream) -> TokenStream {
    let (cx, flow) = (local("cx"), local("from"));
    let (member, name) = (&node.field.member, node.field.name());
    let method = if node.keep { quote!(kept_field) } else { quote!(field) };
    // Spanned, so that a field of a wrong type is an error at the type.
    let place = quote_spanned!(node.field.ty.span().resolved_at(Span::call_site())=> &self.#member);
    let call = trace_call(node, &place, &flow);
    if matches!(node.op, Op::Elementwise) {
        return elementwise(node, from, &call);
    }
    quote! {{
        let #flow = #from;
        _slim::Tracer::#method(#cx, #name, |#cx| #call)?
    }}
}

/// A field that is only an operation is part of the struct, as an activation in an expression is.
fn elementwise(node: &Node, from: &TokenStream, call: &TokenStream) -> TokenStream {
    let (cx, flow, name) = (local("cx"), local("from"), node.field.name());
    if !node.keep {
        return quote!({ let #flow = #from; #call? });
    }
    quote! {{
        let #flow = #from;
        let #flow = #call?;
        _slim::Tracer::kept_field(#cx, #name, |_| ::core::result::Result::Ok(#flow))?
    }}
}

/// The tokens of an expression. Operands are evaluated first, since all of them need `cx`.
fn expression(flow: &DataFlow, expr: &FlowExpr) -> TokenStream {
    let cx = local("cx");
    let (a, b, parts) = (local("a"), local("b"), local("parts"));
    let all =
        |exprs: &[FlowExpr]| exprs.iter().map(|expr| expression(flow, expr)).collect::<Vec<_>>();
    match expr {
        FlowExpr::Input => {
            let input = local("input");
            quote!(::core::clone::Clone::clone(&#input))
        }
        FlowExpr::Node(node) => {
            let node = variable(*node);
            quote!(::core::clone::Clone::clone(&#node))
        }
        FlowExpr::Value(value) => {
            let value = value_variable(*value);
            quote!(::core::clone::Clone::clone(&#value))
        }
        FlowExpr::Part(whole, index) => {
            let whole = expression(flow, whole);
            quote!({ let #a = #whole; _slim::Tracer::part(#cx, &#a, #index)? })
        }
        FlowExpr::Apply(node, operand) => apply(&flow.nodes[*node], &expression(flow, operand)),
        FlowExpr::Join(join, left, right) => {
            let (left, right) = (expression(flow, left), expression(flow, right));
            let method = if *join == Join::Add { quote!(add) } else { quote!(multiply) };
            quote!({ let #a = #left; let #b = #right; _slim::Tracer::#method(#cx, &#a, &#b)? })
        }
        FlowExpr::Concat(exprs) => {
            let exprs = all(exprs);
            quote!({ let #parts = [#(#exprs),*]; _slim::Tracer::concat(#cx, &#parts)? })
        }
        FlowExpr::Tuple(exprs) => {
            let exprs = all(exprs);
            quote!(_slim::Flow::tuple([#(#exprs),*]))
        }
        FlowExpr::Activate(activation, operand) => {
            let (operand, activated) = (expression(flow, operand), activation.call(&a));
            quote!({ let #a = #operand; #activated? })
        }
        FlowExpr::Cut(function, operand, numbers) => {
            let operand = expression(flow, operand);
            let method = Ident::new(function.name, Span::call_site());
            quote!({ let #a = #operand; _slim::Tracer::#method(#cx, &#a, #(#numbers),*)? })
        }
    }
}

fn visit(node: &Node) -> TokenStream {
    let visit = local("visit");
    let (member, ty, name) = (&node.field.member, node.field.ty, node.field.name());
    quote! {
        _slim::LayerVisitor::field(#visit, #name, |#visit| <#ty as _slim::Prunable>::layers_mut(&mut self.#member, #visit))?;
    }
}

/// The variable that holds a node's output.
fn variable(node: usize) -> Ident {
    format_ident!("node{}", node, span = Span::mixed_site())
}

/// The variable that holds what is computed.
fn value_variable(value: usize) -> Ident {
    format_ident!("value{}", value, span = Span::mixed_site())
}
