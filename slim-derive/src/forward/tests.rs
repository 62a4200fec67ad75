//! Snapshots of the expansion of `#[forward]`. The runtime's tests compile and run such code.

use std::path::Path;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{File, Item, parse_quote};

use super::copy::SymbolicCopy;

/// The items of `forms.rs`, without the attribute.
pub(crate) fn forms() -> Vec<Item> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/forward/forms/forms.rs");
    let text = std::fs::read_to_string(path).expect("can be read");
    let mut items = syn::parse_file(&text).expect("is Rust").items;
    for item in &mut items {
        match item {
            Item::Impl(item) => item.attrs.clear(),
            Item::Fn(item) => item.attrs.clear(),
            _ => {}
        }
    }
    items
}

/// The formatted expansion of the item whose tokens begin with `header`.
fn expansion(header: &str) -> String {
    let header: String = header.split_whitespace().collect();
    let is_it = |item: &Item| {
        let text = item.to_token_stream().to_string();
        text.split_whitespace().collect::<String>().starts_with(&header)
    };
    let item = forms().into_iter().find(is_it).expect("is a form");
    let expanded: File =
        syn::parse2(super::forward(TokenStream::new(), item.into_token_stream())).expect("is Rust");
    prettyplease::unparse(&expanded)
}

#[test]
fn a_trait_impl_is_left_as_it_is_and_copied() {
    insta::assert_snapshot!(expansion("impl nn::ModuleT for Block"));
}

#[test]
fn a_module_that_is_a_type_parameter_is_prunable_in_the_copy() {
    insta::assert_snapshot!(expansion("impl<B, const N: usize> tch::nn::Module"));
}

#[test]
fn inherent_methods_are_generic_and_others_stay() {
    insta::assert_snapshot!(expansion("impl<B: Layer> Tree<B>"));
}

#[test]
fn a_method_of_several_tensors_is_a_forward_pass() {
    insta::assert_snapshot!(expansion("impl Two"));
}

#[test]
fn a_function_is_generic() {
    insta::assert_snapshot!(expansion("fn chain"));
}

#[test]
fn a_body_is_copied_with_what_is_symbolic() {
    let krate = parse_quote!(_slim);
    let tensor = parse_quote!(T);
    let copy = |tokens: TokenStream| {
        SymbolicCopy { krate: &krate, tensor: &tensor }.of(&tokens).to_string()
    };
    let module = quote!(_slim::__private::SymbolicModule);
    let lift = |tokens: TokenStream| quote!(_slim::__private::Lift::lift(#tokens));
    let (a, b) = (lift(quote!(a)), lift(quote!(b.symbolic_forward_(c))));
    for (written, copied) in [
        (quote!(a.b.forward_t(xs, c::<D, E>())), quote!(a.b.symbolic_forward_t_(xs, c::<D, E>()))),
        (quote!(a.forward(&b.forward(c))), quote!(a.symbolic_forward_(&b.symbolic_forward_(c)))),
        (quote!(a.forward(xs, 3)), quote!(a.forward(xs, 3))),
        (quote!(0..forward(a)), quote!(0..forward(a))),
        (quote!(graph::forward(a, b)), quote!(graph::forward(a, b))),
        (quote!(nn::Module::forward(&a, xs)), quote!(#module::symbolic_forward_(&a, xs))),
        (quote!(return ::tch::nn::ModuleT::forward_t), quote!(return #module::symbolic_forward_t_)),
        (quote!(<A<B> as nn::Module>::forward), quote!(<A<B> as #module>::symbolic_forward_)),
        (quote!(Conv2D::forward(&a, xs)), quote!(Conv2D::symbolic_forward_(&a, xs))),
        (quote!(fn(&'a tch::Tensor) -> ::tch::T), quote!(fn(&'a _slim::Traced) -> _slim::Traced)),
        (quote!(IValue::Tensor(xs)), quote!(IValue::Tensor(xs))),
        (quote!(Tensor::cat(&[a, b.forward(c)], 1)), quote!(Tensor::cat(&[#a, #b], 1))),
        (quote!(tch::T::stack(&vec![a], 1)), quote!(_slim::Traced::stack(&vec![#a], 1))),
        (quote!(T::cat(&all, 1)), quote!(T::cat(&all, 1))),
        (
            quote!(
                use tch::{Kind, Tensor as U};
                use a::B;
            ),
            quote!(
                use tch::{Kind};
                #[allow(unused_imports)]
                use _slim::Traced as U;
                use a::B;
            ),
        ),
        (
            quote!(slim_runtime::functional::map(&xs.forward(a), |xs: &T| a.forward(xs))),
            quote!(_slim::__private::symbolic_map(&xs.symbolic_forward_(a), {
                #[allow(unused_imports)]
                use _slim::__private::tch::Tensor as T;
                #[allow(unused_imports)]
                use _slim::__private::tch::Tensor;
                |xs: &T| a.forward(xs)
            })),
        ),
        (quote!(xs.map(a, b)), quote!(xs.map(a, b))),
    ] {
        assert_eq!(copy(written), copied.to_string());
    }
}

#[test]
fn a_syntax_error_is_rustcs() {
    for text in [
        "impl nn::Module for Net { fn forward(&self, xs: &Tensor) -> Tensor { let x = ; } }",
        "impl Net { fn forward(&self, xs: &Tensor) -> Tensor { let x = ; } }",
        "fn f(xs: &Tensor) -> Tensor { xs. }",
    ] {
        let tokens: TokenStream = text.parse().expect("is tokens");
        let expanded = super::forward(TokenStream::new(), tokens.clone()).to_string();
        assert!(expanded.starts_with(&tokens.to_string()), "{expanded}");
        assert!(!expanded.contains("compile_error"), "{expanded}");
        assert_eq!(
            expanded.contains("Forward for Net"),
            text.contains("nn :: Module") || text.starts_with("impl nn")
        );
    }
}
