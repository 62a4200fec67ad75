//! Checks the statements, and resolves them to fields and to steps of the forward pass.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Expr, Ident, LitInt, LitStr, Meta, Path, Token, Type};

use super::ast::{Argument, Definition, Parameter, Value};
use super::layers::{Applied, Takes};
use super::widths::{self, Check, Reader, Width};
use super::{functions, layers, reads};
use crate::attr::{InputAttr, ModelAttrs};
use crate::ctxt::Ctxt;
use crate::suggest::did_you_mean;
use crate::tokens::{local, mentions};

/// The network that a definition describes.
pub(crate) struct Network {
    pub(crate) fields: Vec<FieldDef>,
    /// The forward pass, one Rust statement for each step.
    pub(crate) steps: Vec<TokenStream>,
    /// Assertions about widths that are not literals.
    pub(crate) checks: Vec<Check>,
    /// The number of input tensors.
    pub(crate) inputs: usize,
    /// The channels or shapes of the inputs, if they are declared.
    pub(crate) input: Option<InputAttr>,
    /// The expression of the output: the last statement's variable, or a tuple.
    pub(crate) result: TokenStream,
    /// The number of output tensors.
    pub(crate) outputs: usize,
}

/// A field of the struct.
pub(crate) struct FieldDef {
    pub(crate) ident: Ident,
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) ty: Type,
    pub(crate) make: TokenStream,
    /// The path of its variables, if it is not the field's name.
    pub(crate) at: Option<LitStr>,
}

/// A resolved value: the expression of its tensor, its width, and its name in errors.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) tensor: TokenStream,
    pub(super) width: Width,
    pub(super) name: String,
    /// Whether a layer, a sum or a product has made the tensor, and no backward pass needs it. Such
    /// a tensor may be changed in place if nothing else reads it.
    pub(super) fresh: bool,
    /// The index of the statement whose whole value this is, if any.
    pub(super) statement: Option<usize>,
    /// Whether the value is the input, as one tensor.
    pub(super) is_input: bool,
}

pub(super) struct Resolver<'a> {
    pub(super) cx: &'a Ctxt,
    pub(super) definition: &'a Definition,
    pub(super) fields: Vec<FieldDef>,
    pub(super) checks: Vec<Check>,
    /// The named values that are resolved so far.
    pub(super) known: Vec<(String, Item)>,
    pub(super) previous: Item,
    pub(super) inputs: usize,
    /// How often the value of each statement is read.
    pub(super) reads: Vec<usize>,
    /// The names of the values that have been read.
    pub(super) read: Vec<String>,
    /// Whether the current statement has read the statement before.
    pub(super) previous_read: bool,
    /// Whether something reads `input` as the only input.
    pub(super) whole_input: bool,
    /// The first number that is written behind `input`, as in `input.0`.
    pub(super) numbered_input: Option<&'a LitInt>,
}

pub(crate) fn resolve(cx: &Ctxt, definition: &Definition) -> Network {
    definition.errors.iter().for_each(|error| cx.syn_error(error.clone()));
    let mut resolver = Resolver {
        cx,
        definition,
        fields: Vec::new(),
        checks: Vec::new(),
        known: Vec::new(),
        previous: Item::input(),
        inputs: 1,
        reads: reads::of(&definition.statements),
        read: Vec::new(),
        previous_read: false,
        whole_input: false,
        numbered_input: None,
    };
    let steps = resolver.statements();
    let last = definition.statements.last();
    if last.is_none() {
        cx.error(
            &definition.ident,
            "a model has at least one statement, such as `fc = linear(64 => 10);`",
        );
    }
    let parts = match last.map(|last| &last.value) {
        Some(Value::Tuple(_, parts)) => parts.len(),
        _ => 1,
    };
    resolver.check_inputs();
    resolver.check_read();
    let result = resolver.previous.tensor.clone();
    Network {
        input: input(cx, &definition.prune),
        steps,
        checks: resolver.checks,
        inputs: resolver.inputs,
        result,
        outputs: parts,
        fields: resolver.fields,
    }
}

