//! The steps of a network: each reads some tensors and makes new ones.

use super::{Image, Network};

pub(super) const WIDTHS: [i64; 4] = [4, 8, 8, 12];

/// Elementwise functions, most of which keep zero.
pub(super) const FUNCTIONS: &[&str] = &[
    "relu()",
    "relu()",
    "relu()",
    "silu()",
    "tanh()",
    "leaky_relu()",
    "hardtanh()",
    "gelu(\"none\")",
    "clamp(-0.5, 2.)",
    "sin()",
    "sigmoid()",
    "g_mul_scalar(1.5)",
];

impl Network {
    pub(super) fn stem(&mut self) -> Image {
        let width = self.width();
        let conv = self.convolution(3, width, 3, 1);
        let value = format!("xs.apply(&{conv})");
        let image = self.bind(&value, width, 8);
        self.normed(&image)
    }

    pub(super) fn step(&mut self) {
        let image = self.image();
        let made = match self.rng.u32(0..30) {
            0..4 => self.plain(&image),
            4 => self.function(&image),
            5 | 6 => self.sum(&image),
            7 => self.product(&image),
            8 => self.gate(&image),
            9 | 10 => self.concatenation(&image),
            11 => self.parts(&image),
            12 => self.windows(&image),
            13 => self.pads(&image),
            14 => self.in_place(&image),
            15 => self.blocks(&image),
            16 => self.branch(&image),
            17 => self.closure(&image),
            18 => self.helper(&image),
            19 => self.again(&image),
            20 => self.tensor(&image),
            21 => self.views(&image),
            22 => self.tokens(&image),
            23 => self.stored(&image),
            24 => self.unread(&image),
            25 => self.attention(&image),
            26 => self.alias(&image),
            27 => self.transposed(&image),
            28 => self.constants(&image),
            _ => self.reduced(&image),
        };
        self.images.push(made);
    }

    pub(super) fn plain(&mut self, image: &Image) -> Image {
        let channels = image.channels;
        let (groups, width) = match self.rng.u32(0..4) {
            0 => (channels, channels * self.rng.i64(1..3)),
            1 if channels % 2 == 0 => (2, channels),
            _ => (1, self.width()),
        };
        let conv = self.convolution(channels, width, 3, groups);
        let value = self.applied(&conv, &image.name);
        let made = self.bind(&value, width, image.size);
        self.normed(&made)
    }

    pub(super) fn function(&mut self, image: &Image) -> Image {
        let value = match self.rng.u32(0..4) {
            0 => format!("functional::map(&{}, |xs| xs.erf() * 2.)", image.name),
            1 => format!("(&{} * 2. - 0.)", image.name),
            2 => format!("{}.dropout(0.5, false).contiguous()", image.name),
            _ => format!("{}.{}", image.name, self.pick(FUNCTIONS)),
        };
        self.bind(&value, image.channels, image.size)
    }

    /// Another tensor of the same shape: an existing or a new one.
    pub(super) fn partner(&mut self, image: &Image) -> Image {
        let other = self.image();
        if other.size != image.size {
            return self.widened(image, image.channels);
        }
        if other.channels == image.channels && other.name != image.name {
            return other;
        }
        self.widened(&other, image.channels)
    }

    pub(super) fn sum(&mut self, image: &Image) -> Image {
        let other = self.partner(image);
        let (a, b) = (&image.name, &other.name);
        let value = match self.rng.u32(0..6) {
            0 => format!("{a}.g_add(&{b})"),
            1 => format!("({a}.relu() - &{b})"),
            2 => format!("[&{a}, &{b}].into_iter().fold({a}.zeros_like(), |sum, xs| sum + xs)"),
            3 => format!("Tensor::stack(&[&{a}, &{b}], 0).sum_dim_intlist(&[0][..], false, None)"),
            4 => format!("{a}.maximum(&{b})"),
            _ => format!("(&{a} + &{b})"),
        };
        let made = self.bind(&value, image.channels, image.size);
        if self.chance(50) { self.function(&made) } else { made }
    }

