//! Every form of struct: tuple, unit, generic, with lifetimes, `where` clauses, `#[cfg]` fields,
//! any visibility, plain values as fields.
#![deny(warnings)]

use std::marker::PhantomData;

use pruning::{Flow, Prunable, Result, Tracer};
use torch::nn::{self, BatchNorm, Conv2D, Linear};
use torch::{Device, Kind};

fn conv(p: &nn::Path, inputs: i64, outputs: i64) -> Conv2D {
    nn::conv2d(p, inputs, outputs, 1, Default::default())
}

fn norm(p: &nn::Path, channels: i64) -> BatchNorm {
    nn::batch_norm2d(p, channels, Default::default())
}

/// Slims a model of 8 channels by half; returns it and the paths of its layers.
fn slimmed<M: Prunable>(mut model: M) -> (M, Vec<String>) {
    let plan = model.slim(0.5).unwrap().plan().clone();
    assert_eq!(plan.channels().after, 3);
    let paths = plan.layers().iter().map(|layer| layer.path.clone()).collect();
    (model, paths)
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(crate = "pruning")]
pub struct Tuple(Conv2D, pub BatchNorm, #[prune(elementwise)] fn(f64) -> f64, pub(crate) Conv2D);

#[test]
fn tuple_structs() {
    let vs = nn::VarStore::new(Device::Cpu);
    let p = &vs.root();
    let (model, paths) = slimmed(Tuple(conv(p, 3, 8), norm(p, 8), f64::sin, conv(p, 8, 2)));
    assert_eq!(paths, ["0", "1", "3"]);
    assert_eq!((model.2(0.), model.3.ws.size()[1]), (0., 3));
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(crate = "pruning")]
struct Unit;

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(crate = "pruning")]
struct Empty {}

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(crate = "pruning")]
struct OnlySkipped {
    #[prune(skip)]
    _elsewhere: std::collections::HashMap<String, Conv2D>,
}

/// A user's activation, marked at its declaration.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(crate = "pruning")]
struct Relu;

/// A type that is not `Prunable`, and need not be.
#[derive(Debug)]
struct Marker;

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(crate = "pruning")]
struct Generic<'a, A, B: std::fmt::Debug, const N: usize, T: ?Sized = Marker>
where
    A: std::fmt::Debug,
    T: std::fmt::Debug,
{
    name: &'a str,
    before: A,
    bn: BatchNorm,
    parts: [B; N],
    _marker: PhantomData<T>,
    #[prune(elementwise)]
    callback: PhantomData<fn(B)>,
    #[prune(skip)]
    _unused: Option<Box<T>>,
    last: Vec<Conv2D>,
}

#[test]
fn generics_lifetimes_where_clauses_and_const_parameters() {
    let vs = nn::VarStore::new(Device::Cpu);
    let p = &vs.root();
    let name = String::from("borrowed");
    let model: Generic<'_, Conv2D, Relu, 2> = Generic {
        name: &name,
        before: conv(p, 3, 8),
        bn: norm(p, 8),
        parts: [Relu, Relu],
        _marker: PhantomData,
        callback: PhantomData,
        _unused: None,
        last: vec![conv(p, 8, 2)],
    };
    let (model, paths) = slimmed(model);
    assert_eq!(paths, ["before", "bn", "last.0"]);
    assert_eq!((model.name, model.last[0].ws.size()[1]), ("borrowed", 3));
}

/// A type that contains itself: a bound on the field's type would never end.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(crate = "pruning")]
struct List<T> {
    layer: T,
    next: Option<Box<List<T>>>,
}

#[test]
fn recursion_through_a_box() {
    let vs = nn::VarStore::new(Device::Cpu);
    let p = &vs.root();
    let last = List { layer: (conv(p, 8, 2), None), next: None };
    let (model, paths) =
        slimmed(List { layer: (conv(p, 3, 8), Some(norm(p, 8))), next: Some(Box::new(last)) });
    assert_eq!(paths, ["layer.0", "layer.1", "next.layer.0"]);
    assert_eq!(model.next.unwrap().layer.0.ws.size()[1], 3);
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(crate = "pruning", input = 3)]
pub(crate) struct Everything {
    conv: Conv2D,
    bn: BatchNorm,
    #[cfg(any())]
    absent: NoSuchType,
    #[cfg(test)]
    present: Unit,
    unit: (),
    empty: Empty,
    skipped: OnlySkipped,
    flag: bool,
    letter: char,
    width: i64,
    share: f32,
    text: String,
    label: &'static str,
    device: Device,
    kind: Kind,
    optional: Option<Conv2D>,
    boxed: Box<dyn Prunable + Send + Sync>,
    nested: (Unit, [(); 3], Vec<Option<Box<Relu>>>),
    head: Linear,
}

