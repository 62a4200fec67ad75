//! Functions of each element, and arithmetic.

use tch::Kind;

use super::attribute::{int, text};
use super::builder::Name;
use super::lower::{Element, Given, Lowered, Lowering, Refusal, Value};
use crate::symbolic::Size;

impl Lowering<'_> {
    /// Functions of one tensor.
    pub(super) fn elementwise(&mut self, given: &Given) -> Option<Lowered> {
        let operator = match given.call.name {
            "relu" => "Relu",
            "selu" => "Selu",
            "hardswish" => "HardSwish",
            "mish" => "Mish",
            "tanh" => "Tanh",
            "abs" => "Abs",
            "sqrt" => "Sqrt",
            "sin" => "Sin",
            "tan" => "Tan",
            "sinh" => "Sinh",
            "asin" => "Asin",
            "asinh" => "Asinh",
            "atan" => "Atan",
            "atanh" => "Atanh",
            "erf" => "Erf",
            "sign" | "sgn" => "Sign",
            "round" => "Round",
            "floor" => "Floor",
            "ceil" => "Ceil",
            "neg" | "negative" => "Neg",
            "sigmoid" => "Sigmoid",
            "softplus" => "Softplus",
            "exp" => "Exp",
            "log" => "Log",
            "cos" => "Cos",
            "cosh" => "Cosh",
            "acos" => "Acos",
            "acosh" => "Acosh",
            "reciprocal" => "Reciprocal",
            _ => return self.composed(given),
        };
        Some(self.float_of(given, 0).map(|xs| vec![self.floats(operator, &[&xs])]))
    }

    /// Functions that are several nodes, or have numbers.
    fn composed(&mut self, given: &Given) -> Option<Lowered> {
        let name = given.call.name;
        let is_one = matches!(
            name,
            "relu6"
                | "leaky_relu"
                | "elu"
                | "celu"
                | "silu"
                | "gelu"
                | "hardtanh"
                | "hardshrink"
                | "softshrink"
                | "square"
                | "expm1"
                | "log1p"
                | "trunc"
                | "frac"
                | "hardsigmoid"
                | "log_sigmoid"
                | "exp2"
                | "log2"
                | "log10"
                | "erfc"
                | "rsqrt"
                | "clamp"
                | "clamp_min"
                | "clamp_max"
                | "threshold"
                | "sinc"
                | "nan_to_num"
                | "prelu"
        );
        is_one.then(|| {
            let xs = self.float_of(given, 0)?;
            Ok(vec![self.function(given, &xs)?])
        })
    }

    fn function(&mut self, given: &Given, xs: &Name) -> Result<Value, Refusal> {
        Ok(match given.call.name {
            "relu6" => Value::float(self.clipped(xs, Some(0.), Some(6.))),
            "hardtanh" => Value::float(self.clipped(xs, Some(-1.), Some(1.))),
            "leaky_relu" => self.scaled("LeakyRelu", xs, &[("alpha", 0.01)]),
            "elu" | "celu" => self.scaled("Elu", xs, &[("alpha", 1.)]),
            "hardsigmoid" => self.scaled("HardSigmoid", xs, &[("alpha", 1. / 6.), ("beta", 0.5)]),
            "hardshrink" => self.scaled("Shrink", xs, &[("lambd", 0.5), ("bias", 0.)]),
            "softshrink" => self.scaled("Shrink", xs, &[("lambd", 0.5), ("bias", 0.5)]),
            "gelu" => {
                let approximate = vec![text("approximate", given.text(1))];
                Value::float(self.builder.node("Gelu", &[xs], approximate))
            }
            "silu" => {
                let gate = self.floats("Sigmoid", &[xs]);
                self.floats("Mul", &[xs, &gate.name])
            }
            "square" => self.floats("Mul", &[xs, xs]),
            "expm1" => {
                let power = self.floats("Exp", &[xs]);
                Value::float(self.with_float("Sub", &power.name, 1.))
            }
            "log1p" => {
                let sum = self.with_float("Add", xs, 1.);
                self.floats("Log", &[&sum])
            }
            "trunc" => self.truncated(xs),
            "frac" => {
                let whole = self.truncated(xs);
                self.floats("Sub", &[xs, &whole.name])
            }
            "log_sigmoid" => {
                let negative = self.floats("Neg", &[xs]);
                let plus = self.floats("Softplus", &[&negative.name]);
                self.floats("Neg", &[&plus.name])
            }
            "exp2" => {
                let two = self.builder.float(2.);
                self.floats("Pow", &[&two, xs])
            }
            "log2" | "log10" => {
                let base = if given.call.name == "log2" { 2_f64 } else { 10_f64 };
                let log = self.floats("Log", &[xs]);
                Value::float(self.with_float("Mul", &log.name, base.ln().recip()))
            }
            "erfc" => {
                let (one, erf) = (self.builder.float(1.), self.floats("Erf", &[xs]));
                self.floats("Sub", &[&one, &erf.name])
            }
            "rsqrt" => {
                let root = self.floats("Sqrt", &[xs]);
                self.floats("Reciprocal", &[&root.name])
            }
            "clamp" => {
                Value::float(self.clipped(xs, Some(given.number(1)?), Some(given.number(2)?)))
            }
            "clamp_min" => Value::float(self.clipped(xs, Some(given.number(1)?), None)),
            "clamp_max" => Value::float(self.clipped(xs, None, Some(given.number(1)?))),
            "sinc" => {
                let angle = self.with_float("Mul", xs, std::f64::consts::PI);
                let sine = self.floats("Sin", &[&angle]);
                let ratio = self.floats("Div", &[&sine.name, &angle]);
                let is_zero = self.with_float("Equal", xs, 0.);
                let one = self.builder.float(1.);
                self.floats("Where", &[&is_zero, &one, &ratio.name])
            }
            "nan_to_num" => self.numbers_only(given, xs),
            "threshold" => {
                let (threshold, value) = (given.number(1)?, given.number(2)?);
                let above = self.with_float("Greater", xs, threshold);
                let value = self.builder.float(value);
                self.floats("Where", &[&above, xs, &value])
            }
            _ => {
                // A slope for all channels, or one for each, in dimension 1.
                let slopes = given.weight(1)?;
                let slopes = self.tensor(slopes)?;
                self.floats("PRelu", &[xs, &slopes.name])
            }
        })
    }

    /// Numbers in place of NaN and infinities. Arguments: tensor, and the three numbers.
    fn numbers_only(&mut self, given: &Given, xs: &Name) -> Value {
        let most = if self.kind == Kind::Double { f64::MAX } else { f64::from(f32::MAX) };
        let sign = |positive: i64| {
            vec![int("detect_positive", positive), int("detect_negative", 1 - positive)]
        };
        let mut numbers = xs.clone();
        let cases =
            [("IsNaN", Vec::new(), 0.), ("IsInf", sign(1), most), ("IsInf", sign(0), -most)];
        for (index, (operator, attributes, standard)) in cases.into_iter().enumerate() {
            let found = self.builder.node(operator, &[xs], attributes);
            let number = given.number_or_none(index + 1).unwrap_or(standard);
            let number = self.builder.float(number);
            numbers = self.floats("Where", &[&found, &number, &numbers]).name;
        }
        Value::float(numbers)
    }

    /// A value within bounds.
    fn clipped(&mut self, xs: &Name, least: Option<f64>, most: Option<f64>) -> Name {
        let mut bound = |bound: Option<f64>| {
            bound.map_or_else(|| Name::from(""), |bound| self.builder.float(bound))
        };
        let (least, most) = (bound(least), bound(most));
        self.builder.node("Clip", &[xs, &least, &most], Vec::new())
    }

    /// A value rounded towards zero.
    fn truncated(&mut self, xs: &Name) -> Value {
        let (sign, size) = (self.floats("Sign", &[xs]), self.floats("Abs", &[xs]));
        let whole = self.floats("Floor", &[&size.name]);
        self.floats("Mul", &[&sign.name, &whole.name])
    }

    /// Sums, products, comparisons: of two tensors, or of a tensor and a number.
    pub(super) fn arithmetic(&mut self, given: &Given) -> Option<Lowered> {
        let name = given.call.name;
        Some(match name {
            "add" | "g_add_scalar" => self.joined(given, "Add", false),
            "sub" | "g_sub_scalar" => self.joined(given, "Sub", false),
            "mul" | "g_mul_scalar" => self.joined(given, "Mul", false),
            "div" | "g_div_scalar" => self.joined(given, "Div", false),
            "rsub" | "rsub_scalar" => self.joined(given, "Sub", true),
            "rdiv" => self.joined(given, "Div", true),
            "pow" | "pow_tensor_scalar" => self.joined(given, "Pow", false),
            "maximum" | "fmax" => self.joined(given, "Max", false),
            "minimum" | "fmin" => self.joined(given, "Min", false),
            "gt" | "gt_tensor" => self.joined(given, "Greater", false),
            "ge" | "ge_tensor" => self.joined(given, "GreaterOrEqual", false),
            "lt" | "lt_tensor" => self.joined(given, "Less", false),
            "le" | "le_tensor" => self.joined(given, "LessOrEqual", false),
            "eq" | "eq_tensor" => self.joined(given, "Equal", false),
            "ne" | "ne_tensor" => self
                .joined(given, "Equal", false)
                .map(|equal| vec![self.node("Not", &[&equal[0].name], Element::Bool)]),
            "fmod" => self.pair(given).map(|([a, b], element)| {
                let name = self.builder.node("Mod", &[&a, &b], vec![int("fmod", 1)]);
                vec![Value { name, element }]
            }),
            "remainder" => self.pair(given).map(|([a, b], _)| {
                // With the sign of the divisor: a - floor(a / b) · b.
                let ratio = self.floats("Div", &[&a, &b]);
                let whole = self.floats("Floor", &[&ratio.name]);
                let part = self.floats("Mul", &[&whole.name, &b]);
                vec![self.floats("Sub", &[&a, &part.name])]
            }),
            "hypot" => self.pair(given).map(|([a, b], _)| {
                let (a, b) = (self.floats("Mul", &[&a, &a]), self.floats("Mul", &[&b, &b]));
                let sum = self.floats("Add", &[&a.name, &b.name]);
                vec![self.floats("Sqrt", &[&sum.name])]
            }),
            "where_self" => self.chosen(given),
            "masked_fill" => self.filled(given),
            "matmul" => self.product(given),
            "attention_mask" => self.masked_scores(given),
            "causal" => self.causal(given),
            "scaled_by_width" => self.scaled_by_width(given),
            _ => return None,
        })
    }

    /// The two operands, with one kind of elements.
    fn pair(&mut self, given: &Given) -> Result<([Name; 2], Element), Refusal> {
        let left = self.operand(given, 0)?;
        if let Some(number) = given.number_or_none(1) {
            return Ok(if left.element == Element::Int && number.fract() == 0. {
                ([left.name, self.builder.int(number as i64)], Element::Int)
            } else {
                let number = self.builder.float(number);
                ([self.as_float(&left), number], Element::Float)
            });
        }
        let right = self.operand(given, 1)?;
        Ok(if left.element == Element::Int && right.element == Element::Int {
            ([left.name, right.name], Element::Int)
        } else {
            ([self.as_float(&left), self.as_float(&right)], Element::Float)
        })
    }

    /// A node of two operands.
    fn joined(&mut self, given: &Given, operator: &'static str, reversed: bool) -> Lowered {
        let ([left, right], element) = self.pair(given)?;
        // libtorch divides integers to floats.
        let (left, right, element) = if operator == "Div" && element == Element::Int {
            let float = |name| Value { name, element };
            let (left, right) = (float(left), float(right));
            (self.as_float(&left), self.as_float(&right), Element::Float)
        } else {
            (left, right, element)
        };
        let element = match operator {
            "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Equal" => Element::Bool,
            _ => element,
        };
        let inputs = if reversed { [&right, &left] } else { [&left, &right] };
        Ok(vec![self.node(operator, &inputs, element)])
    }

    /// A tensor that is computed, or one of the network.
    fn operand(&mut self, given: &Given, index: usize) -> Result<Value, Refusal> {
        match given.tensor(index) {
            Some(tensor) => self.tensor(tensor),
            None => self.value(given.id(index)?),
        }
    }

    /// A tensor as floats.
    pub(super) fn float_of(&mut self, given: &Given, index: usize) -> Result<Name, Refusal> {
        let value = self.operand(given, index)?;
        Ok(self.as_float(&value))
    }

    fn chosen(&mut self, given: &Given) -> Lowered {
        let [own, condition, other] = [0, 1, 2].map(|index| self.operand(given, index));
        let (own, condition, other) = (own?, condition?, other?);
        let condition = self.as_bool(&condition);
        let (own, other) = (self.as_float(&own), self.as_float(&other));
        Ok(vec![self.floats("Where", &[&condition, &own, &other])])
    }

    fn filled(&mut self, given: &Given) -> Lowered {
        let (own, mask) = (self.float_of(given, 0)?, self.operand(given, 1)?);
        let (mask, number) = (self.as_bool(&mask), self.builder.float(given.number(2)?));
        Ok(vec![self.floats("Where", &[&mask, &number, &own])])
    }

    fn product(&mut self, given: &Given) -> Lowered {
        let (left, right) = (self.float_of(given, 0)?, self.float_of(given, 1)?);
        Ok(vec![self.floats("MatMul", &[&left, &right])])
    }

    /// Scores that a mask hides where it is false, or to which it is added.
    fn masked_scores(&mut self, given: &Given) -> Lowered {
        let (scores, mask) = (self.float_of(given, 0)?, self.operand(given, 1)?);
        if mask.element != Element::Bool {
            let mask = self.as_float(&mask);
            return Ok(vec![self.floats("Add", &[&scores, &mask])]);
        }
        let hidden = self.builder.float(f64::NEG_INFINITY);
        Ok(vec![self.floats("Where", &[&mask.name, &scores, &hidden])])
    }

    /// Scores `[…, T, S]` in which a position sees those up to its own.
    fn causal(&mut self, given: &Given) -> Lowered {
        let scores = self.float_of(given, 0)?;
        let shape = self.builder.node("Shape", &[&scores], vec![int("start", -2)]);
        let one = self.builder.float(1.);
        let ones = self.floats("Expand", &[&one, &shape]);
        let lower = self.builder.node("Trilu", &[&ones.name], vec![int("upper", 0)]);
        let seen = self.as_bool(&Value::float(lower));
        let hidden = self.builder.float(f64::NEG_INFINITY);
        Ok(vec![self.floats("Where", &[&seen, &scores, &hidden])])
    }

    /// Scores divided by the root of the query's last size.
    fn scaled_by_width(&mut self, given: &Given) -> Lowered {
        let scores = self.float_of(given, 0)?;
        let query = given.id(1)?;
        let last = self.rank(query)?.saturating_sub(1);
        let width = self.fixed_size(query, last)?;
        let scaled = self.with_float("Mul", &scores, (width as f64).sqrt().recip());
        Ok(vec![Value::float(scaled)])
    }

    /// Constants, copies and changes of kind.
    pub(super) fn constants(&mut self, given: &Given) -> Option<Lowered> {
        let fill = |given: &Given, standard: f64| given.number_or_none(1).unwrap_or(standard);
        Some(match given.call.name {
            "copy" | "contiguous" | "alias" | "dropout" | "feature_dropout" | "to_device" => {
                given.id(0).and_then(|id| self.value(id)).map(|value| vec![value])
            }
            "to_kind" | "totype" => self.converted(given),
            "tensor" => self.expanded_tensor(given),
            "zeros" | "ones" | "full" | "new_zeros" | "new_ones" => self.full(given),
            "arange" => self.range(given),
            "eye" => self.identity_matrix(given),
            "zeros_like" | "zero" => self.like(given, 0.),
            "ones_like" => self.like(given, 1.),
            "full_like" | "fill" => self.like(given, fill(given, 0.)),
            _ => return None,
        })
    }

    /// Arguments: tensor, and the sizes to which it is expanded.
    fn expanded_tensor(&mut self, given: &Given) -> Lowered {
        let (tensor, sizes) = (given.weight(0)?, given.sizes(self.program, 1)?);
        let value = self.tensor(tensor)?;
        if sizes == tensor.size().into_iter().map(Size::Fixed).collect::<Vec<_>>() {
            return Ok(vec![value]);
        }
        let shape = self.sizes(&sizes)?;
        Ok(vec![self.node("Expand", &[&value.name, &shape], value.element)])
    }

    fn converted(&mut self, given: &Given) -> Lowered {
        let value = self.value(given.id(0)?)?;
        let kind = given.kind(1).ok_or("its kind is not known")?;
        let element = Element::of(kind);
        let name = match element {
            // A float of another kind is computed in the network's.
            Element::Float => self.as_float(&value),
            Element::Int => self.as_int(&value),
            Element::Bool => self.as_bool(&value),
        };
        Ok(vec![Value { name, element }])
    }

    /// A number as a scalar of these elements.
    fn scalar(&mut self, number: f64, element: Element) -> Name {
        match element {
            Element::Float => self.builder.float(number),
            Element::Int => self.builder.int(number as i64),
            Element::Bool => {
                let number = self.builder.int(number as i64);
                self.as_bool(&Value { name: number, element: Element::Int })
            }
        }
    }

    fn full(&mut self, given: &Given) -> Lowered {
        let sizes = given.sizes(self.program, 0)?;
        let element = given.kind(2).map_or(Element::Float, Element::of);
        let shape = self.sizes(&sizes)?;
        let number = self.scalar(given.number(1)?, element);
        Ok(vec![self.node("Expand", &[&number, &shape], element)])
    }

    fn like(&mut self, given: &Given, number: f64) -> Lowered {
        let value = self.value(given.id(0)?)?;
        let (shape, number) = (self.shape(&value.name), self.scalar(number, value.element));
        Ok(vec![self.node("Expand", &[&number, &shape], value.element)])
    }

    fn range(&mut self, given: &Given) -> Lowered {
        let sizes = given.sizes(self.program, 0)?;
        let end = self.sizes(&sizes)?;
        let axes = self.builder.ints(&[0]);
        let end = self.builder.node("Squeeze", &[&end, &axes], Vec::new());
        let (start, step) = (self.builder.int(0), self.builder.int(1));
        let range = self.node("Range", &[&start, &end, &step], Element::Int);
        let element = given.kind(2).map_or(Element::Float, Element::of);
        Ok(vec![match element {
            Element::Float => Value { name: self.as_float(&range), element },
            _ => range,
        }])
    }

    fn identity_matrix(&mut self, given: &Given) -> Lowered {
        let sizes = given.sizes(self.program, 0)?;
        let (shape, one) = (self.sizes(&sizes)?, self.builder.float(1.));
        let ones = self.floats("Expand", &[&one, &shape]);
        let name = self.builder.node("EyeLike", &[&ones.name], Vec::new());
        Ok(vec![Value::float(name)])
    }
}
