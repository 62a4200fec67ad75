//! The generic function that a user calls.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::attributes;
use super::generic::{Generic, predicates};
use super::signature::{Argument, Kind, replaced};

/// An argument of the function, and the value that is passed to its trait.
struct Passed {
    /// The type parameter of a tensor, and its bounds.
    own: Option<(Ident, TokenStream)>,
    declared: TokenStream,
    value: TokenStream,
}

impl Generic<'_> {
    /// The function that chooses between the real and the symbolic copy by the types of its
    /// arguments.
    pub(super) fn front(&self) -> TokenStream {
        let tensor = self.common_tensor();
        let passed: Vec<_> =
            self.arguments.iter().enumerate().map(|(i, a)| self.passed(i, a, &tensor)).collect();
        let krate = self.krate;
        let uniform = self.is_uniform.then(|| tensor.clone());
        let own = passed.iter().filter_map(|passed| passed.own.as_ref());
        let types = own.clone().map(|(own, _)| quote!(#own: #krate::__private::TensorLike));
        let parameters = self.parameters(&self.sig.generics, &tensor).into_iter();
        let parameters = parameters.chain(types).chain(uniform);
        let predicates = predicates(&self.sig.generics, &tensor);
        let bounds = own.map(|(own, bound)| quote!(#own: #bound));
        let (declared, values) = (
            passed.iter().map(|passed| &passed.declared),
            passed.iter().map(|passed| &passed.value),
        );
        let (dispatch, this) = (self.trait_for(&tensor), self.this());
        let (receiver, own) = (self.declared_receiver(), self.own());
        let (vis, fn_token, ident) = (self.function.vis, &self.sig.fn_token, &self.sig.ident);
        let attrs = attributes::front(self.function.attrs);
        let output = replaced(&self.sig.output, &tensor);
        quote! {
            #(#attrs)*
            #[allow(private_bounds, private_interfaces, clippy::type_complexity)]
            #vis #fn_token #ident<#(#parameters),*>(#receiver #(#declared),*) #output
            where
                #this: #dispatch,
                #(#bounds,)*
                #(#predicates),*
            {
                <#this as #dispatch>::call(#own #(#values),*)
            }
        }
    }

    /// The tensor type of the trait's impl: symbolic if one of the arguments is.
    fn common_tensor(&self) -> TokenStream {
        if self.is_uniform {
            return quote!(__X);
        }
        let krate = self.krate;
        let tensors =
            self.arguments.iter().enumerate().rev().filter(|(_, a)| a.kind != Kind::Other);
        tensors.fold(quote!(#krate::__private::tch::Tensor), |rest, (i, _)| {
            let own = own_type(i);
            quote!(#krate::__private::Common<#own, #rest>)
        })
    }

    fn passed(&self, i: usize, argument: &Argument, tensor: &TokenStream) -> Passed {
        let (krate, own, Argument { name, ty, kind }) = (self.krate, own_type(i), argument);
        match kind {
            Kind::Borrowed if !self.is_uniform => {
                let bound = quote!(#krate::__private::BorrowTensor<#tensor>);
                Passed {
                    declared: quote!(#name: &#own),
                    value: quote!(&*<#own as #bound>::borrow_tensor(#name)),
                    own: Some((own, bound)),
                }
            }
            Kind::Owned if !self.is_uniform => {
                let bound = quote!(#krate::__private::IntoTensor<#tensor>);
                Passed {
                    declared: quote!(#name: #own),
                    value: quote!(<#own as #bound>::into_tensor(#name)),
                    own: Some((own, bound)),
                }
            }
            Kind::Borrowed | Kind::Owned | Kind::Other => {
                let ty = replaced(ty, tensor);
                Passed { own: None, declared: quote!(#name: #ty), value: quote!(#name) }
            }
        }
    }
}

/// The type parameter of a tensor argument.
fn own_type(argument: usize) -> Ident {
    format_ident!("__X{}", argument)
}
