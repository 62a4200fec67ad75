//! Distillation: its loss and its gradient against the formula.

use slim_runtime::distillation_loss;
use slim_tests::fill::images;
use tch::{Kind, Tensor};

const CLASSES: usize = 5;

fn logits(scale: f64, from: i64) -> Tensor {
    (images(&[8, CLASSES as i64]).to_kind(Kind::Double) * scale).narrow(0, from, 4)
}

fn rows(logits: &Tensor) -> Vec<Vec<f64>> {
    Vec::try_from(logits).unwrap()
}

fn softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let powers: Vec<f64> = logits.iter().map(|logit| (logit / temperature).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[test]
fn the_loss_is_that_of_the_formula_and_so_is_its_gradient() {
    for temperature in [0.5, 1., 4., 20.] {
        let (student, teacher) = (logits(5., 0).set_requires_grad(true), logits(9., 4));
        let loss = distillation_loss(&student, &teacher, temperature).unwrap();
        loss.backward();
        let gradient = rows(&student.grad());

        let (student, teacher) = (rows(&student.detach()), rows(&teacher));
        let mut expected = 0.;
        for ((student, teacher), gradient) in student.iter().zip(&teacher).zip(&gradient) {
            let (q, p) = (softmax(student, temperature), softmax(teacher, temperature));
            for class in 0..CLASSES {
                expected += p[class] * (p[class] / q[class]).ln() * temperature.powi(2) / 4.;
                let own = temperature * (q[class] - p[class]) / 4.;
                assert!((gradient[class] - own).abs() < 1e-13, "{temperature}: {own}");
            }
        }
        assert!(expected > 1e-3);
        assert!((loss.double_value(&[]) - expected).abs() < 1e-13 * expected.max(1.));
    }
}

#[test]
fn a_teacher_gets_no_gradient_and_half_precision_is_computed_with_in_float32() {
    let (student, teacher) = (logits(5., 0), logits(9., 4).set_requires_grad(true));
    let half = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16);
    let own = half(&student).set_requires_grad(true);
    let loss = distillation_loss(&own, &half(&teacher), 4.).unwrap();
    assert_eq!(loss.kind(), Kind::Float);
    loss.backward();
    assert_eq!(own.grad().kind(), Kind::BFloat16);
    assert!(!teacher.grad().defined());
    // The logits are rounded, and nothing else is.
    let rounded = |tensor: &Tensor| half(tensor).to_kind(Kind::Double);
    let expected = distillation_loss(&rounded(&student), &rounded(&teacher), 4.).unwrap();
    let difference = (loss.to_kind(Kind::Double) - &expected).abs().double_value(&[]);
    assert!(difference < 1e-6 * expected.double_value(&[]), "{difference}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let (student, teacher) = (logits(5., 0), logits(9., 4));
    let refused = |student: &Tensor, teacher: &Tensor, temperature: f64| {
        distillation_loss(student, teacher, temperature).unwrap_err().to_string()
    };
    let texts = [
        refused(&student, &teacher, 0.),
        refused(&student, &teacher, f64::NAN),
        refused(&student, &teacher, f64::INFINITY),
        refused(&student, &teacher.narrow(1, 0, 3), 4.),
        refused(&student.get(0), &teacher.get(0), 4.),
        refused(&student.narrow(0, 0, 0), &teacher.narrow(0, 0, 0), 4.),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}
