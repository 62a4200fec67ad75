//! Tensors in signatures.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::punctuated::Punctuated;
use syn::{
    FnArg, GenericArgument, Pat, PathArguments, ReturnType, Signature, Token, Type, TypeParam,
    TypeParamBound, parse_quote,
};

use super::copy::{ends_in_module, is_punct, pop_path};

/// An argument other than the receiver.
pub(super) struct Argument {
    /// The argument's name in signatures without a body.
    pub(super) name: Ident,
    pub(super) ty: Type,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `&Tensor`
    Borrowed,
    /// `Tensor`
    Owned,
    /// Any other type, with tensors in it or without.
    Other,
}

impl Argument {
    pub(super) fn new(i: usize, pat: &Pat, ty: &Type) -> Self {
        let name = match pat {
            Pat::Ident(pat) if pat.subpat.is_none() => pat.ident.clone(),
            _ => format_ident!("a{}", i, span = Span::mixed_site()),
        };
        let kind = match peeled(ty) {
            Type::Reference(of)
                if is_tensor(&of.elem)
                    && of.mutability.is_none()
                    && of.lifetime.as_ref().is_none_or(|lifetime| lifetime.ident == "_") =>
            {
                Kind::Borrowed
            }
            ty if is_tensor(ty) => Kind::Owned,
            _ => Kind::Other,
        };
        Argument { name, ty: ty.clone(), kind }
    }
}

/// Whether the type of an argument, or its bounds, mention tensors.
pub(super) fn takes_tensors(sig: &Signature) -> bool {
    sig.inputs.iter().any(|input| match input {
        FnArg::Typed(typed) => has_tensor(&typed.ty) || bounds_have_tensor(sig, &typed.ty),
        FnArg::Receiver(_) => false,
    })
}

/// Whether the bounds of an argument's type mention tensors: `act: F` where
/// `F: Fn(&Tensor) -> Tensor`.
fn bounds_have_tensor(sig: &Signature, ty: &Type) -> bool {
    let generic = sig
        .generics
        .type_params()
        .any(|param| crate::tokens::mentions(ty, &param.ident) && has_tensor(param));
    let clause = sig.generics.where_clause.iter().flat_map(|clause| &clause.predicates);
    generic
        || clause.filter(|predicate| has_tensor(*predicate)).any(|predicate| {
            let params = sig.generics.type_params();
            params.into_iter().any(|param| {
                crate::tokens::mentions(predicate, &param.ident)
                    && crate::tokens::mentions(ty, &param.ident)
            })
        })
}

/// Whether the tokens mention the tensor type.
pub(super) fn has_tensor(tokens: &impl ToTokens) -> bool {
    let (mut found, tokens) = (false, tokens.to_token_stream());
    with_tensor(tokens, &mut |_| {
        found = true;
        TokenStream::new()
    });
    found
}

/// The tokens, with `Tensor` replaced by `by`.
pub(super) fn replaced(tokens: &impl ToTokens, by: &TokenStream) -> TokenStream {
    with_tensor(tokens.to_token_stream(), &mut |_| by.clone())
}

fn with_tensor(tokens: TokenStream, by: &mut impl FnMut(&Ident) -> TokenStream) -> TokenStream {
    let mut out: Vec<TokenTree> = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        match token {
            TokenTree::Ident(ident) if ident == "Tensor" && is_type(&out, rest.peek()) => {
                pop_path(&mut out);
                out.extend(by(&ident));
            }
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), with_tensor(group.stream(), by));
                inner.set_span(group.span());
                out.push(inner.into());
            }
            other => out.push(other),
        }
    }
    out.into_iter().collect()
}

