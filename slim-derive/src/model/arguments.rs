//! The arguments of an operation in `model!`, taken one by one.

use std::collections::BTreeMap;

use quote::ToTokens;
use syn::{Expr, Ident, Path};

use super::ast::Argument;
use crate::ctxt::Ctxt;
use crate::suggest::did_you_mean;

/// The arguments of one operation. Arguments that are not taken are an error.
pub(crate) struct Arguments<'a> {
    cx: &'a Ctxt,
    operation: &'a Path,
    /// How the operation is written, for errors.
    form: &'static str,
    widths: Option<(&'a Expr, &'a Expr)>,
    plain: Vec<&'a Expr>,
    named: BTreeMap<String, (&'a Ident, &'a Expr)>,
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(
        cx: &'a Ctxt,
        operation: &'a Path,
        form: &'static str,
        arguments: &'a [Argument],
    ) -> Self {
        let mut sorted = Arguments {
            cx,
            operation,
            form,
            widths: None,
            plain: Vec::new(),
            named: BTreeMap::new(),
        };
        for argument in arguments {
            match argument {
                Argument::Widths(from, to) => sorted.widths = Some((from, to)),
                Argument::Plain(value) => sorted.plain.push(value),
                Argument::Named(name, value) => {
                    if sorted.named.insert(name.to_string(), (name, value)).is_some() {
                        cx.error(name, format!("`{name}` is given twice; remove one"));
                    }
                }
                Argument::Layer(path, _) => cx.error(
                    path,
                    format!("`{}` takes no layer; write `{form}`", operation.to_token_stream()),
                ),
            }
        }
        sorted.plain.reverse();
        sorted
    }

    /// Takes the widths, as in `32 => 64`; reports an error if they are missing.
    pub(crate) fn widths(&mut self) -> Option<(&'a Expr, &'a Expr)> {
        let widths = self.widths.take();
        if widths.is_none() {
            self.missing();
        }
        widths
    }

    /// Takes the next argument without a name; reports an error if there is none.
    pub(crate) fn next(&mut self) -> Option<&'a Expr> {
        let next = self.plain.pop();
        if next.is_none() {
            self.missing();
        }
        next
    }

    /// Takes an argument by its name; reports an error if it is missing.
    pub(crate) fn required(&mut self, name: &str) -> Option<&'a Expr> {
        let value = self.optional(name);
        if value.is_none() {
            self.missing();
        }
        value
    }

    pub(crate) fn optional(&mut self, name: &str) -> Option<&'a Expr> {
        self.named.remove(name).map(|(_, value)| value)
    }

    /// Takes the named arguments that are fields of a config, as pairs of field and value. Reports
    /// all other named arguments as errors.
    pub(crate) fn config(&mut self, fields: &[(&str, &str)]) -> Vec<(Ident, &'a Expr)> {
        let field = |(name, field): &(&str, &str)| {
            Some((Ident::new(field, proc_macro2::Span::call_site()), self.optional(name)?))
        };
        let given = fields.iter().filter_map(field).collect();
        for (name, (ident, _)) in std::mem::take(&mut self.named) {
            let known: Vec<_> = fields.iter().map(|(name, _)| *name).chain(["kernel"]).collect();
            let message = match did_you_mean(&name, &known) {
                Some(meant) => format!("there is no argument `{name}`; did you mean `{meant}`?"),
                None => format!("there is no argument `{name}`; write `{}`", self.form),
            };
            self.cx.error(ident, message);
        }
        given
    }

    /// Reports the arguments that have not been taken.
    pub(crate) fn finish(mut self) {
        self.config(&[]);
        let more = self.plain.pop().or(self.widths.take().map(|(from, _)| from));
        if let Some(more) = more {
            self.cx.error(more, format!("this is too much; write `{}`", self.form));
        }
    }

    fn missing(&self) {
        self.cx.error(self.operation, format!("write `{}`", self.form));
    }
}
