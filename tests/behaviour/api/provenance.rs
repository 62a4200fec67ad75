//! The original channels of a slimmed network, and the expansion back to the dense shape.

use slim_runtime::criterion::L2;
use slim_runtime::error::PlanError;
use slim_runtime::{Activation, Error, Plan, Prunable, Slimming, checkpoint};
use slim_tests::check::{assert_close, rounding};
use slim_tests::device;
use tch::nn::{self, ModuleT, VarStore};
use tch::{Kind, Tensor};

use crate::common::{Net, assert_same, images, randomise, values};

fn net() -> (Net, VarStore) {
    let vs = VarStore::new(device());
    (Net::with_known_scores(&vs.root()), vs)
}

#[test]
fn slimmed_three_times_it_knows_its_original_channels() {
    let (mut net, vs) = net();
    let dense = values(&vs);
    let all = (0..3)
        .map(|_| net.slim(0.15).unwrap())
        .reduce(|all, next| all.then(&next).unwrap())
        .unwrap();
    let plan = all.plan();
    // The three passes remove the 3, 2 and 2 channels with the smallest γ, of 14, 11 and 8.
    assert_eq!(plan.original_channels("bn1").unwrap().to_string(), "7");
    assert_eq!(plan.original_channels("conv2").unwrap().to_string(), "0-5");
    assert_eq!(plan.layer("conv2").unwrap().axis("in").unwrap().keep.to_string(), "7");
    assert!(plan.original_channels("conv3").is_none());
    assert!(values(&vs)["conv1.weight"].equal(&dense["conv1.weight"].narrow(0, 7, 1)));
    assert_eq!((plan.passes().len(), plan.channels().before, plan.channels().after), (2, 14, 7));
    // Composition is associative.
    let (mut again, _vs) = self::net();
    let [a, b, c] = [0; 3].map(|_| again.slim(0.15).unwrap());
    assert_eq!(a.then(&b.then(&c).unwrap()).unwrap(), all);
    assert_eq!(all.cfg(), c.cfg());
}

#[test]
fn plans_that_do_not_follow_each_other_are_refused() {
    let (mut net, _vs) = net();
    let first = net.slim(0.2).unwrap();
    let (other, _other_vs) = self::net();
    let unrelated = other.plan(&Slimming::ratio(0.2)).unwrap();
    insta::assert_snapshot!(first.plan().then(&unrelated).unwrap_err(), @"the plans do not follow each other: `conv1` has the channels (in 3, out 5) in what the earlier plan leaves, (in 3, out 8) in the later plan; make the later plan of the network that the earlier one was applied to");
    let second = net.plan(&Slimming::ratio(0.2)).unwrap();
    let renamed: Plan =
        serde_json::from_str(&second.to_json().unwrap().replace("conv2", "conv3")).unwrap();
    insta::assert_snapshot!(first.plan().then(&renamed).unwrap_err(), @"the plans do not follow each other: what the earlier plan leaves has `conv2` (conv) where the later plan has `conv3` (conv); make the later plan of the network that the earlier one was applied to");
    assert!(matches!(second.then(first.plan()), Err(Error::Plan(PlanError::Sequence { .. }))));
}

#[test]
fn plans_of_unlike_slimmings_compose() {
    let (mut net, _vs) = net();
    // The second pass may remove channels that `keep` held in the first pass, and ranking by
    // weights may remove channels that ranking by γ holds.
    let kept = net.plan(&Slimming::ratio(0.2).keep("bn1")).unwrap();
    net.apply(&kept).unwrap();
    let by_weights = net.plan(&Slimming::ratio(0.5).criterion(L2).local()).unwrap();
    net.apply(&by_weights).unwrap();
    let both = kept.then(&by_weights).unwrap();
    let read = Plan::from_json(&both.to_json().unwrap()).unwrap();
    assert_eq!(read, both);
    assert_eq!(both.passes().len(), 1);

    let (mut replica, _replica_vs) = self::net();
    replica.apply(&read).unwrap();
    assert_eq!(replica.conv2.ws.size(), net.conv2.ws.size());
    assert_eq!(
        both.layer("bn1").unwrap().scored.as_ref().unwrap().removable,
        8 - both.original_channels("bn1").unwrap().len()
    );
}

