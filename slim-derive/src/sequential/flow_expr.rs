//! The language of expressions that declare branches:
//! `field | input | field(a) | a + b | a * b | [a, b] | (a, b) | a.0`, and functions such as
//! `chunk(a, 2, 0)`.
//!
//! Expressions are parsed from [`syn::Expr`], so every part has its span, and an error points at
//! the part that is wrong.

use quote::ToTokens;
use syn::{BinOp, Expr, ExprCall, ExprLit, Lit, Member};

use crate::activation::{self, ACTIVATIONS, Applied};
use crate::ctxt::Ctxt;
use crate::suggest::did_you_mean;
use crate::tokens::{NO_PARTS, chunk_error, literal, peeled};

/// An expression over flows, which a field or the output reads.
#[derive(Clone)]
pub(crate) enum FlowExpr {
    Input,
    /// The output of a node.
    Node(usize),
    /// One tensor of a flow of several.
    Part(Box<FlowExpr>, usize),
    /// A node's field applied once more.
    Apply(usize, Box<FlowExpr>),
    Join(Join, Box<FlowExpr>, Box<FlowExpr>),
    Concat(Vec<FlowExpr>),
    Tuple(Vec<FlowExpr>),
    Activate(Applied, Box<FlowExpr>),
    /// A function on one flow, with its numbers as the user writes them.
    Cut(&'static Function, Box<FlowExpr>, Vec<Expr>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    Add,
    Multiply,
}

/// A function of the language. The runtime's `Tracer` has a method of the same name.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    numbers: usize,
    form: &'static str,
}

const FUNCTIONS: &[Function] = &[
    Function { name: "chunk", numbers: 2, form: "chunk(a, chunks, index)" },
    Function { name: "shuffle", numbers: 1, form: "shuffle(a, groups)" },
    Function { name: "pixel_shuffle", numbers: 1, form: "pixel_shuffle(a, factor)" },
    Function { name: "flatten", numbers: 1, form: "flatten(a, positions)" },
    Function { name: "unflatten", numbers: 1, form: "unflatten(a, positions)" },
];

/// The name of the reader of the output's expression.
pub(crate) const OUTPUT: &str = "output";

/// What an expression may refer to.
pub(crate) struct Scope<'a> {
    /// The reader of the expression, for errors: `conv2`, or `output`.
    pub(crate) reader: &'a str,
    /// Every field of the struct, in order.
    pub(crate) fields: &'a [Name],
    /// How many of the fields are declared before the reader.
    pub(crate) before: usize,
}

/// A field, as expressions see it.
pub(crate) struct Name {
    pub(crate) name: String,
    /// The node of the field; `None` if the field is skipped.
    pub(crate) node: Option<usize>,
}