/// The value of `#[prune(input = …)]`.
fn input(cx: &Ctxt, attrs: &[Attribute]) -> Option<InputAttr> {
    let before = cx.len();
    let ModelAttrs { input, .. } = ModelAttrs::parse(cx, attrs);
    let keys = attrs.iter().filter_map(|attr| {
        attr.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()
    });
    for meta in keys.flatten().filter(|meta| cx.len() == before && !meta.path().is_ident("input")) {
        let key = meta.path().to_token_stream();
        cx.error(
            meta.path(),
            format!("`model!` takes `#[prune(input = …)]` only, since its statements say the rest; remove `{key}`"),
        );
    }
    input
}

impl<'a> Resolver<'a> {
    fn statements(&mut self) -> Vec<TokenStream> {
        let mut steps = Vec::new();
        for (index, statement) in self.definition.statements.iter().enumerate() {
            let name = statement.name.as_ref();
            if let Some(name) = name {
                self.check_name(name);
            }
            let fields = self.fields.len();
            self.previous_read = false;
            let attrs = self.attributes(&statement.attrs);
            let value = self.value(&statement.value, Some((name, index)));
            self.check_previous(index);
            if let (Some(at), [], Some(_)) = (&statement.at, &self.fields[fields..], &value) {
                self.cx.error(at, "only a layer has variables; remove `at`");
            }
            for field in &mut self.fields[fields..] {
                field.attrs.extend(attrs.iter().map(|&attr| attr.clone()));
                field.at.clone_from(&statement.at);
            }
            let Some(item) = value else {
                // A substitute, so that statements that read this value cause no further errors.
                let unknown =
                    Item::made(TokenStream::new(), Width::Unknown, "what is wrong".to_owned());
                self.known.extend(name.map(|name| (name.to_string(), unknown.clone())));
                self.previous = unknown;
                continue;
            };
            if matches!(statement.value, Value::Tuple(..)) {
                self.previous = item;
                continue;
            }
            let variable = variable(name);
            let tensor = item.tensor;
            steps.push(quote!(let #variable = #tensor;));
            let label = name.map_or(item.name, |name| format!("`{name}`"));
            let item = Item {
                tensor: quote!(#variable.shallow_clone()),
                name: label,
                is_input: false,
                statement: Some(index),
                ..item
            };
            self.known.extend(name.map(|name| (name.to_string(), item.clone())));
            self.previous = item;
        }
        steps
    }

    /// Resolves a value. `field` is the name and the index of its statement, if a layer in this
    /// place becomes the statement's field.
    pub(super) fn value(
        &mut self,
        value: &'a Value,
        field: Option<(Option<&Ident>, usize)>,
    ) -> Option<Item> {
        match value {
            Value::Word(word) => self.word(word),
            Value::Part(whole, index) => self.part(whole, index),
            Value::Call { receiver, operation, arguments } => {
                let on = match receiver {
                    Some(receiver) => self.value(receiver, None),
                    None => Some(self.previous_read()),
                };
                self.call(on?, operation, arguments, field)
            }
            Value::Add(a, b) => self.sum(a, b),
            Value::Multiply(a, b) => self.product(a, b),
            Value::Concat(bracket, parts) => {
                if parts.is_empty() {
                    self.cx.syn_error(syn::Error::new(
                        bracket.span.join(),
                        "there is nothing in it; a concatenation is `[a, b]`",
                    ));
                    return None;
                }
                let items = self.all(parts)?;
                let tensors = items.iter().map(|item| &item.tensor);
                let (krate, tensor) = (&self.definition.krate, quote!([#(#tensors),*]));
                let width =
                    Width::sum(&items.iter().map(|item| item.width.clone()).collect::<Vec<_>>());
                Some(Item::made(
                    quote!(#krate::__private::tch::Tensor::cat(&#tensor, 1)),
                    width,
                    "the concatenation".to_owned(),
                ))
            }
            Value::Tuple(paren, parts) => {
                let last = self
                    .definition
                    .statements
                    .last()
                    .is_some_and(|last| std::ptr::eq(&last.value, value));
                if !last || parts.is_empty() {
                    self.cx.syn_error(syn::Error::new(
                        paren.span.join(),
                        "only the last statement can be a tuple of tensors, and not an empty one",
                    ));
                    return None;
                }
                let items = self.all(parts)?;
                let tensors = items.iter().map(|item| &item.tensor);
                let tensor = quote!((#(#tensors),*));
                Some(Item::made(tensor, Width::Unknown, "the outputs".to_owned()))
            }
            Value::Wrong => None,
        }
    }

    /// Resolves all parts before it fails, so that all their errors are reported.
    fn all(&mut self, parts: &'a [Value]) -> Option<Vec<Item>> {
        let items: Vec<_> = parts.iter().map(|part| self.value(part, None)).collect();
        items.into_iter().collect()
    }

    fn word(&mut self, word: &'a Ident) -> Option<Item> {
        if word == "input" {
            self.whole_input = true;
            return Some(Item::input());
        }
        if let Some((name, item)) = self.known.iter().find(|(name, _)| word == name) {
            self.read.push(name.clone());
            return Some(item.clone());
        }
        let previous = self.previous_read();
        let path = Path::from(word.clone());
        if functions::words().any(|function| word == function) {
            return self.function(previous, &path, &[]);
        }
        let mut known: Vec<&str> = functions::words().chain(["input"]).collect();
        known.extend(self.known.iter().map(|(name, _)| name.as_str()));
        let later = self
            .definition
            .statements
            .iter()
            .any(|statement| statement.name.as_ref() == Some(word));
        self.cx.error(
            word,
            match did_you_mean(&word.to_string(), &known) {
                _ if super::ast::is_type(&path) => format!("a model that is a layer is called with its arguments; write `name = {word}()`"),
                _ if layers::WORDS.iter().any(|layer| word == layer) => {
                    format!("`{word}` is a layer; write its arguments, and a name if it has variables: `name = {word}(…)`")
                }
                _ if later => format!("`{word}` comes later; a statement reads what stands before it"),
                Some(meant) => format!("there is no node or function `{word}`; did you mean `{meant}`?"),
                None => format!("there is no node or function `{word}`"),
            },
        );
        None
    }

    /// Whether the reader of a value may change its tensor in place.
    pub(super) fn is_spare(&self, item: &Item) -> bool {
        item.fresh && item.statement.is_none_or(|statement| self.reads.get(statement) == Some(&1))
    }

    fn previous_read(&mut self) -> Item {
        let name = self.previous.name.trim_matches('`').to_owned();
        self.read.push(name);
        self.previous_read = true;
        self.whole_input |= self.previous.is_input;
        self.previous.clone()
    }

    fn call(
        &mut self,
        on: Item,
        operation: &'a Path,
        arguments: &'a [Argument],
        field: Option<(Option<&Ident>, usize)>,
    ) -> Option<Item> {
        match layers::layer(self.cx, self.definition, operation, arguments) {
            Some(layer) => self.layer(on, operation, layer?, field),
            None => self.function(on, operation, arguments),
        }
    }

    fn layer(
        &mut self,
        on: Item,
        operation: &Path,
        layer: layers::Layer<'a>,
        field: Option<(Option<&Ident>, usize)>,
    ) -> Option<Item> {
        let written = functions::written(operation);
        let ident = match field {
            Some((Some(name), _)) => name.clone(),
            Some((None, index)) if !layer.has_variables => self
                .free_name(format!("{written}_{index}"), operation.segments.first()?.ident.span()),
            Some((None, _)) => {
                self.cx.error(
                    operation,
                    format!(
                        "a layer has variables, so it needs a name; write `name = {written}(…)`"
                    ),
                );
                return None;
            }
            None => {
                self.cx.error(
                    operation,
                    format!("a layer is a field, so it is a statement of its own; write `name = {written}(…);` and read `name`"),
                );
                return None;
            }
        };
        let takes = match layer.takes {
            Takes::Any => None,
            Takes::Channels(takes) => Some((takes, false)),
            Takes::Features(takes) => Some((takes, true)),
            Takes::Indices => {
                self.check_indices(operation, &on);
                None
            }
        };
        if let Some((takes, flattens)) = takes {
            let name = ident.to_string();
            let reader = Reader { name: &name, takes, flattens };
            self.checks.extend(widths::check(
                self.cx,
                &self.definition.parameters,
                &reader,
                &on.name,
                &on.width,
            ));
        }
        let (krate, tensor, train) = (&self.definition.krate, &on.tensor, local("train"));
        let field = quote!(self.#ident);
        // Spanned, so that errors of the symbolic pass name the line of the statement.
        let at = operation.span();
        let applied = match layer.applied {
            Applied::Layer => quote_spanned!(at=> #tensor.apply_t(&#field, #train)),
            Applied::Chain => {
                quote_spanned!(at=> #krate::functional::chain(&#field, #tensor, #train))
            }
            Applied::Attention => {
                quote_spanned!(at=> #field.forward(&#tensor, ::core::option::Option::None))
            }
        };
        let width = match (&layer.gives, takes) {
            (Some(gives), _) => gives.clone(),
            (None, Some((takes, _))) => Width::of(takes),
            (None, None) => on.width,
        };
        self.fields.push(FieldDef {
            ident: ident.clone(),
            attrs: Vec::new(),
            ty: layer.ty,
            make: layer.make,
            at: None,
        });
        Some(Item { fresh: layer.fresh, ..Item::made(applied, width, format!("`{ident}`")) })
    }

    /// Reports an embedding that reads a value with channels.
    fn check_indices(&self, operation: &Path, on: &Item) {
        if !matches!(on.width, Width::Unknown) {
            let (written, name) = (functions::written(operation), &on.name);
            self.cx.error(
                operation,
                format!("`{written}` reads indices, but {name} has channels; write it first, or call it on `input`"),
            );
        }
    }

    fn function(&mut self, on: Item, operation: &Path, arguments: &[Argument]) -> Option<Item> {
        let krate = &self.definition.krate;
        for argument in arguments {
            if let Argument::Plain(value) | Argument::Named(_, value) = argument
                && let Some(name) = self
                    .definition
                    .statements
                    .iter()
                    .filter_map(|s| s.name.as_ref())
                    .find(|name| reads(value, name))
            {
                self.cx.error(value, format!("`{name}` is a tensor, not a number; call the operation on it, `{name}.{}`, or join it by `+`, `*` or `[a, b]`", functions::written(operation)));
                return None;
            }
            if let (Argument::Plain(value) | Argument::Named(_, value), parameters) =
                (argument, &self.definition.parameters)
                && let Some(Parameter { ident, .. }) =
                    parameters.iter().find(|parameter| mentions(value, &parameter.ident))
            {
                self.cx.error(
                    value,
                    format!("`{ident}` is a parameter of the constructor, and the forward pass does not have it; write a constant"),
                );
                return None;
            }
        }
        let spare = self.is_spare(&on);
        match functions::apply(self.cx, krate, (operation, arguments), on.width, spare) {
            Some(applied) => {
                let functions::Applied { tensor, width } = applied?;
                let (xs, from) = (local("xs"), on.tensor);
                Some(Item::made(quote!({ let #xs = #from; #tensor }), width, on.name))
            }
            None => {
                let written = functions::written(operation);
                let known: Vec<_> =
                    functions::words().chain(layers::WORDS.iter().copied()).collect();
                self.cx.error(
                    operation,
                    match did_you_mean(&written, &known) {
                        Some(meant) => format!("there is no operation `{written}`; did you mean `{meant}`?"),
                        None => format!("there is no operation `{written}`; any other function of a tensor is `map(|xs| …)`, a model of your own begins with a capital"),
                    },
                );
                None
            }
        }
    }
}

impl Item {
    pub(super) fn made(tensor: TokenStream, width: Width, name: String) -> Self {
        Item { tensor, width, name, fresh: false, statement: None, is_input: false }
    }

    /// The input of the model, as one tensor.
    fn input() -> Self {
        let input = local("input");
        let input = quote!(#input.shallow_clone());
        Item { is_input: true, ..Item::made(input, Width::Unknown, "the input".to_owned()) }
    }
}

/// The largest number of inputs. A larger index is taken for a typing error.
pub(super) const MOST_INPUTS: usize = 32;

/// Whether an argument mentions the statement `name`, and not a parameter of its own closure.
fn reads(value: &Expr, name: &Ident) -> bool {
    match value {
        Expr::Closure(closure) => mentions(&closure.body, name) && !mentions(&closure.inputs, name),
        value => mentions(value, name),
    }
}

/// The variable of a statement. The user's code cannot name it, so a closure reads only its own
/// parameters, and the variable is never taken for a constant of the same name.
fn variable(name: Option<&Ident>) -> Ident {
    match name {
        Some(name) => Ident::new(
            &format!("value_{}", name.unraw()),
            Span::mixed_site().located_at(name.span()),
        ),
        None => local("previous"),
    }
}

/// The parameter of the forward pass for input `number` of several.
pub(crate) fn input_variable(number: usize) -> Ident {
    local(&format!("input{number}"))
}
