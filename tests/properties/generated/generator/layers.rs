//! Layers that steps apply.

use super::steps::{FUNCTIONS, WIDTHS};
use super::{Image, Network};

impl Network {
    pub(super) fn width(&mut self) -> i64 {
        WIDTHS[self.rng.usize(0..WIDTHS.len())]
    }

    /// Adds a convolution as a field, of tch's type or the drop-in's.
    pub(super) fn convolution(
        &mut self,
        inputs: i64,
        outputs: i64,
        kernel: i64,
        groups: i64,
    ) -> String {
        let bias = self.chance(30);
        let own = groups == inputs || self.chance(40);
        let (ty, make) = if own { ("own::Conv2D", "own_conv") } else { ("nn::Conv2D", "conv") };
        let init = format!("{make}(p, {inputs}, {outputs}, {kernel}, {groups}, {bias})");
        let field = self.field("conv", ty, init);
        if groups == 1 {
            self.convolutions.push((field.clone(), inputs, outputs));
        }
        field
    }

    pub(super) fn norm(&mut self, channels: i64) -> String {
        let ty = self.pick(&["nn", "own"]);
        let init = format!("{ty}::batch_norm2d(p, {channels}, Default::default())");
        self.field("bn", &format!("{ty}::BatchNorm"), init)
    }

    pub(super) fn applied(&mut self, layer: &str, xs: &str) -> String {
        match self.rng.u32(0..4) {
            0 => format!("{layer}.forward(&{xs})"),
            1 => format!("Module::forward(&{layer}, &{xs})"),
            _ => format!("{xs}.apply(&{layer})"),
        }
    }

    pub(super) fn applied_t(&mut self, layer: &str, xs: &str) -> String {
        match self.rng.u32(0..4) {
            0 => format!("{layer}.forward_t(&{xs}, train)"),
            1 => format!("<_ as ModuleT>::forward_t(&{layer}, &{xs}, train)"),
            _ => format!("{xs}.apply_t(&{layer}, train)"),
        }
    }

    /// The image behind a batch norm and a function, mostly.
    pub(super) fn normed(&mut self, image: &Image) -> Image {
        let mut value = image.name.clone();
        if self.chance(90) {
            let norm = self.norm(image.channels);
            value = self.applied_t(&norm, &value);
        }
        if self.chance(75) {
            let function = self.pick(FUNCTIONS);
            value = format!("({value}).{function}");
        }
        self.bind(&format!("({value}).shallow_clone()"), image.channels, image.size)
    }

    /// A convolution to `width` channels, mostly with a batch norm and a function behind it.
    pub(super) fn widened(&mut self, image: &Image, width: i64) -> Image {
        let kernel = if self.chance(50) { 3 } else { 1 };
        let conv = self.convolution(image.channels, width, kernel, 1);
        let value = self.applied(&conv, &image.name);
        let made = self.bind(&value, width, image.size);
        self.normed(&made)
    }
}
