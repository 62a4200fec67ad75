//! A sweep measures slimmed networks and leaves the model as it was.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use slim_runtime::criterion::L1;
use slim_runtime::error::{ArgumentError, CheckError};
use slim_runtime::{Coupling, Error, Plan, Prunable, Slimming, Sweep};
use slim_tests::device;
use tch::Tensor;
use tch::nn::{self, ModuleT, VarStore};

use crate::common::{Net, assert_same, images, values};

fn net() -> (Net, VarStore) {
    let vs = VarStore::new(device());
    (Net::with_known_scores(&vs.root()), vs)
}

/// A known accuracy: the share of the 14 channels that is left.
fn channels(net: &Net) -> f64 {
    let _ = net.forward_t(&images(1), false);
    (net.bn1.running_mean.size()[0] + net.bn2.running_mean.size()[0]) as f64 / 14.
}

/// Names, addresses and values of a store's variables.
fn state(vs: &VarStore) -> Vec<(String, usize, Tensor)> {
    let mut state: Vec<_> = vs
        .variables()
        .into_iter()
        .map(|(name, tensor)| (name, tensor.data_ptr() as usize, tensor.detach().copy()))
        .collect();
    state.sort_by(|a, b| a.0.cmp(&b.0));
    state
}

fn assert_as_it_was(vs: &VarStore, before: &[(String, usize, Tensor)]) {
    for (now, before) in state(vs).iter().zip(before) {
        assert_eq!((&now.0, now.1), (&before.0, before.1));
        assert!(now.2.equal(&before.2), "{}", now.0);
    }
}

/// A network with a batch norm behind one of two convolutions. Weights rank the channels of both.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Half {
    conv1: nn::Conv2D,
    conv2: nn::Conv2D,
    bn: nn::BatchNorm,
    conv3: nn::Conv2D,
}

#[test]
fn the_share_is_of_the_channels_that_each_criterion_scores() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let conv =
        |name: &str, inputs, outputs| nn::conv2d(p / name, inputs, outputs, 1, Default::default());
    let bn = nn::batch_norm2d(p / "bn", 6, Default::default());
    let mut net = Half {
        conv1: conv("conv1", 3, 8),
        conv2: conv("conv2", 8, 6),
        bn,
        conv3: conv("conv3", 6, 2),
    };
    let ways = [("γ", Slimming::ratio(0.)), ("by weights", Slimming::ratio(0.).criterion(L1))];
    let swept = Sweep::slimmings(ways).run(&mut net, |_: &Half| 1.).unwrap();
    assert_eq!(swept.points.iter().map(|point| point.channels).collect::<Vec<_>>(), [6, 14]);
    // Of channels and of parameters, in every row.
    assert_eq!(swept.to_string().matches("(100.0 %)").count(), 6, "{swept}");
}

