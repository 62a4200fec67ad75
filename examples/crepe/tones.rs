//! Tones of known pitch, and the pitch that CREPE's probabilities mean.

use std::f64::consts::TAU;

use tch::{Device, Kind, Tensor};

/// Pitches that CREPE tells apart.
pub(crate) const BINS: i64 = 360;
const CENTS_PER_BIN: f64 = 20.;
const LOWEST_CENTS: f64 = 1_997.379_408_437_619;
const SAMPLE_RATE: f64 = 16_000.;
/// Samples in a frame.
const FRAME: i64 = 1024;
const HARMONICS: i64 = 8;
const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Frames of a tone each, and their pitches.
pub(crate) struct Tones {
    /// `[N, 1, 1024]`, each of mean 0 and standard deviation 1.
    pub(crate) frames: Tensor,
    /// `[N, 1]`, in cents above 10 Hz.
    cents: Tensor,
}

impl Tones {
    /// Pitches between 60 and 1,500 Hz. Half of the tones are sines, half have harmonics of random
    /// strength; noise is 5 to 30 dB below.
    pub(crate) fn new(count: i64, seed: i64) -> Self {
        tch::manual_seed(seed);
        let uniform =
            |low: f64, high: f64, size: &[i64]| Tensor::empty(size, FLOAT).uniform_(low, high);
        let cents = |hertz: f64| 1200. * (hertz / 10.).log2();
        let cents = uniform(cents(60.), cents(1500.), &[count, 1]);
        let hertz = ((&cents / 1200.).exp2() * 10.).unsqueeze(-1);

        let order = Tensor::arange_start(1, HARMONICS + 1, FLOAT).view([1, -1, 1]);
        let is_heard = (&hertz * &order).lt(SAMPLE_RATE / 2.);
        let is_rich = Tensor::arange(count, FLOAT).remainder(2.).view([-1, 1, 1]);
        let strength = uniform(0., 1., &[count, HARMONICS, 1]) * is_rich / &order * is_heard;
        // The fundamental is always as strong as a sine.
        let strength = strength.index_fill(1, &Tensor::from(0i64).view([1]), 1.);
        let phase = uniform(0., TAU, &[count, HARMONICS, 1]);
        let time = Tensor::arange(FRAME, FLOAT) / SAMPLE_RATE;
        let waves = (hertz * order * time * TAU + phase).sin() * strength;
        let tone = waves.sum_dim_intlist(1, false, Kind::Float);

        let decibels = uniform(5., 30., &[count, 1]);
        let loudness = tone.std_dim(1, true, true) * (decibels / -20. * 10f64.ln()).exp();
        let frames = &tone + tone.randn_like() * loudness;
        let frames = &frames - frames.mean_dim(1, true, Kind::Float);
        Self { frames: (&frames / frames.std_dim(1, true, true)).unsqueeze(1), cents }
    }

    /// What CREPE is trained to answer, `[N, 360]`: a bell of 25 cents around the pitch.
    pub(crate) fn targets(&self) -> Tensor {
        ((bins() - &self.cents) / 25.).square().g_mul_scalar(-0.5).exp()
    }

    /// Percentage of the tones whose pitch is told to within 50 cents, by a network that answers
    /// frames with probabilities.
    pub(crate) fn heard(&self, answers: impl Fn(&Tensor) -> Tensor) -> f64 {
        let frames = self.frames.split(64, 0);
        let answers = tch::no_grad(|| frames.iter().map(answers).collect::<Vec<_>>());
        let wrong = (pitch(&Tensor::cat(&answers, 0)) - &self.cents).abs();
        wrong.le(50.).to_kind(Kind::Float).mean(Kind::Double).double_value(&[]) * 100.
    }
}

/// The cents of each bin.
fn bins() -> Tensor {
    Tensor::arange(BINS, FLOAT) * CENTS_PER_BIN + LOWEST_CENTS
}

/// torchcrepe's `weighted_argmax`, without its dithering, in cents `[N, 1]`: the mean of the four
/// bins on each side of the likeliest, weighted by the sigmoid of their probabilities.
fn pitch(probabilities: &Tensor) -> Tensor {
    let likeliest = probabilities.argmax(1, true);
    let is_near = (Tensor::arange(BINS, FLOAT) - likeliest).abs().le(4.);
    let weights = probabilities.sigmoid() * is_near;
    let sum = |tensor: Tensor| tensor.sum_dim_intlist(1, true, Kind::Float);
    sum(&weights * bins()) / sum(weights)
}