#[test]
fn plain_values_and_containers_pass_channels_on() {
    let vs = nn::VarStore::new(Device::Cpu);
    let p = &vs.root();
    let model = Everything {
        conv: conv(p, 3, 8),
        bn: norm(p, 8),
        present: Unit,
        unit: (),
        empty: Empty {},
        skipped: OnlySkipped { _elsewhere: Default::default() },
        flag: true,
        letter: 'x',
        width: 8,
        share: 0.5,
        text: String::new(),
        label: "",
        device: Device::Cpu,
        kind: Kind::Float,
        optional: None,
        boxed: Box::new(Relu),
        nested: (Unit, [(); 3], vec![None, Some(Box::new(Relu))]),
        head: nn::linear(p, 8 * 9, 2, Default::default()),
    };
    let read = (
        model.flag,
        model.letter,
        model.width,
        model.share,
        &model.text,
        model.label,
        model.device,
        model.kind,
    );
    assert_eq!(read, (true, 'x', 8, 0.5, &String::new(), "", Device::Cpu, Kind::Float));
    let (model, paths) = slimmed(model);
    assert_eq!(paths, ["conv", "bn", "head"]);
    assert_eq!(model.head.ws.size()[1], 27);
    assert!(model.optional.is_none() && model.nested.2.len() == 2);
    let _ = (
        &model.present,
        &model.unit,
        &model.empty,
        &model.skipped,
        &model.boxed,
        &model.nested.0,
        &model.nested.1,
    );
}

/// A module that hides its types: a private type in a public struct needs no further attribute.
pub mod hidden {
    use super::{BatchNorm, Conv2D, Prunable};

    #[derive(Debug, Prunable)]
    #[prune(sequential)]
    #[prune(crate = "pruning")]
    struct Private<T>(T);

    #[derive(Debug, Prunable)]
    #[prune(sequential)]
    #[prune(crate = "pruning")]
    pub struct Public<T>(Private<T>, BatchNorm, Conv2D);

    impl<T> Public<T> {
        pub fn new(first: T, bn: BatchNorm, last: Conv2D) -> Self {
            Self(Private(first), bn, last)
        }
    }
}

#[test]
fn private_types_in_public_structs() {
    let vs = nn::VarStore::new(Device::Cpu);
    let p = &vs.root();
    let (_, paths) = slimmed(hidden::Public::new(conv(p, 3, 8), norm(p, 8), conv(p, 8, 2)));
    assert_eq!(paths, ["0.0", "1", "2"]);
}

#[test]
fn structs_inside_of_functions_and_beside_other_derives() {
    #[derive(Debug, Default, Clone, PartialEq, Prunable)]
    #[prune(sequential)]
    #[prune(crate = "pruning")]
    struct Local {
        steps: usize,
    }
    let local = Local::default();
    assert_eq!(local.clone(), local);
    assert!(local.plan(&pruning::Slimming::ratio(0.5)).is_err());
}

/// A bound that the user wrote by hand does not get in the way of the derive's.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(crate = "pruning")]
struct Bounded<T: Prunable>(T);

#[test]
fn bounds_of_the_users_own() {
    fn traces<M: Prunable>(model: &M) -> bool {
        model.plan(&pruning::Slimming::ratio(0.)).is_err()
    }
    assert!(traces(&Bounded(Unit)));
}

/// A manual implementation of the trait, next to derives.
#[derive(Debug)]
struct ByHand(Conv2D);

impl Prunable for ByHand {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        cx.field("inner", |cx| self.0.trace(cx, input))
    }
}

#[test]
fn hand_written_parts() {
    let vs = nn::VarStore::new(Device::Cpu);
    let p = &vs.root();
    let (_, paths) = slimmed(Tuple3(ByHand(conv(p, 3, 8)), norm(p, 8), ByHand(conv(p, 8, 2))));
    assert_eq!(paths, ["0.inner", "1", "2.inner"]);
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(crate = "pruning")]
struct Tuple3(ByHand, BatchNorm, ByHand);
