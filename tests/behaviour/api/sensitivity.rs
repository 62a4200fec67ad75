//! A sensitivity is what masking by hand gives, and goes on where it stopped.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;
use slim_runtime::criterion::L1;
use slim_runtime::error::CheckError;
use slim_runtime::{Error, Prunable, Sensitivity, Slimming, Target};
use tch::nn::{ModuleT, VarStore};
use tch::{Kind, Tensor};

use crate::common::{Net, assert_same, images, values};
use crate::planted::{Planted, planted, scales, value};

/// The sum of the outputs: any change of any channel changes it.
fn outputs(net: &impl ModuleT, images: &Tensor) -> f64 {
    net.forward_t(images, false).sum(Kind::Double).double_value(&[])
}

/// By scored layer: the channels that the rule of Network Slimming removes of some with these
/// scores, where each score counts `members` times.
fn removed(scores: &[f64], members: usize, ratio: f64) -> Vec<usize> {
    let mut ranked: Vec<f64> = scores.iter().flat_map(|&score| vec![score; members]).collect();
    ranked.sort_by(f64::total_cmp);
    let threshold = ranked[(ranked.len() as f64 * ratio) as usize];
    (0..scores.len()).filter(|&channel| scores[channel] <= threshold).collect()
}

/// The network with γ and β of these channels of these batch norms zero.
fn masked_by_hand(norms: &[&str], channels: &[usize], images: &Tensor) -> (f64, f64) {
    let (net, vs) = planted();
    let _no_grad = tch::no_grad_guard();
    let variables = vs.variables();
    for norm in norms {
        for &channel in channels {
            for name in ["weight", "bias"] {
                let _ = variables[&format!("{norm}.{name}")].get(channel as i64).fill_(0.);
            }
        }
    }
    (outputs(&net, images), value(&net))
}

#[test]
fn every_value_is_that_of_the_network_masked_by_hand() {
    let [g0, g1, g2, g3] = scales();
    let stream: Vec<f64> = g0.iter().zip(&g2).map(|(a, b)| a.max(*b)).collect();
    let groups: [(&[&str], _, _); 3] =
        [(&["bn0", "bn2"], stream, 2), (&["bn1"], g1, 1), (&["bn3"], g3, 1)];
    let (mut net, vs) = planted();
    let (before, images) = (values(&vs), images(4));
    let measured = Sensitivity::measure(
        &mut net,
        &Slimming::params(0.5),
        Sensitivity::RATIOS,
        |net: &Planted| outputs(net, &images),
    )
    .unwrap();
    assert_same(&values(&vs), &before);
    assert_eq!(measured.dense(), Some(outputs(&net, &images)));
    assert_eq!(measured.groups().len(), 3);
    assert_eq!((measured.measured(), measured.evaluations()), (28, 28));
    for (curve, (norms, scores, members)) in measured.groups().iter().zip(groups) {
        assert_eq!(curve.group.layers, norms);
        assert_eq!(curve.group.removable, members * scores.len());
        for (value, ratio) in curve.values.iter().zip(Sensitivity::RATIOS) {
            let mut gone = removed(&scores, members, ratio);
            // The most important channel always stays.
            let most = scores.iter().copied().fold(0., f64::max);
            gone.retain(|&channel| scores[channel] < most);
            let (expected, _) = masked_by_hand(norms, &gone, &images);
            assert_eq!(*value, Some(expected), "{norms:?} at {ratio}");
        }
    }
}

#[test]
fn the_criterion_and_the_bounds_of_the_slimming_count() {
    let (mut net, _vs) = planted();
    let slimming = Slimming::ratio(0.5).criterion(L1).max_removed(0.25).keep("conv1");
    let images = images(2);
    let measure = |net: &Planted| outputs(net, &images);
    let measured = Sensitivity::measure(&mut net, &slimming, [0.25, 0.9], measure).unwrap();
    let paths: Vec<_> =
        measured.groups().iter().map(|curve| curve.group.layers.join(" ")).collect();
    assert_eq!(paths, ["conv0 conv2", "conv3"]);
    for curve in measured.groups() {
        let alone = Slimming::ratio(0.).criterion(L1).max_removed(0.25).keep("conv1");
        let plan = alone.layers(&curve.group.layers[0], Target::Ratio(0.9));
        let plan = net.plan(&plan).unwrap();
        // A quarter of 8 and of 20 channels, and no channel of another layer.
        assert_eq!(
            plan.channels().before - plan.channels().after,
            if curve.group.layers.len() == 2 { 4 } else { 5 }
        );
        let masked = plan.masked(&mut net, |net| outputs(net, &images)).unwrap();
        assert_eq!(curve.values[1], Some(masked));
    }
}

#[test]
fn an_interrupted_measurement_goes_on_and_repeats_nothing() {
    let (mut net, vs) = planted();
    let before = values(&vs);
    let ratios = [0.25, 0.5, 0.75];
    let whole = Sensitivity::measure(&mut net, &Slimming::ratio(0.5), ratios, value).unwrap();
    let mut sensitivity = Sensitivity::new(&net, &Slimming::ratio(0.5), ratios).unwrap();
    let (mut runs, mut evaluations) = (0, 0);
    loop {
        let mut left = 3;
        let measure = |net: &Planted| {
            left -= 1;
            evaluations += usize::from(left >= 0);
            if left < 0 {
                Err(Error::Check(CheckError::Unverified { reason: "stop".into() }))
            } else {
                Ok(value(net))
            }
        };
        let done = sensitivity.resume(&mut net, measure);
        assert_same(&values(&vs), &before);
        runs += 1;
        assert_eq!(sensitivity.measured(), (3 * runs).min(10));
        sensitivity = Sensitivity::from_json(&sensitivity.to_json().unwrap()).unwrap();
        if done.is_ok() {
            break;
        }
    }
    assert_eq!((runs, evaluations), (4, 10));
    assert_eq!(sensitivity, whole);
    assert_eq!(sensitivity.to_json().unwrap(), whole.to_json().unwrap());

    // An error of the callback, with what was measured before it.
    let mut sensitivity = Sensitivity::new(&net, &Slimming::ratio(0.5), ratios).unwrap();
    let stop =
        |_: &Sensitivity| Err(Error::Check(CheckError::Unverified { reason: "stop".into() }));
    assert!(sensitivity.resume_with(&mut net, value, stop).is_err());
    assert_eq!((sensitivity.measured(), sensitivity.is_complete()), (1, false));
}

