//! Distillation: a network learns the outputs of another.

use tch::{Kind, Reduction, TchError, Tensor};

use crate::error::ArgumentError;
use crate::{Error, Result};

/// The loss by which a student learns the softened outputs of a teacher:
/// `T² · KL(softmax(teacher / T) ‖ softmax(student / T))`, the mean over the batch (Hinton, Vinyals
/// and Dean, "Distilling the Knowledge in a Neural Network", 2015). `T²` keeps the size of the
/// gradients when the temperature `T` changes.
///
/// `student` and `teacher` are logits `[N, classes]`. The gradient flows to the student alone.
/// Logits in half precision are computed with in float32. Add the cross entropy of the labels as
/// you like: `(1 − w) · cross_entropy + w · distillation`.
///
/// ```
/// use slim_runtime::distillation_loss;
/// use tch::Tensor;
///
/// let teacher = Tensor::from_slice(&[4f64, 0., -4.]).view([1, 3]);
/// let student = Tensor::from_slice(&[2f64, 0., -2.]).view([1, 3]).set_requires_grad(true);
/// let loss = distillation_loss(&student, &teacher, 4.)?;
/// assert!(loss.double_value(&[]) > 0.);
/// loss.backward();
/// assert!(student.grad().double_value(&[0, 0]) < 0.); // it grows
/// assert_eq!(distillation_loss(&teacher, &teacher, 4.)?.double_value(&[]), 0.);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
///
/// # Errors
/// [`ArgumentError::Temperature`](crate::error::ArgumentError::Temperature) when the temperature is
/// not positive and finite; [`ArgumentError::Logits`](crate::error::ArgumentError::Logits) when the
/// shapes differ, are not `[N, classes]`, or are empty; [`Error::Torch`].
pub fn distillation_loss(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    if !(temperature.is_finite() && temperature > 0.) {
        return Err(Error::Argument(ArgumentError::Temperature(temperature)));
    }
    let (shape, other) = (student.size(), teacher.size());
    if shape != other || shape.len() != 2 || shape.contains(&0) {
        return Err(Error::Argument(ArgumentError::Logits { student: shape, teacher: other }));
    }
    let loss = || -> Result<Tensor, TchError> {
        let softened = |logits: &Tensor| -> Result<Tensor, TchError> {
            let logits = match logits.f_kind()? {
                Kind::Half | Kind::BFloat16 => logits.f_to_kind(Kind::Float)?,
                _ => logits.shallow_clone(),
            };
            logits.f_div_scalar(temperature)?.f_log_softmax(-1, None)
        };
        let (of_student, of_teacher) = (softened(student)?, softened(&teacher.f_detach()?)?);
        of_student
            .f_kl_div(&of_teacher, Reduction::Sum, true)?
            .f_mul_scalar(temperature * temperature / shape[0] as f64)
    };
    loss().map_err(Error::torch("the distillation loss"))
}
