//! Steps that move channels between dimensions, and tensors of the model.

use super::{Image, Network};

impl Network {
    /// A tensor of the model.
    pub(super) fn tensor(&mut self, image: &Image) -> Image {
        let (a, c) = (&image.name, image.channels);
        let shape = self.pick(&["[1, C, 1, 1]", "[C, 1, 1]", "[C]"]).replace('C', &c.to_string());
        let init = format!("p.var(\"value\", &{shape}, nn::Init::Randn {{ mean: 0., stdev: 1. }})");
        let field = self.field("tensor", "Tensor", init);
        let field = match self.tensors.iter().find(|(_, known)| *known == shape) {
            Some((known, _)) if self.rng.bool() => {
                let known = known.clone();
                self.fields.pop();
                known
            }
            _ => field,
        };
        self.tensors.push((field.clone(), shape.clone()));
        let tensor = if shape.contains(',') {
            format!("&{field}")
        } else {
            format!("{field}.view([-1, 1, 1])")
        };
        let value = match self.rng.u32(0..4) {
            0 => format!("(&{a} + {tensor})"),
            1 => format!("({tensor} * &{a})"),
            _ => format!("(&{a} * {tensor})"),
        };
        self.bind(&value, c, image.size)
    }

    pub(super) fn views(&mut self, image: &Image) -> Image {
        let a = &image.name;
        let value = match self.rng.u32(0..8) {
            0 => format!("{a}.permute([0, 2, 3, 1]).relu().permute([0, 3, 1, 2])"),
            1 => format!(
                "{{ let (n, c, h, w) = {a}.size4().unwrap(); {a}.reshape([n, 2, c / 2, h, w]).transpose(1, 2).reshape([n, c, h, w]) }}"
            ),
            2 => format!(
                "{{ let (n, c, h, w) = {a}.size4().unwrap(); {a}.reshape([n, c / 2, 2, h, w]).transpose(1, 2).contiguous().view([n, c, h, w]) }}"
            ),
            3 => format!("{a}.channel_shuffle(2)"),
            4 => format!("{a}.flatten(2, 3).unflatten(2, [{0}, {0}]).transpose(2, 3)", image.size),
            5 => format!(
                "{{ let s = {a}.size(); {a}.reshape([s[0], s[1], -1]).tanh().reshape_as(&{a}) }}"
            ),
            6 => format!("{a}.unsqueeze(2).movedim([1], [0]).movedim([0], [1]).squeeze_dim(2)"),
            _ => format!("{a}.transpose(0, 1).flip([0]).transpose(1, 0)"),
        };
        if image.channels % 2 != 0 {
            return self.function(image);
        }
        self.bind(&value, image.channels, image.size)
    }

    /// Linear layers over channels in the last dimension, or over positions.
    pub(super) fn tokens(&mut self, image: &Image) -> Image {
        let (a, size) = (&image.name, image.size);
        if self.chance(25) {
            let field =
                self.field("mix", "nn::Linear", format!("linear(p, {0}, {0})", size * size));
            let value = format!("{a}.flatten(2, 3).apply(&{field}).unflatten(2, [{size}, {size}])");
            return self.bind(&value, image.channels, size);
        }
        let width = self.width();
        let ty = self.pick(&["nn::Linear", "own::Linear"]);
        let make = if ty == "nn::Linear" { "linear" } else { "own_linear" };
        let field = self.field("fc", ty, format!("{make}(p, {}, {width})", image.channels));
        let value = match self.chance(50) {
            true => format!("{a}.permute([0, 2, 3, 1]).apply(&{field}).permute([0, 3, 1, 2])"),
            false => format!(
                "{a}.flatten(2, -1).transpose(1, 2).apply(&{field}).transpose(-1, -2).unflatten(2, [{size}, {size}])"
            ),
        };
        let made = self.bind(&value, width, size);
        self.normed(&made)
    }

    /// Layers that store sizes and positions.
    pub(super) fn stored(&mut self, image: &Image) -> Image {
        let (a, c) = (&image.name, image.channels);
        match self.rng.u32(0..3) {
            0 if c % 2 == 0 => {
                let field = self.field("shuffle", "own::Shuffle", format!("own::shuffle({c}, 2)"));
                let value = self.applied(&field, a);
                self.bind(&value, c, image.size)
            }
            1 => {
                let field =
                    self.field("split", "own::Split", format!("own::split([1, {}])", c - 1));
                let value = format!(
                    "{{ let parts = {field}.forward(&{a}); Tensor::cat(&[&parts[1], &parts[0]], 1) }}"
                );
                self.bind(&value, c, image.size)
            }
            _ => {
                let field =
                    self.field("select", "own::ChannelSelect", format!("own::channel_select({c})"));
                let norm = self.norm(c);
                let value = format!("{a}.apply(&{field}).apply_t(&{norm}, train)");
                self.bind(&value, c, image.size)
            }
        }
    }

    /// A batch norm that nothing reads, or a tensor that is thrown away.
    pub(super) fn unread(&mut self, image: &Image) -> Image {
        let norm = self.norm(image.channels);
        self.say(format!("let _ = {}.apply_t(&{norm}, train);", image.name));
        self.plain(image)
    }

    pub(super) fn attention(&mut self, image: &Image) -> Image {
        let (a, c, size) = (&image.name, image.channels, image.size);
        if c % 4 != 0 || size > 4 {
            return self.gate(image);
        }
        let field = self.field("qkv", "nn::Linear", format!("linear(p, {c}, 24)"));
        let (heads, dim) = if self.chance(50) { ("2", "-1") } else { ("-1", "4") };
        let scale = if self.chance(50) { "* 0.5" } else { "/ 3." };
        let made = format!(
            "{{ let tokens = {a}.flatten(2, 3).transpose(1, 2); let (n, t, _) = tokens.size3().unwrap(); \
             let qkv = tokens.apply(&{field}).view([n, t, 3, {heads}, {dim}]).permute([2, 0, 3, 1, 4]); \
             let (q, k, v) = (qkv.select(0, 0), qkv.get(1), qkv.select(0, -1)); \
             let weights = (q.matmul(&k.transpose(-2, -1)) {scale}).softmax(-1, None); \
             weights.matmul(&v).transpose(1, 2).reshape([n, t, -1]).transpose(1, 2).unflatten(2, [{size}, {size}]) }}"
        );
        let made = self.bind(&made, 8, size);
        self.widened(&made, c)
    }
}
