//! The code for a struct: one statement for each node.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::Generics;
use syn::ext::IdentExt;
use syn::spanned::Spanned;

use super::flow_expr::{FlowExpr, Join};
use super::trace_call;
use super::wiring::{DataFlow, Inputs, Node, Op};
use crate::expand::{
    Body, Methods, expect_shapes, is_generic, part_traits, visit_layer, visit_part,
};
use crate::tokens::{local, parameter};

/// The methods of the type `ident`.
pub(crate) fn methods(flow: &DataFlow, ident: &Ident, generics: &Generics) -> Methods {
    let layers = || flow.nodes.iter().filter(|node| matches!(node.op, Op::Layer));
    let uses = Uses::of(flow);
    let declared = uses.input.then(|| {
        let (cx, input, name) = (local("cx"), local("input"), ident.unraw().to_string());
        let fields = layers().count();
        quote!(let #input = _slim::__private::declared(#cx, #name, #fields, #input)?;)
    });
    let inputs = inputs(&flow.inputs, uses.input);
    let statements = flow.nodes.iter().enumerate().map(|(i, node)| statement(flow, i, node));
    let output = expression(flow, &flow.output);
    let cx = parameter("cx", uses.cx);
    let input = parameter("input", uses.input || !matches!(flow.inputs, Inputs::Any));
    let visit = parameter("visit", layers().next().is_some());
    let parts = layers().map(|node| part(node, generics));
    let import = layers().next().map(|_| part_traits());
    let parts = quote!(#import #(#parts)* ::core::result::Result::Ok(()));
    let layers_mut = layers().map(layer);
    let layers_mut = quote!(#(#layers_mut)* ::core::result::Result::Ok(()));
    Methods {
        trace: Body {
            parameters: vec![cx, input],
            statements: quote! {
                #declared
                #inputs
                #(#statements)*
                ::core::result::Result::Ok(#output)
            },
        },
        parts: Body { parameters: vec![visit.clone()], statements: parts },
        layers_mut: Body { parameters: vec![visit], statements: layers_mut },
    }
}

/// Which parameters of `trace` its body uses.
struct Uses {
    cx: bool,
    input: bool,
}

impl Uses {
    fn of(flow: &DataFlow) -> Self {
        let mut uses = Uses {
            cx: !flow.nodes.is_empty() || !matches!(flow.inputs, Inputs::Any),
            input: false,
        };
        flow.walk(&mut |part| match part {
            FlowExpr::Input => (uses.input, uses.cx) = (true, true),
            FlowExpr::Node(_) | FlowExpr::Tuple(_) => {}
            _ => uses.cx = true,
        });
        uses
    }
}

/// The code that fixes or checks the number and the widths of the inputs.
pub(super) fn inputs(inputs: &Inputs, used: bool) -> TokenStream {
    let (cx, input) = (local("cx"), local("input"));
    let checked = match inputs {
        Inputs::Any => return TokenStream::new(),
        Inputs::Width(width) => quote!(_slim::Tracer::expect_input(#cx, &#input, #width)?;),
        Inputs::Count(count) => quote!(_slim::Tracer::inputs(#cx, &#input, #count)?;),
        Inputs::Widths(widths) => {
            quote!(_slim::Tracer::expect_inputs(#cx, &#input, &[#(#widths),*])?;)
        }
        Inputs::Shapes(shapes) => expect_shapes(shapes),
    };
    if used { quote!(let #input = #checked) } else { checked }
}

/// `let node0 = { let from = input; cx.field("conv1", |cx| <Conv2D as Prunable>::trace(&self.conv1, cx, from))? };`
fn statement(flow: &DataFlow, i: usize, node: &Node) -> TokenStream {
    let (this, from) = (variable(i), expression(flow, &node.from));
    let applied = apply(node, &from);
    quote!(let #this = #applied;)
}

/// A node's field, applied to the value of `from`.
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

/// An elementwise field is traced as an operation of the struct itself, like an activation in an
/// expression.
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

fn part(node: &Node, generics: &Generics) -> TokenStream {
    let (ty, member, name) = (node.field.ty, &node.field.member, node.field.name());
    visit_part(ty, &name, &quote!(&self.#member), node.keep, is_generic(generics, ty))
}

fn layer(node: &Node) -> TokenStream {
    let (ty, member) = (node.field.ty, &node.field.member);
    visit_layer(ty, &node.field.name(), &quote!(&mut self.#member), true)
}

/// The variable that holds a node's output.
fn variable(node: usize) -> Ident {
    format_ident!("node{}", node, span = Span::mixed_site())
}
