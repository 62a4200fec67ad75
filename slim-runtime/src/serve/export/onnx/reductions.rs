//! Reductions over dimensions, softmax, sorting.

use super::attribute::int;
use super::builder::Name;
use super::lower::{Element, Given, Lowered, Lowering, Refusal, Value, from_front};

impl Lowering<'_> {
    pub(super) fn reductions(&mut self, given: &Given) -> Option<Lowered> {
        Some(match given.call.name {
            "mean" | "mean_dim" => self.reduced_in_kind(given, "ReduceMean"),
            "sum" | "sum_dim_intlist" => self.reduced_in_kind(given, "ReduceSum"),
            "prod" => self.reduced_in_kind(given, "ReduceProd"),
            "max" | "amax" | "max_dim" => self.reduced(given, "ReduceMax"),
            "min" | "amin" | "min_dim" => self.reduced(given, "ReduceMin"),
            "logsumexp" => self.reduced(given, "ReduceLogSumExp"),
            "norm" => self.reduced(given, "ReduceL2"),
            "norm_scalaropt_dim" => match given.number_or_none(3) {
                Some(1.) => self.reduced(given, "ReduceL1"),
                Some(2.) => self.reduced(given, "ReduceL2"),
                Some(p) if p.is_finite() && p != 0. => self.norm(given, p),
                _ => {
                    Err("the norms 0 and ∞ have no ONNX form here; write them with `ne`, `abs`, `amax` and `sum_dim_intlist`".to_owned())
                }
            },
            "var" | "var_dim" => self.variance(given).map(|variance| vec![variance]),
            "std" | "std_dim" => {
                self.variance(given).map(|variance| vec![self.floats("Sqrt", &[&variance.name])])
            }
            "argmax" => self.index_of(given, "ArgMax"),
            "argmin" => self.index_of(given, "ArgMin"),
            "softmax" => self.along(given, "Softmax"),
            "log_softmax" => self.along(given, "LogSoftmax"),
            "cumsum" => self.running_sum(given),
            "sort" => self.sorted(given),
            "topk" => self.largest(given),
            "tril" => self.triangle(given, 0),
            "triu" => self.triangle(given, 1),
            _ => return None,
        })
    }

    /// Refuses another kind than the network's for the result.
    fn check_kind(&self, given: &Given, index: usize) -> Result<(), Refusal> {
        match given.kind(index) {
            // A float of another kind is computed in the network's.
            Some(kind) if Element::of(kind) != Element::Float => Err(format!(
                "a result of kind {kind:?} is not exported; leave the kind to libtorch"
            )),
            _ => Ok(()),
        }
    }

    fn reduced_in_kind(&mut self, given: &Given, operator: &'static str) -> Lowered {
        self.check_kind(given, 3)?;
        self.reduced(given, operator)
    }

    /// Arguments: tensor, dimensions or none for all, whether they are kept as 1.
    fn reduced(&mut self, given: &Given, operator: &'static str) -> Lowered {
        let xs = self.float_of(given, 0)?;
        Ok(vec![self.over(given, operator, &xs, given.flag(2))?])
    }

    fn over(
        &mut self,
        given: &Given,
        operator: &'static str,
        xs: &Name,
        keep: bool,
    ) -> Result<Value, Refusal> {
        let dims = if given.is_given(1) { given.ints(self.program, 1)? } else { Vec::new() };
        let keep = vec![int("keepdims", i64::from(keep))];
        let name = if dims.is_empty() {
            self.builder.node(operator, &[xs], keep)
        } else {
            let axes = self.builder.ints(&dims);
            self.builder.node(operator, &[xs, &axes], keep)
        };
        Ok(Value::float(name))
    }

    /// `(Σ |x|ᵖ)^(1/p)`
    fn norm(&mut self, given: &Given, p: f64) -> Lowered {
        let xs = self.float_of(given, 0)?;
        let size = self.floats("Abs", &[&xs]);
        let power = self.with_float("Pow", &size.name, p);
        let sum = self.over(given, "ReduceSum", &power, given.flag(2))?;
        let name = self.with_float("Pow", &sum.name, p.recip());
        Ok(vec![Value::float(name)])
    }

    /// The mean of squared distances to the mean. Argument 3: whether it is divided by one less
    /// than the number of elements.
    fn variance(&mut self, given: &Given) -> Result<Value, Refusal> {
        let xs = self.float_of(given, 0)?;
        let mean = self.over(given, "ReduceMean", &xs, true)?;
        let distance = self.floats("Sub", &[&xs, &mean.name]);
        let square = self.floats("Mul", &[&distance.name, &distance.name]);
        let variance = self.over(given, "ReduceMean", &square.name, given.flag(2))?;
        if !given.flag(3) {
            return Ok(variance);
        }
        let sizes = self.fixed_or_all(given)?;
        let count: i64 = sizes.iter().product();
        let factor = count as f64 / (count - 1) as f64;
        let name = self.with_float("Mul", &variance.name, factor);
        Ok(Value::float(name))
    }

    /// The sizes of the dimensions that are reduced, which must be fixed.
    fn fixed_or_all(&self, given: &Given) -> Result<Vec<i64>, Refusal> {
        let id = given.id(0)?;
        let dims = if given.is_given(1) { given.ints(self.program, 1)? } else { Vec::new() };
        if dims.is_empty() {
            return self.fixed_sizes(id);
        }
        let rank = self.rank(id)?;
        dims.into_iter().map(|dim| self.fixed_size(id, from_front(dim, rank) as usize)).collect()
    }

    fn index_of(&mut self, given: &Given, operator: &'static str) -> Lowered {
        let mut xs = self.float_of(given, 0)?;
        let axis = if given.is_given(1) {
            given.int(self.program, 1)?
        } else {
            xs = self.reshaped(&xs, &[-1]);
            0
        };
        let keep = given.flag(2) && given.is_given(1);
        let attributes = vec![int("axis", axis), int("keepdims", i64::from(keep))];
        let name = self.builder.node(operator, &[&xs], attributes);
        Ok(vec![Value { name, element: Element::Int }])
    }

    fn along(&mut self, given: &Given, operator: &'static str) -> Lowered {
        self.check_kind(given, 2)?;
        let (xs, axis) = (self.float_of(given, 0)?, given.int(self.program, 1)?);
        let name = self.builder.node(operator, &[&xs], vec![int("axis", axis)]);
        Ok(vec![Value::float(name)])
    }

    fn running_sum(&mut self, given: &Given) -> Lowered {
        self.check_kind(given, 2)?;
        let (xs, axis) = (self.float_of(given, 0)?, given.int(self.program, 1)?);
        let axis = self.builder.int(axis);
        Ok(vec![self.floats("CumSum", &[&xs, &axis])])
    }

    /// Arguments: tensor, dimension, whether the largest comes first.
    fn sorted(&mut self, given: &Given) -> Lowered {
        let id = given.id(0)?;
        let dim = from_front(given.int(self.program, 1)?, self.rank(id)?);
        let xs = self.float_of(given, 0)?;
        let count = self.size_of(&xs, dim as usize);
        self.top(&xs, &count, [dim, i64::from(given.flag(2)), 1])
    }

    /// Arguments: tensor, number, dimension, whether the largest are taken, whether in order.
    fn largest(&mut self, given: &Given) -> Lowered {
        let xs = self.float_of(given, 0)?;
        let count = given.sizes(self.program, 1)?;
        let (count, dim) = (self.sizes(&count)?, given.int(self.program, 2)?);
        let is_sorted = i64::from(given.flag(4));
        self.top(&xs, &count, [dim, i64::from(given.flag(3)), is_sorted])
    }

    fn top(&mut self, xs: &Name, count: &Name, [axis, largest, sorted]: [i64; 3]) -> Lowered {
        let attributes = vec![int("axis", axis), int("largest", largest), int("sorted", sorted)];
        let mut both = self.builder.nodes("TopK", &[xs, count], 2, attributes).into_iter();
        let elements = [Element::Float, Element::Int];
        Ok(elements
            .into_iter()
            .filter_map(|element| Some(Value { name: both.next()?, element }))
            .collect())
    }

    fn triangle(&mut self, given: &Given, upper: i64) -> Lowered {
        let (xs, diagonal) = (self.value(given.id(0)?)?, given.int(self.program, 1)?);
        let diagonal = self.builder.int(diagonal);
        let name = self.builder.node("Trilu", &[&xs.name, &diagonal], vec![int("upper", upper)]);
        Ok(vec![Value { name, element: xs.element }])
    }
}
