//! Pools, pads and resizing.

use tch::Tensor;

use super::attribute::{float, int, ints, text};
use super::builder::Name;
use super::lower::{Given, Lowered, Lowering, Refusal, Value, words};
use crate::symbolic::Size;

/// A window of a pool.
struct Window {
    kernel: Vec<i64>,
    stride: Vec<i64>,
    padding: Vec<i64>,
    dilation: Vec<i64>,
    ceil_mode: bool,
}

impl Window {
    fn sides(&self) -> usize {
        self.kernel.len()
    }

    /// Whether ONNX counts windows that reach beyond the input as libtorch does, whatever the
    /// input's size: there are none, or each of them starts within the input.
    fn agrees(&self) -> bool {
        let agrees = |side| {
            let (stride, padding) = (self.stride[side], self.padding[side]);
            stride == 1 || padding == 0 && stride <= self.extent(side)
        };
        self.ceil_mode && (0..self.sides()).all(agrees)
    }

    /// The number of positions that a window covers.
    fn extent(&self, side: usize) -> i64 {
        self.dilation[side] * (self.kernel[side] - 1) + 1
    }
}

impl Lowering<'_> {
    pub(super) fn windows(&mut self, given: &Given) -> Option<Lowered> {
        Some(match given.call.name {
            "max_pool" => self.max_pool(given),
            "avg_pool" => self.average_pool(given),
            "adaptive_avg_pool" => self.adaptive_pool(given, "GlobalAveragePool", "AveragePool"),
            "adaptive_max_pool" => self.adaptive_pool(given, "GlobalMaxPool", "MaxPool"),
            "pad" => self.pad(given),
            name if name.starts_with("upsample_") => self.resized(given),
            _ => return None,
        })
    }

    /// Arguments from 1 on: kernel, stride, padding, dilation, whether a last window that reaches
    /// beyond the input counts.
    fn window(&self, given: &Given) -> Result<Window, Refusal> {
        let list = |index| given.ints(self.program, index);
        Ok(Window {
            kernel: list(1)?,
            stride: list(2)?,
            padding: list(3)?,
            dilation: list(4)?,
            ceil_mode: given.flag(5),
        })
    }

    /// How far the last windows reach beyond the padded input in each dimension. ONNX counts such
    /// windows in another way than libtorch, so the file says how much is padded.
    fn beyond(&self, given: &Given, window: &Window) -> Result<Vec<i64>, Refusal> {
        if !window.ceil_mode {
            return Ok(vec![0; window.sides()]);
        }
        let id = given.id(0)?;
        let first = self.rank(id)?.saturating_sub(window.sides());
        let side = |side: usize| {
            let (size, stride) = (self.fixed_size(id, first + side)?, window.stride[side]);
            let padded = size + 2 * window.padding[side] - window.extent(side);
            let mut last = (padded + stride - 1).div_euclid(stride);
            // A window must start within the input or the padding in front of it.
            if last * stride >= size + window.padding[side] {
                last -= 1;
            }
            Ok((last * stride - padded).max(0))
        };
        (0..window.sides()).map(side).collect()
    }

    fn pool(&mut self, xs: &Name, operator: &'static str, window: &Window, beyond: &[i64]) -> Name {
        let behind = window.padding.iter().zip(beyond).map(|(&side, &more)| side + more);
        let pads: Vec<i64> = window.padding.iter().copied().chain(behind).collect();
        let mut attributes = vec![
            ints("kernel_shape", &window.kernel),
            ints("strides", &window.stride),
            ints("pads", &pads),
        ];
        if operator == "AveragePool" {
            attributes.push(int("count_include_pad", 1));
        } else {
            attributes.push(ints("dilations", &window.dilation));
            attributes.push(int("ceil_mode", i64::from(window.ceil_mode)));
        }
        self.builder.node(operator, &[xs], attributes)
    }

    fn max_pool(&mut self, given: &Given) -> Lowered {
        let xs = self.float_of(given, 0)?;
        let window = self.window(given)?;
        let beyond =
            if window.agrees() { vec![0; window.sides()] } else { self.beyond(given, &window)? };
        let window = Window { ceil_mode: window.agrees(), ..window };
        Ok(vec![Value::float(self.pool(&xs, "MaxPool", &window, &beyond))])
    }

    /// Arguments behind those of the window: whether the padding is averaged, and a divisor.
    fn average_pool(&mut self, given: &Given) -> Lowered {
        let xs = self.float_of(given, 0)?;
        let window = self.window(given)?;
        if self.beyond(given, &window)?.iter().any(|&more| more > 0) {
            return Err("windows that reach beyond the input (`ceil_mode`) are averaged otherwise in ONNX; pad the input before".to_owned());
        }
        let is_padded = window.padding.iter().any(|&side| side != 0);
        let no_more = vec![0; window.sides()];
        let mean = if is_padded && !given.flag(6) && !given.is_given(7) {
            let pads = [&window.padding[..], &window.padding[..]].concat();
            let attributes = vec![
                ints("kernel_shape", &window.kernel),
                ints("strides", &window.stride),
                ints("pads", &pads),
                int("count_include_pad", 0),
            ];
            self.builder.node("AveragePool", &[&xs], attributes)
        } else {
            self.pool(&xs, "AveragePool", &window, &no_more)
        };
        Ok(vec![Value::float(if given.is_given(7) {
            let divisor = given.int(self.program, 7)?;
            let elements: i64 = window.kernel.iter().product();
            self.with_float("Mul", &mean, elements as f64 / divisor as f64)
        } else {
            mean
        })])
    }

    /// Arguments: image, sizes of the output.
    fn adaptive_pool(
        &mut self,
        given: &Given,
        global: &'static str,
        local: &'static str,
    ) -> Lowered {
        let (xs, output) = (self.float_of(given, 0)?, given.ints(self.program, 1)?);
        if output.iter().all(|&size| size == 1) {
            return Ok(vec![self.floats(global, &[&xs])]);
        }
        let id = given.id(0)?;
        let first = self.rank(id)?.saturating_sub(output.len());
        let sizes: Vec<i64> = (0..output.len())
            .map(|side| self.fixed_size(id, first + side))
            .collect::<Result<_, _>>()?;
        if sizes == output {
            return Ok(vec![Value::float(xs)]);
        }
        let whole = sizes.iter().zip(&output).all(|(size, output)| size % output == 0);
        if whole {
            let kernel: Vec<i64> =
                sizes.iter().zip(&output).map(|(size, output)| size / output).collect();
            let zeros = vec![0; kernel.len()];
            let window = Window {
                stride: kernel.clone(),
                padding: zeros.clone(),
                dilation: vec![1; kernel.len()],
                kernel,
                ceil_mode: false,
            };
            return Ok(vec![Value::float(self.pool(&xs, local, &window, &zeros))]);
        }
        if local != "AveragePool" || output.len() > 2 {
            return Err(format!(
                "{sizes:?} positions cannot be divided into {output:?} equal windows"
            ));
        }
        self.averaged_by_matrices(&xs, &sizes, &output)
    }

    /// Windows of unequal sizes: products with matrices that average.
    fn averaged_by_matrices(&mut self, xs: &Name, sizes: &[i64], output: &[i64]) -> Lowered {
        let last = sizes.len() - 1;
        let columns = averages(sizes[last], output[last])?;
        let columns = self.named("averages", &columns)?;
        let mut pooled = self.floats("MatMul", &[xs, &columns.name]);
        if last == 1 {
            let rows = averages(sizes[0], output[0])?.f_tr().map_err(words)?;
            let rows = self.named("averages", &rows)?;
            pooled = self.floats("MatMul", &[&rows.name, &pooled.name]);
        }
        Ok(vec![pooled])
    }

    /// Arguments: tensor, pairs of numbers from the last dimension on, mode, number.
    fn pad(&mut self, given: &Given) -> Lowered {
        let xs = self.float_of(given, 0)?;
        let rank = self.rank(given.id(0)?)?;
        let pairs = given.ints(self.program, 1)?;
        let (mut before, mut behind) = (vec![0; rank], vec![0; rank]);
        for (back, pair) in pairs.chunks(2).enumerate() {
            if let ([first, last], Some(dim)) = (pair, rank.checked_sub(back + 1)) {
                (before[dim], behind[dim]) = (*first, *last);
            }
        }
        let (mode, number) = (given.text(2), given.number(3)?);
        Ok(vec![Value::float(self.padded(&xs, &before, &behind, mode, number)?)])
    }

    /// A value padded in each dimension.
    pub(super) fn padded(
        &mut self,
        xs: &Name,
        before: &[i64],
        behind: &[i64],
        mode: &str,
        number: f64,
    ) -> Result<Name, Refusal> {
        let mode = match mode {
            "constant" => "constant",
            "reflect" => "reflect",
            "replicate" => "edge",
            "circular" => "wrap",
            other => return Err(format!("ONNX does not pad by the mode `{other}`")),
        };
        let pads = self.builder.ints(&[before, behind].concat());
        let number = self.builder.float(number);
        Ok(self.builder.node("Pad", &[xs, &pads, &number], vec![text("mode", mode)]))
    }

    /// Arguments: image, sizes of the output or factors, whether corners are aligned.
    fn resized(&mut self, given: &Given) -> Lowered {
        let xs = self.float_of(given, 0)?;
        let (id, factors) = (given.id(0)?, given.numbers(2));
        let rank = self.rank(id)?;
        let name = given.call.name;
        let align = given.flag(3);
        let mode = match name {
            _ if name.contains("nearest") => "nearest",
            _ if name.contains("bicubic") => "cubic",
            _ => "linear",
        };
        let transformation = match (mode, align) {
            ("nearest", _) => "asymmetric",
            (_, true) => "align_corners",
            (_, false) => "half_pixel",
        };
        let mut attributes =
            vec![text("mode", mode), text("coordinate_transformation_mode", transformation)];
        match mode {
            "nearest" => attributes.push(text("nearest_mode", "floor")),
            "cubic" => attributes.push(float("cubic_coeff_a", -0.75)),
            _ => {}
        }
        let none = Name::from("");
        let output = if given.is_given(1) { Some(given.sizes(self.program, 1)?) } else { None };
        let factors = match &output {
            Some(output) => self.factors(id, output),
            None => Some(factors.to_vec()),
        };
        let resized = if let Some(factors) = factors {
            let ones = vec![1.; rank.saturating_sub(factors.len())];
            let all: Vec<f32> =
                ones.into_iter().chain(factors).map(|factor| factor as f32).collect();
            let scales = Tensor::f_from_slice(&all)
                .and_then(|scales| self.builder.weight("scales", &scales))
                .map_err(words)?;
            self.builder.node("Resize", &[&xs, &none, &scales], attributes)
        } else {
            let output = output.unwrap_or_default();
            let first = rank.saturating_sub(output.len()) as i64;
            let range = vec![int("start", 0), int("end", first)];
            let front = self.builder.node("Shape", &[&xs], range);
            let back = self.sizes(&output)?;
            let sizes = self.builder.node("Concat", &[&front, &back], vec![int("axis", 0)]);
            self.builder.node("Resize", &[&xs, &none, &none, &sizes], attributes)
        };
        Ok(vec![Value::float(resized)])
    }

    /// The factors of a resize to sizes that are whole multiples of fixed ones, which are exact.
    fn factors(&self, id: crate::graph::ValueId, output: &[Size]) -> Option<Vec<f64>> {
        let sizes = self.program.sizes(id)?;
        let first = sizes.len().checked_sub(output.len())?;
        let factor = |(size, output): (&Option<i64>, &Size)| match (size, output) {
            (Some(size), Size::Fixed(output)) if *size > 0 && output % size == 0 => {
                Some((output / size) as f64)
            }
            // A multiple of the image's own size.
            (None, Size::Of { value, dim, times, over: 1 })
                if *value == id && sizes.get(*dim) == Some(&None) =>
            {
                Some(*times as f64)
            }
            _ => None,
        };
        sizes[first..].iter().zip(output).map(factor).collect()
    }
}

/// `[size, output]`: column `i` averages the positions of window `i` of an adaptive pool.
fn averages(size: i64, output: i64) -> Result<Tensor, Refusal> {
    let mut matrix = vec![0_f64; (size * output) as usize];
    for window in 0..output {
        let start = window * size / output;
        let end = ((window + 1) * size + output - 1) / output;
        for position in start..end {
            matrix[(position * output + window) as usize] = 1. / (end - start) as f64;
        }
    }
    Tensor::f_from_slice(&matrix).and_then(|matrix| matrix.f_view([size, output])).map_err(words)
}
