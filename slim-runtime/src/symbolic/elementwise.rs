//! Element-wise operations.

use std::panic::Location;
use std::rc::Rc;

use tch::{Device, Kind, Scalar, TchError, Tensor};

use super::arguments::number;
use super::memory::ViewOf;
use super::pass::OneCall;
use super::table::operations;
use super::traced::refused;
use super::{Traced, pass};
use crate::graph::{Operator, arguments};
use crate::{Error, Result};

operations! {
    "Functions of each element" {
        "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "silu", "gelu", "mish", "hardswish", "hardtanh", "hardshrink", "softshrink", "tanh": "keep channels as they are; zero stays zero";
        "abs", "square", "sqrt", "sin", "tan", "sinh", "asin", "asinh", "atan", "atanh", "erf", "erfinv", "expm1", "log1p", "sign", "sgn", "round", "floor", "ceil", "trunc", "frac", "neg", "negative": "keep channels as they are; zero stays zero";
        "sigmoid", "hardsigmoid", "softplus", "log_sigmoid", "exp", "exp2", "log", "log2", "log10", "cos", "cosh", "acos", "acosh", "erfc", "sinc", "rsqrt", "reciprocal": "un-gate: zero does not stay zero";
        "clamp", "clamp_min", "clamp_max", "threshold", "nan_to_num": "gated where zero stays zero, which is computed";
        "gt", "ge", "lt", "le", "eq", "ne", "fmod", "remainder": "with a number: gated where zero gives zero, which is computed";
        "prelu": "its slopes follow the channels";
        "functional::map": "any function of each element; gated where zero stays zero, which is computed";
    }
    "What changes no element" {
        "shallow_clone", "copy", "contiguous", "alias", "detach", "dropout", "feature_dropout", "to_kind", "to_device", "totype", "type_as", "set_requires_grad": "keep channels as they are";
    }
    "Operations in place" {
        "+=", "-=", "*=", "/=", "relu_ and all others that tch has": "do what they do in memory: handles of the same tensor see it; where a view of the tensor is alive too they are refused, but for functions of each element on whole views";
    }
}

/// An element-wise function of real tensors.
type Function = Rc<dyn Fn(&Tensor) -> Result<Tensor, TchError>>;

impl Traced {
    /// Applies an element-wise function. Its value at zero is computed, unless `zero_stays` says
    /// that it is zero.
    fn map_each(
        &self,
        name: &'static str,
        at: &'static Location<'static>,
        numbers: Vec<f64>,
        zero_stays: Option<bool>,
        function: Function,
    ) -> Traced {
        self.on_flow(at, |cx, flow| {
            cx.numbers = numbers;
            let at_zero = match zero_stays {
                Some(true) => 0.0,
                Some(false) | None => {
                    let at_zero = apply(&function, &[0.0]).map_err(Error::torch(cx.path()))?;
                    at_zero.first().copied().unwrap_or(f64::NAN)
                }
            };
            let map = Rc::new(move |values: &[f64]| apply(&function, values));
            let operator = Operator::function(name, at_zero, map);
            cx.each_of(flow, &operator)
        })
    }

    /// An operation that changes no element, and may return the tensor itself.
    #[track_caller]
    pub(super) fn same(&self, name: &'static str) -> Traced {
        let at = Location::caller();
        let same = self.on_flow(at, |cx, flow| cx.each_of(flow, &Operator::identity(name)));
        self.viewed(same, ViewOf::Some)
    }

    /// Applies an element-wise function in place: to all views of the same elements.
    pub(super) fn in_place(
        &mut self,
        name: &str,
        at: &'static Location<'static>,
        function: impl Fn(&Traced) -> Traced,
    ) -> Traced {
        let views = self.memory.views();
        if views.len() > 1 && self.memory.has_parts() {
            pass::record(at, |cx| -> Result<()> {
                Err(refused(
                    cx,
                    format!(
                        "`{name}_` changes a tensor in place of which a part is used elsewhere, or that is a part itself; write `{name}`"
                    ),
                ))
            });
            return Traced::failed();
        }
        for memory in views {
            let done = function(&Traced { memory: Rc::clone(&memory) });
            memory.set(done.flow());
        }
        self.shallow_clone()
    }
}

