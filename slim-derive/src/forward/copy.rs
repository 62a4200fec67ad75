//! Copies the tokens of a body for symbolic tensors.
//!
//! Tokens keep their spans, so that rustc's errors and `Location::caller()` point at the user's
//! code. An import around the copy shadows the name of the tensor type; this module rewrites the
//! calls and paths for which that is not enough.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Expr, ItemUse, Path, Token, UseTree};

use super::names;
use crate::tokens::peeled;

/// Functions on lists of tensors, which may mix real and symbolic tensors.
const LISTS: &[&str] = &[
    "cat",
    "concat",
    "concatenate",
    "dstack",
    "einsum",
    "f_cat",
    "f_einsum",
    "f_stack",
    "hstack",
    "stack",
    "vstack",
];

pub(super) struct SymbolicCopy<'a> {
    pub(super) krate: &'a Path,
    /// The user's name of the tensor type.
    pub(super) tensor: &'a Ident,
}

type Arguments = Punctuated<Expr, Token![,]>;
type Rest = std::iter::Peekable<proc_macro2::token_stream::IntoIter>;

impl SymbolicCopy<'_> {
    pub(super) fn of(&self, tokens: &impl ToTokens) -> TokenStream {
        self.stream(tokens.to_token_stream())
    }

    fn stream(&self, tokens: TokenStream) -> TokenStream {
        let mut rest: Rest = tokens.into_iter().peekable();
        let mut out: Vec<TokenTree> = Vec::new();
        while let Some(token) = rest.next() {
            match token {
                TokenTree::Group(group) => out.push(self.group(&group)),
                TokenTree::Ident(ident) => self.ident(&mut out, ident, &mut rest),
                other => out.push(other),
            }
        }
        out.into_iter().collect()
    }

    fn group(&self, group: &Group) -> TokenTree {
        same_group(group, self.stream(group.stream()))
    }

    fn ident(&self, out: &mut Vec<TokenTree>, ident: Ident, rest: &mut Rest) {
        let name = ident.to_string();
        match name.as_str() {
            "use" if !is_punct(rest.peek(), '<') => out.extend(self.import(ident, rest)),
            "forward_t" | "forward" => self.module(out, ident, rest),
            "map" | "opaque" if ends_in(out, |last| last == "functional") => {
                let function = if name == "map" { "symbolic_map" } else { "symbolic_opaque" };
                self.on_real_tensors(out, &ident, function, rest);
            }
            name if self.is_tensor(name) && ends_in_module(out) == Some(true) => {
                pop_path(out);
                let krate = self.krate_at(ident.span());
                out.extend(quote_spanned!(ident.span()=> #krate::Traced));
            }
            name if LISTS.contains(&name)
                && ends_in(out, |last| last == "Traced" || self.is_tensor(&last.to_string())) =>
            {
                out.push(ident.into());
                if let Some((group, arguments)) = called(rest) {
                    rest.next();
                    let arguments = arguments.iter().map(|argument| self.list(argument));
                    out.push(same_group(&group, quote!(#(#arguments),*)));
                }
            }
            _ => out.push(ident.into()),
        }
    }

    fn is_tensor(&self, name: &str) -> bool {
        name == "Tensor" || *self.tensor == name
    }

    /// Rewrites the forward pass of a module: `.forward_t(xs, train)`, `ModuleT::forward_t`,
    /// `<T as ModuleT>::forward_t`, and the same with `forward`.
    fn module(&self, out: &mut Vec<TokenTree>, ident: Ident, rest: &mut Rest) {
        let (krate, is_t) = (self.krate, ident == "forward_t");
        let (name, of_trait, arguments) = match is_t {
            true => ("symbolic_forward_t_", "ModuleT", 2),
            false => ("symbolic_forward_", "Module", 1),
        };
        let symbolic = Ident::new(name, ident.span());
        let given = called(rest).map(|(_, arguments)| arguments.len());
        let path = quote_spanned!(ident.span()=> #krate::__private::SymbolicModule);
        if is_method(out) && given == Some(arguments) {
            out.push(symbolic.into());
        } else if ends_in(out, |last| last == of_trait) {
            pop_path(out);
            out.extend(quote_spanned!(ident.span()=> #path::#symbolic));
        } else if let [.., TokenTree::Ident(last), end, _, _] = out.as_slice()
            && last == of_trait
            && is_punct(Some(end), '>')
            && ends_in_colons(out)
        {
            let end = out.split_off(out.len() - 3);
            // Removes the path of the trait, back to `as`; `pop_path` needs the colons behind it.
            out.extend(end[1..].to_vec());
            pop_path(out);
            out.extend(path);
            out.extend(end);
            out.push(symbolic.into());
        } else if ends_in(out, is_type) && given == Some(arguments + 1) {
            // `Conv2D::forward(&self.conv, xs)`
            out.push(symbolic.into());
        } else {
            out.push(ident.into());
        }
    }

    /// Rewrites `functional::map(&xs, |xs| …)`. The closure takes real tensors, and stays as it is.
    fn on_real_tensors(
        &self,
        out: &mut Vec<TokenTree>,
        ident: &Ident,
        function: &str,
        rest: &mut Rest,
    ) {
        let Some((group, arguments)) = called(rest).filter(|(_, found)| found.len() == 2) else {
            return out.push(ident.clone().into());
        };
        rest.next();
        pop_path(out);
        let function = Ident::new(function, ident.span());
        let place = self.krate_at(ident.span());
        out.extend(quote_spanned!(ident.span()=> #place::__private::#function));
        let krate = self.krate;
        let (xs, closure) = (arguments.first().map(|xs| self.of(xs)), arguments.last());
        let imports = names(self.tensor).into_iter().map(|name| match name == "Tensor" {
            true => quote!(#[allow(unused_imports)] use #krate::__private::tch::#name;),
            false => quote!(#[allow(unused_imports)] use #krate::__private::tch::Tensor as #name;),
        });
        let arguments = quote!(#xs, { #(#imports)* #closure });
        out.push(same_group(&group, arguments));
    }

    /// The path of the runtime crate, located at a token of the user's: `Location::caller` of a
    /// call is where its path begins.
    fn krate_at(&self, span: Span) -> TokenStream {
        let located = |mut token: TokenTree| {
            token.set_span(span);
            token
        };
        self.krate.to_token_stream().into_iter().map(located).collect()
    }

    /// Copies an argument. The elements of `&[a, b]` or `&vec![a, b]` become symbolic.
    fn list(&self, argument: &Expr) -> TokenStream {
        let Expr::Reference(reference) = peeled(argument) else { return self.of(argument) };
        let and = &reference.and_token;
        match peeled(&reference.expr) {
            Expr::Array(array) => {
                let elements = self.lifted(&array.elems);
                quote!(#and [#elements])
            }
            Expr::Macro(list) if list.mac.path.is_ident("vec") => {
                let Ok(elements) = Arguments::parse_terminated.parse2(list.mac.tokens.clone())
                else {
                    return self.of(argument);
                };
                let (path, elements) = (&list.mac.path, self.lifted(&elements));
                quote!(#and #path![#elements])
            }
            _ => self.of(argument),
        }
    }

    fn lifted(&self, elements: &Arguments) -> TokenStream {
        let krate = self.krate;
        let lifted = elements.iter().map(|element| {
            let copied = self.of(element);
            quote!(#krate::__private::Lift::lift(#copied))
        });
        quote!(#(#lifted),*)
    }

    /// Rewrites an import in a body, such as `use tch::{Kind, Tensor};`.
    fn import(&self, keyword: Ident, rest: &mut Rest) -> TokenStream {
        let mut tokens = TokenStream::from(TokenTree::from(keyword));
        for token in rest.by_ref() {
            let is_end = is_punct(Some(&token), ';');
            tokens.extend([token]);
            if is_end {
                break;
            }
        }
        let Ok(mut item) = syn::parse2::<ItemUse>(tokens.clone()) else { return tokens };
        let mut names = Vec::new();
        let others = without_tensor(item.tree.clone(), false, &mut names);
        if names.is_empty() {
            return tokens;
        }
        let krate = self.krate;
        let others = others.map(|tree| {
            item.tree = tree;
            item
        });
        quote!(#others #(#[allow(unused_imports)] use #krate::Traced as #names;)*)
    }
}

/// An import without `Tensor`. The names under which it was imported are added to `names`.
fn without_tensor(tree: UseTree, is_inside: bool, names: &mut Vec<Ident>) -> Option<UseTree> {
    match tree {
        UseTree::Path(mut path) => {
            *path.tree = without_tensor(*path.tree, true, names)?;
            Some(UseTree::Path(path))
        }
        UseTree::Name(name) if is_inside && name.ident == "Tensor" => {
            names.push(name.ident);
            None
        }
        UseTree::Rename(name) if is_inside && name.ident == "Tensor" => {
            names.push(name.rename);
            None
        }
        UseTree::Group(mut group) => {
            let trees = group.items.into_iter();
            group.items = trees.filter_map(|tree| without_tensor(tree, is_inside, names)).collect();
            Some(UseTree::Group(group))
        }
        other => Some(other),
    }
}

/// The arguments of a call, if a call comes next and its arguments are expressions.
fn called(rest: &mut Rest) -> Option<(Group, Arguments)> {
    match rest.peek()? {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => {
            let arguments = Arguments::parse_terminated.parse2(group.stream()).ok()?;
            Some((group.clone(), arguments))
        }
        _ => None,
    }
}

fn same_group(group: &Group, tokens: TokenStream) -> TokenTree {
    let mut same = Group::new(group.delimiter(), tokens);
    same.set_span(group.span());
    same.into()
}

pub(super) fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

/// Whether a method's name comes next: after `.`, but not after the `..` of a range.
fn is_method(out: &[TokenTree]) -> bool {
    is_punct(out.last(), '.') && !is_punct(out.iter().rev().nth(1), '.')
}

fn ends_in_colons(out: &[TokenTree]) -> bool {
    matches!(out, [.., a, b] if is_punct(Some(a), ':') && is_punct(Some(b), ':'))
}

/// Whether the tokens end in a segment for which `is_it` holds, and `::`.
fn ends_in(out: &[TokenTree], is_it: impl Fn(&Ident) -> bool) -> bool {
    let [.., TokenTree::Ident(segment), _, _] = out else { return false };
    ends_in_colons(out) && is_segment(&out[..out.len() - 2]) && is_it(segment)
}

/// Whether the path at the end is that of a module; `None` if there is no path.
pub(super) fn ends_in_module(out: &[TokenTree]) -> Option<bool> {
    if !ends_in_colons(out) {
        return None;
    }
    Some(ends_in(out, |segment| !is_type(segment)))
}

/// Whether a segment is a type: types begin with a capital, modules do not.
fn is_type(segment: &Ident) -> bool {
    segment.to_string().trim_start_matches("r#").starts_with(char::is_uppercase)
}

/// Whether the last token is a segment of a path: not a lifetime, and not a keyword, except those
/// that may stand in paths.
fn is_segment(out: &[TokenTree]) -> bool {
    let Some((TokenTree::Ident(ident), before)) = out.split_last() else { return false };
    let name = ident.to_string();
    let is_name = ["crate", "$crate", "self", "Self", "super"].contains(&name.as_str())
        || syn::parse_str::<Ident>(&name).is_ok();
    is_name && !is_punct(before.last(), '\'')
}

/// Removes the path at the end, with the `::` behind it.
pub(super) fn pop_path(out: &mut Vec<TokenTree>) {
    while ends_in_colons(out) {
        out.truncate(out.len() - 2);
        if !is_segment(out) {
            break;
        }
        out.pop();
    }
}