impl FlowExpr {
    /// Parses an expression; `None` after an error has been reported.
    pub(crate) fn parse(cx: &Ctxt, scope: &Scope, expr: &Expr) -> Option<Self> {
        match expr {
            Expr::Paren(inner) => Self::parse(cx, scope, &inner.expr),
            Expr::Group(inner) => Self::parse(cx, scope, &inner.expr),
            Expr::Path(path)
                if path.path.is_ident("input")
                    && scope.fields.iter().any(|field| field.name == "input") =>
            {
                error(
                    cx,
                    path,
                    "`input` is what the struct is given, and here also a field; rename the field",
                )
            }
            Expr::Path(path) if path.path.is_ident("input") => Some(FlowExpr::Input),
            Expr::Path(path) => match path.path.get_ident() {
                Some(ident) => scope
                    .node(cx, ident, &syn::ext::IdentExt::unraw(ident).to_string())
                    .map(FlowExpr::Node),
                None => error(cx, expr, "a flow is the name of a field, or `input`"),
            },
            Expr::Lit(ExprLit { lit: Lit::Int(index), .. }) => {
                scope.node(cx, index, index.base10_digits()).map(FlowExpr::Node)
            }
            // In a tuple struct, `0.1` is tensor 1 of field 0, and a single token.
            Expr::Lit(ExprLit { lit: Lit::Float(float), .. }) => {
                match float
                    .base10_digits()
                    .split_once('.')
                    .map(|(field, part)| (field, part.parse()))
                {
                    Some((field, Ok(part))) => Some(FlowExpr::Part(
                        Box::new(FlowExpr::Node(scope.node(cx, float, field)?)),
                        part,
                    )),
                    _ => error(
                        cx,
                        expr,
                        "this is no flow; write `0.1` for the second tensor of field 0",
                    ),
                }
            }
            Expr::Field(field) => match &field.member {
                Member::Unnamed(index) => Some(FlowExpr::Part(
                    Box::new(Self::parse(cx, scope, &field.base)?),
                    index.index as usize,
                )),
                Member::Named(name) if matches!(&*field.base, Expr::Path(path) if path.path.is_ident("self")) => {
                    error(cx, expr, format!("a field is named without `self`; write `{name}`"))
                }
                Member::Named(name) => {
                    error(cx, name, "the tensors of a flow have numbers; write `.0` for the first")
                }
            },
            Expr::Binary(binary) => {
                let operands =
                    (Self::parse(cx, scope, &binary.left), Self::parse(cx, scope, &binary.right));
                let join = match binary.op {
                    BinOp::Add(_) => Join::Add,
                    BinOp::Mul(_) => Join::Multiply,
                    other => {
                        let operator = other.to_token_stream();
                        return error(
                            cx,
                            other,
                            format!(
                                "`{operator}` joins no flows; write `a + b` (a sum), `a * b` (a gate) or `[a, b]` (a concatenation)"
                            ),
                        );
                    }
                };
                Some(FlowExpr::Join(join, Box::new(operands.0?), Box::new(operands.1?)))
            }
            Expr::Array(array) if !array.elems.is_empty() => {
                Self::parse_all(cx, scope, &array.elems).map(FlowExpr::Concat)
            }
            Expr::Tuple(tuple) if !tuple.elems.is_empty() => {
                Self::parse_all(cx, scope, &tuple.elems).map(FlowExpr::Tuple)
            }
            Expr::Array(_) | Expr::Tuple(_) => error(
                cx,
                expr,
                "there is nothing in it; a concatenation is `[a, b]`, several outputs are `(a, b)`",
            ),
            Expr::Call(call) => Self::parse_call(cx, scope, call),
            _ => error(
                cx,
                expr,
                "this is no flow; a flow is `field`, `input`, `field(a)`, `a + b`, `a * b`, `[a, b]`, `(a, b)`, `a.0` or a function such as `chunk(a, 2, 0)`",
            ),
        }
    }

