//! From the calls of a forward pass to the nodes of an ONNX graph.

use std::collections::HashMap;

use tch::{Kind, TchError, Tensor};

use super::attribute::{float, int, ints};
use super::builder::{Builder, Name};
use super::file::data_type;
use super::fold::Folds;
use super::int8::Plan;
use super::quantise::Affine;
use crate::graph::{Argument, Call, ValueId};
use crate::serve::export::calibration::Paths;
use crate::symbolic::{Program, Size};

/// The reason why a call has no ONNX form, and the fix.
pub(super) type Refusal = String;

/// The results of a call, or why it has none.
pub(super) type Lowered = Result<Vec<Value>, Refusal>;

/// A value of the ONNX graph.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) name: Name,
    pub(super) element: Element,
}

impl Value {
    /// A value of floats.
    pub(super) fn float(name: Name) -> Self {
        Value { name, element: Element::Float }
    }
}

/// What a value's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// Floats of the network's kind.
    Float,
    /// 64-bit integers.
    Int,
    Bool,
}

impl Element {
    pub(super) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Element::Bool,
            Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64 => Element::Int,
            _ => Element::Float,
        }
    }
}

/// Writes the calls of a program, one after the other.
pub(super) struct Lowering<'p> {
    pub(super) program: &'p Program,
    pub(super) builder: Builder,
    pub(super) folds: Folds,
    /// The kind of the network's floats.
    pub(super) kind: Kind,
    values: HashMap<ValueId, Value>,
    /// Field paths of the network's tensors.
    paths: &'p Paths,
    /// What computes in 8 bits.
    pub(super) int8: Plan,
    /// How values that were quantised are quantised.
    quantised: HashMap<Name, Affine>,
}

impl<'p> Lowering<'p> {
    pub(super) fn new(
        program: &'p Program,
        builder: Builder,
        folds: Folds,
        kind: Kind,
        paths: &'p Paths,
        int8: Plan,
    ) -> Self {
        let (values, quantised) = (HashMap::new(), HashMap::new());
        Self { program, builder, folds, kind, values, paths, int8, quantised }
    }

    /// Sets a value.
    pub(super) fn set(&mut self, id: ValueId, value: Value) {
        let value = self.quantised(id, value);
        self.values.insert(id, value);
    }

    /// The value as all calls read it: quantised and back, if the plan says so.
    fn quantised(&mut self, id: ValueId, value: Value) -> Value {
        let affine = self.int8.value(id).filter(|_| value.element == Element::Float);
        let Some(affine) = affine.filter(|affine| self.affine(&value.name) != Some(*affine)) else {
            return value;
        };
        let scale = self.builder.float(f64::from(affine.scale));
        let zero = self.builder.byte(affine.zero);
        let name = self.builder.node("QuantizeLinear", &[&value.name, &scale, &zero], Vec::new());
        let name = self.builder.node("DequantizeLinear", &[&name, &scale, &zero], Vec::new());
        self.quantised.insert(name.clone(), affine);
        Value { name, element: value.element }
    }

    /// How a value is quantised; `None` if it is not.
    pub(super) fn affine(&self, value: &Name) -> Option<Affine> {
        self.quantised.get(value).copied()
    }

    /// Writes the calls on which outputs depend.
    ///
    /// # Errors
    /// The first call that has no ONNX form: its name, its source line, the reason and the fix.
    pub(super) fn lower(&mut self) -> Result<(), Refusal> {
        let used = self.program.used();
        // What no output depends on need not have an ONNX form.
        for (index, call) in self.program.calls().iter().enumerate().filter(|(at, _)| used[*at]) {
            self.builder.scope(&call.path);
            let given = Given { index, call };
            let results = self.call(&given).map_err(|reason| described(call, &reason))?;
            if results.len() != call.results.len() {
                let (has, needs) = (results.len(), call.results.len());
                return Err(described(call, &format!("it has {needs} results, not {has}")));
            }
            for (&id, value) in call.results.iter().zip(results) {
                // An operation that changes nothing may return what another call has made.
                if !self.values.contains_key(&id) {
                    self.set(id, value);
                }
            }
        }
        Ok(())
    }

    /// A value of the forward pass.
    ///
    /// # Errors
    /// When nothing that was written has made it.
    pub(super) fn value(&self, id: ValueId) -> Result<Value, Refusal> {
        self.values.get(&id).cloned().ok_or_else(|| {
            "it reads a value from a layer or an operation whose `trace` is written by hand, which says only what happens to channels; write its `forward` with `#[slim_runtime::forward]`".to_owned()
        })
    }

