//! Surgery in place: layers, store and gradients agree afterwards, even while autograd graphs of
//! the dense network are alive.

use slim_runtime::{Plan, Prunable, Slimming};
use slim_tests::check::{assert_close, rounding};
use slim_tests::{device, tensor};
use tch::nn::{self, ModuleT, OptimizerConfig, VarStore};
use tch::{Kind, Tensor};

use crate::common::{
    Net, assert_fields_and_store_agree, assert_same, images, mask_by_name, values,
};

fn net() -> (Net, VarStore) {
    let vs = VarStore::new(device());
    (Net::with_known_scores(&vs.root()), vs)
}

fn loss(net: &Net, images: &Tensor) -> Tensor {
    net.forward_t(images, true).square().mean(images.kind())
}

#[test]
fn the_channels_with_the_largest_scores_stay() {
    let (mut net, vs) = net();
    let before = values(&vs);
    // Of the 14 scores 0.01 … 0.14, index 7 is 0.08: 0.09 … 0.14 stay, and the floor keeps 0.08.
    let slimmed = net.slim(0.5).unwrap();
    let plan = slimmed.plan();
    assert_eq!(plan.layer("bn1").unwrap().axes[0].keep.to_string(), "7");
    assert_eq!(plan.layer("bn2").unwrap().axes[0].keep.to_string(), "0-5");
    assert_eq!(plan.bounded().map(|(path, _)| path).collect::<Vec<_>>(), ["bn1"]);
    assert!(values(&vs)["conv1.weight"].equal(&before["conv1.weight"].narrow(0, 7, 1)));
    assert!(values(&vs)["conv2.weight"].equal(&before["conv2.weight"].narrow(1, 7, 1)));
    assert!(values(&vs)["fc.weight"].equal(&before["fc.weight"]));
}

#[test]
fn a_flattened_channel_takes_all_its_columns() {
    let (mut net, vs) = net();
    let before = values(&vs);
    crate::common::set(&net.bn2, &[1., 0.001, 1., 0.002, 1., 1.]);
    net.slim(0.1).unwrap();
    let fc = &before["fc.weight"];
    let columns: Vec<i64> =
        [0, 2, 4, 5].into_iter().flat_map(|channel| channel * 4..channel * 4 + 4).collect();
    assert!(values(&vs)["fc.weight"].equal(&fc.index_select(1, &tensor(&columns))));
}

#[test]
fn training_goes_on_while_an_old_loss_is_alive() {
    let (mut net, vs) = net();
    let images = images(4);
    let old_loss = loss(&net, &images);
    old_loss.backward();
    let another_old_loss = loss(&net, &images);

    net.slim(0.3).unwrap();

    for (name, variable) in vs.variables() {
        let grad = variable.grad();
        assert!(!grad.defined() || grad.size() == variable.size(), "{name}");
    }
    let mut optimizer = nn::Sgd { momentum: 0.9, ..Default::default() }.build(&vs, 0.01).unwrap();
    let first = loss(&net, &images).double_value(&[]);
    for _ in 0..20 {
        let loss = loss(&net, &images);
        optimizer.backward_step(&loss);
    }
    assert!(loss(&net, &images).double_value(&[]) < first);
    // The old losses and their graphs are alive until here.
    drop((old_loss, another_old_loss));
}

#[test]
fn gradients_are_sliced_and_accumulate() {
    let (mut net, vs) = net();
    let images = images(4);
    loss(&net, &images).backward();
    let before = vs.variables()["conv2.weight"].grad().copy();
    let plan = net.slim(0.3).unwrap().plan().clone();
    let kept = |path: &str, axis| {
        let keep: Vec<i64> = plan
            .layer(path)
            .unwrap()
            .axis(axis)
            .unwrap()
            .keep
            .iter()
            .map(|position| position as i64)
            .collect();
        tensor(&keep)
    };
    let expected =
        before.index_select(0, &kept("conv2", "out")).index_select(1, &kept("conv2", "in"));
    let variable = &vs.variables()["conv2.weight"];
    assert!(variable.grad().equal(&expected));

    let fresh = tch::with_grad(|| {
        let mut clean = variable.grad();
        let _ = clean.zero_();
        loss(&net, &images).backward();
        let fresh = variable.grad().copy();
        let mut grad = variable.grad();
        grad.copy_(&expected);
        loss(&net, &images).backward();
        fresh
    });
    assert_close(&variable.grad(), &(expected + fresh), rounding(&vs));
}

#[test]
fn a_frozen_store_slims_and_stays_frozen() {
    let (mut net, mut vs) = net();
    vs.freeze();
    let plan = net.slim(0.3).unwrap().plan().clone();
    assert_fields_and_store_agree(&net, &vs, &plan);
    assert!(vs.variables().values().all(|variable| !variable.requires_grad()));
    vs.unfreeze();
    loss(&net, &images(2)).backward();
}

#[test]
fn slimming_inside_no_grad_leaves_variables_trainable() {
    let (mut net, vs) = net();
    tch::no_grad(|| net.slim(0.3)).unwrap();
    loss(&net, &images(2)).backward();
    assert!(vs.trainable_variables().iter().all(Tensor::requires_grad));
}

#[test]
fn every_float_kind_slims() {
    for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
        let (mut net, mut vs) = net();
        vs.set_kind(kind);
        let expected = values(&vs)["bn1.bias"].index_select(0, &tensor(&[4_i64, 5, 6, 7]));
        let slimmed = net.slim(0.25).unwrap();
        assert_eq!(slimmed.cfg().to_string(), "[4, 6]", "{kind:?}");
        assert!(vs.variables().values().all(|variable| variable.kind() == kind));
        assert!(values(&vs)["bn1.bias"].equal(&expected));
        let images = images(2).to_kind(kind);
        loss(&net, &images).backward();
    }
}

#[test]
fn a_plan_applies_to_a_replica_on_the_same_bits() {
    let (mut net, vs) = net();
    let (mut replica, mut replica_vs) = self::net();
    replica_vs.copy(&vs).unwrap();
    let plan = net.plan(&Slimming::ratio(0.4)).unwrap();
    net.apply(&plan).unwrap();
    replica.apply(&plan).unwrap();
    assert_same(&values(&vs), &values(&replica_vs));
}

#[test]
fn slimming_again_composes() {
    let (mut net, vs) = net();
    let images = images(2);
    net.slim(0.2).unwrap();
    let second = net.plan(&Slimming::ratio(0.3)).unwrap();
    let before = values(&vs);
    mask_by_name(&vs, &second);
    let masked = tch::no_grad(|| net.forward_t(&images, false));
    tch::no_grad(|| {
        vs.variables().iter_mut().for_each(|(name, variable)| variable.copy_(&before[name]));
    });
    net.apply(&second).unwrap();
    assert_close(&tch::no_grad(|| net.forward_t(&images, false)), &masked, rounding(&vs));
}

#[test]
fn models_are_slimmed_through_boxes_and_in_threads() {
    let slim = || {
        let vs = VarStore::new(device());
        let mut net: Box<dyn Prunable + Send> = Box::new(Net::with_known_scores(&vs.root()));
        net.slim(0.25).unwrap().cfg().to_string()
    };
    let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(slim)).collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), "[4, 6]");
    }
}

#[test]
fn an_untouched_tensor_keeps_its_memory() {
    let (mut net, vs) = net();
    let before = vs.variables()["conv2.bias"].data_ptr();
    let plan: Plan = net.slim(0.25).unwrap().plan().clone();
    assert_eq!(plan.cfg().to_string(), "[4, 6]");
    assert_eq!(vs.variables()["conv2.bias"].data_ptr(), before);
}
