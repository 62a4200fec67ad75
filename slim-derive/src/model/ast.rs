//! The parsed definition of `model!`: a header like that of a struct, then statements.

use proc_macro2::{Punct, Spacing, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Expr, Ident, LitInt, LitStr, Path, Token, Type, Visibility, braced, bracketed,
    parenthesized, token,
};

/// `pub struct Tiny(classes: i64) { … }`
pub(crate) struct Definition {
    /// The path of the runtime.
    pub(crate) krate: Path,
    pub(crate) attrs: Vec<Attribute>,
    /// The `#[prune(…)]` attributes, which `attrs` does not have.
    pub(crate) prune: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) ident: Ident,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) statements: Vec<Statement>,
    /// The syntax errors in the statements.
    pub(crate) errors: Vec<syn::Error>,
}

/// A parameter of the constructor.
pub(crate) struct Parameter {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
}

/// `conv1 = conv2d(3 => 32, kernel = 3);`, or without a name.
pub(crate) struct Statement {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) name: Option<Ident>,
    pub(crate) value: Value,
    /// The path of the layer's variables, if it is not the name: `at "features.0.0"`.
    pub(crate) at: Option<LitStr>,
}

/// The value of a statement: an expression over flows.
pub(crate) enum Value {
    /// A word alone: a node, `input`, or an operation without arguments.
    Word(Ident),
    /// `a.0`
    Part(Box<Value>, LitInt),
    /// `a.relu()`, or `relu()`, which applies to the statement before.
    Call {
        receiver: Option<Box<Value>>,
        operation: Path,
        arguments: Vec<Argument>,
    },
    Add(Box<Value>, Box<Value>),
    Multiply(Box<Value>, Box<Value>),
    /// `[a, b]`
    Concat(token::Bracket, Vec<Value>),
    /// `(a, b)`
    Tuple(token::Paren, Vec<Value>),
    /// The value of a statement with a syntax error.
    Wrong,
}

/// An argument of an operation.
pub(crate) enum Argument {
    /// `32`
    Plain(Expr),
    /// `32 => 64`
    Widths(Expr, Expr),
    /// `kernel = 3`
    Named(Ident, Expr),
    /// `Block(64)` in `repeat(3, Block(64))`
    Layer(Path, Vec<Expr>),
}

impl Parse for Definition {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let krate = input.call(Path::parse_mod_style)?;
        input.parse::<Token![;]>()?;
        let (attrs, vis) = (input.call(Attribute::parse_outer)?, input.parse()?);
        let is_prune = |attr: &Attribute| attr.path().is_ident("prune");
        let (prune, attrs) = attrs.into_iter().partition(is_prune);
        if !input.peek(Token![struct]) {
            return Err(input.error("a model is a struct; write `struct Net { … }`"));
        }
        input.parse::<Token![struct]>()?;
        let ident = input.parse()?;
        if input.peek(Token![<]) {
            return Err(
                input.error("a model is not generic; what differs is a parameter of its constructor, such as `struct Net(classes: i64)`")
            );
        }
        let parameters = if input.peek(token::Paren) {
            let content;
            parenthesized!(content in input);
            Punctuated::<Parameter, Token![,]>::parse_terminated(&content)?.into_iter().collect()
        } else {
            Vec::new()
        };
        if !input.peek(token::Brace) {
            return Err(input.error("here its statements follow, in braces"));
        }
        let content;
        braced!(content in input);
        let (statements, errors) = statements(content.parse()?);
        Ok(Definition { krate, attrs, prune, vis, ident, parameters, statements, errors })
    }
}

/// Parses each statement by itself, so that a statement with an error, or one that is still being
/// written, does not affect the others.
fn statements(tokens: TokenStream) -> (Vec<Statement>, Vec<syn::Error>) {
    let (mut statements, mut errors, mut chunk) = (Vec::new(), Vec::new(), Vec::new());
    let mut end = |chunk: Vec<TokenTree>| {
        let name = match &chunk[..] {
            [TokenTree::Ident(name), TokenTree::Punct(equals), ..] if equals.as_char() == '=' => {
                Some(name.clone())
            }
            _ => None,
        };
        statements.push(syn::parse2(chunk.into_iter().collect()).unwrap_or_else(|error| {
            errors.push(error);
            Statement { attrs: Vec::new(), name, value: Value::Wrong, at: None }
        }));
    };
    for token in tokens {
        let ends = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ';');
        chunk.push(token);
        if ends {
            end(std::mem::take(&mut chunk));
        }
    }
    if let Some(last) = chunk.last().map(TokenTree::span) {
        let mut end_of_it = Punct::new(';', Spacing::Alone);
        end_of_it.set_span(last);
        chunk.push(end_of_it.into());
        end(chunk);
        errors.push(syn::Error::new(last, "a statement ends with `;`"));
    }
    (statements, errors)
}

impl Parse for Parameter {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let ident: Ident = input.parse()?;
        if !input.peek(Token![:]) {
            return Err(syn::Error::new(
                ident.span(),
                format!("a parameter has a type; write `{ident}: i64`"),
            ));
        }
        input.parse::<Token![:]>()?;
        Ok(Parameter { ident, ty: input.parse()? })
    }
}

mod keyword {
    syn::custom_keyword!(at);
}

/// Parses a path of variables, `"features.0.0"`.
fn variable_path(input: ParseStream) -> syn::Result<LitStr> {
    let what = "behind `at` stands the path of the layer's variables; write `at \"features.0\"`";
    let Ok(path) = input.parse::<LitStr>() else { return Err(input.error(what)) };
    if path.value().split('.').any(str::is_empty) {
        return Err(syn::Error::new(path.span(), format!("a part of the path is empty; {what}")));
    }
    Ok(path)
}

