//! From the checked wiring to tokens. Nothing can fail here, and the code that is made only names fields: the runtime does the work.

mod arms;
pub(crate) mod data_flow;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, Path, Type, WherePredicate, parse_quote};

use crate::ast::Model;
use crate::wiring::{Node, Op, Wiring};

/// The impl of a type whose wiring is sound.
pub(crate) fn implementation(model: &Model, wiring: &Wiring) -> TokenStream {
    let methods = match wiring {
        Wiring::Struct(flow) => data_flow::trace_and_visit(flow),
        Wiring::Enum(inputs, arms) => arms::trace_and_visit(inputs, arms),
    };
    impl_block(model, &bounded(model, wiring), &methods)
}

/// An impl for a type with errors, so that its uses make no further ones.
pub(crate) fn fallback(model: &Model) -> TokenStream {
    let method = quote! {
        fn trace(&self, _: &mut _slim::Tracer, _: _slim::Flow) -> _slim::Result<_slim::Flow> {
            ::core::unreachable!()
        }
    };
    impl_block(model, model.generics, &method)
}

fn impl_block(model: &Model, generics: &Generics, methods: &TokenStream) -> TokenStream {
    // Without a path to the runtime there is nothing to implement, and that has been reported.
    let Some(krate) = &model.attrs.krate else { return TokenStream::new() };
    impl_block_for(krate, model.ident, generics, methods)
}

/// `impl Prunable for` a type.
pub(crate) fn impl_block_for(
    krate: &Path,
    ident: &Ident,
    generics: &Generics,
    methods: &TokenStream,
) -> TokenStream {
    // Spanned, so that a path that leads nowhere is an error at the attribute that gives it.
    let import = quote_spanned!(krate.span()=> use #krate as _slim;);
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        const _: () = {
            #import

            #[automatically_derived]
            impl #impl_generics _slim::Prunable for #ident #ty_generics #where_clause {
                #methods
            }
        };
    }
}

/// The two methods, whose parameters are `_` where their bodies use none.
fn methods(
    cx: &TokenStream,
    input: &TokenStream,
    trace: &TokenStream,
    visit: &TokenStream,
    layers_mut: &TokenStream,
) -> TokenStream {
    quote! {
        fn trace(&self, #cx: &mut _slim::Tracer, #input: _slim::Flow) -> _slim::Result<_slim::Flow> {
            #trace
        }

        fn layers_mut(&mut self, #visit: &mut _slim::LayerVisitor<'_>) -> _slim::Result<()> {
            #layers_mut
        }
    }
}

/// `<Conv2D as Prunable>::trace(&self.conv1, cx, from)`. A type that is not `Prunable` is an error at the type.
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

/// The type's generics, with a `Prunable` bound for each field type that mentions a type parameter.
///
/// The bound is on the field's type as it stands: `PhantomData<T>` asks nothing of `T`. A type that mentions the model itself would make the
/// bound prove itself, so there its parameters are bounded instead.
fn bounded(model: &Model, wiring: &Wiring) -> Generics {
    let nodes: Vec<&Node> = match wiring {
        Wiring::Struct(flow) => flow.nodes.iter().collect(),
        Wiring::Enum(_, arms) => arms.iter().filter_map(|arm| arm.node.as_ref()).collect(),
    };
    let layers = nodes.into_iter().filter(|node| matches!(node.op, Op::Layer));
    let predicates: Vec<WherePredicate> =
        layers.flat_map(|node| bounds(model, node.field.ty)).collect();
    let mut generics = model.generics.clone();
    if !predicates.is_empty() {
        generics.make_where_clause().predicates.extend(predicates);
    }
    generics
}

fn bounds(model: &Model, ty: &Type) -> Vec<WherePredicate> {
    let parameters = model.generics.type_params().map(|parameter| &parameter.ident);
    let mentioned: Vec<_> = parameters.filter(|parameter| mentions(ty, parameter)).collect();
    if mentioned.is_empty() {
        Vec::new()
    } else if mentions(ty, model.ident) || mentions(ty, &Ident::new("Self", Span::call_site())) {
        mentioned.iter().map(|parameter| parse_quote!(#parameter: _slim::Prunable)).collect()
    } else {
        vec![parse_quote!(#ty: _slim::Prunable)]
    }
}

pub(crate) fn mentions(tokens: &impl ToTokens, ident: &Ident) -> bool {
    tokens.to_token_stream().into_iter().any(|token| match token {
        TokenTree::Ident(found) => found == *ident,
        TokenTree::Group(group) => mentions(&group.stream(), ident),
        _ => false,
    })
}

/// A variable that no name of the user's can meet.
pub(crate) fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

fn parameter(name: &str, used: bool) -> TokenStream {
    if used { local(name).into_token_stream() } else { quote!(_) }
}
