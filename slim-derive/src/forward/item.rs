//! The item that `#[forward]` is written on: typed, borrowed and checked.

use proc_macro2::{Ident, Span};
use quote::ToTokens;
use syn::{
    Attribute, Block, FnArg, Generics, ImplItem, ImplItemFn, Item, ItemFn, ItemImpl, Pat, Path,
    Receiver, Safety, Signature, Visibility,
};

use super::signature::{self, last_segment};
use crate::ctxt::Ctxt;

pub(crate) enum Target<'a> {
    Trait(TraitImpl<'a>),
    Inherent(Inherent<'a>),
    Function(Function<'a>),
}

/// `impl ModuleT for` or `impl Module for` a type.
pub(crate) struct TraitImpl<'a> {
    pub(crate) source: &'a ItemImpl,
    /// The name of the tensor type in the method's signature.
    pub(crate) tensor: Ident,
    /// The method, once for each `#[cfg]`; empty if its signature is wrong, which rustc reports.
    pub(crate) passes: Vec<Pass<'a>>,
}

/// The method `forward_t` or `forward` of the trait.
pub(crate) struct Pass<'a> {
    pub(crate) attrs: &'a [Attribute],
    pub(crate) receiver: &'a Receiver,
    /// The patterns of the arguments: the tensor, and `train` for `forward_t`.
    pub(crate) arguments: Vec<&'a Pat>,
    pub(crate) body: &'a Block,
}

/// An `impl` without a trait.
pub(crate) struct Inherent<'a> {
    pub(crate) source: &'a ItemImpl,
    pub(crate) items: Vec<Member<'a>>,
}

pub(crate) enum Member<'a> {
    /// A method that takes tensors, and becomes generic.
    Generic(Function<'a>),
    Other(&'a ImplItem),
}

/// A function or a method that takes tensors.
#[derive(Clone, Copy)]
pub(crate) struct Function<'a> {
    pub(crate) attrs: &'a [Attribute],
    pub(crate) vis: &'a Visibility,
    pub(crate) sig: &'a Signature,
    pub(crate) body: &'a Block,
}

const PLACES: &str = "`#[forward]` stands above `impl ModuleT for …` or `impl Module for …`, an inherent `impl`, or a function";

impl<'a> Target<'a> {
    /// Parses the item; `None` if there is nothing to copy, after errors have been reported.
    pub(crate) fn parse(cx: &Ctxt, item: &'a Item) -> Option<Self> {
        match item {
            Item::Impl(source) => match &source.trait_ {
                Some((path, _)) => TraitImpl::parse(cx, source, path).map(Target::Trait),
                None => Inherent::parse(cx, source).map(Target::Inherent),
            },
            Item::Fn(function) => Function::parse_item(cx, function).map(Target::Function),
            other => {
                cx.error(name(other), format!("{PLACES}; move it there, or remove it"));
                None
            }
        }
    }
}

/// The tokens of an item to report an error at.
fn name(item: &Item) -> &dyn ToTokens {
    match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Macro(item) => &item.mac.path,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        other => other,
    }
}

impl<'a> TraitImpl<'a> {
    fn parse(cx: &Ctxt, source: &'a ItemImpl, path: &'a Path) -> Option<Self> {
        let (method, arguments) = match path.segments.last() {
            Some(last) if last.ident == "ModuleT" => ("forward_t", 2),
            Some(last) if last.ident == "Module" => ("forward", 1),
            _ => {
                let name = signature::written(path);
                cx.error(path, format!("{PLACES}; `{name}` is another trait, so remove it"));
                return None;
            }
        };
        let methods: Vec<&ImplItemFn> = source
            .items
            .iter()
            .filter_map(|item| match item {
                ImplItem::Fn(found) if found.sig.ident == method => Some(found),
                _ => None,
            })
            .collect();
        let passes = methods.iter().filter_map(|method| Pass::parse(method, arguments)).collect();
        let tensor = methods.first().and_then(|method| match method.sig.inputs.get(1)? {
            FnArg::Typed(typed) => last_segment(&typed.ty),
            FnArg::Receiver(_) => None,
        });
        let tensor = tensor.unwrap_or_else(|| Ident::new("Tensor", Span::call_site()));
        Some(TraitImpl { source, tensor, passes })
    }
}

