//! Layers with weights, and norms.

use tch::{Kind, Tensor};

use super::attribute::{float, int, ints};
use super::builder::Name;
use super::lower::{Given, Lowered, Lowering, Refusal, Value, words};
use super::quantise::{Affine, quantised};

impl Lowering<'_> {
    pub(super) fn layers(&mut self, given: &Given) -> Option<Lowered> {
        Some(match given.call.name {
            "conv" => self.convolution(given, false),
            "conv_transpose" => self.convolution(given, true),
            "linear" => self.linear(given),
            "batch_norm" => self.batch_norm(given),
            "layer_norm" => self.layer_norm(given),
            "group_norm" => self.group_norm(given),
            "instance_norm" => self.instance_norm(given),
            "embedding" => self.embedding(given),
            "channels at" => self.channels_at(given),
            _ => return None,
        })
    }

    /// The weight and the bias of a layer, with the batch norm behind it where that is folded.
    fn weights(&mut self, given: &Given) -> Result<(Tensor, Option<Tensor>, bool), Refusal> {
        if let Some(folded) = self.folds.weights_of(given.index) {
            let bias = folded.bias.as_ref().map(Tensor::shallow_clone);
            return Ok((folded.weight.shallow_clone(), bias, true));
        }
        let weight = given.weight(1)?.shallow_clone();
        Ok((weight, given.tensor(2).map(Tensor::shallow_clone), false))
    }

    /// The names of a layer's weight and bias, in integers where the layer computes in 8 bits.
    fn parameters(&mut self, given: &Given, xs: &Name) -> Result<(Name, Option<Name>), Refusal> {
        match self.affine(xs).filter(|_| self.int8.has(given.index)) {
            Some(input) => self.integers(given, input, false),
            None => self.floating(given),
        }
    }

    /// A weight of 8 bits and a bias of 32, each with a `DequantizeLinear` behind it. A linear
    /// layer over positions reads its weight `transposed`, and adds the bias in floats.
    fn integers(
        &mut self,
        given: &Given,
        input: Affine,
        transposed: bool,
    ) -> Result<(Name, Option<Name>), Refusal> {
        let (weight, bias, _) = self.weights(given)?;
        let bias = bias.filter(|_| !transposed);
        let levels = self.int8.levels;
        let quantised = quantised(&weight, bias.as_ref(), input, levels).map_err(words)?;
        let (path, bias_path) = self.parameter_paths(given)?;
        let axis = i64::from(transposed);
        let integers =
            if transposed { quantised.weight.f_tr().map_err(words)? } else { quantised.weight };
        let zero = quantised.scale.f_zeros_like().and_then(|zeros| zeros.f_to_kind(Kind::Int8));
        let zero = self.raw(&format!("{path}.zero"), &zero.map_err(words)?)?;
        let weight = self.raw(&path, &integers)?;
        let scale = self.raw(&format!("{path}.scale"), &quantised.scale)?;
        let weight = self.dequantised(&[&weight, &scale, &zero], axis);
        let Some(bias) = quantised.bias else { return Ok((weight, None)) };
        let bias = self.raw(&bias_path, &bias)?;
        let scale = self.raw(&format!("{bias_path}.scale"), &quantised.bias_scale)?;
        Ok((weight, Some(self.dequantised(&[&bias, &scale], 0))))
    }

    fn raw(&mut self, name: &str, tensor: &Tensor) -> Result<Name, Refusal> {
        self.builder.weight(name, tensor).map_err(words)
    }

    fn dequantised(&mut self, inputs: &[&Name], axis: i64) -> Name {
        self.builder.node("DequantizeLinear", inputs, vec![int("axis", axis)])
    }

    /// The paths of a layer's weight and bias. A folded bias may have none in the network to be
    /// named by.
    fn parameter_paths(&self, given: &Given) -> Result<(String, String), Refusal> {
        let path = self.path_of(given.weight(1)?);
        let bias_path = match given.tensor(2) {
            Some(bias) => self.path_of(bias),
            None => {
                path.strip_suffix("weight").map_or("bias".to_owned(), |path| format!("{path}bias"))
            }
        };
        Ok((path, bias_path))
    }

    /// The names of a layer's weight and bias.
    fn floating(&mut self, given: &Given) -> Result<(Name, Option<Name>), Refusal> {
        let (weight, bias, is_folded) = self.weights(given)?;
        if !is_folded {
            let weight = self.tensor(&weight)?.name;
            let bias = bias.as_ref().map(|bias| self.tensor(bias)).transpose()?;
            return Ok((weight, bias.map(|bias| bias.name)));
        }
        let (path, bias_path) = self.parameter_paths(given)?;
        let weight = self.named(&path, &weight)?.name;
        let bias = bias.as_ref().map(|bias| self.named(&bias_path, bias)).transpose()?;
        Ok((weight, bias.map(|bias| bias.name)))
    }

    /// Arguments: input, weight, bias, groups, stride, padding, dilation, mode; of a transposed
    /// convolution, also the output's padding.
    fn convolution(&mut self, given: &Given, transposed: bool) -> Lowered {
        if !given.is_given(4) {
            return Err(
                "tch does not say its stride and padding; build it with `slim_runtime::nn`"
                    .to_owned(),
            );
        }
        let mut xs = self.float_of(given, 0)?;
        let kernel: Vec<i64> = given.weight(1)?.size().into_iter().skip(2).collect();
        let (weight, bias) = self.parameters(given, &xs)?;
        let groups = given.int(self.program, 3)?;
        let [stride, mut padding, dilation] =
            [4, 5, 6].map(|index| given.ints(self.program, index).unwrap_or_default());
        let mode = given.text(7);
        if mode != "constant" && padding.iter().any(|&side| side != 0) {
            let sides = vec![0; 2].into_iter().chain(padding.iter().copied());
            let sides: Vec<i64> = sides.collect();
            xs = self.padded(&xs, &sides, &sides, mode, 0.)?;
            padding = vec![0; padding.len()];
        }
        let both = [&padding[..], &padding[..]].concat();
        let mut attributes = vec![
            ints("kernel_shape", &kernel),
            ints("strides", &stride),
            ints("pads", &both),
            ints("dilations", &dilation),
            int("group", groups),
        ];
        if transposed {
            attributes.push(ints("output_padding", &given.ints(self.program, 8)?));
        }
        let inputs: Vec<&Name> = [&xs, &weight].into_iter().chain(&bias).collect();
        let operator = if transposed { "ConvTranspose" } else { "Conv" };
        Ok(vec![Value::float(self.builder.node(operator, &inputs, attributes))])
    }

    /// Arguments: input, weight `[out, in]`, bias.
    fn linear(&mut self, given: &Given) -> Lowered {
        let xs = self.float_of(given, 0)?;
        if self.program.rank(given.id(0)?) == Some(2) {
            let (weight, bias) = self.parameters(given, &xs)?;
            let inputs: Vec<&Name> = [&xs, &weight].into_iter().chain(&bias).collect();
            return Ok(vec![Value::float(self.builder.node(
                "Gemm",
                &inputs,
                vec![int("transB", 1)],
            ))]);
        }
        let (weight, bias, _) = self.weights(given)?;
        let transposed = match self.affine(&xs).filter(|_| self.int8.has(given.index)) {
            Some(input) => self.integers(given, input, true)?.0,
            None => {
                let transposed = weight.f_tr().map_err(words)?;
                self.derived(given.weight(1)?, "transposed", &transposed)?.name
            }
        };
        let product = self.floats("MatMul", &[&xs, &transposed]);
        Ok(vec![match bias {
            Some(bias) => {
                let bias = self.tensor(&bias)?;
                self.floats("Add", &[&product.name, &bias.name])
            }
            None => product,
        }])
    }

    /// Arguments: input, mean, variance, γ, β, ε.
    fn batch_norm(&mut self, given: &Given) -> Lowered {
        let xs = self.float_of(given, 0)?;
        let (mean, variance) = (given.weight(1)?, given.weight(2)?);
        let eps = self.eps(given, 5)?;
        let scale = self.or_filled(given.tensor(3), mean, 1.)?;
        let shift = self.or_filled(given.tensor(4), mean, 0.)?;
        let (mean, variance) = (self.tensor(mean)?, self.tensor(variance)?);
        let inputs = [&xs, &scale, &shift, &mean.name, &variance.name];
        Ok(vec![Value::float(self.builder.node(
            "BatchNormalization",
            &inputs,
            vec![float("epsilon", eps)],
        ))])
    }

    fn eps(&self, given: &Given, index: usize) -> Result<f64, Refusal> {
        given
            .number_or_none(index)
            .ok_or_else(|| "tch does not say its ε; build it with `slim_runtime::nn`".to_owned())
    }

    /// A parameter, or a tensor of one number in the shape of another.
    fn or_filled(
        &mut self,
        parameter: Option<&Tensor>,
        like: &Tensor,
        number: f64,
    ) -> Result<Name, Refusal> {
        match parameter {
            Some(parameter) => Ok(self.tensor(parameter)?.name),
            None => self.filled_vector(&like.size(), number),
        }
    }

    /// A tensor of one number.
    fn filled_vector(&mut self, sizes: &[i64], number: f64) -> Result<Name, Refusal> {
        let options = (self.kind, tch::Device::Cpu);
        let filled = Tensor::f_full(sizes, number, options).map_err(words)?;
        Ok(self.named("constant", &filled)?.name)
    }

    /// Arguments: input, number of dimensions, γ, β, ε.
    fn layer_norm(&mut self, given: &Given) -> Lowered {
        let (xs, count) = (self.float_of(given, 0)?, given.int(self.program, 1)?);
        let eps = self.eps(given, 4)?;
        let scale = match (given.tensor(2), given.tensor(3)) {
            (Some(scale), _) => self.tensor(scale)?.name,
            (None, Some(shift)) => self.filled_vector(&shift.size(), 1.)?,
            (None, None) => {
                let sizes = self.fixed_last(given.id(0)?, count)?;
                self.filled_vector(&sizes, 1.)?
            }
        };
        let shift = given.tensor(3).map(|shift| self.tensor(shift)).transpose()?;
        let inputs: Vec<&Name> =
            [&xs, &scale].into_iter().chain(shift.as_ref().map(|shift| &shift.name)).collect();
        let attributes = vec![int("axis", -count), float("epsilon", eps)];
        Ok(vec![Value::float(self.builder.node("LayerNormalization", &inputs, attributes))])
    }

    /// The last sizes of a value, which must be fixed.
    fn fixed_last(&self, id: crate::graph::ValueId, count: i64) -> Result<Vec<i64>, Refusal> {
        let rank = self.rank(id)?;
        let first = rank.saturating_sub(usize::try_from(count).unwrap_or(0));
        (first..rank).map(|dim| self.fixed_size(id, dim)).collect()
    }

    /// Arguments: input, number of groups, γ, β, ε. Written as an instance norm over the groups.
    fn group_norm(&mut self, given: &Given) -> Lowered {
        let (xs, groups) = (self.float_of(given, 0)?, given.int(self.program, 1)?);
        let eps = self.eps(given, 4)?;
        let rank = self.rank(given.id(0)?)?;
        let shape = self.shape(&xs);
        let by_group = self.reshaped(&xs, &[0, groups, -1]);
        let (one, zero) = (self.filled_vector(&[groups], 1.)?, self.filled_vector(&[groups], 0.)?);
        let epsilon = vec![float("epsilon", eps)];
        let normed = self.builder.node("InstanceNormalization", &[&by_group, &one, &zero], epsilon);
        let mut normed = self.floats("Reshape", &[&normed, &shape]);
        for (index, operator) in [(2, "Mul"), (3, "Add")] {
            if let Some(parameter) = given.tensor(index) {
                let parameter = self.per_channel(parameter, rank)?;
                normed = self.floats(operator, &[&normed.name, &parameter]);
            }
        }
        Ok(vec![normed])
    }

    /// One value for each channel, in dimension 1 of this many.
    fn per_channel(&mut self, parameter: &Tensor, rank: usize) -> Result<Name, Refusal> {
        let mut sizes = vec![1; rank.saturating_sub(1).max(1)];
        sizes[0] = -1;
        let viewed = parameter.f_view(&sizes[..]).map_err(words)?;
        Ok(self.derived(parameter, "per_channel", &viewed)?.name)
    }

    /// Arguments: input, γ, β, ε.
    fn instance_norm(&mut self, given: &Given) -> Lowered {
        let (xs, eps) = (self.float_of(given, 0)?, self.eps(given, 3)?);
        let channels = match given.tensor(1).or(given.tensor(2)) {
            Some(parameter) => parameter.numel() as i64,
            None => self.fixed_size(given.id(0)?, 1)?,
        };
        let mut parameter = |index: usize, number| match given.tensor(index) {
            Some(parameter) => Ok(self.tensor(parameter)?.name),
            None => self.filled_vector(&[channels], number),
        };
        let (scale, shift) = (parameter(1, 1.)?, parameter(2, 0.)?);
        let inputs = [&xs, &scale, &shift];
        let normed =
            self.builder.node("InstanceNormalization", &inputs, vec![float("epsilon", eps)]);
        Ok(vec![Value::float(normed)])
    }

    /// Arguments: indices, weight `[entries, out]`.
    fn embedding(&mut self, given: &Given) -> Lowered {
        let indices = self.value(given.id(0)?)?;
        let (indices, table) = (self.as_int(&indices), self.tensor(given.weight(1)?)?);
        Ok(vec![self.floats("Gather", &[&table.name, &indices])])
    }

    /// Arguments: input, positions of its channels.
    fn channels_at(&mut self, given: &Given) -> Lowered {
        let (xs, positions) = (self.value(given.id(0)?)?, given.ints(self.program, 1)?);
        let name = self.gathered(&xs.name, &positions, 1)?;
        Ok(vec![Value { name, element: xs.element }])
    }

    /// LSTM, GRU and RNN. Arguments: input `[N, T, C]`, weight and bias of the input, weight and
    /// bias of the recurrence, projection.
    pub(super) fn recurrent(&mut self, given: &Given) -> Option<Lowered> {
        // For each gate of ONNX, in order, its position among those of PyTorch.
        let (operator, gates): (_, &[i64]) = match given.call.name {
            "lstm" => ("LSTM", &[0, 3, 1, 2]),
            "gru" => ("GRU", &[1, 0, 2]),
            "rnn_tanh" | "rnn_relu" => ("RNN", &[0]),
            _ => return None,
        };
        Some(self.steps(given, operator, gates))
    }

    fn steps(&mut self, given: &Given, operator: &'static str, gates: &[i64]) -> Lowered {
        if given.is_given(5) {
            return Err(
                "ONNX has no LSTM with a projection; use `nn::lstm` and a linear layer".to_owned()
            );
        }
        let xs = self.float_of(given, 0)?;
        let (input, recurrent) = (given.weight(1)?, given.weight(3)?);
        let hidden = recurrent.size()[1];
        let reordered = |tensor: &Tensor| -> Result<Tensor, tch::TchError> {
            let by_gate = tensor.f_chunk(gates.len() as i64, 0)?;
            let by_gate: Vec<&Tensor> = gates.iter().map(|&gate| &by_gate[gate as usize]).collect();
            Tensor::f_cat(&by_gate, 0)?.f_unsqueeze(0)
        };
        let biases = match (given.tensor(2), given.tensor(4)) {
            (Some(of_input), Some(of_recurrence)) => {
                let both = [of_input, of_recurrence].map(reordered);
                let [of_input, of_recurrence] = both;
                let parts = [of_input.map_err(words)?, of_recurrence.map_err(words)?];
                Some(Tensor::f_cat(&parts, 1).map_err(words)?)
            }
            _ => None,
        };
        let weight = self.derived(input, "onnx", &reordered(input).map_err(words)?)?;
        let state = self.derived(recurrent, "onnx", &reordered(recurrent).map_err(words)?)?;
        let biases = biases.map(|biases| self.named("biases", &biases)).transpose()?;
        let steps = self.transposed(&xs, &[1, 0, 2]);
        let inputs: Vec<&Name> = [&steps, &weight.name, &state.name]
            .into_iter()
            .chain(biases.as_ref().map(|biases| &biases.name))
            .collect();
        let mut attributes = vec![int("hidden_size", hidden)];
        match given.call.name {
            "gru" => attributes.push(int("linear_before_reset", 1)),
            "rnn_relu" => attributes.push(super::attribute::texts("activations", &["Relu"])),
            _ => {}
        }
        let output = self.builder.node(operator, &inputs, attributes);
        // [T, directions, N, hidden]
        let axis = self.builder.ints(&[1]);
        let output = self.builder.node("Squeeze", &[&output, &axis], Vec::new());
        Ok(vec![Value::float(self.transposed(&output, &[1, 0, 2]))])
    }
}
