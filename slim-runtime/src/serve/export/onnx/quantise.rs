//! From floats to integers: the scales of activations, weights and biases.

use tch::{Kind, TchError, Tensor};

use crate::numeric::Range;

/// The map between floats and unsigned 8-bit integers, `x ≈ scale · (q − zero)`, of
/// [Jacob et al., 2018](https://arxiv.org/abs/1712.05877), equation 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine {
    pub(super) scale: f32,
    pub(super) zero: u8,
}

impl Affine {
    /// The map of a range that is widened to contain 0, so that 0, which pads images, is exact:
    /// `scale = (most − least) / 255`, `zero = round(−least / scale)`.
    pub(super) fn of(range: Range) -> Self {
        let (least, most) = (range.least.min(0.), range.most.max(0.));
        let scale = ((most - least) / 255.) as f32;
        if !scale.is_normal() {
            return Affine { scale: 1., zero: 0 };
        }
        Affine { scale, zero: (-least / f64::from(scale)).round().clamp(0., 255.) as u8 }
    }
}

/// The weight and the bias of a layer in integers.
pub(super) struct Quantised {
    /// 8 bits, in the shape of the weight.
    pub(super) weight: Tensor,
    /// `[out]`
    pub(super) scale: Tensor,
    /// 32 bits, in units of the scale of the input times `scale`.
    pub(super) bias: Option<Tensor>,
    /// `[out]`
    pub(super) bias_scale: Tensor,
}

/// The largest magnitude of a bias in integers: leaves room for the sum of products.
const MOST_BIAS: f64 = (1_i64 << 30) as f64;

/// Quantises a weight `[out, …]` symmetrically for each output channel: `scale = max |w| / levels`,
/// `q = round(w / scale)`. The scale is larger where the bias would not fit into 32 bits.
///
/// # Errors
/// Those of libtorch.
pub(super) fn quantised(
    weight: &Tensor,
    bias: Option<&Tensor>,
    input: Affine,
    levels: i64,
) -> Result<Quantised, TchError> {
    let input = f64::from(input.scale);
    let rows = weight.f_to_kind(Kind::Double)?.f_flatten(1, -1)?;
    let mut scale = rows.f_abs()?.f_amax([1].as_slice(), false)?.f_div_scalar(levels as f64)?;
    let bias = bias.map(|bias| bias.f_to_kind(Kind::Double)).transpose()?;
    if let Some(bias) = &bias {
        scale = scale.f_maximum(&bias.f_abs()?.f_div_scalar(input * MOST_BIAS)?)?;
    }
    // A channel of zeros is exact in any scale.
    let scale = scale.f_to_kind(Kind::Float)?;
    let is_zero = scale.f_less(f64::from(f32::MIN_POSITIVE))?;
    let scale = scale.f_masked_fill(&is_zero, 1.)?;
    let wide = scale.f_to_kind(Kind::Double)?;
    let integers = |quotient: Tensor, most: f64, kind| {
        quotient.f_round()?.f_clamp(-most, most)?.f_to_kind(kind)
    };
    let weight = integers(rows.f_div(&wide.f_unsqueeze(1)?)?, levels as f64, Kind::Int8)?
        .f_view(&weight.size()[..])?;
    let bias_scale = wide.f_mul_scalar(input)?.f_to_kind(Kind::Float)?;
    let bias = bias
        .map(|bias| {
            integers(bias.f_div(&bias_scale.f_to_kind(Kind::Double)?)?, MOST_BIAS, Kind::Int)
        })
        .transpose()?;
    Ok(Quantised { weight, scale, bias, bias_scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap()
    }

    #[test]
    fn zero_is_exact_in_each_range() {
        let affine = |least, most| Affine::of(Range { least, most });
        assert_eq!(affine(0., 2.55), Affine { scale: 0.01, zero: 0 });
        assert_eq!(affine(1., 2.55), affine(0., 2.55));
        assert_eq!(affine(-5.1, -1.), Affine { scale: 0.02, zero: 255 });
        assert_eq!(affine(-1., 1.55), Affine { scale: 0.01, zero: 100 });
        // Nothing but zeros was seen.
        assert_eq!(affine(0., 0.), Affine { scale: 1., zero: 0 });
    }

    #[test]
    fn each_channel_has_the_scale_of_its_largest_weight() {
        let weight = Tensor::from_slice(&[0.9_f32, -2., 0.5, 0.01, 0.004, 0., 0., 0., 0.]);
        let weight = weight.view([3, 3, 1]);
        let bias = Tensor::from_slice(&[0.3_f32, -0.2, 0.]);
        let input = Affine { scale: 0.5, zero: 3 };
        for levels in [63, 127] {
            let quantised = quantised(&weight, Some(&bias), input, levels).unwrap();
            let [first, second] = [2. / levels as f64, 0.01 / levels as f64];
            let close = |found: &[f64], expected: &[f64]| {
                found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs())
            };
            assert!(close(&values(&quantised.scale), &[first, second, 1.]));
            assert!(close(&values(&quantised.bias_scale), &[first / 2., second / 2., 0.5]));
            let of = |value: f64, scale: f64| (value / scale).round();
            let expected = [
                of(0.9, first),
                -levels as f64,
                of(0.5, first),
                levels as f64,
                of(0.004, second),
                0.,
                0.,
                0.,
                0.,
            ];
            assert_eq!(values(&quantised.weight), expected);
            let bias = quantised.bias.unwrap();
            assert_eq!(values(&bias), [of(0.3, first / 2.), of(-0.2, second / 2.), 0.]);
            assert_eq!((quantised.weight.kind(), bias.kind()), (Kind::Int8, Kind::Int));
            assert_eq!(quantised.weight.size(), [3, 3, 1]);
        }
    }

    #[test]
    fn a_bias_beyond_32_bits_widens_the_scale_of_its_channel() {
        let weight = Tensor::from_slice(&[1e-12_f32, 1.]).view([2, 1]);
        let bias = Tensor::from_slice(&[5_f32, 5.]);
        let quantised =
            quantised(&weight, Some(&bias), Affine { scale: 1e-3, zero: 0 }, 63).unwrap();
        let integers = values(quantised.bias.as_ref().unwrap());
        let read: Vec<f64> = integers
            .iter()
            .zip(values(&quantised.bias_scale))
            .map(|(q, scale)| q * scale)
            .collect();
        assert!(read.iter().all(|bias| (bias - 5.).abs() < 1e-4), "{read:?}");
        assert_eq!(values(&quantised.weight), [0., 63.]);
    }
}