#[test]
fn panics_and_training_leave_the_network() {
    let (mut net, vs) = planted();
    let before = values(&vs);
    let mut sensitivity = Sensitivity::new(&net, &Slimming::ratio(0.5), [0.5]).unwrap();
    let mut count = 0;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        sensitivity.resume(&mut net, |net: &Planted| {
            count += 1;
            assert!(count < 3, "measure");
            value(net)
        })
    }));
    assert!(panicked.is_err());
    assert_same(&values(&vs), &before);
    assert_eq!(sensitivity.measured(), 2);
    let images = images(4);
    let training = sensitivity
        .resume(&mut net, |net: &Planted| net.forward_t(&images, true).double_value(&[0, 0]));
    assert!(matches!(training, Err(Error::Check(CheckError::TrainingMode { .. }))), "{training:?}");
    assert_same(&values(&vs), &before);
    let nan = sensitivity.resume(&mut net, |_: &Planted| f64::NAN).unwrap_err().to_string();
    assert!(nan.contains("the measure returned NaN"), "{nan}");
}

#[test]
fn measurements_of_something_else_are_refused() {
    let (net, _vs) = planted();
    let sensitivity = Sensitivity::new(&net, &Slimming::ratio(0.5), [0.5]).unwrap();
    let refused =
        |net: &mut Planted| sensitivity.clone().resume(net, value).unwrap_err().to_string();
    let (mut trained, _vs) = planted();
    let _ = tch::no_grad(|| trained.bn0.ws.as_mut().unwrap().get(3).fill_(0.9));
    assert!(refused(&mut trained).contains("the weights have changed"));
    let (mut slimmed, _vs) = planted();
    slimmed.slim(0.1).unwrap();
    assert!(refused(&mut slimmed).contains("whose layers or widths differ"));

    let new = |slimming: Slimming, ratios: &[f64]| {
        Sensitivity::new(&net, &slimming, ratios.iter().copied()).unwrap_err()
    };
    for ratio in [0., 1., -0.5, f64::NAN] {
        let error = new(Slimming::ratio(0.5), &[0.5, ratio]);
        assert!(error.to_string().contains("give shares above 0 and below 1"), "{error}");
    }
    assert!(new(Slimming::ratio(0.5), &[]).to_string().contains("no ratio to try"));
    let layers = new(Slimming::ratio(0.5).layers("bn1", Target::Ratio(0.1)), &[0.5]);
    assert!(layers.to_string().contains("have a target of their own"), "{layers}");
}

#[test]
fn hostile_measurements_are_refused() {
    let (mut net, _vs) = planted();
    let measured =
        Sensitivity::measure(&mut net, &Slimming::ratio(0.5), [0.5, 0.7], value).unwrap();
    let whole: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&measured.to_json().unwrap()).unwrap();
    let refused = |key: &str, wrong: serde_json::Value| {
        let mut file = whole.clone();
        file.insert(key.to_owned(), wrong);
        let error = Sensitivity::from_json(&serde_json::to_string(&file).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Check(CheckError::Measurements { .. })), "{error}");
        error.to_string()
    };
    let group = |layers: &[&str], removable: i64, values: &[f64]| json!([{"layers": layers, "removable": removable, "pattern": "bn1", "values": values}]);
    let report = [
        refused("format", json!(0)),
        refused("ratios", json!([])),
        refused("ratios", json!([0.7, 0.5])),
        refused("ratios", json!([0.5, 1.0])),
        refused("ratios", json!([0.5])),
        refused("dense", json!("all")),
        refused("groups", json!([])),
        refused("groups", group(&[], 3, &[1., 2.])),
        refused("groups", group(&["bn1"], 0, &[1., 2.])),
        refused("groups", group(&["bn1"], -1, &[1., 2.])),
        refused("groups", group(&["bn1"], 3, &[1.])),
        refused("slimming", json!({"target": {"ratio": 2.0}})),
    ];
    insta::assert_snapshot!(report.join("\n"));
}

#[test]
fn a_sensitivity_prints_as_a_table() {
    let (mut net, _vs) = planted();
    let mut sensitivity =
        Sensitivity::new(&net, &Slimming::ratio(0.5), [0.5, 0.25, 0.125]).unwrap();
    let stop = |sensitivity: &Sensitivity| match sensitivity.measured() {
        9 => Err(Error::Check(CheckError::Unverified { reason: "stop".into() })),
        _ => Ok(()),
    };
    assert!(sensitivity.resume_with(&mut net, value, stop).is_err());
    insta::assert_snapshot!(sensitivity);
}

#[test]
fn a_chain_has_a_group_for_each_layer() {
    let vs = VarStore::new(slim_tests::device());
    let mut net = Net::with_known_scores(&vs.root());
    let images = images(2);
    let measured = Sensitivity::measure(&mut net, &Slimming::ratio(0.5), [0.5], |net: &Net| {
        outputs(net, &images)
    })
    .unwrap();
    let names: Vec<_> = measured.groups().iter().map(|curve| curve.group.name()).collect();
    assert_eq!(names, ["bn1", "bn2"]);
}