/// A network with one value per channel in a tensor of four dimensions.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Scaled {
    conv1: nn::Conv2D,
    bn: nn::BatchNorm,
    #[prune(per_channel)]
    scale: Tensor,
    conv2: nn::Conv2D,
}

#[test]
fn a_layer_of_one_channel_fits_its_plan() {
    let build = || {
        let vs = VarStore::new(device());
        let p = vs.root();
        let net = Scaled {
            conv1: nn::conv2d(&p / "conv1", 3, 4, 1, Default::default()),
            bn: nn::batch_norm2d(&p / "bn", 4, Default::default()),
            scale: p.ones("scale", &[1, 4, 1, 1]),
            conv2: nn::conv2d(&p / "conv2", 4, 2, 1, Default::default()),
        };
        (net, vs)
    };
    let (mut net, vs) = build();
    let first = net.slim(0.9).unwrap();
    assert_eq!(net.scale.size(), [1, 1, 1, 1]);
    let both = first.then(&net.slim(0.).unwrap()).unwrap();
    let (mut dense, _dense_vs) = build();
    both.plan().expand(&net, &mut dense).unwrap();

    let file = tempfile::NamedTempFile::new().unwrap();
    checkpoint::save(file.path(), &vs, &both).unwrap();
    let (mut other, mut other_vs) = build();
    for _ in 0..2 {
        checkpoint::load(file.path(), &mut other_vs, &mut other).unwrap();
    }
    assert_same(&values(&other_vs), &values(&vs));
}

#[test]
fn what_was_absorbed_is_in_the_file() {
    let (mut net, vs) = net();
    let slimmed = net
        .apply(&net.plan(&Slimming::ratio(0.5).absorb_after(Activation::Relu)).unwrap())
        .unwrap();
    assert!(!slimmed.absorbed().is_empty());
    let file = tempfile::NamedTempFile::new().unwrap();
    checkpoint::save(file.path(), &vs, &slimmed).unwrap();
    // Loading does not depend on the dense network's own shifts.
    let (mut dense, mut dense_vs) = self::net();
    let _ = tch::no_grad(|| dense.bn1.bs.as_ref().unwrap().shallow_clone().fill_(f64::NAN));
    let loaded = checkpoint::load(file.path(), &mut dense_vs, &mut dense).unwrap();
    assert_eq!(loaded, slimmed);
    assert_same(&values(&dense_vs), &values(&vs));
}

#[test]
fn expanded_is_the_dense_shape_with_the_weights_of_today() {
    let (mut slim, slim_vs) = net();
    let slimmed = slim.slim(0.25).unwrap();
    // The slimmed network is trained further.
    randomise(&[&slim.bn1, &slim.bn2]);
    let (mut dense, mut dense_vs) = net();
    dense_vs.double();
    slimmed.plan().expand(&slim, &mut dense).unwrap();
    // The slimmed network has γ 0.05 … 0.08 of `bn1`, and the kind is the dense model's.
    let gamma = &values(&dense_vs)["bn1.weight"];
    assert_eq!(
        (gamma.kind(), gamma.narrow(0, 0, 4).abs().sum(Kind::Double).double_value(&[])),
        (Kind::Double, 0.)
    );
    assert_eq!(gamma.narrow(0, 4, 4), values(&slim_vs)["bn1.weight"].to_kind(Kind::Double));
    let images = images(3);
    let outputs = tch::no_grad(|| {
        (slim.forward_t(&images, false), dense.forward_t(&images.to_kind(Kind::Double), false))
    });
    assert_close(&outputs.0, &outputs.1, rounding(&slim_vs));
    // The expanded network can be trained, in all channels that the gradient reaches.
    dense.forward_t(&images.to_kind(Kind::Double), true).square().mean(Kind::Double).backward();
    assert!(
        dense_vs.trainable_variables().iter().all(|variable| variable
            .grad()
            .isfinite()
            .all()
            .int64_value(&[])
            == 1)
    );
}