#[test]
fn every_ratio_is_measured_and_nothing_stays() {
    let (mut net, vs) = net();
    let before = state(&vs);
    let swept = Sweep::ratios([0.07, 0.25, 0.5, 0.9])
        .progress()
        .macs(|plan| Ok(10 * plan.parameters().after))
        .run(&mut net, channels)
        .unwrap();
    assert_as_it_was(&vs, &before);
    insta::assert_snapshot!(swept, @"
    ──────────────────────────────────────────────────────────────────────
     slimming   accuracy       channels      parameters              MACs
    ──────────────────────────────────────────────────────────────────────
     dense        1.0000   14 (100.0 %)   815 (100.0 %)   8,150 (100.0 %)
     7 %          0.9286   13 ( 92.9 %)   731 ( 89.7 %)   7,310 ( 89.7 %)
     25 %         0.7143   10 ( 71.4 %)   479 ( 58.8 %)   4,790 ( 58.8 %)
     50 %         0.5000    7 ( 50.0 %)   227 ( 27.9 %)   2,270 ( 27.9 %)
     90 %         0.1429    2 ( 14.3 %)    67 (  8.2 %)     670 (  8.2 %)
    ──────────────────────────────────────────────────────────────────────
    ");

    for (point, ratio) in swept.points.iter().zip([0.07, 0.25, 0.5, 0.9]) {
        let plan = net.plan(&Slimming::ratio(ratio)).unwrap();
        assert_eq!(
            (point.parameters, point.channels),
            (plan.parameters().after, plan.channels().after)
        );
        assert_eq!(point.plan, plan);
    }
    assert_eq!(swept.dense.plan.channels().removed(), 0.);
}

#[test]
fn the_most_within_is_the_smallest_that_is_accurate_enough() {
    let (mut net, vs) = net();
    // The accuracy dips in the middle: the smallest network that is accurate enough counts, not the
    // last before the first that is not.
    let accuracy = |net: &Net| match net.bn1.running_mean.size()[0] + net.bn2.running_mean.size()[0]
    {
        14 => 90.,
        10 => 80.,
        6.. => 89.5,
        _ => 50.,
    };
    let swept = Sweep::ratios([0.07, 0.25, 0.45, 0.8]).run(&mut net, accuracy).unwrap();
    let accuracies: Vec<_> = swept.points.iter().map(|point| point.accuracy).collect();
    assert_eq!(accuracies, [89.5, 80., 89.5, 50.]);
    let most = |delta| swept.most_within(delta).map(|point| point.name.as_str());
    assert_eq!(most(0.5), Some("45 %"));
    assert_eq!(most(40.), Some("80 %"));
    assert_eq!((most(0.4), most(-1.), most(f64::NAN)), (None, None, None));

    let plan = swept.most_within(0.5).unwrap().plan.clone();
    net.apply(&plan).unwrap();
    assert_eq!(vs.variables()["bn2.weight"].size(), [6]);
}

#[test]
fn any_way_to_slim_is_swept() {
    let (mut net, _vs) = net();
    let coupled = |ratio| Slimming::ratio(ratio).coupling(Coupling::Mean);
    let swept = Sweep::ratios_with([0.3], coupled).run(&mut net, channels).unwrap();
    assert_eq!(
        (swept.points[0].name.as_str(), swept.points[0].plan.slimming()),
        ("30 %", &coupled(0.3))
    );
    let swept = Sweep::slimmings([("some", coupled(0.1)), ("most", coupled(0.6))])
        .run(&mut net, channels)
        .unwrap();
    assert_eq!(
        swept.points.iter().map(|point| point.name.as_str()).collect::<Vec<_>>(),
        ["some", "most"]
    );
}

#[test]
fn a_sweep_is_written_as_json() {
    let (mut net, _vs) = net();
    let swept = Sweep::ratios([0.25]).run(&mut net, channels).unwrap();
    insta::assert_json_snapshot!(swept, @r#"
    {
      "dense": {
        "name": "dense",
        "accuracy": 1.0,
        "channels": 14,
        "parameters": 815
      },
      "points": [
        {
          "name": "25 %",
          "accuracy": 0.7142857142857143,
          "channels": 10,
          "parameters": 479
        }
      ]
    }
    "#);
}

#[test]
fn ratios_that_cannot_be_are_refused_before_anything_is_measured() {
    let (mut net, _vs) = net();
    let measured = |_: &Net| -> f64 { panic!("measured") };
    assert!(matches!(
        Sweep::ratios([0.1, 1.5]).run(&mut net, measured),
        Err(Error::Argument(ArgumentError::Ratio(1.5)))
    ));
    insta::assert_snapshot!(Sweep::ratios([]).run(&mut net, measured).unwrap_err(), @"nothing to prune: the sweep has no ratio to try");
    let uncounted = |_: &Plan| Err(Error::Custom("uncounted".to_owned()));
    assert!(
        Sweep::ratios([0.1])
            .macs(uncounted)
            .run(&mut net, measured)
            .unwrap_err()
            .to_string()
            .contains("uncounted")
    );
}

/// A user's own error type, which converts from the library's.
#[derive(Debug)]
struct Failed(String);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed(error.to_string())
    }
}

#[test]
fn whatever_a_closure_does_the_model_is_as_it_was() {
    let (mut net, vs) = net();
    let before = state(&vs);
    let calls = Cell::new(0);
    let third = || calls.replace(calls.get() + 1) == 2;
    let sweep = || Sweep::ratios([0.2, 0.4, 0.6]);

    let error = sweep()
        .run(&mut net, |_| if third() { Err(Failed("no data".to_owned())) } else { Ok(1.) })
        .unwrap_err();
    assert_eq!(error.0, "no data");
    assert_as_it_was(&vs, &before);

    calls.set(0);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        sweep().run(&mut net, |_| if third() { panic!("of its own") } else { 1. })
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"of its own"));
    assert_as_it_was(&vs, &before);

    let training = |net: &Net| {
        let _ = net.forward_t(&images(2), true);
        1.
    };
    let error = sweep().run(&mut net, training).unwrap_err();
    assert!(
        matches!(&error, Error::Check(CheckError::TrainingMode { tensor }) if tensor == "bn1.running_mean"),
        "{error}"
    );
    assert_as_it_was(&vs, &before);
    // Gradients are on again, as before.
    assert!(net.forward_t(&images(1), false).requires_grad());
}

#[test]
fn a_swept_network_trains_on() {
    let (mut net, vs) = net();
    let before = values(&vs);
    let loss = |net: &Net| net.forward_t(&images(2), false).square().mean(tch::Kind::Float);
    let alive = loss(&net);
    let _ = Sweep::ratios([0.2, 0.6]).run(&mut net, channels).unwrap();
    alive.backward();
    loss(&net).backward();
    assert_same(&values(&vs), &before);
}
