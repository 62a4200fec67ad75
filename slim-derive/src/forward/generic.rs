//! Inherent methods and functions: generic over their tensors, with a real and a symbolic copy.
//!
//! `fn f(&self, xs: &Tensor) -> Tensor` becomes a trait with `call`, which is implemented for real
//! and for symbolic tensors, and a method `f` that chooses by the types of its arguments. Each
//! `&Tensor` has its own type parameter, so that real tensors (a weight, a mask) can be passed
//! beside symbolic ones; the trait is implemented for their common type.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::{
    Attribute, FnArg, GenericParam, Generics, ItemImpl, Lifetime, Path, Receiver, Signature,
    parse_quote,
};

use super::attributes;
use super::item::{Function, Inherent, Member};
use super::signature::{Argument, Kind, borrows, name_impl_traits, replaced};
use super::{import, imported, lints, prunable, symbolic_body};

/// The impl with its generic methods, and their traits beside it.
pub(crate) fn inherent(runtime: &Path, target: &Inherent) -> TokenStream {
    let (import, krate) = (import(runtime), &imported());
    let source = target.source;
    let (mut items, mut beside) = (Vec::new(), TokenStream::new());
    let mut passes: Vec<Generic> = Vec::new();
    for member in &target.items {
        match member {
            Member::Other(item) => items.push(item.to_token_stream()),
            Member::Generic(function) => {
                let generic = Generic::new(krate, *function, Some(source));
                items.push(generic.front());
                items.extend(generic.twin());
                beside.extend(generic.declaration());
                beside.extend(generic.implementations());
                if generic.is_pass() {
                    passes.push(generic);
                }
            }
        }
    }
    // `forward_t` is preferred, since `forward` often calls it.
    let pass = passes
        .iter()
        .min_by_key(|pass| (pass.unfit().is_some(), pass.function.sig.ident != "forward_t"));
    beside.extend(pass.map(Generic::entry));
    let ItemImpl { attrs, generics, self_ty, unsafety, impl_token, .. } = source;
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (cfgs, attrs) = (attributes::cfgs(attrs), attributes::front(attrs));
    quote! {
        #(#cfgs)*
        const _: () = {
            #import
            #(#attrs)*
            #unsafety #impl_token #impl_generics #self_ty #where_clause {
                #(#items)*
            }
            #beside
        };
    }
}

/// The generic function, and its trait beside it.
pub(crate) fn function(krate: &Path, function: &Function) -> TokenStream {
    let generic = Generic::new(krate, *function, None);
    let (cfgs, front) = (generic.cfgs(), generic.front());
    let (declaration, implementations) = (generic.declaration(), generic.implementations());
    quote! {
        #front
        #declaration
        #(#cfgs)*
        const _: () = { #implementations };
    }
}

/// A function that takes tensors.
pub(super) struct Generic<'a> {
    pub(super) krate: &'a Path,
    pub(super) function: Function<'a>,
    /// The impl that a method belongs to; `None` for a function.
    pub(super) owner: Option<&'a ItemImpl>,
    /// The signature, with type parameters in place of `impl Trait`.
    pub(super) sig: Signature,
    /// All generics of the impl and of the function, which the trait has, too.
    generics: Generics,
    /// The arguments after the receiver.
    pub(super) arguments: Vec<Argument>,
    /// Whether all tensors have one type: if the return value borrows from them, or if they only
    /// occur inside other types.
    pub(super) is_uniform: bool,
}

