//! From the checked wiring to tokens. Nothing can fail here, and the code that is made only names fields: the runtime does the work.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, Index, Member, WherePredicate, parse_quote};

use crate::ast::Model;
use crate::wiring::{Node, Op, Source, Wiring};

/// The impl of a struct whose wiring is sound.
pub(crate) fn implementation(model: &Model, wiring: &Wiring) -> TokenStream {
    let layers = || wiring.nodes.iter().filter(|node| node.op == Op::Layer);
    let (cx, visit) =
        (parameter("cx", wiring.nodes.is_empty() && model.attrs.input.is_none()), parameter("visit", layers().next().is_none()));
    let input = local("input");

    let checked_input = model.attrs.input.as_ref().map(|width| quote!(let #input = _slim::Tracer::expect_input(#cx, &#input, #width)?;));
    let nodes = wiring.nodes.iter().enumerate().map(|(i, node)| trace_node(i, node));
    let output = flow(wiring.output);
    let visits = layers().map(visit_node);

    let body = quote! {
        fn trace(&self, #cx: &mut _slim::Tracer, #input: _slim::Flow) -> _slim::Result<_slim::Flow> {
            #checked_input
            #(#nodes)*
            ::core::result::Result::Ok(#output)
        }

        fn layers_mut(&mut self, #visit: &mut _slim::LayerVisitor<'_>) -> _slim::Result<()> {
            #(#visits)*
            ::core::result::Result::Ok(())
        }
    };
    impl_block(model, &bounded(model, wiring), &body)
}

/// An impl for a struct with errors, so that its uses make no further ones.
pub(crate) fn fallback(model: &Model) -> TokenStream {
    let body = quote! {
        fn trace(&self, _: &mut _slim::Tracer, _: _slim::Flow) -> _slim::Result<_slim::Flow> {
            ::core::unreachable!()
        }
    };
    impl_block(model, model.generics, &body)
}

fn impl_block(model: &Model, generics: &Generics, body: &TokenStream) -> TokenStream {
    let (krate, ident) = (&model.attrs.krate, model.ident);
    // Spanned, so that a path that leads nowhere is an error at the attribute that gives it.
    let import = quote_spanned!(krate.span()=> use #krate as _slim;);
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        const _: () = {
            #import

            #[automatically_derived]
            impl #impl_generics _slim::Prunable for #ident #ty_generics #where_clause {
                #body
            }
        };
    }
}

/// `let node0 = cx.field("conv1", |cx| <Conv2D as Prunable>::trace(&self.conv1, cx, input))?;`
fn trace_node(i: usize, node: &Node) -> TokenStream {
    let (cx, this, from) = (local("cx"), flow(Source::Node(i)), flow(node.from));
    let (member, ty, name) = (&node.field.member, node.field.ty, name(&node.field.member));
    let method = if node.keep { quote!(kept_field) } else { quote!(field) };
    match node.op {
        Op::Layer => quote! {
            let #this = _slim::Tracer::#method(#cx, #name, |#cx| <#ty as _slim::Prunable>::trace(&self.#member, #cx, #from))?;
        },
        Op::Elementwise => quote! {
            let #this = _slim::Tracer::#method(#cx, #name, |_| ::core::result::Result::Ok(#from))?;
        },
    }
}

fn visit_node(node: &Node) -> TokenStream {
    let visit = local("visit");
    let (member, ty, name) = (&node.field.member, node.field.ty, name(&node.field.member));
    quote! {
        _slim::LayerVisitor::field(#visit, #name, |#visit| <#ty as _slim::Prunable>::layers_mut(&mut self.#member, #visit))?;
    }
}

/// The struct's generics, with a `Prunable` bound for each field type that mentions a type parameter.
///
/// The bound is on the type as it stands: `PhantomData<T>` asks nothing of `T`. A type that mentions the struct itself would make the
/// bound prove itself, so there its parameters are bounded instead.
fn bounded(model: &Model, wiring: &Wiring) -> Generics {
    let parameters: Vec<_> = model.generics.type_params().map(|parameter| &parameter.ident).collect();
    let mut generics = model.generics.clone();
    for node in wiring.nodes.iter().filter(|node| node.op == Op::Layer) {
        let ty = node.field.ty;
        let mentioned: Vec<_> = parameters.iter().filter(|parameter| mentions(ty, parameter)).collect();
        let predicates: Vec<WherePredicate> = match () {
            () if mentioned.is_empty() => continue,
            () if mentions(ty, model.ident) => mentioned.iter().map(|parameter| parse_quote!(#parameter: _slim::Prunable)).collect(),
            () => vec![parse_quote!(#ty: _slim::Prunable)],
        };
        generics.make_where_clause().predicates.extend(predicates);
    }
    generics
}

fn mentions(tokens: &impl ToTokens, ident: &Ident) -> bool {
    tokens.to_token_stream().into_iter().any(|token| match token {
        TokenTree::Ident(found) => found == *ident,
        TokenTree::Group(group) => mentions(&group.stream(), ident),
        _ => false,
    })
}

/// The field's name in a path. A raw identifier loses its `r#`.
fn name(member: &Member) -> String {
    match member {
        Member::Named(ident) => syn::ext::IdentExt::unraw(ident).to_string(),
        Member::Unnamed(Index { index, .. }) => index.to_string(),
    }
}

/// The variable that holds what flows from a source.
fn flow(source: Source) -> Ident {
    match source {
        Source::Input => local("input"),
        Source::Node(i) => format_ident!("node{}", i, span = Span::mixed_site()),
    }
}

/// A variable that no name of the user's can meet.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

fn parameter(name: &str, unused: bool) -> TokenStream {
    if unused { quote!(_) } else { local(name).into_token_stream() }
}