impl Parse for Statement {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let named = input.peek(Ident) && input.peek2(Token![=]);
        let name = if named { Some(input.parse()?) } else { None };
        if named {
            input.parse::<Token![=]>()?;
        }
        let value = input.call(Value::parse_sum)?;
        let at = if input.peek(keyword::at) {
            input.parse::<keyword::at>()?;
            Some(input.call(variable_path)?)
        } else {
            None
        };
        if !input.peek(Token![;]) {
            return Err(input.error(
                "a statement ends with `;`; values are joined by `a + b`, `a * b` and `[a, b]`",
            ));
        }
        input.parse::<Token![;]>()?;
        Ok(Statement { attrs, name, value, at })
    }
}

impl Value {
    /// The token at which an error about the value is reported.
    pub(crate) fn first_token(&self) -> TokenStream {
        match self {
            Value::Word(word) => word.to_token_stream(),
            Value::Part(whole, _) => whole.first_token(),
            Value::Call { operation, .. } => operation.to_token_stream(),
            Value::Add(a, _) | Value::Multiply(a, _) => a.first_token(),
            Value::Wrong => TokenStream::new(),
            Value::Concat(_, parts) | Value::Tuple(_, parts) => {
                parts.first().map_or_else(TokenStream::new, Value::first_token)
            }
        }
    }

    fn parse_sum(input: ParseStream) -> syn::Result<Self> {
        let mut value = Self::parse_product(input)?;
        while input.peek(Token![+]) {
            input.parse::<Token![+]>()?;
            value = Value::Add(Box::new(value), Box::new(Self::parse_product(input)?));
        }
        Ok(value)
    }

    fn parse_product(input: ParseStream) -> syn::Result<Self> {
        let mut value = Self::parse_chain(input)?;
        while input.peek(Token![*]) {
            input.parse::<Token![*]>()?;
            value = Value::Multiply(Box::new(value), Box::new(Self::parse_chain(input)?));
        }
        Ok(value)
    }

    /// `a.relu().chunk(2, 0)`
    fn parse_chain(input: ParseStream) -> syn::Result<Self> {
        let mut value = Self::parse_first(input)?;
        while input.peek(Token![.]) {
            input.parse::<Token![.]>()?;
            if input.peek(LitInt) {
                value = Value::Part(Box::new(value), input.parse()?);
                continue;
            }
            let operation = input.call(Path::parse_mod_style)?;
            let arguments = if input.peek(token::Paren) {
                input.call(Argument::parse_all)?
            } else {
                Vec::new()
            };
            value = Value::Call { receiver: Some(Box::new(value)), operation, arguments };
        }
        Ok(value)
    }

    fn parse_first(input: ParseStream) -> syn::Result<Self> {
        let content;
        if input.peek(token::Bracket) {
            let bracket = bracketed!(content in input);
            let parts = content.parse_terminated(Self::parse_sum, Token![,])?;
            return Ok(Value::Concat(bracket, parts.into_iter().collect()));
        }
        if input.peek(token::Paren) {
            let paren = parenthesized!(content in input);
            let parts = content.parse_terminated(Self::parse_sum, Token![,])?;
            let tuple = parts.trailing_punct() || parts.len() != 1;
            let mut parts: Vec<_> = parts.into_iter().collect();
            return match parts.pop() {
                Some(only) if !tuple => Ok(only),
                last => Ok(Value::Tuple(paren, parts.into_iter().chain(last).collect())),
            };
        }
        let operation = input.call(Path::parse_mod_style)?;
        if input.peek(token::Paren) {
            return Ok(Value::Call {
                receiver: None,
                operation,
                arguments: input.call(Argument::parse_all)?,
            });
        }
        match operation.get_ident() {
            Some(word) => Ok(Value::Word(word.clone())),
            None => Err(syn::Error::new_spanned(
                operation,
                "a model that is a layer is called with its arguments; write `Block()`",
            )),
        }
    }
}

impl Argument {
    fn parse_all(input: ParseStream) -> syn::Result<Vec<Self>> {
        let content;
        parenthesized!(content in input);
        Ok(Punctuated::<Argument, Token![,]>::parse_terminated(&content)?.into_iter().collect())
    }
}

impl Parse for Argument {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        if input.peek(Ident)
            && input.peek2(Token![=])
            && !input.peek2(Token![==])
            && !input.peek2(Token![=>])
        {
            let name = input.parse()?;
            input.parse::<Token![=]>()?;
            return Ok(Argument::Named(name, input.parse()?));
        }
        let value: Expr = input.parse()?;
        if input.peek(Token![=>]) {
            input.parse::<Token![=>]>()?;
            return Ok(Argument::Widths(value, input.parse()?));
        }
        Ok(match value {
            Expr::Call(call) => match *call.func {
                Expr::Path(path) if is_type(&path.path) => {
                    Argument::Layer(path.path, call.args.into_iter().collect())
                }
                func => Argument::Plain(Expr::Call(syn::ExprCall { func: Box::new(func), ..call })),
            },
            value => Argument::Plain(value),
        })
    }
}

/// Whether a path names a type: its last segment begins with a capital.
pub(crate) fn is_type(path: &Path) -> bool {
    path.segments
        .last()
        .is_some_and(|segment| segment.ident.to_string().starts_with(char::is_uppercase))
}