    /// Parses all parts before it fails, so that all their errors are reported.
    fn parse_all<'e>(
        cx: &Ctxt,
        scope: &Scope,
        parts: impl IntoIterator<Item = &'e Expr>,
    ) -> Option<Vec<Self>> {
        let parsed: Vec<_> = parts.into_iter().map(|part| Self::parse(cx, scope, part)).collect();
        parsed.into_iter().collect()
    }

    fn parse_call(cx: &Ctxt, scope: &Scope, call: &ExprCall) -> Option<Self> {
        let func = peeled(&call.func);
        let name = match func {
            Expr::Path(path) => {
                path.path.get_ident().map(|ident| syn::ext::IdentExt::unraw(ident).to_string())
            }
            _ => None,
        };
        let name = name.unwrap_or_else(|| func.to_token_stream().to_string());
        if scope.fields.iter().any(|field| field.name == name) {
            let node = scope.node(cx, &call.func, &name);
            let Some(argument) = call.args.first().filter(|_| call.args.len() == 1) else {
                let hides = if FUNCTIONS.iter().any(|function| function.name == name)
                    || activation::find(&name).is_some()
                {
                    "; it hides the function of this name"
                } else {
                    ""
                };
                let fix =
                    format!("write `{name}(a)`, or `{name}((a, b))` for a layer of two inputs");
                return error(cx, call, format!("a field is applied to one flow; {fix}{hides}"));
            };
            return Some(FlowExpr::Apply(node?, Box::new(Self::parse(cx, scope, argument)?)));
        }
        if let Some(activation) = activation::find(&name) {
            let flow = call.args.first().map(|flow| Self::parse(cx, scope, flow));
            let applied =
                activation.with(call.args.get(1)).filter(|_| (1..=2).contains(&call.args.len()));
            let Some(applied) = applied else {
                return error(cx, call, format!("write {}", activation.form("a")));
            };
            return Some(FlowExpr::Activate(applied, Box::new(flow??)));
        }
        let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
            // Parsed only for its errors.
            if let Some(argument) = call.args.first() {
                let _ = Self::parse(cx, scope, argument);
            }
            let known = FUNCTIONS
                .iter()
                .map(|function| format!("`{}`", function.form))
                .collect::<Vec<_>>()
                .join(", ");
            let names: Vec<_> = FUNCTIONS
                .iter()
                .map(|function| function.name)
                .chain(ACTIVATIONS.iter().map(|activation| activation.word))
                .chain(scope.fields.iter().map(|field| field.name.as_str()))
                .collect();
            return error(
                cx,
                &call.func,
                match did_you_mean(&name, &names) {
                    Some(meant) => {
                        format!("there is no function or field `{name}`; did you mean `{meant}`?")
                    }
                    None => format!(
                        "there is no function or field `{name}`; the functions are {known} and activations such as `relu(a)`; a field `f` is applied once more by `f(a)`"
                    ),
                },
            );
        };
        if call.args.len() != function.numbers + 1 {
            return error(cx, call, format!("write `{}`", function.form));
        }
        let flow = Self::parse(cx, scope, call.args.first()?);
        let numbers: Vec<_> = call.args.iter().skip(1).cloned().collect();
        // Every number is checked, so that all errors are reported.
        let sound = numbers.iter().filter(|number| !check_number(cx, number)).count() == 0;
        let wrong = match &numbers[..] {
            [parts] => (literal(parts) == Some(0)).then(|| (NO_PARTS.to_owned(), false)),
            [chunks, index] => chunk_error(chunks, index),
            _ => None,
        };
        if let Some((message, is_index)) = wrong {
            return error(cx, &numbers[usize::from(is_index)], message);
        }
        sound.then_some(FlowExpr::Cut(function, Box::new(flow?), numbers))
    }

    /// Calls `see` for this expression and all its parts.
    pub(crate) fn walk(&self, see: &mut impl FnMut(&FlowExpr)) {
        see(self);
        match self {
            FlowExpr::Input | FlowExpr::Node(_) => {}
            FlowExpr::Part(a, _)
            | FlowExpr::Apply(_, a)
            | FlowExpr::Activate(_, a)
            | FlowExpr::Cut(_, a, _) => a.walk(see),
            FlowExpr::Join(_, a, b) => {
                a.walk(see);
                b.walk(see);
            }
            FlowExpr::Concat(parts) | FlowExpr::Tuple(parts) => {
                parts.iter().for_each(|part| part.walk(see));
            }
        }
    }
}

impl Scope<'_> {
    /// The node of the field `name`; an error if the field is skipped, or not declared before the
    /// reader.
    fn node(&self, cx: &Ctxt, at: impl ToTokens, name: &str) -> Option<usize> {
        let reader = self.reader;
        let Some(position) = self.fields.iter().position(|field| field.name == name) else {
            let known: Vec<_> = self.fields[..self.before]
                .iter()
                .map(|field| field.name.as_str())
                .chain(["input"])
                .collect();
            let place = if reader == OUTPUT {
                format!("there is no field `{name}`")
            } else {
                format!("no field `{name}` before `{reader}`")
            };
            return error(
                cx,
                at,
                match did_you_mean(name, &known) {
                    Some(meant) => format!("{place}; did you mean `{meant}`?"),
                    None => format!(
                        "{place}; a flow is the name of a field that is declared before, or `input`"
                    ),
                },
            );
        };
        if position >= self.before {
            return error(
                cx,
                at,
                match self.fields[position].name == reader {
                    true => format!(
                        "`{name}` cannot read itself; a field reads what is declared before it"
                    ),
                    false => {
                        format!(
                            "`{name}` is declared after `{reader}`; a field reads what is declared before it, so move `{name}` up"
                        )
                    }
                },
            );
        }
        match self.fields[position].node {
            Some(node) => Some(node),
            None => error(
                cx,
                at,
                format!(
                    "`{name}` is skipped, so nothing flows out of it; remove its `skip`, or read another field"
                ),
            ),
        }
    }
}

/// Whether a number is a literal or the path of a constant. Reports an error if it is neither.
fn check_number(cx: &Ctxt, number: &Expr) -> bool {
    let sound = match peeled(number) {
        Expr::Path(_) => true,
        number => literal(number).is_some(),
    };
    if !sound {
        cx.error(number, "this is a number from 0 on, or the name of a `usize` constant");
    }
    sound
}

fn error<T>(cx: &Ctxt, at: impl ToTokens, message: impl std::fmt::Display) -> Option<T> {
    cx.error(at, message);
    None
}
