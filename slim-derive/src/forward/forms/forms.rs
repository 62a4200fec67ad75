//! Items for the tests of `#[forward]`, which expand these items but do not compile them.

#[forward]
impl nn::ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let ys = self.bn1.forward_t(&self.conv1.forward(xs), train).relu();
        let shortcut = match &self.downsample {
            Some((conv, bn)) => xs.apply(conv).apply_t(bn, train),
            None => xs.shallow_clone(),
        };
        Tensor::cat(&[ys, shortcut, &self.token], 1)
    }
}

#[forward]
impl<B, const N: usize> tch::nn::Module for Generic<'_, B, N>
where
    B: ModuleT,
{
    fn forward(&self, xs: &T) -> T {
        chain(&self.blocks, xs, false, T::relu).apply_opt_t(&self.head, false)
    }
}

#[forward]
impl<B: Layer> Tree<B> {
    const FACTOR: f64 = 2.;
    /// Applies one layer again and again.
    #[must_use]
    pub fn twice(&self, xs: &Tensor, times: i64) -> Result<Tensor, tch::TchError> {
        Ok((0..times).fold(xs.shallow_clone(), |xs, _| Self::scaled(&xs, Self::FACTOR)))
    }
    fn scaled(xs: &Tensor, by: f64) -> Tensor {
        xs * by
    }
    fn untouched(&self) -> usize {
        self.layers.len()
    }
}

#[forward]
impl Two {
    fn forward_t(&self, image: &Tensor, mask: Tensor, train: bool) -> (Tensor, Tensor) {
        let xs = nn::Module::forward(&self.a, image) + ModuleT::forward_t(&self.b, &mask, train);
        (xs.apply(&self.c), xs)
    }
}

#[forward]
impl Encoder {
    pub(crate) fn forward(&self, xs: &Tensor) -> (Tensor, Tensor) {
        (xs.apply(&self.mean), self.var.forward(xs))
    }
}

#[forward]
impl Up {
    fn forward(&self, xs: &Tensor, skip: Option<&Tensor>) -> Tensor {
        match skip {
            Some(skip) => Tensor::cat(&[xs, skip], 1),
            None => xs.shallow_clone(),
        }
    }
}

#[forward]
fn chain<M: ModuleT>(layers: &[M], xs: &Tensor, act: impl Fn(&Tensor) -> Tensor) -> Tensor {
    layers.iter().fold(xs.shallow_clone(), |xs, layer| act(&xs.apply(layer)))
}

#[forward]
fn first<'a>(xs: &'a [tch::Tensor], (a, b): (i64, i64), mut n: i64) -> &'a ::tch::Tensor {
    n += a + b;
    &xs[n as usize]
}
