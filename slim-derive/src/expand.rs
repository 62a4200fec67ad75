//! The parts that all derived impls share: the block around the methods, the bounds, and the impl
//! for a type with errors.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, LitInt, Path, Type, WherePredicate, parse_quote};

use crate::ast::Model;
use crate::tokens::{local, mentions};

/// The bodies of `Prunable`'s methods.
pub(crate) struct Methods {
    pub(crate) trace: Body,
    pub(crate) parts: Body,
    pub(crate) layers_mut: Body,
}

/// The body of a method, and the names of its parameters: `_` where the body does not use them.
pub(crate) struct Body {
    pub(crate) parameters: Vec<TokenStream>,
    pub(crate) statements: TokenStream,
}

impl Methods {
    fn into_tokens(self) -> TokenStream {
        let Methods { trace, parts, layers_mut } = self;
        let (parameters, statements) = (trace.parameters.iter(), trace.statements);
        let types = [quote!(&mut _slim::Tracer), quote!(_slim::Flow)];
        let trace = quote! {
            fn trace(&self, #(#parameters: #types),*) -> _slim::Result<_slim::Flow> {
                #statements
            }
        };
        let (visit, statements) = (parts.parameters.first(), parts.statements);
        let parts = quote! {
            fn parts(&self, #visit: &mut _slim::PartVisitor<'_>) -> _slim::Result<()> {
                #statements
            }
        };
        let (visit, statements) = (layers_mut.parameters.first(), layers_mut.statements);
        let layers_mut = quote! {
            fn layers_mut(&mut self, #visit: &mut _slim::LayerVisitor<'_>) -> _slim::Result<()> {
                #statements
            }
        };
        quote!(#trace #parts #layers_mut)
    }
}

/// `impl Prunable for` a type, and the items `beside` it in the same block.
pub(crate) fn impl_block(
    krate: &Path,
    ident: &Ident,
    generics: &Generics,
    methods: Methods,
    beside: Option<TokenStream>,
) -> TokenStream {
    prunable(krate, ident, generics, &methods.into_tokens(), beside)
}

/// An impl for a type with errors, so that its uses cause no further errors.
pub(crate) fn fallback(model: &Model) -> TokenStream {
    // Without a path to the runtime there is no trait to implement; the error has been reported.
    let Some(krate) = &model.attrs.krate else { return TokenStream::new() };
    let method = quote! {
        fn trace(&self, _: &mut _slim::Tracer, _: _slim::Flow) -> _slim::Result<_slim::Flow> {
            ::core::unreachable!()
        }
    };
    let beside = model.attrs.sequential.is_none().then(|| reads_forward(model));
    prunable(krate, model.ident, model.generics, &method, beside)
}

/// The impl of the marker trait for a type whose wiring is read from `#[forward]`.
pub(crate) fn reads_forward(model: &Model) -> TokenStream {
    let (impl_generics, ty_generics, where_clause) = model.generics.split_for_impl();
    let ident = model.ident;
    quote! {
        #[automatically_derived]
        impl #impl_generics _slim::__private::ReadsForward for #ident #ty_generics #where_clause {}
    }
}

fn prunable(
    krate: &Path,
    ident: &Ident,
    generics: &Generics,
    methods: &TokenStream,
    beside: Option<TokenStream>,
) -> TokenStream {
    // Spanned, so that a path that does not resolve is an error at the attribute that gives it.
    let import = quote_spanned!(krate.span()=> use #krate as _slim;);
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        const _: () = {
            #import

            #[automatically_derived]
            impl #impl_generics _slim::Prunable for #ident #ty_generics #where_clause {
                #methods
            }

            #beside
        };
    }
}

/// The type's generics, with a `Prunable` bound for each field type in `types` that mentions a type
/// parameter.
///
/// The bound is on the whole field type, so `PhantomData<T>` requires nothing of `T`. If the field
/// type mentions the model itself, that bound would be circular, so its type parameters are bounded
/// instead.
pub(crate) fn bounded<'a>(model: &Model, types: impl Iterator<Item = &'a Type>) -> Generics {
    let predicates: Vec<WherePredicate> = types.flat_map(|ty| bounds(model, ty)).collect();
    let mut generics = model.generics.clone();
    if !predicates.is_empty() {
        generics.make_where_clause().predicates.extend(predicates);
    }
    generics
}

/// Whether the type mentions a type parameter of the model.
pub(crate) fn is_generic(generics: &Generics, ty: &Type) -> bool {
    generics.type_params().any(|parameter| mentions(ty, &parameter.ident))
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

/// The statement that visits a field as a part: under its name, or under the path of its owner if
/// the name is empty.
///
/// Traits decide whether the field is a part. If a type has to be `Prunable` and is not, that is an
/// error in `trace`. The traits cannot decide about a type parameter, but its bound makes the field
/// a part.
pub(crate) fn visit_part(
    ty: &Type,
    name: &str,
    place: &TokenStream,
    keep: bool,
    is_generic: bool,
) -> TokenStream {
    let visit = local("visit");
    match (is_generic, name, keep) {
        (false, _, _) => {
            quote!((&&&_slim::__private::Field(#place)).visit_part(#visit, #name, #keep)?;)
        }
        (true, "", false) => quote!(_slim::PartVisitor::same::<#ty>(#visit, #place)?;),
        (true, "", true) => quote!(_slim::PartVisitor::kept::<#ty>(#visit, #place)?;),
        (true, _, false) => quote!(_slim::PartVisitor::field::<#ty>(#visit, #name, #place)?;),
        (true, _, true) => quote!(_slim::PartVisitor::kept_field::<#ty>(#visit, #name, #place)?;),
    }
}

/// The import of the traits by which [`visit_part`] decides.
pub(crate) fn part_traits() -> TokenStream {
    quote! {
        #[allow(unused_imports)]
        use _slim::__private::{VisitOther as _, VisitPart as _, VisitTensor as _};
    }
}

/// The statement that visits a field's layers mutably, under the same name as [`visit_part`].
/// `is_part` if the field's type must be `Prunable`.
pub(crate) fn visit_layer(
    ty: &Type,
    name: &str,
    place: &TokenStream,
    is_part: bool,
) -> TokenStream {
    let visit = local("visit");
    match (is_part, name) {
        (false, _) => {
            quote!((&mut _slim::__private::FieldMut(#place)).visit_layer(#visit, #name)?;)
        }
        (true, "") => quote!(<#ty as _slim::Prunable>::layers_mut(#place, #visit)?;),
        (true, _) => quote! {
            _slim::LayerVisitor::field(
                #visit,
                #name,
                |#visit| <#ty as _slim::Prunable>::layers_mut(#place, #visit),
            )?;
        },
    }
}

/// The import of the traits by which [`visit_layer`] decides.
pub(crate) fn layer_traits() -> TokenStream {
    quote! {
        #[allow(unused_imports)]
        use _slim::__private::{VisitLayer as _, VisitNoLayer as _};
    }
}

/// The call that checks the number and the shapes of the inputs.
pub(crate) fn expect_shapes(shapes: &[Vec<LitInt>]) -> TokenStream {
    let (cx, input) = (local("cx"), local("input"));
    let shapes = shapes.iter().map(|shape| quote!(&[#(#shape),*]));
    quote!(_slim::__private::expect_shapes(#cx, &#input, &[#(#shapes),*])?;)
}