impl<'a> Pass<'a> {
    fn parse(method: &'a ImplItemFn, count: usize) -> Option<Self> {
        let (mut receiver, mut arguments) = (None, Vec::new());
        for input in &method.sig.inputs {
            match input {
                FnArg::Receiver(found) => receiver = Some(found),
                FnArg::Typed(typed) => arguments.push(&*typed.pat),
            }
        }
        let receiver = receiver.filter(|_| arguments.len() == count)?;
        Some(Pass { attrs: &method.attrs, receiver, arguments, body: &method.block })
    }
}

impl<'a> Inherent<'a> {
    fn parse(cx: &Ctxt, source: &'a ItemImpl) -> Option<Self> {
        let before = cx.len();
        let member = |item: &'a ImplItem| match item {
            ImplItem::Fn(method) if signature::takes_tensors(&method.sig) => {
                let ImplItemFn { attrs, vis, sig, block, .. } = method;
                if is_plain(cx, sig, Some(&source.generics)) {
                    Member::Generic(Function { attrs, vis, sig, body: block })
                } else {
                    Member::Other(item)
                }
            }
            other => Member::Other(other),
        };
        let items: Vec<_> = source.items.iter().map(member).collect();
        let is_read = items.iter().any(|item| matches!(item, Member::Generic(_)));
        if !is_read && cx.len() == before {
            cx.error(
                &source.self_ty,
                "`#[forward]` reads methods that take a `Tensor`, and this `impl` has none; remove it",
            );
        }
        is_read.then_some(Inherent { source, items })
    }
}

impl<'a> Function<'a> {
    fn parse_item(cx: &Ctxt, function: &'a ItemFn) -> Option<Self> {
        let ItemFn { attrs, vis, sig, block, .. } = function;
        if let Some(FnArg::Receiver(receiver)) = sig.inputs.first() {
            cx.error(receiver, format!("{PLACES}; this is a method, so move it above its `impl`"));
            return None;
        }
        if !signature::takes_tensors(sig) {
            cx.error(
                &sig.ident,
                "a function that `#[forward]` reads takes a `Tensor`, by which its copies are told apart; add one, or remove `#[forward]`",
            );
            return None;
        }
        is_plain(cx, sig, None).then_some(Function { attrs, vis, sig, body: block })
    }
}

/// Whether a function can be generic over its tensors and be called through a trait. Reports an
/// error if not.
fn is_plain(cx: &Ctxt, sig: &Signature, outer: Option<&Generics>) -> bool {
    let Signature { constness, asyncness, safety, abi, variadic, .. } = sig;
    let unsafety = match safety {
        Safety::Default => None,
        other => Some(other),
    };
    let keywords: [(&str, Option<&dyn ToTokens>); 5] = [
        ("const", constness.as_ref().map(|token| token as _)),
        ("async", asyncness.as_ref().map(|token| token as _)),
        ("unsafe", unsafety.as_ref().map(|token| token as _)),
        ("extern", abi.as_ref().map(|token| token as _)),
        ("...", variadic.as_ref().map(|token| token as _)),
    ];
    let mut is_plain = true;
    for (keyword, token) in keywords {
        if let Some(token) = token {
            is_plain = false;
            cx.error(
                token,
                format!("`#[forward]` reads plain functions; remove `{keyword}`, or move the function out of `#[forward]`"),
            );
        }
    }
    for generics in outer.into_iter().chain([&sig.generics]) {
        for param in generics.type_params().filter(|param| param.ident == "Tensor") {
            is_plain = false;
            cx.error(
                &param.ident,
                "`#[forward]` takes `Tensor` for a tensor; give the type parameter another name",
            );
        }
    }
    is_plain
}
