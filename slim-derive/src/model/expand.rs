//! From a resolved network to tokens: the struct, its constructor, and its forward pass, from which
//! the wiring is read.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Generics, LitStr, Member};

use super::ast::Definition;
use super::resolve::{FieldDef, Network, input_variable};
use super::widths::Check;
use crate::ast::{Field, Model, Shape};
use crate::attr::{FieldAttrs, ModelAttrs};
use crate::forward::forward_of;
use crate::tokens::local;
use crate::traced;

pub(crate) fn network(definition: &Definition, network: &Network) -> TokenStream {
    let parts = [
        structure(definition, &network.fields),
        constructor(definition, network),
        forward(definition, network),
        prunable(definition, network),
    ];
    parts.into_iter().collect()
}

/// The code of a network with errors: its fields, each once, and no data flow, so that its uses
/// cause no further errors and an editor still completes its names.
pub(crate) fn fallback(definition: &Definition, network: Network) -> TokenStream {
    let mut fields: Vec<FieldDef> = Vec::new();
    for field in network.fields {
        if fields.iter().all(|earlier| earlier.ident != field.ident) {
            fields.push(field);
        }
    }
    let (steps, result) = (vec![quote!(::core::unreachable!())], TokenStream::new());
    let sound = Network { fields, steps, checks: Vec::new(), result, ..network };
    self::network(definition, &sound)
}

fn structure(definition: &Definition, fields: &[FieldDef]) -> TokenStream {
    let Definition { attrs, vis, ident, .. } = definition;
    let fields = fields.iter().map(|FieldDef { ident, attrs, ty, .. }| {
        let documented = attrs.iter().any(|attr| attr.path().is_ident("doc"));
        let doc = if documented { None } else { Some(quote!(#[allow(missing_docs)])) };
        quote!(#doc #(#attrs)* #vis #ident: #ty)
    });
    quote! {
        #(#attrs)*
        #vis struct #ident {
            #(#fields),*
        }
    }
}

fn constructor(definition: &Definition, network: &Network) -> TokenStream {
    let Definition { krate, vis, ident, parameters, .. } = definition;
    let (vs, p, path) = (local("vs"), local("p"), local("path"));
    let parameters = parameters.iter().map(|parameter| {
        let (ident, ty) = (&parameter.ident, &parameter.ty);
        quote!(#ident: #ty)
    });
    let parameters: Vec<_> = parameters.collect();
    let (plan, cfg) = (local("plan"), local("cfg"));
    let (mut constant, mut checks) = (Vec::new(), Vec::new());
    for check in &network.checks {
        match check {
            Check::Constant(check) => constant.push(check),
            Check::Constructor(check) => checks.push(check),
        }
    }
    let arguments: Vec<_> =
        definition.parameters.iter().map(|parameter| &parameter.ident).collect();
    let fields = network.fields.iter().map(|FieldDef { ident, make, at, .. }| {
        let name =
            at.as_ref().map_or_else(|| syn::ext::IdentExt::unraw(ident).to_string(), LitStr::value);
        let names = name.split('.');
        quote!(#ident: { let #path = &(#p #(/ #names)*); #make })
    });
    quote! {
        #(const _: () = #constant;)*

        impl #ident {
            /// A network whose variables are named after its fields.
            ///
            /// # Panics
            /// When widths that are no literals do not fit each other, or a variable cannot be
            /// made.
            #[allow(unused_variables)]
            #vis fn new<'a>(#vs: impl ::core::borrow::Borrow<#krate::nn::Path<'a>>, #(#parameters),*) -> Self {
                let #p: &#krate::nn::Path<'a> = ::core::borrow::Borrow::borrow(&#vs);
                #(#checks)*
                Self { #(#fields),* }
            }

            /// A slimmed network: made as wide as it was, and narrowed by its plan.
            ///
            /// # Errors
            /// Those of `Prunable::apply`.
            #vis fn from_plan<'a>(#vs: impl ::core::borrow::Borrow<#krate::nn::Path<'a>>, #(#parameters,)* #plan: &#krate::Plan) -> #krate::Result<Self> {
                #plan.narrowed(Self::new(#vs, #(#arguments),*))
            }

            /// A network as wide as a slimmed one: made as wide as it was, and narrowed to these
            /// widths.
            ///
            /// # Errors
            /// Those of `Cfg::narrowed`.
            #vis fn from_cfg<'a>(#vs: impl ::core::borrow::Borrow<#krate::nn::Path<'a>>, #(#parameters,)* #cfg: &#krate::Cfg) -> #krate::Result<Self> {
                #cfg.narrowed(Self::new(#vs, #(#arguments),*))
            }
        }
    }
}

/// The forward pass, and its symbolic copy.
fn forward(definition: &Definition, network: &Network) -> TokenStream {
    let Definition { krate, vis, ident, .. } = definition;
    let (steps, result, train) = (&network.steps, &network.result, local("train"));
    let tensor = quote!(#krate::__private::tch::Tensor);
    if network.inputs == 1 && network.outputs == 1 {
        let input = local("input");
        return forward_of(
            krate,
            quote! {
                impl #krate::__private::tch::nn::ModuleT for #ident {
                    #[allow(unused_variables)]
                    fn forward_t(&self, #input: &#tensor, #train: bool) -> #tensor {
                        #(#steps)*
                        #result
                    }
                }
            },
        );
    }
    let inputs = if network.inputs == 1 {
        vec![local("input")]
    } else {
        (0..network.inputs).map(input_variable).collect()
    };
    let outputs = (0..network.outputs).map(|_| &tensor);
    let outputs = if network.outputs == 1 { tensor.clone() } else { quote!((#(#outputs),*)) };
    forward_of(
        krate,
        quote! {
            impl #ident {
                /// The forward pass, with a tensor for each input.
                #[allow(unused_variables)]
                #vis fn forward_t(&self, #(#inputs: &#tensor,)* #train: bool) -> #outputs {
                    #(#steps)*
                    #result
                }
            }
        },
    )
}

/// The impl of `Prunable`, which reads the forward pass.
fn prunable(definition: &Definition, network: &Network) -> TokenStream {
    let fields = network.fields.iter().map(|field| Field {
        member: Member::Named(field.ident.clone()),
        ty: &field.ty,
        attrs: FieldAttrs::default(),
    });
    let attrs = ModelAttrs {
        krate: Some(definition.krate.clone()),
        sequential: None,
        input: network.input.clone(),
        output: None,
    };
    let (ident, generics) = (&definition.ident, &Generics::default());
    let shape = Shape::Struct(fields.collect());
    traced::implementation(&Model { ident, generics, attrs, shape })
}
