//! Which shapes are compiled, which stay, and what their reports say.

use slim_serve::{Form, Runner};
use slim_tests::fill::fill;
use tch::nn::{Module, ModuleT, VarStore};
use tch::{Device, Tensor};

use crate::common::{config, forward, images, network, off};

#[test]
fn every_batch_gets_a_program_of_its_own_and_computes_what_the_network_does() {
    let net = network();
    let runner = config().batches([4]).runner(&net, &images(&[1, 3, 8, 8], 0), forward).unwrap();
    assert_eq!(runner.shapes(), [[1, 3, 8, 8], [4, 3, 8, 8]]);
    for batch in [1, 4, 2, 7] {
        let input = images(&[batch, 3, 8, 8], batch);
        let expected = tch::no_grad(|| net.forward_t(&input, false));
        assert!(off(&runner.run(&input).unwrap(), &expected) < 1e-5, "{batch}");
        assert_eq!(runner.forward(&input), runner.run(&input).unwrap());
    }
    let report = runner.report();
    let shapes: Vec<_> = report.shapes.iter().map(|shape| (shape.shape[0], shape.runs)).collect();
    assert_eq!(shapes, [(1, 3), (4, 3), (2, 3), (7, 3)]);
    assert_eq!(report.compiled, 4);
}

#[test]
fn what_was_asked_for_is_measured_and_what_comes_later_is_not() {
    let net = network();
    let runner = config().runner(&net, &images(&[1, 3, 8, 8], 0), forward).unwrap();
    drop(runner.run(&images(&[2, 3, 8, 8], 1)).unwrap());
    let report = runner.report();
    let [asked, later] = &*report.shapes else { panic!("{report}") };
    assert_eq!(asked.forms.len(), 5);
    assert!(asked.forms.iter().all(|trial| trial.latency.is_some() && trial.out.is_none()));
    assert!(asked.network.is_some() && asked.times_as_fast.is_some());
    assert!(asked.difference <= 1e-4 * asked.magnitude && asked.magnitude > 0.);
    assert!(later.forms.iter().all(|trial| trial.latency.is_none()));
    assert_eq!(later.form, asked.form, "a new shape takes the form of the sample's");
    assert_eq!((later.network, later.is_within_noise()), (None, None));
    // What a new batch costs is in the report: it is no hidden slow path.
    assert!(later.compiling > 0. && later.compiling < 5., "{later}");
    let text = report.to_string();
    for part in ["[1, 3, 8, 8]", "the network", "chosen", "taken unmeasured", "compiled in"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["shapes"][0]["shape"], serde_json::json!([1, 3, 8, 8]));
    assert_eq!(json["shapes"][0]["forms"][4]["form"], "fused");
}

#[test]
fn the_shape_that_was_not_run_for_longest_goes() {
    let net = network();
    let runner = config().shapes(2).runner(&net, &images(&[1, 3, 8, 8], 0), forward).unwrap();
    let run = |batch: i64| runner.run(&images(&[batch, 3, 8, 8], 1)).unwrap();
    let batches = || runner.shapes().iter().map(|shape| shape[0]).collect::<Vec<_>>();
    drop(run(2));
    drop(run(1));
    assert_eq!(batches(), [2, 1]);
    drop(run(3));
    assert_eq!(batches(), [1, 3]);
    let expected = tch::no_grad(|| net.forward_t(&images(&[2, 3, 8, 8], 1), false));
    assert!(off(&run(2), &expected) < 1e-5);
    assert_eq!(batches(), [3, 2]);
    assert_eq!(runner.report().compiled, 4);
}

#[test]
fn other_sides_are_served_once_they_are_asked_for() {
    let net = network();
    let sample = images(&[1, 3, 8, 8], 0);
    let wide = images(&[1, 3, 8, 12], 0);
    let error = config().runner(&net, &sample, forward).unwrap().run(&wide).unwrap_err();
    assert_eq!(
        error.to_string(),
        "inputs of [1, 3, 8, 12] cannot be served: the sample has shape [1, 3, 8, 8], and other sizes than the batch's are served only if they are asked for: `RunnerConfig::input([1, 3, 8, 12])`"
    );
    let runner = config().input([1, 3, 8, 12]).runner(&net, &sample, forward).unwrap();
    // The trace of both widths is the same, so other widths are right, too.
    for input in [wide, images(&[2, 3, 8, 9], 5)] {
        let expected = tch::no_grad(|| net.forward_t(&input, false));
        assert!(off(&runner.run(&input).unwrap(), &expected) < 1e-5);
    }
    assert!(runner.run(&images(&[1, 3, 9, 8], 0)).is_err(), "the height was not asked for");
}

/// A network that reads the size of its batch.
fn reads_batch(net: &nn_pair::Pair, images: &Tensor) -> Tensor {
    net.forward_t(images, false) * (1. + images.size()[0] as f64)
}

mod nn_pair {
    use slim_runtime::model;

    model! {
        #[derive(Debug)]
        pub(super) struct Pair {
            conv = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
            bn = batch_norm(8);
            relu;
            avg_pool(2);
            flatten;
            fc = linear(128 => 5);
        }
    }
}

#[test]
fn a_trace_that_holds_its_batch_is_for_that_batch_alone() {
    let vs = VarStore::new(Device::Cpu);
    let net = nn_pair::Pair::new(vs.root());
    fill(&vs);
    let sample = images(&[1, 3, 8, 8], 0);
    let runner = config().batches([3]).runner(&net, &sample, reads_batch).unwrap();
    for batch in [1, 3] {
        let input = images(&[batch, 3, 8, 8], 2);
        let expected = tch::no_grad(|| reads_batch(&net, &input));
        assert!(off(&runner.run(&input).unwrap(), &expected) < 1e-5, "{batch}");
    }
    let error = runner.run(&images(&[2, 3, 8, 8], 2)).unwrap_err().to_string();
    assert!(error.contains("is for that batch alone") && error.contains("batches"), "{error}");
}

#[test]
fn inputs_need_not_be_contiguous_nor_without_gradients() {
    let net = network();
    let runner = config().runner(&net, &images(&[1, 3, 8, 8], 0), forward).unwrap();
    let input = images(&[1, 8, 8, 3], 3).permute([0, 3, 1, 2]).set_requires_grad(true);
    let expected = tch::no_grad(|| net.forward_t(&input, false));
    let found = runner.run(&input).unwrap();
    assert!(off(&found, &expected) < 1e-5);
    assert!(!found.requires_grad());
    assert_eq!(runner.report().shapes[0].fallbacks, 0);
}

#[test]
fn a_runner_does_not_follow_the_network() {
    let mut net = network();
    let input = images(&[1, 3, 8, 8], 0);
    let runner: Runner = config().runner(&net, &input, forward).unwrap();
    let before = runner.run(&input).unwrap();
    tch::no_grad(|| {
        let _ = net.conv1.ws.fill_(0.);
    });
    assert_eq!(runner.run(&input).unwrap(), before);
    assert_ne!(runner.report().shapes[0].form, Form::Traced);
}
