//! YOLOv8n equals PyTorch's. `tests/fixtures/yolov8.py` is the oracle.

use slim_runtime::{Prunable, Slimming};
use slim_tests::check::{assert_close, rounding};
use slim_tests::fill::images;
use slim_tests::fixture::Fixture;
use slim_zoo::yolov8::{YoloV8, decoded};
use tch::Tensor;

use crate::oracle::{assert_slims, filled, forward, parameters, state};

#[test]
fn names_predictions_and_boxes_are_pytorchs() {
    let oracle = Fixture::read("zoo/yolov8n");
    let (net, vs) = filled(|p| YoloV8::n(p, 80));
    assert_eq!(state(&vs), oracle.metadata["state"].lines().map(str::to_owned).collect());
    assert_eq!(parameters(&vs), oracle.get::<i64>("parameters"));
    let predictions = forward(&net, &images(&[2, 3, 64, 96]));
    assert_close(&predictions, oracle.tensor("predictions"), rounding(&vs));
    // The maps of the three strides hold the same, position after position.
    let (small, middle, large) = tch::no_grad(|| net.maps(&images(&[2, 3, 64, 96]), false));
    assert_eq!(
        [&small, &middle, &large].map(|map| map.size()[2..].to_vec()),
        [[8, 12], [4, 6], [2, 3]]
    );
    let flat = [small, middle, large].map(|map| map.flatten(2, -1));
    assert_eq!(Tensor::cat(&flat, 2), predictions);
    let boxes = decoded(oracle.tensor("predictions"), [64, 96]).unwrap();
    assert_close(&boxes, oracle.tensor("output"), 1e-6);

    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    assert_eq!(plan.parameters().before, parameters(&vs), "every parameter is reached");
    insta::assert_snapshot!(plan);
}

#[test]
fn slimmed_is_masked() {
    assert_slims(|p| YoloV8::new(p, 8, 5), 64);
}

#[test]
fn predictions_of_another_shape_are_an_error() {
    let (net, _vs) = filled(|p| YoloV8::new(p, 8, 5));
    let predictions = forward(&net, &images(&[1, 3, 64, 64]));
    assert!(decoded(&predictions, [64, 64]).is_ok());
    assert!(decoded(&predictions, [64, 96]).is_err());
    assert!(decoded(&predictions.select(0, 0), [64, 64]).is_err());
    assert!(decoded(&predictions.narrow(1, 0, 7), [64, 64]).is_err());
}
