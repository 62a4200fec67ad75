//! Steps that shape the code: blocks, branches, closures, helpers, layers applied twice.

use super::{Image, Network};

impl Network {
    /// Hand-written blocks, in a row or as one of several.
    pub(super) fn blocks(&mut self, image: &Image) -> Image {
        let width = self.width();
        let channels = image.channels;
        let a = &image.name;
        match self.rng.u32(0..7) {
            0 => {
                let init = format!(
                    "vec![residual(&(p / 0), {channels}, {width}), residual(&(p / 1), {width}, {width})]"
                );
                let field = self.field("blocks", "Vec<Residual>", init);
                let name = self.name("l");
                self.say(format!("let mut {name} = {a}.shallow_clone();"));
                self.say(format!(
                    "for block in &{field} {{ {name} = block.forward_t(&{name}, train); }}"
                ));
                self.bind(&name, width, image.size)
            }
            1 => {
                let init =
                    format!("vec![dense(&(p / 0), {channels}), dense(&(p / 1), {channels} + 4)]");
                let field = self.field("dense", "Vec<Dense>", init);
                let value = format!(
                    "{field}.iter().fold({a}.shallow_clone(), |xs, block| xs.apply_t(block, train))"
                );
                self.bind(&value, channels + 8, image.size)
            }
            2 => {
                let field =
                    self.field("pre", "PreActivation", format!("pre_activation(p, {channels})"));
                let value = self.applied_t(&field, a);
                self.bind(&value, channels, image.size)
            }
            3 => {
                let which = self.pick(&[
                    "Residual(residual(p, C, C))",
                    "Twice([residual(&(p / 0), C, C), residual(&(p / 1), C, C)])",
                    "Nothing",
                ]);
                let which = which.replace('C', &channels.to_string());
                let field = self.field("stage", "Stage", format!("Stage::{which}"));
                let value = self.applied_t(&field, a);
                self.bind(&value, channels, image.size)
            }
            4 => {
                let field = self.field("act", "InPlace", "InPlace".to_owned());
                let value = self.applied(&field, a);
                self.bind(&value, channels, image.size)
            }
            5 => {
                let init = format!(
                    "Box::new((conv(&(p / 0), {channels}, {width}, 3, 1, false), nn::batch_norm2d(p / 1, {width}, Default::default())))"
                );
                let field = self.field("pair", "Box<(nn::Conv2D, nn::BatchNorm)>", init);
                let value = format!(
                    "{{ let (conv, bn) = &*{field}; {a}.apply(conv).apply_t(bn, train).relu() }}"
                );
                self.bind(&value, width, image.size)
            }
            _ => {
                let init = format!(
                    "Residual {{ downsample: None, ..residual(p, {channels}, {channels}) }}"
                );
                let field = self.field("block", "Residual", init);
                let value = format!("{field}.forward_t(&{field}.forward_t(&{a}, train), train)");
                self.bind(&value, channels, image.size)
            }
        }
    }

    /// A match or an early return.
    pub(super) fn branch(&mut self, image: &Image) -> Image {
        let (a, channels) = (&image.name, image.channels);
        let some = self.chance(50);
        match self.rng.u32(0..6) {
            4 => {
                let (a_conv, b_conv) = (
                    self.convolution(channels, channels, 3, 1),
                    self.convolution(channels, channels, 1, 1),
                );
                let norm = self.norm(channels);
                let value = format!(
                    "if train {{ {a}.apply(&{a_conv}).apply_t(&{norm}, train) }} else {{ {a}.apply(&{b_conv}).apply_t(&{norm}, train).relu() }}"
                );
                self.bind(&value, channels, image.size)
            }
            5 => {
                let name = self.name("l");
                self.say(format!("let mut {name} = {a}.upsample_nearest2d([16, 16], None, None);"));
                self.say(format!(
                    "while {name}.size()[2] > {} {{ {name} = {name}.max_pool2d_default(2); }}",
                    image.size
                ));
                self.bind(&name, channels, image.size)
            }
            0 => {
                let init = if some {
                    format!("Some(own_conv(p, {channels}, {channels}, 3, 1, false))")
                } else {
                    "None".to_owned()
                };
                let field = self.field("maybe", "Option<own::Conv2D>", init);
                let value = format!(
                    "match &{field} {{ Some(conv) => {a}.apply(conv).relu(), None => {a}.relu() }}"
                );
                self.bind(&value, channels, image.size)
            }
            1 => {
                let act = self.pick(&["Act::Relu", "Act::Silu", "Act::Nothing"]);
                let field = self.option("act", "Act", act);
                let value = format!(
                    "match {field} {{ Act::Relu => {a}.relu(), Act::Silu => {a}.silu(), Act::Nothing => {a}.shallow_clone() }}"
                );
                self.bind(&value, channels, image.size)
            }
            2 => {
                let field = self.field(
                    "maybe",
                    "Option<nn::BatchNorm>",
                    format!("{some}.then(|| nn::batch_norm2d(p, {channels}, Default::default()))"),
                );
                let value = format!("{a}.apply_opt_t(&{field}, train).relu()");
                self.bind(&value, channels, image.size)
            }
            _ => {
                let field = self.option("short", "bool", &some.to_string());
                let value = format!(
                    "{{ let f = |xs: &Tensor| -> Tensor {{ if {field} {{ return xs.relu(); }} xs.tanh() * 2. }}; f(&{a}) }}"
                );
                self.bind(&value, channels, image.size)
            }
        }
    }

    pub(super) fn closure(&mut self, image: &Image) -> Image {
        let conv = self.convolution(image.channels, image.channels, 3, 1);
        let norm = self.norm(image.channels);
        let name = self.name("f");
        self.say(format!("let {name} = |xs: &Tensor, times: f64| xs.apply(&{conv}).apply_t(&{norm}, train).relu() * times;"));
        let value = match self.chance(50) {
            true => format!("{name}(&{}, 2.)", image.name),
            false => format!("{name}(&{name}(&{0}, 0.5), 2.) + &{0}", image.name),
        };
        self.bind(&value, image.channels, image.size)
    }

    pub(super) fn helper(&mut self, image: &Image) -> Image {
        let width = self.width();
        let conv = self.convolution(image.channels, width, 1, 1);
        let norm = self.norm(width);
        let name = self.name("helper");
        self.helpers.push(format!(
            "fn {name}(&self, xs: &Tensor, train: bool) -> Tensor {{ let xs = xs.apply(&{conv}); act(&xs.apply_t(&{norm}, train)) }}"
        ));
        self.bind(&format!("self.{name}(&{}, train)", image.name), width, image.size)
    }

    /// A layer that is already applied elsewhere.
    pub(super) fn again(&mut self, image: &Image) -> Image {
        let fits: Vec<_> = self
            .convolutions
            .iter()
            .filter(|(_, inputs, _)| *inputs == image.channels)
            .cloned()
            .collect();
        let Some((field, _, outputs)) =
            (!fits.is_empty()).then(|| fits[self.rng.usize(0..fits.len())].clone())
        else {
            return self.plain(image);
        };
        // Some convolutions are applied to a single position, where a kernel of 3 reads the
        // padding.
        let value = self.applied(&field, &image.name);
        let made = self.bind(&value, outputs, image.size);
        self.normed(&made)
    }
}