    /// Writes one call.
    fn call(&mut self, given: &Given) -> Lowered {
        if self.folds.is_folded(given.index) {
            return Ok(vec![self.value(given.id(0)?)?]);
        }
        let families = [
            Self::elementwise,
            Self::arithmetic,
            Self::constants,
            Self::layers,
            Self::recurrent,
            Self::windows,
            Self::views,
            Self::cuts,
            Self::reductions,
        ];
        for family in families {
            if let Some(lowered) = family(self, given) {
                return lowered;
            }
        }
        Err(match given.call.name {
            "functional::map" | "functional::opaque" => {
                "an operation that is Rust code has no ONNX form; write it with tensor operations"
            }
            "rand" | "randn" | "randint" | "empty" | "rand_like" | "randn_like" | "empty_like"
            | "bernoulli_p" => "random numbers are not exported; draw them outside of `forward`",
            "type_as" => "the kind of the other tensor is not known; write `to_kind`",
            _ => "it has no ONNX form here; write it with other operations",
        }
        .to_owned())
    }

    /// One node with one result.
    pub(super) fn node(
        &mut self,
        operator: &'static str,
        inputs: &[&Name],
        element: Element,
    ) -> Value {
        let name = self.builder.node(operator, inputs, Vec::new());
        Value { name, element }
    }

    /// A node over floats with one result.
    pub(super) fn floats(&mut self, operator: &'static str, inputs: &[&Name]) -> Value {
        self.node(operator, inputs, Element::Float)
    }

    /// The value as floats.
    pub(super) fn as_float(&mut self, value: &Value) -> Name {
        self.cast(value, Element::Float, self.kind)
    }

    /// The value as 64-bit integers.
    pub(super) fn as_int(&mut self, value: &Value) -> Name {
        self.cast(value, Element::Int, Kind::Int64)
    }

    /// The value as truth values.
    pub(super) fn as_bool(&mut self, value: &Value) -> Name {
        self.cast(value, Element::Bool, Kind::Bool)
    }

    fn cast(&mut self, value: &Value, element: Element, kind: Kind) -> Name {
        if value.element == element {
            return value.name.clone();
        }
        let to = data_type(kind).map_or(0, |to| i64::from(to as i32));
        self.builder.node("Cast", &[&value.name], vec![int("to", to)])
    }

    /// A tensor of the network, under its field path, or a constant.
    pub(super) fn tensor(&mut self, tensor: &Tensor) -> Result<Value, Refusal> {
        self.named(&self.path_of(tensor), tensor)
    }

    /// The field path of a tensor of the network.
    pub(super) fn path_of(&self, tensor: &Tensor) -> String {
        self.paths.of_tensor(tensor).unwrap_or("constant").to_owned()
    }

    /// A tensor under a name. Floats get the kind of the network, integers 64 bits.
    pub(super) fn named(&mut self, name: &str, tensor: &Tensor) -> Result<Value, Refusal> {
        let element = Element::of(tensor.kind());
        let kind = match element {
            Element::Float => self.kind,
            Element::Int => Kind::Int64,
            Element::Bool => Kind::Bool,
        };
        let written = if tensor.kind() == kind {
            self.builder.weight(name, tensor)
        } else {
            tensor.f_to_kind(kind).and_then(|tensor| self.builder.weight(name, &tensor))
        };
        Ok(Value { name: written.map_err(words)?, element })
    }

    /// A weight that was computed from a tensor of the network: under the tensor's path, with a
    /// suffix.
    pub(super) fn derived(
        &mut self,
        tensor: &Tensor,
        suffix: &str,
        value: &Tensor,
    ) -> Result<Value, Refusal> {
        self.named(&format!("{}.{suffix}", self.path_of(tensor)), value)
    }

    /// A list of sizes as a tensor.
    pub(super) fn sizes(&mut self, sizes: &[Size]) -> Result<Name, Refusal> {
        let fixed: Option<Vec<i64>> = sizes
            .iter()
            .map(|size| if let Size::Fixed(size) = size { Some(*size) } else { None })
            .collect();
        if let Some(fixed) = fixed {
            return Ok(self.builder.ints(&fixed));
        }
        let parts = sizes.iter().map(|&size| self.size(size)).collect::<Result<Vec<_>, _>>()?;
        if let [one] = &parts[..] {
            return Ok(one.clone());
        }
        let parts: Vec<&Name> = parts.iter().collect();
        Ok(self.builder.node("Concat", &parts, vec![int("axis", 0)]))
    }