/// Whether `Tensor` between these tokens is the tensor type. `Self::Tensor`, `Tensor<T>`,
/// `Tensor(T)` and `Tensor!(…)` are something else, `'Tensor` and `Tensor = …` are not types.
fn is_type(before: &[TokenTree], after: Option<&TokenTree>) -> bool {
    let is_other = ['<', ':', '=', '!'].iter().any(|char| is_punct(after, *char))
        || matches!(after, Some(TokenTree::Group(of)) if of.delimiter() == Delimiter::Parenthesis);
    !is_other && !is_punct(before.last(), '\'') && ends_in_module(before) != Some(false)
}

/// A type without parentheses, and without the invisible group of a `macro_rules!` fragment.
pub(super) fn peeled(ty: &Type) -> &Type {
    match ty {
        Type::Group(inner) => peeled(&inner.elem),
        Type::Paren(inner) => peeled(&inner.elem),
        ty => ty,
    }
}

/// Whether the type is `Tensor`, by any path.
pub(super) fn is_tensor(ty: &Type) -> bool {
    matches!(peeled(ty), Type::Path(path) if path.qself.is_none())
        && replaced(peeled(ty), &TokenStream::new()).is_empty()
}

/// The last segment of a type's path, behind references; `None` if it cannot name a tensor type.
pub(super) fn last_segment(ty: &Type) -> Option<Ident> {
    match peeled(ty) {
        Type::Reference(reference) => last_segment(&reference.elem),
        Type::Path(path) => {
            let last = &path.path.segments.last()?.ident;
            syn::parse2(last.to_token_stream()).ok()
        }
        _ => None,
    }
}

/// Replaces each `impl Trait` in the arguments by a type parameter, since a copy adds bounds to it.
pub(super) fn name_impl_traits(sig: &mut Signature) -> Vec<TypeParam> {
    let mut named = Vec::new();
    for input in &mut sig.inputs {
        if let FnArg::Typed(typed) = input {
            name_impl_trait(&mut typed.ty, &mut named);
        }
    }
    named
}

fn name_impl_trait(ty: &mut Type, named: &mut Vec<TypeParam>) {
    match ty {
        Type::ImplTrait(of) => {
            let ident = format_ident!("__A{}", named.len());
            let bounds: &Punctuated<TypeParamBound, Token![+]> = &of.bounds;
            named.push(parse_quote!(#ident: #bounds));
            *ty = parse_quote!(#ident);
        }
        Type::Array(of) => name_impl_trait(&mut of.elem, named),
        Type::Group(of) => name_impl_trait(&mut of.elem, named),
        Type::Paren(of) => name_impl_trait(&mut of.elem, named),
        Type::Reference(of) => name_impl_trait(&mut of.elem, named),
        Type::Slice(of) => name_impl_trait(&mut of.elem, named),
        Type::Tuple(of) => of.elems.iter_mut().for_each(|elem| name_impl_trait(elem, named)),
        Type::Path(of) => {
            for segment in &mut of.path.segments {
                if let PathArguments::AngleBracketed(arguments) = &mut segment.arguments {
                    for argument in &mut arguments.args {
                        if let GenericArgument::Type(ty) = argument {
                            name_impl_trait(ty, named);
                        }
                    }
                }
            }
        }
        _ => {}
    }
}

/// Tokens as a user writes them.
pub(super) fn written(tokens: &impl ToTokens) -> String {
    let text = tokens.to_token_stream().to_string();
    let tight = [
        (" :: ", "::"),
        (":: ", "::"),
        (" < ", "<"),
        (" >", ">"),
        ("& ", "&"),
        (" ,", ","),
        (" :", ":"),
    ];
    tight.iter().fold(text, |text, (loose, tight)| text.replace(loose, tight))
}

/// Whether the return value may borrow from an argument.
pub(super) fn borrows(output: &ReturnType) -> bool {
    fn has_borrow(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Punct(punct) => matches!(punct.as_char(), '&' | '\''),
            TokenTree::Ident(ident) => ident == "impl" || ident == "dyn",
            TokenTree::Group(group) => has_borrow(group.stream()),
            TokenTree::Literal(_) => false,
        })
    }
    has_borrow(output.to_token_stream())
}