    pub(super) fn product(&mut self, image: &Image) -> Image {
        let other = self.partner(image);
        let (a, b) = (&image.name, &other.name);
        let value = match self.rng.u32(0..4) {
            0 => format!("(&{a} * &{b})"),
            1 => format!("{a}.g_mul(&{b}.sigmoid())"),
            2 => format!("({b}.mean_dim(&[2, 3][..], true, None).sigmoid() * &{a})"),
            _ => format!("(&{a} / ({b}.abs() + 1.))"),
        };
        self.bind(&value, image.channels, image.size)
    }

    /// Squeeze and excitation, or a gate of one channel.
    pub(super) fn gate(&mut self, image: &Image) -> Image {
        if self.chance(30) {
            let conv = self.convolution(image.channels, 1, 3, 1);
            let value = format!("(&{0} * {0}.apply(&{conv}).sigmoid())", image.name);
            return self.bind(&value, image.channels, image.size);
        }
        let (squeeze, expand) =
            (self.convolution(image.channels, 4, 1, 1), self.convolution(4, image.channels, 1, 1));
        let mean = self.pick(&[
            "adaptive_avg_pool2d([1, 1])",
            "mean_dim(&[-1, -2][..], true, Kind::Double)",
            "amax([2, 3], true)",
        ]);
        let value = format!(
            "(&{0} * {0}.{mean}.apply(&{squeeze}).relu().apply(&{expand}).sigmoid())",
            image.name
        );
        self.bind(&value, image.channels, image.size)
    }

    pub(super) fn concatenation(&mut self, image: &Image) -> Image {
        let mut parts = vec![image.clone()];
        for _ in 0..self.rng.usize(1..3) {
            let other = self.image();
            parts.push(if other.size == image.size { other } else { self.widened(image, 4) });
        }
        self.rng.shuffle(&mut parts);
        let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
        let value = match self.rng.u32(0..3) {
            0 => format!("Tensor::cat(&[&{}], 1)", names.join(", &")),
            1 => format!("Tensor::hstack(&[{}.shallow_clone()])", names.join(".shallow_clone(), ")),
            _ => format!(
                "{{ let mut all = vec![&{}]; all.reverse(); Tensor::concat(&all, -3) }}",
                names.join(", &")
            ),
        };
        let width = parts.iter().map(|part| part.channels).sum();
        let made = self.bind(&value, width, image.size);
        if width > 24 { self.widened(&made, 8) } else { made }
    }

    pub(super) fn parts(&mut self, image: &Image) -> Image {
        let (a, channels) = (&image.name, image.channels);
        let (value, width) = match self.rng.u32(0..7) {
            0 => (
                format!("{{ let p = {a}.chunk(2, 1); Tensor::cat(&[&p[1], &p[0]], 1) }}"),
                channels,
            ),
            1 => (
                format!("{{ let p = {a}.chunk(4, 1); &p[3] * p[1].sigmoid() + &p[0] }}"),
                channels / 4,
            ),
            2 => (format!("{a}.glu(1)"), channels / 2),
            3 => (
                format!(
                    "{{ let mut p = {a}.chunk(2, 1); let b = p.pop().unwrap(); let c = p.pop().unwrap(); Tensor::cat(&[b.relu(), c], 1) }}"
                ),
                channels,
            ),
            4 => (
                format!(
                    "{{ let c = {a}.size()[1]; Tensor::cat(&[{a}.narrow(1, c / 2, c / 2), {a}.slice(1, 0, c / 2, 1)], 1) }}"
                ),
                channels,
            ),
            5 => (
                format!(
                    "Tensor::cat(&[{a}.narrow(2, 2, {0}), {a}.i((.., .., ..2, ..))], 2)",
                    image.size - 2
                ),
                channels,
            ),
            _ => (
                format!(
                    "{a}.split({a}.size()[1] / 2, 1).iter().fold({a}.narrow(1, 0, {a}.size()[1] / 2), |sum, part| sum * 0.5 + part)"
                ),
                channels / 2,
            ),
        };
        if image.channels % 4 != 0 || image.size < 4 {
            return self.function(image);
        }
        self.bind(&value, width, image.size)
    }