    /// A size as a tensor of one number.
    fn size(&mut self, size: Size) -> Result<Name, Refusal> {
        let (value, dim, times, over) = match size {
            Size::Fixed(size) => return Ok(self.builder.ints(&[size])),
            Size::Of { value, dim, times, over } => (value, dim, times, over),
        };
        let of = self.value(value)?;
        let mut size = self.size_of(&of.name, dim);
        for (number, operator) in [(times, "Mul"), (over, "Div")] {
            if number != 1 {
                let number = self.builder.ints(&[number]);
                size = self.builder.node(operator, &[&size, &number], Vec::new());
            }
        }
        Ok(size)
    }

    /// The size of a dimension, as a tensor of one number.
    pub(super) fn size_of(&mut self, value: &Name, dim: usize) -> Name {
        let range = vec![int("start", dim as i64), int("end", dim as i64 + 1)];
        self.builder.node("Shape", &[value], range)
    }

    /// The shape of a value as a tensor.
    pub(super) fn shape(&mut self, value: &Name) -> Name {
        self.builder.node("Shape", &[value], Vec::new())
    }

    /// A value reshaped to sizes that are known: 0 for the size at the same place, -1 for one that
    /// follows.
    pub(super) fn reshaped(&mut self, value: &Name, sizes: &[i64]) -> Name {
        let sizes = self.builder.ints(sizes);
        self.builder.node("Reshape", &[value, &sizes], Vec::new())
    }

    /// The elements at these positions of a dimension.
    pub(super) fn gathered(
        &mut self,
        value: &Name,
        positions: &[i64],
        axis: i64,
    ) -> Result<Name, Refusal> {
        // By a list of one row: OpenVINO 2026.4 computes something else for a convolution that
        // reads what a plain list of positions selects.
        let row = Tensor::f_from_slice(positions).and_then(|positions| positions.f_unsqueeze(0));
        let row = row.and_then(|row| self.builder.weight("positions", &row));
        let row = row.map_err(words)?;
        let gathered = self.builder.node("Gather", &[value, &row], vec![int("axis", axis)]);
        let axes = self.builder.ints(&[axis]);
        Ok(self.builder.node("Squeeze", &[&gathered, &axes], Vec::new()))
    }

    /// A value with its dimensions in another order.
    pub(super) fn transposed(&mut self, value: &Name, order: &[i64]) -> Name {
        self.builder.node("Transpose", &[value], vec![ints("perm", order)])
    }

    /// A value with one float multiplied, added, …
    pub(super) fn with_float(&mut self, operator: &'static str, value: &Name, number: f64) -> Name {
        let number = self.builder.float(number);
        self.builder.node(operator, &[value, &number], Vec::new())
    }

    /// A node with one attribute that is a float.
    pub(super) fn scaled(
        &mut self,
        operator: &'static str,
        value: &Name,
        attributes: &[(&str, f64)],
    ) -> Value {
        let attributes = attributes.iter().map(|&(name, value)| float(name, value)).collect();
        let name = self.builder.node(operator, &[value], attributes);
        Value::float(name)
    }

    /// The sizes of a value, all of which must be fixed.
    ///
    /// # Errors
    /// When one is free, or unknown.
    pub(super) fn fixed_sizes(&self, id: ValueId) -> Result<Vec<i64>, Refusal> {
        let sizes = self.program.sizes(id).ok_or_else(unknown_sizes)?;
        sizes.into_iter().collect::<Option<Vec<_>>>().ok_or_else(free_size)
    }

    /// One size of a value, which must be fixed.
    ///
    /// # Errors
    /// When it is free, or unknown.
    pub(super) fn fixed_size(&self, id: ValueId, dim: usize) -> Result<i64, Refusal> {
        let sizes = self.program.sizes(id).ok_or_else(unknown_sizes)?;
        sizes.get(dim).copied().flatten().ok_or_else(free_size)
    }

    /// The number of dimensions of a value.
    ///
    /// # Errors
    /// When it is unknown.
    pub(super) fn rank(&self, id: ValueId) -> Result<usize, Refusal> {
        self.program.rank(id).ok_or_else(unknown_sizes)
    }
}

