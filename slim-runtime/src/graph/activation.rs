//! Activations that map zero to zero, which absorption has to know.

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

/// An activation that maps zero to zero, for [`Tracer::activation`](crate::Tracer::activation) and
/// [`Slimming::absorb_after`](crate::Slimming::absorb_after).
///
/// An activation that does not, such as the sigmoid, ungates its channels
/// ([`Tracer::ungate`](crate::Tracer::ungate)). Those channels stay, so there is nothing to absorb.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// No activation: the output of the batch norm is read as it is.
    Identity,
    /// `max(0, x)`
    Relu,
    /// `min(max(0, x), 6)`
    Relu6,
    /// `x` above zero, the slope times `x` below. tch's and PyTorch's slope is 0.01.
    LeakyRelu(f64),
    /// `x` above zero, `α · (eˣ − 1)` below. tch's and PyTorch's α is 1.
    Elu(f64),
    /// `x · sigmoid(x)`, also called swish.
    Silu,
    /// `x · Φ(x)`, where Φ is the distribution function of the normal distribution: tch's
    /// `gelu("none")`.
    Gelu,
    /// `x · tanh(ln(1 + eˣ))`
    Mish,
    /// `x · min(max(0, x + 3), 6) / 6`
    Hardswish,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Applies the activation to each value, by libtorch's own operation.
    pub(crate) fn apply(self, values: &[f64]) -> Result<Vec<f64>, TchError> {
        let xs = Tensor::f_from_slice(values)?;
        let ys = match self {
            Activation::Identity => return Ok(values.to_vec()),
            Activation::Relu => xs.f_relu()?,
            Activation::Relu6 => xs.f_clamp(0., 6.)?,
            Activation::LeakyRelu(slope) => {
                xs.f_clamp_min(0.)?.f_add(&xs.f_clamp_max(0.)?.f_mul_scalar(slope)?)?
            }
            Activation::Elu(alpha) => {
                xs.f_clamp_min(0.)?.f_add(&xs.f_clamp_max(0.)?.f_expm1()?.f_mul_scalar(alpha)?)?
            }
            Activation::Silu => xs.f_silu()?,
            Activation::Gelu => xs.f_gelu("none")?,
            Activation::Mish => xs.f_mish()?,
            Activation::Hardswish => xs.f_hardswish()?,
            Activation::Tanh => xs.f_tanh()?,
        };
        Vec::try_from(&ys)
    }

    /// The activation's name in tch.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Activation::Identity => "identity",
            Activation::Relu => "relu",
            Activation::Relu6 => "relu6",
            Activation::LeakyRelu(_) => "leaky_relu",
            Activation::Elu(_) => "elu",
            Activation::Silu => "silu",
            Activation::Gelu => "gelu",
            Activation::Mish => "mish",
            Activation::Hardswish => "hardswish",
            Activation::Tanh => "tanh",
        }
    }

    /// Checks that the parameter, if there is one, is finite. Returns the parameter otherwise.
    pub(crate) fn check(self) -> Result<(), f64> {
        match self {
            Activation::LeakyRelu(parameter) | Activation::Elu(parameter)
                if !parameter.is_finite() =>
            {
                Err(parameter)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_are_libtorchs() {
        let values: Vec<f64> = (-40..=40).map(|i| f64::from(i) / 5.).collect();
        let xs = Tensor::from_slice(&values);
        for (activation, expected) in [
            (Activation::Identity, xs.shallow_clone()),
            (Activation::Relu, xs.relu()),
            (Activation::Relu6, xs.relu6()),
            (Activation::LeakyRelu(0.01), xs.leaky_relu()),
            (Activation::Elu(1.), xs.elu()),
            (Activation::Silu, xs.silu()),
            (Activation::Gelu, xs.gelu("none")),
            (Activation::Mish, xs.mish()),
            (Activation::Hardswish, xs.hardswish()),
            (Activation::Tanh, xs.tanh()),
        ] {
            let found = activation.apply(&values).unwrap();
            let difference = (Tensor::from_slice(&found) - expected).abs().max().double_value(&[]);
            assert!(difference < 1e-15, "{activation:?}: {difference:e}");
            assert_eq!(activation.apply(&[0.]).unwrap(), [0.], "{activation:?}");
        }
    }
}