    pub(super) fn windows(&mut self, image: &Image) -> Image {
        let (a, size) = (&image.name, image.size);
        let (value, size) = match self.rng.u32(0..5) {
            0 if size >= 4 => (format!("{a}.max_pool2d_default(2)"), size / 2),
            1 if size >= 4 => {
                (format!("{a}.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)"), size / 2)
            }
            2 if size < 8 => {
                (format!("{a}.upsample_nearest2d([{0}, {0}], None, None)", size * 2), size * 2)
            }
            3 if size < 8 => (
                format!("{a}.upsample_bilinear2d([{0}, {0}], false, None, None)", size * 2),
                size * 2,
            ),
            _ => (format!("{a}.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false)"), size),
        };
        self.bind(&value, image.channels, size)
    }

    pub(super) fn pads(&mut self, image: &Image) -> Image {
        let (a, size) = (&image.name, image.size);
        let (value, width, size) = match self.rng.u32(0..5) {
            0 => (
                format!("{a}.zero_pad2d(1, 0, 0, 1).narrow(3, 0, {size}).narrow(2, 1, {size})"),
                image.channels,
                size,
            ),
            1 => (format!("{a}.constant_pad_nd([0, 0, 0, 0, 1, 3])"), image.channels + 4, size),
            2 => (
                format!(
                    "{a}.pad([1, 0, 1, 0], \"reflect\", None).avg_pool2d([2, 2], [1, 1], [0, 0], false, true, None)"
                ),
                image.channels,
                size,
            ),
            3 => (
                format!("{a}.replication_pad2d([0, 2, 2, 0]).i((.., .., 2.., ..{size}))"),
                image.channels,
                size,
            ),
            _ => (format!("{a}.roll([1], [2]).flip([3])"), image.channels, size),
        };
        self.bind(&value, width, size)
    }

    /// Changes a copy, or the tensor itself, so that its other uses see the change.
    pub(super) fn in_place(&mut self, image: &Image) -> Image {
        let other = self.partner(image);
        let name = self.name("m");
        let from = self.pick(&["copy()", "shallow_clone()", "g_mul_scalar(2.)"]);
        self.say(format!("let mut {name} = {}.{from};", image.name));
        for _ in 0..self.rng.usize(1..3) {
            let change = match self.rng.u32(0..6) {
                0 => format!("{name} += &{};", other.name),
                1 => format!("{name} *= &{};", other.name),
                2 => format!("{name} *= 0.5;"),
                3 => format!("let _ = {name}.tanh_();"),
                4 => format!("let _ = {name}.g_sub_(&{});", other.name),
                _ => format!("let _ = {name}.relu_();"),
            };
            self.say(change);
        }
        self.bind(&name, image.channels, image.size)
    }

    /// Handles, views and parts of one tensor, some of which are changed.
    pub(super) fn alias(&mut self, image: &Image) -> Image {
        let a = &image.name;
        let view = self.pick(&[
            "unsqueeze(0)",
            "squeeze_dim(0)",
            "detach()",
            "transpose(1, 2)",
            "shallow_clone()",
        ]);
        let change = self.pick(&[
            "sigmoid_()",
            "relu_()",
            "tanh_()",
            "g_add_scalar_(0.5)",
            "g_mul_scalar_(0.5)",
        ]);
        let whole = self.name("w");
        self.say(format!("let {whole} = {a}.g_mul_scalar(1.5);"));
        match self.rng.u32(0..4) {
            // A block that changes its input.
            0 => {
                let field = self.field("act", "InPlace", "InPlace".to_owned());
                let value = self.applied(&field, &whole);
                self.say(format!("let _ = {value};"));
            }
            // A block that returns its input, which is then changed.
            1 => {
                let ty = self.pick(&["Stage", "Rows"]);
                let init = if ty == "Stage" { "Stage::Nothing" } else { "Rows" };
                let field = self.field("same", ty, init.to_owned());
                let value = self.applied_t(&field, &whole);
                self.say(format!("{{ let mut same = {value}; let _ = same.{change}; }}"));
            }
            _ => {
                self.say(format!("{{ let mut view = {whole}.{view}; let _ = view.{change}; }}"));
            }
        }
        self.bind(&format!("{whole}.shallow_clone()"), image.channels, image.size)
    }

