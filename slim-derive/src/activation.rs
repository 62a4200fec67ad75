//! The activations that have a name in attributes, in expressions and in `model!`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Expr, ExprLit, Lit};

use crate::ctxt::Ctxt;
use crate::suggest::did_you_mean;
use crate::tokens::{local, peeled};

pub(crate) struct Activation {
    pub(crate) word: &'static str,
    effect: Effect,
    /// The method call on a tensor that `model!` writes; `None` if `model!` does not have it.
    pub(crate) tensor: Option<&'static str>,
}

/// The effect of an activation on channels.
enum Effect {
    /// Maps zero to zero; with the name of the variant of the runtime's `Activation`.
    Known(&'static str),
    /// The same for a variant with a parameter; with the parameter's default.
    Parameter(&'static str, f64),
    /// Does not map zero to zero.
    Ungate,
}

/// An activation with its parameter, as the user writes it.
#[derive(Clone, Copy)]
pub(crate) struct Applied {
    activation: &'static Activation,
    parameter: Option<f64>,
}

const fn known(word: &'static str, variant: &'static str, tensor: &'static str) -> Activation {
    Activation { word, effect: Effect::Known(variant), tensor: Some(tensor) }
}

pub(crate) const ACTIVATIONS: &[Activation] = &[
    Activation { word: "identity", effect: Effect::Known("Identity"), tensor: None },
    known("relu", "Relu", "relu()"),
    known("relu6", "Relu6", "clamp(0., 6.)"),
    Activation {
        word: "leaky_relu",
        effect: Effect::Parameter("LeakyRelu", 0.01),
        tensor: Some("leaky_relu()"),
    },
    Activation { word: "elu", effect: Effect::Parameter("Elu", 1.), tensor: Some("elu()") },
    known("silu", "Silu", "silu()"),
    known("gelu", "Gelu", "gelu(\"none\")"),
    known("mish", "Mish", "mish()"),
    known("hardswish", "Hardswish", "hardswish()"),
    known("tanh", "Tanh", "tanh()"),
    Activation { word: "sigmoid", effect: Effect::Ungate, tensor: Some("sigmoid()") },
    Activation { word: "hardsigmoid", effect: Effect::Ungate, tensor: Some("hardsigmoid()") },
];

/// An activation by its name.
pub(crate) fn find(word: &str) -> Option<&'static Activation> {
    ACTIVATIONS.iter().find(|activation| activation.word == word)
}

impl Activation {
    /// How the activation is written on `operand`, for errors.
    pub(crate) fn form(&self, operand: &str) -> String {
        let word = self.word;
        match (&self.effect, operand) {
            (Effect::Parameter(_, default), "") => format!("`{word}` or `{word}({default:?})`"),
            (Effect::Parameter(_, default), _) => {
                format!("`{word}({operand})` or `{word}({operand}, {default:?})`")
            }
            (_, "") => format!("`{word}`"),
            _ => format!("`{word}({operand})`"),
        }
    }

    /// The activation with the given parameter, if any; `None` if it takes no parameter, or if the
    /// parameter is not a number.
    pub(crate) fn with(&'static self, parameter: Option<&Expr>) -> Option<Applied> {
        match parameter {
            None => Some(Applied { activation: self, parameter: None }),
            Some(parameter) => {
                let takes_one = matches!(self.effect, Effect::Parameter(..));
                number(parameter)
                    .filter(|_| takes_one)
                    .map(|number| Applied { activation: self, parameter: Some(number) })
            }
        }
    }
}

impl Applied {
    /// `Tracer::activation(cx, &flow, Activation::Relu)`
    pub(crate) fn call(&self, flow: &Ident) -> TokenStream {
        let cx = local("cx");
        let variant = |name: &str| Ident::new(name, Span::call_site());
        let activation = match self.activation.effect {
            Effect::Ungate => return quote!(_slim::Tracer::ungate(#cx, &#flow)),
            Effect::Known(name) => variant(name).into_token_stream(),
            Effect::Parameter(name, default) => {
                let (name, parameter) = (variant(name), self.parameter.unwrap_or(default));
                quote!(#name(#parameter))
            }
        };
        quote!(_slim::Tracer::activation(#cx, &#flow, _slim::Activation::#activation))
    }
}

/// Parses the value of `act = …`.
pub(crate) fn parse(cx: &Ctxt, expr: &Expr) -> Option<Applied> {
    let (word, parameter) = match expr {
        Expr::Path(path) => (path.path.get_ident()?, None),
        Expr::Call(call) => match peeled(&call.func) {
            Expr::Path(path) if call.args.len() == 1 => (path.path.get_ident()?, call.args.first()),
            _ => return None,
        },
        _ => return None,
    };
    let name = word.to_string();
    let Some(activation) = find(&name) else {
        let words: Vec<_> = ACTIVATIONS.iter().map(|activation| activation.word).collect();
        cx.error(
            word,
            match did_you_mean(&name, &words) {
                Some(meant) => format!("there is no activation `{name}`; did you mean `{meant}`?"),
                None => format!("there is no activation `{name}`; there are {}", listed(&words)),
            },
        );
        return Some(Applied { activation: &ACTIVATIONS[0], parameter: None });
    };
    activation.with(parameter).or_else(|| {
        cx.error(expr, format!("write {}", activation.form("")));
        Some(Applied { activation, parameter: None })
    })
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn number(expr: &Expr) -> Option<f64> {
    match peeled(expr) {
        Expr::Lit(ExprLit { lit: Lit::Float(number), .. }) => number.base10_parse().ok(),
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}
