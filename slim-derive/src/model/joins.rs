//! Sums, products and parts of values.

use quote::quote;
use syn::LitInt;
use syn::spanned::Spanned;

use super::ast::Value;
use super::resolve::{Item, MOST_INPUTS, Resolver, input_variable};
use super::widths::{self, Width};

impl<'a> Resolver<'a> {
    pub(super) fn part(&mut self, whole: &'a Value, index: &'a LitInt) -> Option<Item> {
        if !matches!(whole, Value::Word(word) if word == "input") {
            self.cx
                .error(index, "only the input has parts: `input.0` is the first of several inputs");
            return None;
        }
        let Some(number) = index.base10_parse().ok().filter(|number| *number < MOST_INPUTS) else {
            self.cx.error(
                index,
                format!("a model takes at most {MOST_INPUTS} inputs, and `input.0` is the first"),
            );
            return None;
        };
        self.numbered_input.get_or_insert(index);
        self.inputs = self.inputs.max(number + 1);
        let variable = input_variable(number);
        Some(Item::made(
            quote!(#variable.shallow_clone()),
            Width::Unknown,
            format!("input {number}"),
        ))
    }

    pub(super) fn sum(&mut self, a: &'a Value, b: &'a Value) -> Option<Item> {
        let (left, right) = (self.value(a, None), self.value(b, None));
        let (left, right) = (left?, right?);
        self.check_sides("+", &left, &right, b)?;
        let sides = [(left.name.as_str(), &left.width), (right.name.as_str(), &right.width)];
        let place = b.first_token().span();
        self.checks.extend(widths::check_sum(&self.definition.parameters, place, sides));
        let (krate, a, b) = (&self.definition.krate, &left.tensor, &right.tensor);
        let tensor = if self.is_spare(&left) {
            quote!(#krate::functional::sum_into(#a, &#b))
        } else if self.is_spare(&right) {
            // The order of the two does not matter in a sum.
            quote!(#krate::functional::sum_into(#b, &#a))
        } else {
            // In parentheses, since the sum may be an operand.
            quote!((#a + #b))
        };
        let width = match left.width {
            Width::Unknown => right.width,
            width => width,
        };
        Some(Item { fresh: true, ..Item::made(tensor, width, "the sum".to_owned()) })
    }

    pub(super) fn product(&mut self, a: &'a Value, b: &'a Value) -> Option<Item> {
        let (left, right) = (self.value(a, None), self.value(b, None));
        let (left, right) = (left?, right?);
        self.check_sides("*", &left, &right, b)?;
        let (a, b) = (&left.tensor, &right.tensor);
        let width = match (left.width, right.width) {
            (Width::Literal(a), Width::Literal(b)) => Width::Literal(a.max(b)),
            // One of the two may have a single channel, as a spatial gate has.
            _ => Width::Unknown,
        };
        Some(Item { fresh: true, ..Item::made(quote!((#a * #b)), width, "the product".to_owned()) })
    }

    /// Compares two literal widths. In a product, either side may have a single channel.
    fn check_sides(&self, sign: &str, left: &Item, right: &Item, at: &Value) -> Option<()> {
        let (Width::Literal(one), Width::Literal(other)) = (&left.width, &right.width) else {
            return Some(());
        };
        let is_gate = sign == "*" && (*one == 1 || *other == 1);
        if one == other || is_gate {
            return Some(());
        }
        let (left, right) = (&left.name, &right.name);
        self.cx.error(
            at.first_token(),
            format!("{left} ({one} channels) {sign} {right} ({other} channels): widths differ"),
        );
        None
    }
}
