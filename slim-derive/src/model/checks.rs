//! Checks of a statement apart from its value: its name, its attributes, and whether anything reads
//! it.

use proc_macro2::Span;
use syn::{Attribute, Ident};

use super::functions;
use super::resolve::Resolver;

impl<'a> Resolver<'a> {
    pub(super) fn check_name(&self, name: &Ident) {
        if self.known.iter().any(|(known, _)| name == known) {
            self.cx.error(name, format!("`{name}` is there already; names are given once"));
        }
        if name == "input" {
            self.cx.error(name, "`input` is what the model is given; choose another name");
        }
        if self.definition.parameters.iter().any(|parameter| parameter.ident == *name) {
            self.cx.error(
                name,
                format!("`{name}` is a parameter of the constructor; choose another name"),
            );
        }
        if functions::words().any(|word| name == word) {
            self.cx.error(name, format!("`{name}` is an operation; choose another name"));
        }
    }

    /// The attributes that a field may have. Reports the others as errors.
    pub(super) fn attributes(&self, attrs: &'a [Attribute]) -> Vec<&'a Attribute> {
        let (wrong, right): (Vec<_>, _) = attrs
            .iter()
            .partition(|attr| attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr"));
        for attr in wrong {
            self.cx.error(attr, "this attribute would remove only the field, not the statements that read it; put it on the whole model");
        }
        right
    }

    /// A name for the field of an unnamed statement, which no other statement has.
    pub(super) fn free_name(&self, mut name: String, span: Span) -> Ident {
        while self
            .definition
            .statements
            .iter()
            .any(|statement| statement.name.as_ref().is_some_and(|given| *given == name))
        {
            name.push('_');
        }
        Ident::new(&name, span)
    }

    /// Reports the unnamed statement before `index` if the statement at `index` does not read it.
    pub(super) fn check_previous(&self, index: usize) {
        let before = index.checked_sub(1).and_then(|before| self.definition.statements.get(before));
        if let Some(before) = before
            .filter(|before| before.name.is_none() && !self.previous_read && self.cx.len() == 0)
        {
            self.cx
                .error(before.value.first_token(), "this never reaches the output; name it and read it in a later statement, or remove it");
        }
    }

    pub(super) fn check_inputs(&self) {
        if let Some(index) = self.numbered_input.filter(|_| self.cx.len() == 0) {
            if self.whole_input {
                self.cx.error(index, "the input is one tensor, `input`, or several, `input.0` and so on; something here reads it as one");
            } else if self.inputs == 1 {
                self.cx.error(index, "the only input is `input`");
            }
        }
    }

    /// Reports named statements, except the last, that nothing reads.
    pub(super) fn check_read(&self) {
        if self.cx.len() > 0 {
            return;
        }
        let last = self.definition.statements.last().and_then(|last| last.name.as_ref());
        for name in self
            .definition
            .statements
            .iter()
            .filter_map(|statement| statement.name.as_ref())
            .filter(|name| Some(*name) != last)
        {
            if !self.read.iter().any(|read| name == read) {
                self.cx.error(name, format!("`{name}` never reaches the output; read it in a later statement, or remove it"));
            }
        }
    }
}
