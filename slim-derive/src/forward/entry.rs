//! The inherent method `forward_t` or `forward` as the forward pass of its type.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Lifetime, ReceiverKind, ReturnType, Type, parse_quote};

use super::generic::{Generic, predicates};
use super::signature::{Argument, Kind, is_tensor, peeled, replaced, written};
use super::{lints, prunable};

impl Generic<'_> {
    /// In a symbolic copy, `.forward(xs)` becomes `.symbolic_forward_(xs)`, by which a layer
    /// returns one tensor. A method that returns something else gets a twin of this name.
    pub(super) fn twin(&self) -> Option<TokenStream> {
        let (ident, arguments) = (&self.sig.ident, self.arguments.len());
        let is_layer = matches!(&self.sig.output, ReturnType::Type(_, ty) if is_tensor(ty));
        let twin = match () {
            () if is_layer || self.receiver().is_none() => return None,
            () if ident == "forward" && arguments == 1 => "symbolic_forward_",
            () if ident == "forward_t" && arguments == 2 => "symbolic_forward_t_",
            () => return None,
        };
        let krate = self.krate;
        let (twin, traced) = (Ident::new(twin, ident.span()), quote!(#krate::Traced));
        let parameters = self.parameters(&self.sig.generics, &traced);
        let predicates = predicates(&self.sig.generics, &traced);
        let (cfgs, lints, vis) = (self.cfgs(), lints(), self.function.vis);
        let (receiver, own) = (self.declared_receiver(), self.own());
        let names: Vec<_> = self.arguments.iter().map(|argument| &argument.name).collect();
        let types = self.arguments.iter().map(|argument| replaced(&argument.ty, &traced));
        let (dispatch, output) = (self.trait_for(&traced), replaced(&self.sig.output, &traced));
        Some(quote! {
            #(#cfgs)*
            #[doc(hidden)]
            #lints
            #vis fn #twin<#(#parameters),*>(#receiver #(#names: #types),*) #output
            where
                Self: #dispatch,
                #(#predicates),*
            {
                <Self as #dispatch>::call(#own #(#names),*)
            }
        })
    }

    /// Whether the method is the forward pass of its type.
    pub(super) fn is_pass(&self) -> bool {
        let ident = &self.sig.ident;
        let borrows_self = self
            .receiver()
            .is_some_and(|receiver| matches!(receiver.kind, ReceiverKind::Reference(_, _, None)));
        borrows_self && (ident == "forward" || ident == "forward_t")
    }

    /// The first argument that a symbolic pass of the whole network cannot supply.
    pub(super) fn unfit(&self) -> Option<&Argument> {
        let generic = self.sig.generics.type_params().next().is_some();
        let tensors = self.tensors();
        self.arguments.iter().enumerate().find_map(|(i, argument)| {
            let is_train = self.sig.ident == "forward_t"
                && i + 1 == self.arguments.len()
                && is_bool(&argument.ty);
            let fits = argument.kind != Kind::Other || is_train;
            (!fits || generic || tensors == 0).then_some(argument)
        })
    }

    fn tensors(&self) -> usize {
        self.arguments.iter().filter(|argument| argument.kind != Kind::Other).count()
    }

    /// `impl Forward for` the type.
    pub(super) fn entry(&self) -> TokenStream {
        let (krate, cfgs, lints) = (self.krate, self.cfgs(), lints());
        let generics = self.owner.map(|owner| prunable(&owner.generics, krate)).unwrap_or_default();
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        let (implementor, count) = (self.implementor(), self.tensors());
        let traced = quote!(#krate::Traced);
        let body = match self.unfit() {
            None => {
                let is_own = |lifetime: &Lifetime| {
                    self.sig.generics.lifetimes().any(|own| own.lifetime == *lifetime)
                };
                let dispatch = self.trait_with(&traced, |lifetime| match is_own(lifetime) {
                    true => parse_quote!('_),
                    false => lifetime.clone(),
                });
                let mut index = 0_usize..;
                let values = self.arguments.iter().map(|argument| match argument.kind {
                    Kind::Other => quote!(train),
                    Kind::Borrowed => {
                        let i = index.next();
                        quote!(&inputs[#i])
                    }
                    Kind::Owned => {
                        let i = index.next();
                        quote!(::core::clone::Clone::clone(&inputs[#i]))
                    }
                });
                // Spanned, so that a return type without tensors is an error at the type.
                let place = match &self.sig.output {
                    ReturnType::Type(_, ty) => ty.span(),
                    ReturnType::Default => self.sig.ident.span(),
                };
                let place = Span::call_site().located_at(place);
                let outputs = quote_spanned!(place=> _slim::__private::Outputs::outputs);
                quote_spanned!(place=> #outputs(<Self as #dispatch>::call(self, #(#values),*)))
            }
            Some(argument) => {
                let method = self.sig.ident.unraw().to_string();
                let argument = format!("{}: {}", argument.name, written(&argument.ty));
                quote!(#krate::__private::needs_argument(#method, #argument))
            }
        };
        quote! {
            #(#cfgs)*
            #lints
            #[automatically_derived]
            impl #impl_generics #krate::Forward for #implementor #where_clause {
                const INPUTS: ::core::primitive::usize = #count;
                fn symbolic_forward(
                    &self,
                    inputs: &[#traced],
                    train: ::core::primitive::bool,
                ) -> ::std::vec::Vec<#traced> {
                    #body
                }
            }
        }
    }
}

fn is_bool(ty: &Type) -> bool {
    matches!(peeled(ty), Type::Path(path) if path.path.is_ident("bool"))
}
