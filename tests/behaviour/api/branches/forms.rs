//! Forms of structs and enums.

use slim_runtime::{Prunable, nn as own};
use tch::Tensor;
use tch::nn::{self, Module, ModuleT};

use super::{Form, Unit, conv, keep, kept, norm, unit};

/// A tuple struct: expressions name its fields by number.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = 1 + 3)]
struct Numbers(own::Conv2D, own::BatchNorm, own::Conv2D, own::BatchNorm);

#[test]
fn numbers_are_fields_of_a_tuple_struct() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            let q = &(p / 0);
            (
                Numbers(conv(q / 0, 3, 5), norm(q / 1, 5), conv(q / 2, 5, 5), norm(q / 3, 5)),
                conv(p / 1, 5, 2),
            )
        },
        forward: |(net, last), xs| {
            let first = xs[0].apply(&net.0).apply_t(&net.1, false);
            vec![(&first + first.apply(&net.2).apply_t(&net.3, false)).apply(last)]
        },
        scales: &[("0.1", &[9., 1., 1., 1., 1.]), ("0.3", &[1., 1., 9., 1., 1.])],
    };
    let (plan, _) = form.check();
    assert_eq!(
        [kept(&plan, "0.1"), kept(&plan, "0.3"), keep(&plan, "0.2", "in"), keep(&plan, "1", "in")],
        ["0,2"; 4]
    );
}

/// A layer chosen at run time.
#[derive(Debug, Prunable)]
#[prune(sequential)]
enum Choice<T> {
    Nothing,
    Norm(own::BatchNorm),
    Block { part: T },
    Function(#[prune(elementwise)] fn(&Tensor) -> Tensor),
}

impl<T: Module> Module for Choice<T> {
    fn forward(&self, xs: &Tensor) -> Tensor {
        match self {
            Choice::Nothing => xs.shallow_clone(),
            Choice::Norm(norm) => xs.apply_t(norm, false),
            Choice::Block { part } => xs.apply(part),
            Choice::Function(function) => function(xs),
        }
    }
}

#[test]
fn enums_are_their_variant() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            vec![
                Choice::Block { part: unit(p / 0, 3, 6) },
                Choice::Function(Tensor::tanh),
                Choice::Nothing,
                Choice::Norm(norm(p / 3, 6)),
                Choice::Block { part: unit(p / 4, 6, 2) },
            ]
        },
        forward: |net, xs| {
            vec![net.iter().fold(xs[0].shallow_clone(), |xs, layer| xs.apply(layer))]
        },
        scales: &[("0.bn", &[9., 1., 1., 1., 1., 1.]), ("3", &[1., 1., 1., 9., 1., 1.])],
    };
    let (plan, _) = form.check();
    let layers: Vec<_> = plan.layers().iter().map(|layer| layer.path.as_str()).collect();
    assert_eq!(layers, ["0.conv", "0.bn", "3", "4.conv", "4.bn"]);
    assert_eq!([kept(&plan, "0.bn"), kept(&plan, "3")], ["0,3"; 2]);
}

/// A block that is generic over its norm and its activation.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = norm + input)]
struct Generic<N, A> {
    conv: own::Conv2D,
    activation: A,
    norm: N,
}

/// A unit struct, whose channels pass unchanged.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Relu;

impl Module for Relu {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.relu()
    }
}

impl<N: ModuleT, A: Module> Module for Generic<N, A> {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.apply(&self.conv).apply(&self.activation).apply_t(&self.norm, false) + xs
    }
}

#[test]
fn blocks_are_generic() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            let (q, r) = (&(p / 1), &(p / 2));
            let first = Generic {
                conv: conv(q / "conv", 4, 4),
                activation: Relu,
                norm: norm(q / "norm", 4),
            };
            let tch = nn::batch_norm2d(r / "norm", 4, Default::default());
            (
                unit(p / 0, 3, 4),
                first,
                Generic { conv: conv(r / "conv", 4, 4), activation: Relu, norm: tch },
                conv(p / 3, 4, 2),
            )
        },
        forward: |(stem, first, second, last), xs| {
            vec![xs[0].apply(stem).apply(first).apply(second).apply(last)]
        },
        scales: &[
            ("0.bn", &[1., 1., 9., 1.]),
            ("1.norm", &[1., 1., 1., 10.]),
            ("2.norm", &[1., 1., 1., 1.]),
        ],
    };
    let (plan, _) = form.check();
    assert_eq!([kept(&plan, "0.bn"), kept(&plan, "1.norm"), kept(&plan, "2.norm")], ["3"; 3]);
}

/// A block of any depth: each level adds the output of the deeper levels.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = unit + deeper)]
struct Recursive {
    unit: Unit,
    deeper: Option<Box<Recursive>>,
}

impl Recursive {
    fn new(p: nn::Path, depth: usize) -> Self {
        let deeper = (depth > 1).then(|| Box::new(Recursive::new(&p / "deeper", depth - 1)));
        Recursive { unit: unit(&p / "unit", 4, 4), deeper }
    }
}

impl Module for Recursive {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let xs = xs.apply(&self.unit).relu();
        match &self.deeper {
            Some(deeper) => &xs + xs.apply(&**deeper),
            None => &xs + &xs,
        }
    }
}

#[test]
fn structs_contain_themselves() {
    let form = Form {
        inputs: &[3],
        new: |p| (unit(p / 0, 3, 4), Recursive::new(p / 1, 3), conv(p / 2, 4, 2)),
        forward: |(stem, body, last), xs| vec![xs[0].apply(stem).relu().apply(body).apply(last)],
        scales: &[
            ("0.bn", &[9., 1., 1., 1.]),
            ("1.unit.bn", &[1., 9., 1., 1.]),
            ("1.deeper.unit.bn", &[1., 1., 1., 1.]),
            ("1.deeper.deeper.unit.bn", &[1., 1., 1., 9.]),
        ],
    };
    let (plan, _) = form.check();
    assert_eq!(kept(&plan, "0.bn"), "0");
    assert_eq!(
        ["1.unit.bn", "1.deeper.unit.bn", "1.deeper.deeper.unit.bn"].map(|bn| kept(&plan, bn)),
        ["1,3"; 3]
    );
}