#[test]
fn expanding_leaves_the_slim_model_alone_and_takes_no_other() {
    let (mut slim, slim_vs) = net();
    let slimmed = slim.slim(0.25).unwrap();
    let (mut dense, dense_vs) = net();
    let before = (values(&slim_vs), values(&dense_vs));
    insta::assert_snapshot!(slimmed.plan().expand(&dense, &mut slim).unwrap_err(), @"the plan does not fit this model: `conv1` has the channels (in 3, out 8) in the slim model, (in 3, out 4) in what the plan leaves");
    let (other, _other_vs) = net();
    insta::assert_snapshot!(slimmed.plan().expand(&other, &mut dense).unwrap_err(), @"the plan does not fit this model: `conv1` has the channels (in 3, out 8) in the slim model, (in 3, out 4) in what the plan leaves");
    let (mut narrow, _narrow_vs) = net();
    narrow.slim(0.5).unwrap();
    insta::assert_snapshot!(slimmed.plan().expand(&slim, &mut narrow).unwrap_err(), @"the plan does not fit this model: `conv1` has the channels (in 3, out 1) in the dense model, (in 3, out 8) in the plan");
    assert_same(&values(&slim_vs), &before.0);
    assert_same(&values(&dense_vs), &before.1);

    slimmed.plan().expand(&slim, &mut dense).unwrap();
    tch::no_grad(|| dense_vs.variables().values_mut().for_each(|variable| _ = variable.fill_(1.)));
    assert_same(&values(&slim_vs), &before.0);
}

#[test]
fn what_was_done_is_shared_between_threads() {
    let (mut net, vs) = net();
    let slimmed = net.slim(0.25).unwrap();
    let (folder, of) = (tempfile::tempdir().unwrap(), std::sync::Arc::new(slimmed));
    let file = folder.path().join("slim.safetensors");
    let saved = std::thread::spawn({
        let (file, slimmed) = (file.clone(), of.clone());
        move || checkpoint::save(&file, &vs, &slimmed)
    });
    saved.join().unwrap().unwrap();
    assert_eq!(&checkpoint::plan(&file).unwrap(), of.plan());
}

/// A network with PyTorch's names, a tensor that is no variable, and one weight in two layers.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = head + twin)]
struct Named {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    #[prune(per_channel)]
    scale: Tensor,
    head: nn::Conv2D,
    #[prune(from = scale)]
    twin: nn::Conv2D,
}

#[test]
fn tensors_have_the_names_of_the_store() {
    let vs = VarStore::new(device());
    let p = vs.root() / "features";
    let twins = || nn::conv2d(&p / 2, 6, 2, 1, nn::no_bias());
    let (head, mut twin) = (twins(), twins());
    twin.ws = head.ws.shallow_clone();
    let mut net = Named {
        conv: nn::conv2d(&p / 0, 3, 6, 1, nn::no_bias()),
        bn: nn::batch_norm2d(&p / 1, 6, Default::default()),
        scale: Tensor::ones([6], (Kind::Float, device())),
        head,
        twin,
    };
    let names = |plan: &Plan| -> String {
        let named =
            plan.tensors().map(|(path, variable)| format!("{path} = {}", variable.unwrap_or("-")));
        named.collect::<Vec<_>>().join("\n")
    };
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    insta::assert_snapshot!(names(&plan.with_variables(&net, &vs).unwrap()), @r"
    conv.weight = features.0.weight
    bn.weight = features.1.weight
    bn.bias = features.1.bias
    bn.running_mean = features.1.running_mean
    bn.running_var = features.1.running_var
    scale.value = -
    head.weight = features.2.weight
    twin.weight = features.2.weight
    ");
    // The names are the same after surgery. A store of another network has no names for these
    // tensors.
    net.apply(&plan).unwrap();
    let after = plan.with_variables(&net, &vs).unwrap();
    assert_eq!(names(&after), names(&plan.with_variables(&net, &vs).unwrap()));
    assert!(matches!(
        plan.with_variables(&self::net().0, &vs),
        Err(Error::Plan(PlanError::Mismatch { .. }))
    ));
    assert!(
        plan.with_variables(&net, &VarStore::new(device()))
            .unwrap()
            .tensors()
            .all(|(_, variable)| variable.is_none())
    );
}
