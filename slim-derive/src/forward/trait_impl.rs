//! `impl ModuleT for` a type: the impl stays as it is, and a symbolic copy of its body is added.

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;
use syn::{Item, Path};

use super::attributes;
use super::item::{Pass, Target, TraitImpl};
use super::{import, imported, lints, prunable, symbolic_body};
use crate::ctxt::Ctxt;

/// `impl Forward for` the type.
pub(crate) fn copy(runtime: &Path, target: &TraitImpl) -> TokenStream {
    let (import, krate) = (import(runtime), &imported());
    let TraitImpl { source, tensor, passes } = target;
    let generics = prunable(&source.generics, krate);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (self_ty, lints) = (&source.self_ty, lints());
    let outer = attributes::copy(&source.attrs);
    let traced = quote!(#krate::Traced);
    let bool = quote!(::core::primitive::bool);
    let methods = passes.iter().map(|Pass { attrs, receiver, arguments, body }| {
        let attrs = attributes::copy(attrs);
        let (this, body) = (&receiver.self_token, symbolic_body(krate, tensor, body));
        let train = match arguments.get(1) {
            Some(train) => quote!(#train),
            None => quote!(_),
        };
        let xs = arguments.first();
        quote! {
            #(#attrs)*
            fn call(&#this, #xs: &#traced, #train: #bool) -> #traced #body
        }
    });
    let methods: Vec<_> = methods.collect();
    // Without a pass, rustc reports the error in the trait's method.
    let body = if methods.is_empty() {
        quote!(::core::unreachable!())
    } else {
        quote! {
            #krate::__private::Outputs::outputs(
                <Self as __SymbolicPass>::call(self, &inputs[0], train)
            )
        }
    };
    let pass = (!methods.is_empty()).then(|| {
        quote! {
            trait __SymbolicPass {
                fn call(&self, xs: &#traced, train: #bool) -> #traced;
            }
            #[automatically_derived]
            impl #impl_generics __SymbolicPass for #self_ty #where_clause {
                #(#methods)*
            }
        }
    });
    quote! {
        #(#outer)*
        #lints
        const _: () = {
            #import
            #pass
            #[automatically_derived]
            impl #impl_generics #krate::Forward for #self_ty #where_clause {
                const INPUTS: ::core::primitive::usize = 1;
                fn symbolic_forward(
                    &self,
                    inputs: &[#traced],
                    train: #bool,
                ) -> ::std::vec::Vec<#traced> {
                    #body
                }
            }
        };
    }
}

/// The same for an impl with a syntax error in its body, so that rustc does not also report a
/// missing forward pass.
pub(crate) fn without_body(krate: &Path, tokens: &TokenStream) -> Option<TokenStream> {
    let mut header: Vec<TokenTree> = tokens.clone().into_iter().collect();
    header.pop().filter(|body| matches!(body, TokenTree::Group(_)))?;
    let header = TokenStream::from_iter(header);
    let item = syn::parse2::<Item>(quote!(#header {})).ok()?;
    let cx = Ctxt::new();
    let target = Target::parse(&cx, &item);
    cx.check().ok()?;
    match target? {
        Target::Trait(target) => Some(copy(krate, &target)),
        Target::Inherent(_) | Target::Function(_) => None,
    }
}
