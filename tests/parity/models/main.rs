//! `model!`: the networks of the zoo written again, with equal outputs, plans and costs; and each
//! form of a statement.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod forms;
mod mobilenet_v2;
mod rebuilt;
mod resnet18;
mod sequences;
mod unet;
mod vgg16;

use slim_runtime::{Cost, Prunable, Slimming};
use slim_tests::device;
use tch::Tensor;
use tch::nn::{ModuleT, VarStore};

/// The cost of one image.
fn cost<M: ModuleT + Prunable>(net: &M, images: &Tensor) -> Cost {
    net.cost_of_batch(images.size()[0], |net| net.forward_t(images, false)).unwrap()
}

/// Asserts that two networks have the same layers in the same order, outputs, plans and costs: one
/// is made by `model!`, the other written by hand.
fn assert_same_network<A, B>(
    ours: impl Fn(&VarStore) -> A,
    theirs: impl Fn(&VarStore) -> B,
    images: &Tensor,
) where
    A: ModuleT + Prunable,
    B: ModuleT + Prunable,
{
    tch::set_num_threads(1);
    let (our_vs, their_vs) = (VarStore::new(device()), VarStore::new(device()));
    let (mut ours, mut theirs) = (ours(&our_vs), theirs(&their_vs));
    let (mine, other) = (our_vs.trainable_variables(), their_vs.trainable_variables());
    assert_eq!(mine.len(), other.len());
    let mut random = fastrand::Rng::with_seed(0);
    let _no_grad = tch::no_grad_guard();
    for (mut mine, mut other) in mine.into_iter().zip(other) {
        assert_eq!(mine.size(), other.size());
        let values: Vec<f32> = (0..mine.numel()).map(|_| 0.1 + random.f32() * 0.2).collect();
        let values = Tensor::from_slice(&values).view_as(&mine);
        mine.copy_(&values);
        other.copy_(&values);
    }
    let outputs = |a: &A, b: &B| (a.forward_t(images, false), b.forward_t(images, false));
    let (a, b) = outputs(&ours, &theirs);
    assert!(a.equal(&b));

    let (a, b) =
        (ours.plan(&Slimming::ratio(0.5)).unwrap(), theirs.plan(&Slimming::ratio(0.5)).unwrap());
    assert_eq!((a.cfg(), a.threshold(), a.parameters()), (b.cfg(), b.threshold(), b.parameters()));
    // Equal except for the names of layers, which are field paths, and pools, which may be
    // functions.
    let layers = |plan: &slim_runtime::Plan| -> Vec<_> {
        let with_tensors = plan.layers().iter().filter(|layer| !layer.tensors.is_empty());
        with_tensors
            .map(|layer| (layer.kind.clone(), layer.axes.clone(), layer.tensors.clone()))
            .collect()
    };
    assert_eq!(layers(&a), layers(&b));

    let (our_cost, their_cost) = (cost(&ours, images), cost(&theirs, images));
    assert_eq!(
        (our_cost.parameters(), our_cost.macs().unwrap()),
        (their_cost.parameters(), their_cost.macs().unwrap())
    );

    ours.apply(&a).unwrap();
    theirs.apply(&b).unwrap();
    assert_eq!(our_cost.after(&a).unwrap(), cost(&ours, images));
    let (a, b) = outputs(&ours, &theirs);
    assert!(a.equal(&b));
}