impl<'a> Generic<'a> {
    fn new(krate: &'a Path, function: Function<'a>, owner: Option<&'a ItemImpl>) -> Self {
        let mut sig = function.sig.clone();
        let named = name_impl_traits(&mut sig).into_iter().map(GenericParam::Type);
        let own = &mut sig.generics;
        own.params.extend(named);
        let outer = owner.map(|owner| &owner.generics);
        let params = outer.iter().flat_map(|outer| &outer.params).chain(&own.params).cloned();
        let (lifetimes, others): (Vec<_>, Vec<_>) =
            params.partition(|param| matches!(param, GenericParam::Lifetime(_)));
        let mut generics = Generics::default();
        generics.params.extend(lifetimes.into_iter().chain(others));
        let clauses = outer.and_then(|outer| outer.where_clause.as_ref()).into_iter();
        for clause in clauses.chain(own.where_clause.as_ref()) {
            generics.make_where_clause().predicates.extend(clause.predicates.clone());
        }
        let arguments = sig.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(typed) => Some((&*typed.pat, &*typed.ty)),
            FnArg::Receiver(_) => None,
        });
        let arguments: Vec<_> =
            arguments.enumerate().map(|(i, (pat, ty))| Argument::new(i, pat, ty)).collect();
        let is_uniform =
            borrows(&sig.output) || arguments.iter().all(|argument| argument.kind == Kind::Other);
        Generic { krate, function, owner, sig, generics, arguments, is_uniform }
    }

    /// The name of the trait, in camel case.
    fn name(&self) -> Ident {
        let name = self.sig.ident.unraw().to_string();
        let words = name.split('_').map(|word| {
            let mut chars = word.chars();
            let first = chars.next().into_iter().flat_map(char::to_uppercase);
            first.chain(chars).collect::<String>()
        });
        format_ident!("__SymbolicOf{}", words.collect::<String>(), span = self.sig.ident.span())
    }

    pub(super) fn cfgs(&self) -> Vec<Attribute> {
        attributes::cfgs(self.function.attrs)
    }

    pub(super) fn receiver(&self) -> Option<&Receiver> {
        self.sig.receiver()
    }

    /// The receiver in a signature without a body: `mut self` becomes `self`.
    pub(super) fn declared_receiver(&self) -> Option<TokenStream> {
        self.receiver().map(|receiver| {
            let mut receiver = receiver.clone();
            receiver.mutability = None;
            quote!(#receiver,)
        })
    }

    /// The type that implements the trait: the `Self` type of a method, `()` for a function.
    pub(super) fn implementor(&self) -> TokenStream {
        self.owner.map_or_else(|| quote!(()), |owner| owner.self_ty.to_token_stream())
    }

    /// `__SymbolicOf_f<'a, Tensor, M>`
    pub(super) fn trait_for(&self, tensor: &TokenStream) -> TokenStream {
        self.trait_with(tensor, Clone::clone)
    }

    /// The trait, with its lifetimes mapped by `lifetime`.
    pub(super) fn trait_with(
        &self,
        tensor: &TokenStream,
        lifetime: impl Fn(&Lifetime) -> Lifetime,
    ) -> TokenStream {
        let arguments = self.generics.params.iter().map(|param| match param {
            GenericParam::Lifetime(param) => lifetime(&param.lifetime).into_token_stream(),
            GenericParam::Type(param) => param.ident.to_token_stream(),
            GenericParam::Const(param) => param.ident.to_token_stream(),
        });
        let name = self.name();
        quote!(#name<#(#arguments,)* #tensor>)
    }

    /// The generics without defaults, with `Tensor` replaced by `tensor`.
    pub(super) fn parameters(&self, generics: &Generics, tensor: &TokenStream) -> Vec<TokenStream> {
        let mut generics = generics.clone();
        for param in &mut generics.params {
            match param {
                GenericParam::Lifetime(_) => {}
                GenericParam::Type(param) => param.default = None,
                GenericParam::Const(param) => param.default = None,
            }
        }
        generics.params.iter().map(|param| replaced(param, tensor)).collect()
    }

    fn declaration(&self) -> TokenStream {
        let tensor = quote!(__Tensor);
        let vis = self.owner.is_none().then_some(self.function.vis);
        let (name, cfgs, lints) = (self.name(), self.cfgs(), lints());
        let parameters = self.parameters(&self.generics, &tensor);
        let predicates = predicates(&self.generics, &tensor);
        let receiver = self.declared_receiver();
        let names = self.arguments.iter().map(|argument| &argument.name);
        let types = self.arguments.iter().map(|argument| replaced(&argument.ty, &tensor));
        let output = replaced(&self.sig.output, &tensor);
        quote! {
            #(#cfgs)*
            #[doc(hidden)]
            #lints
            #vis trait #name<#(#parameters,)* #tensor> where #(#predicates),* {
                fn call(#receiver #(#names: #types),*) #output;
            }
        }
    }

    /// The impls of the trait: with the real body, in which rustc checks the user's own tokens, and
    /// with its symbolic copy.
    fn implementations(&self) -> TokenStream {
        let krate = self.krate;
        let Function { attrs, body, .. } = self.function;
        let outer = self.owner.map_or(&[][..], |owner| &owner.attrs);
        let real_attrs = [attributes::real(outer), attributes::real(attrs)].concat();
        let copy_attrs = [attributes::copy(outer), attributes::copy(attrs)].concat();
        let real = quote!(#krate::__private::tch::Tensor);
        let (inputs, output) = (&self.sig.inputs, &self.sig.output);
        let method = quote!(#(#real_attrs)* fn call(#inputs) #output #body);
        let real = self.implementation(&self.generics, &real, &method);

        let traced = quote!(#krate::Traced);
        let inputs = inputs.iter().map(|input| symbolic(input, &traced));
        let output = replaced(output, &traced);
        let body = symbolic_body(krate, &parse_quote!(Tensor), body);
        let method = quote!(#(#copy_attrs)* fn call(#(#inputs),*) #output #body);
        let symbolic = self.implementation(&prunable(&self.generics, krate), &traced, &method);
        let (cfgs, lints) = (self.cfgs(), lints());
        quote! {
            #(#cfgs)*
            #real
            #(#cfgs)*
            #lints
            #[automatically_derived]
            #symbolic
        }
    }

    fn implementation(
        &self,
        generics: &Generics,
        tensor: &TokenStream,
        method: &TokenStream,
    ) -> TokenStream {
        let parameters = self.parameters(generics, tensor);
        let predicates = predicates(generics, tensor);
        let (implemented, implementor) = (self.trait_for(tensor), self.implementor());
        quote! {
            impl<#(#parameters),*> #implemented for #implementor where #(#predicates),* {
                #method
            }
        }
    }

    /// The implementor, as the generated function names it.
    pub(super) fn this(&self) -> TokenStream {
        if self.owner.is_some() { quote!(Self) } else { quote!(()) }
    }

    /// `self,` with the token of the receiver.
    pub(super) fn own(&self) -> Option<TokenStream> {
        self.receiver().map(|receiver| {
            let own = &receiver.self_token;
            quote!(#own,)
        })
    }
}

/// The predicates of a where-clause, with `Tensor` replaced by `tensor`.
pub(super) fn predicates(generics: &Generics, tensor: &TokenStream) -> Vec<TokenStream> {
    let clause = generics.where_clause.iter();
    clause.flat_map(|clause| &clause.predicates).map(|one| replaced(one, tensor)).collect()
}

/// An argument of the symbolic copy.
fn symbolic(input: &FnArg, traced: &TokenStream) -> TokenStream {
    match input {
        FnArg::Receiver(receiver) => quote!(#receiver),
        FnArg::Typed(typed) => {
            let (pat, ty) = (&typed.pat, replaced(&typed.ty, traced));
            quote!(#pat: #ty)
        }
    }
}