fn unknown_sizes() -> Refusal {
    "the number of its dimensions is not known; write the `forward` around it with `#[slim_runtime::forward]`".to_owned()
}

fn free_size() -> Refusal {
    "its ONNX form needs a size that follows from the input's; write the shape of the input on the struct, as in `#[prune(input = [3, 224, 224])]`".to_owned()
}

/// An error of libtorch as a reason.
pub(super) fn words(error: TchError) -> Refusal {
    error.to_string()
}

/// A reason with the call and its place.
fn described(call: &Call, reason: &str) -> Refusal {
    let at = call.at.map(|at| format!("{}:{}:{}: ", at.file(), at.line(), at.column()));
    format!("{}`{}`: `{}`: {reason}", at.unwrap_or_default(), call.path, call.name)
}

/// The arguments of a call.
pub(super) struct Given<'c> {
    pub(super) index: usize,
    pub(super) call: &'c Call,
}

impl Given<'_> {
    fn argument(&self, index: usize) -> &Argument {
        self.call.arguments.get(index).unwrap_or(&Argument::None)
    }

    fn wrong(&self, index: usize) -> Refusal {
        format!("argument {index} of `{}` is not understood", self.call.name)
    }

    /// The value that an argument is.
    pub(super) fn id(&self, index: usize) -> Result<ValueId, Refusal> {
        match self.argument(index) {
            Argument::Value(id) => Ok(*id),
            _ => Err(self.wrong(index)),
        }
    }

    pub(super) fn ids(&self, index: usize) -> Result<&[ValueId], Refusal> {
        match self.argument(index) {
            Argument::Values(ids) => Ok(ids),
            _ => Err(self.wrong(index)),
        }
    }

    /// A tensor of the network or a constant; `None` if the argument is not given.
    pub(super) fn tensor(&self, index: usize) -> Option<&Tensor> {
        if let Argument::Tensor(tensor) = self.argument(index) { Some(tensor) } else { None }
    }

    pub(super) fn weight(&self, index: usize) -> Result<&Tensor, Refusal> {
        self.tensor(index).ok_or_else(|| self.wrong(index))
    }

    /// A number that is no integer.
    pub(super) fn number(&self, index: usize) -> Result<f64, Refusal> {
        self.number_or_none(index).ok_or_else(|| self.wrong(index))
    }

    pub(super) fn number_or_none(&self, index: usize) -> Option<f64> {
        if let Argument::Number(number) = self.argument(index) { Some(*number) } else { None }
    }

    pub(super) fn numbers(&self, index: usize) -> &[f64] {
        if let Argument::Numbers(numbers) = self.argument(index) { numbers } else { &[] }
    }

    pub(super) fn flag(&self, index: usize) -> bool {
        matches!(self.argument(index), Argument::Flag(true))
    }

    pub(super) fn text(&self, index: usize) -> &str {
        if let Argument::Text(text) = self.argument(index) { text } else { "" }
    }

    pub(super) fn kind(&self, index: usize) -> Option<Kind> {
        if let Argument::Kind(kind) = self.argument(index) { Some(*kind) } else { None }
    }

    pub(super) fn is_given(&self, index: usize) -> bool {
        !matches!(self.argument(index), Argument::None)
    }

    /// A list of sizes.
    pub(super) fn sizes(&self, program: &Program, index: usize) -> Result<Vec<Size>, Refusal> {
        program.numbers(self.index, index).ok_or_else(|| self.wrong(index))
    }

    /// A list of numbers that do not follow from sizes.
    pub(super) fn ints(&self, program: &Program, index: usize) -> Result<Vec<i64>, Refusal> {
        let fixed = |size: Size| match size {
            Size::Fixed(size) => Ok(size),
            Size::Of { .. } => Err(free_size()),
        };
        self.sizes(program, index)?.into_iter().map(fixed).collect()
    }

    /// One number that does not follow from sizes.
    pub(super) fn int(&self, program: &Program, index: usize) -> Result<i64, Refusal> {
        match self.ints(program, index)?[..] {
            [one] => Ok(one),
            _ => Err(self.wrong(index)),
        }
    }
}

/// A dimension counted from the front.
pub(super) fn from_front(dim: i64, rank: usize) -> i64 {
    if dim < 0 { dim + rank as i64 } else { dim }
}