fn apply(function: &Function, values: &[f64]) -> Result<Vec<f64>, TchError> {
    let _no_grad = tch::no_grad_guard();
    Vec::try_from(function(&Tensor::f_from_slice(values)?)?.f_to_kind(Kind::Double)?)
}

macro_rules! functions {
    ($($zero:ident { $($(#[$doc:meta])* $name:ident $in_place:ident $f_name:ident ($($argument:ident: $ty:ty),*);)+ })+) => {
        impl Traced {$($(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self $(, $argument: $ty)*) -> Traced {
                let at = Location::caller();
                let function: Function = {
                    $(let $argument = $argument.to_owned();)*
                    Rc::new(move |xs: &Tensor| xs.$f_name($(&*$argument),*))
                };
                self.map_each(stringify!($name), at, Vec::new(), functions!(@ $zero), function)
                    .called(stringify!($name), arguments![self $(, $argument)*])
            }

            /// The same, in place.
            #[track_caller]
            pub fn $in_place(&mut self $(, $argument: $ty)*) -> Traced {
                let at = Location::caller();
                self.in_place(stringify!($name), at, |xs| xs.$name($($argument),*))
            }
        )+)+}

        /// The name of each function, and whether it maps zero to zero.
        #[cfg(test)]
        pub(super) const FUNCTIONS: &[(&str, Option<bool>)] =
            &[$($((stringify!($name), functions!(@ $zero)),)+)+];
    };
    (@ stays) => { Some(true) };
    (@ moves) => { Some(false) };
}

functions! {
    stays {
        /// `max(0, x)`
        relu relu_ f_relu();
        /// `min(max(0, x), 6)`
        relu6 relu6_ f_relu6();
        /// `x`, or below zero `0.01 · x`.
        leaky_relu leaky_relu_ f_leaky_relu();
        /// `x`, or below zero `eˣ − 1`.
        elu elu_ f_elu();
        /// As [`elu`](Self::elu), since tch's α is 1.
        celu celu_ f_celu();
        /// A scaled [`elu`](Self::elu).
        selu selu_ f_selu();
        /// `x · sigmoid(x)`
        silu silu_ f_silu();
        /// `x · Φ(x)`
        gelu gelu_ f_gelu(approximate: &str);
        /// `x · tanh(ln(1 + eˣ))`
        mish mish_ f_mish();
        /// `x · min(max(0, x + 3), 6) / 6`
        hardswish hardswish_ f_hardswish();
        /// `min(max(-1, x), 1)`
        hardtanh hardtanh_ f_hardtanh();
        /// `x`, or zero near zero.
        hardshrink hardshrink_ f_hardshrink();
        /// Zero near zero, and `x` moved towards zero elsewhere.
        softshrink softshrink_ f_softshrink();
        /// The hyperbolic tangent.
        tanh tanh_ f_tanh();
        /// The magnitude.
        abs abs_ f_abs();
        /// `x²`
        square square_ f_square();
        /// The square root.
        sqrt sqrt_ f_sqrt();
        /// The sine.
        sin sin_ f_sin();
        /// The tangent.
        tan tan_ f_tan();
        /// The hyperbolic sine.
        sinh sinh_ f_sinh();
        /// The arcsine.
        asin asin_ f_asin();
        /// The arctangent.
        atan atan_ f_atan();
        /// The inverse hyperbolic sine.
        asinh asinh_ f_asinh();
        /// The inverse hyperbolic tangent.
        atanh atanh_ f_atanh();
        /// The inverse error function.
        erfinv erfinv_ f_erfinv();
        /// The error function.
        erf erf_ f_erf();
        /// `eˣ − 1`
        expm1 expm1_ f_expm1();
        /// `ln(1 + x)`
        log1p log1p_ f_log1p();
        /// -1, 0 or 1.
        sign sign_ f_sign();
        /// -1, 0 or 1.
        sgn sgn_ f_sgn();
        /// The nearest integer.
        round round_ f_round();
        /// The next lower integer.
        floor floor_ f_floor();
        /// The next higher integer.
        ceil ceil_ f_ceil();
        /// The next integer towards zero.
        trunc trunc_ f_trunc();
        /// The fractional part.
        frac frac_ f_frac();
        /// `-x`
        neg neg_ f_neg();
        /// `-x`
        negative negative_ f_negative();
    }
    moves {
        /// `1 / (1 + e⁻ˣ)`
        sigmoid sigmoid_ f_sigmoid();
        /// `min(max(0, x + 3), 6) / 6`
        hardsigmoid hardsigmoid_ f_hardsigmoid();
        /// `ln(1 + eˣ)`
        softplus softplus_ f_softplus();
        /// `-ln(1 + e⁻ˣ)`
        log_sigmoid log_sigmoid_ f_log_sigmoid();
        /// `eˣ`
        exp exp_ f_exp();
        /// `2ˣ`
        exp2 exp2_ f_exp2();
        /// The binary logarithm.
        log2 log2_ f_log2();
        /// The decimal logarithm.
        log10 log10_ f_log10();
        /// The inverse hyperbolic cosine.
        acosh acosh_ f_acosh();
        /// `sin(πx) / πx`
        sinc sinc_ f_sinc();
        /// The natural logarithm.
        log log_ f_log();
        /// The cosine.
        cos cos_ f_cos();
        /// The hyperbolic cosine.
        cosh cosh_ f_cosh();
        /// The arccosine.
        acos acos_ f_acos();
        /// The complementary error function.
        erfc erfc_ f_erfc();
        /// `1 / √x`
        rsqrt rsqrt_ f_rsqrt();
        /// `1 / x`
        reciprocal reciprocal_ f_reciprocal();
    }
}

macro_rules! with_numbers {
    ($($(#[$doc:meta])* $name:ident $in_place:ident $f_name:ident ($($argument:ident),+);)+) => {
        impl Traced {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name<S: Into<Scalar>>(&self $(, $argument: S)+) -> Traced {
                $(let $argument = number($argument);)+
                let function = Rc::new(move |xs: &Tensor| xs.$f_name($($argument),+));
                let numbers = vec![$($argument),+];
                self.map_each(stringify!($name), Location::caller(), numbers, None, function)
                    .called(stringify!($name), arguments![self $(, $argument)+])
            }

            /// The same, in place.
            #[track_caller]
            pub fn $in_place<S: Into<Scalar>>(&mut self $(, $argument: S)+) -> Traced {
                $(let $argument = number($argument);)+
                self.in_place(stringify!($name), Location::caller(), |xs| xs.$name($($argument),+))
            }
        )+}
    };
}

with_numbers! {
    /// `x`, but at least `min` and at most `max`.
    clamp clamp_ f_clamp(min, max);
    /// `x`, but at least `min`.
    clamp_min clamp_min_ f_clamp_min(min);
    /// `x`, but at most `max`.
    clamp_max clamp_max_ f_clamp_max(max);
    /// `x` where it is above `threshold`, else `value`.
    threshold threshold_ f_threshold(threshold, value);
    /// Whether each element is greater than a number.
    gt gt_ f_gt(other);
    /// Whether each element is at least a number.
    ge ge_ f_ge(other);
    /// Whether each element is less than a number.
    lt lt_ f_lt(other);
    /// Whether each element is at most a number.
    le le_ f_le(other);
    /// Whether each element equals a number.
    eq eq_ f_eq(other);
    /// Whether each element differs from a number.
    ne ne_ f_ne(other);
    /// The remainder of a division by a number, with the sign of the element.
    fmod fmod_ f_fmod(other);
    /// The remainder of a division by a number, with the sign of the number.
    remainder remainder_ f_remainder(other);
}

macro_rules! unchanged {
    ($($(#[$doc:meta])* $name:ident ($($argument:ident: $ty:ty),*);)+) => {
        impl Traced {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self $(, $argument: $ty)*) -> Traced {
                self.same(stringify!($name))
                    .called(stringify!($name), arguments![self $(, $argument)*])
            }
        )+}
    };
}

unchanged! {
    /// The tensor in contiguous layout, copied if it has another layout.
    contiguous();
    /// A view of the whole tensor.
    alias();
    /// Sets random elements to zero, in training.
    dropout(_p: f64, _train: bool);
    /// Sets random channels to zero, in training.
    feature_dropout(_p: f64, _train: bool);
    /// The tensor converted to another kind.
    to_kind(_kind: Kind);
    /// The tensor converted to another kind.
    totype(_kind: Kind);
    /// The tensor on another device.
    to_device(_device: Device);
}

impl Traced {
    /// A copy of the tensor.
    #[track_caller]
    pub fn copy(&self) -> Traced {
        let at = Location::caller();
        self.on_flow(at, |cx, flow| cx.each_of(flow, &Operator::identity("copy")))
            .called("copy", arguments![self])
    }

    /// Sets random elements to zero, in training, in place.
    #[track_caller]
    pub fn dropout_(&mut self, p: f64, train: bool) -> Traced {
        self.in_place("dropout", Location::caller(), |xs| xs.dropout(p, train))
    }

    /// Sets random channels to zero, in training, in place.
    #[track_caller]
    pub fn feature_dropout_(&mut self, p: f64, train: bool) -> Traced {
        self.in_place("feature_dropout", Location::caller(), |xs| xs.feature_dropout(p, train))
    }

    /// The tensor without gradient.
    pub fn detach(&self) -> Traced {
        self.shallow_clone()
    }

    /// The tensor converted to the kind of another one.
    #[track_caller]
    pub fn type_as<T>(&self, _other: &T) -> Traced {
        self.same("type_as").called("type_as", arguments![self])
    }

    /// Says whether a gradient is computed, which has no effect in a symbolic pass.
    pub fn set_requires_grad(&self, _requires_grad: bool) -> Traced {
        self.shallow_clone()
    }

    /// Numbers in place of NaN and infinities.
    #[track_caller]
    pub fn nan_to_num(
        &self,
        nan: impl Into<Option<f64>>,
        posinf: impl Into<Option<f64>>,
        neginf: impl Into<Option<f64>>,
    ) -> Traced {
        let (nan, posinf, neginf) = (nan.into(), posinf.into(), neginf.into());
        let function = Rc::new(move |xs: &Tensor| xs.f_nan_to_num(nan, posinf, neginf));
        let numbers = [nan, posinf, neginf].map(|number| number.unwrap_or(f64::MAX)).to_vec();
        self.map_each("nan_to_num", Location::caller(), numbers, None, function)
            .called("nan_to_num", arguments![self, nan, posinf, neginf])
    }

    /// `x`, or below zero `weight · x`. The slopes `weight` are a tensor of the model.
    #[track_caller]
    pub fn prelu(&self, weight: &Tensor) -> Traced {
        let at = Location::caller();
        // `weight` has one slope for all channels, or one for each channel, which is in dimension
        // 1.
        let rank = self.on_shape(at, |_, value, _| Ok(value.clone())).dim().max(2);
        let mut sizes = vec![1; rank - 1];
        sizes[0] = -1;
        match weight.f_view(&sizes[..]) {
            Ok(slopes) => {
                let one = OneCall::begin();
                let scaled = self.g_mul(&slopes);
                drop(one);
                scaled.called("prelu", arguments![self, &slopes])
            }
            Err(cause) => {
                pass::record(at, |cx| -> Result<()> { Err(Error::torch(cx.path())(cause)) });
                Traced::failed()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_are_said_to_keep_zero_do() {
        let zero = Tensor::zeros([1], (Kind::Double, Device::Cpu));
        macro_rules! check {
            ($($name:ident)+) => {$(
                let expected = FUNCTIONS.iter().find(|(name, _)| *name == stringify!($name));
                let stays = zero.$name().double_value(&[0]) == 0.0;
                assert_eq!(expected.unwrap().1, Some(stays), stringify!($name));
            )+};
        }
        check!(relu relu6 leaky_relu elu celu selu silu mish hardswish hardtanh hardshrink softshrink tanh
            abs square sqrt sin tan sinh asin asinh atan atanh erf erfinv expm1 log1p sign sgn round floor ceil trunc frac neg negative
            sigmoid hardsigmoid softplus log_sigmoid exp exp2 log log2 log10 cos cosh acos acosh erfc sinc
            rsqrt reciprocal);
        assert_eq!(zero.gelu("none").double_value(&[0]), 0.0);
        assert_eq!(FUNCTIONS.len(), 54);
    }
}