    pub(super) fn transposed(&mut self, image: &Image) -> Image {
        if image.size > 4 {
            return self.windows(image);
        }
        let width = self.width();
        let ty = self.pick(&["nn", "own"]);
        let config = "nn::ConvTransposeConfig { stride: 2, ..Default::default() }";
        let init = format!("{ty}::conv_transpose2d(p, {}, {width}, 2, {config})", image.channels);
        let field = self.field("up", &format!("{ty}::ConvTranspose2D"), init);
        let value = self.applied(&field, &image.name);
        let made = self.bind(&value, width, image.size * 2);
        self.normed(&made)
    }

    pub(super) fn constants(&mut self, image: &Image) -> Image {
        let (a, c) = (&image.name, image.channels);
        let (value, width) = match self.rng.u32(0..5) {
            0 => (format!("(&{a} * Tensor::full([1], 0.5, ({a}.kind(), {a}.device())))"), c),
            1 => (format!("Tensor::cat(&[&{a}.zeros_like(), &{a}], 1)"), 2 * c),
            2 => (format!("Tensor::cat(&[{a}.ones_like() * 0.3, {a}.shallow_clone()], 1)"), 2 * c),
            3 => (
                format!(
                    "(&{a} + Tensor::zeros([1, 1, {0}, {0}], (Kind::Double, Device::Cpu)) + 0.)",
                    image.size
                ),
                c,
            ),
            _ => (
                format!(
                    "{a}.masked_fill(&Tensor::ones([1, {}], (Kind::Bool, Device::Cpu)), 0.).g_add(&{a})",
                    image.size
                ),
                c,
            ),
        };
        let made = self.bind(&value, width, image.size);
        if width > 24 { self.widened(&made, 8) } else { made }
    }

    /// Reductions over positions, and over channels.
    pub(super) fn reduced(&mut self, image: &Image) -> Image {
        let a = &image.name;
        let value = match self.rng.u32(0..7) {
            0 => format!("(&{a} - {a}.mean_dim(&[2, 3][..], true, None))"),
            1 => format!("{a}.cumsum(3, None) * 0.2"),
            2 => format!("(&{a} * {a}.softmax(3, None))"),
            3 => format!("(&{a} / ({a}.norm_scalaropt_dim(2, [2, 3], true) + 1.))"),
            4 => format!("(&{a} * {a}.softmax(1, None))"),
            5 => format!(
                "{a}.instance_norm(None::<&Tensor>, None, None, None, true, 0.1, 1e-5, false)"
            ),
            _ => format!("{a}.amax([3], true).expand_as(&{a}) + &{a}"),
        };
        self.bind(&value, image.channels, image.size)
    }

    /// Writes the returned value: one tensor `[2, 3]`.
    pub(super) fn head(&mut self) {
        let image = self.images[self.images.len() - 1].clone();
        if self.chance(15) {
            let field = self.option("early", "bool", "true");
            let conv = self.convolution(image.channels, 3, 1, 1);
            self.say(format!(
                "if {field} {{ return {}.apply(&{conv}).mean_dim(&[2, 3][..], false, None); }}",
                image.name
            ));
            self.say("xs.mean_dim(&[2, 3][..], false, None)".to_owned());
            return;
        }
        let mut outputs = vec![self.output(&image)];
        if self.chance(40) {
            let other = self.image();
            outputs.push(self.output(&other));
        }
        self.say(outputs.join(" + "));
    }

    pub(super) fn output(&mut self, image: &Image) -> String {
        let (a, c, positions) = (&image.name, image.channels, image.size * image.size);
        let (value, features) = match self.rng.u32(0..6) {
            0 => (format!("{a}.flatten(1, -1)"), c * positions),
            1 => (format!("{a}.permute([0, 2, 3, 1]).flatten(1, 3)"), c * positions),
            2 => (format!("{a}.mean_dim(&[2, 3][..], false, None)"), c),
            3 => (format!("{a}.adaptive_avg_pool2d([1, 1]).squeeze_dim(-1).squeeze_dim(-1)"), c),
            4 => (
                format!(
                    "{{ let (n, ..) = {a}.size4().unwrap(); {a}.adaptive_max_pool2d([2, 2]).0.reshape([n, -1]) }}"
                ),
                c * 4,
            ),
            _ => (format!("{a}.adaptive_avg_pool2d([1, 1]).contiguous().flat_view()"), c),
        };
        let field = self.field("head", "nn::Linear", format!("linear(p, {features}, 3)"));
        self.applied(&field, &format!("({value})"))
    }
}
