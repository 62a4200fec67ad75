//! Tables: what they predict, how they are read and written, and which are refused.

use std::fmt::Write;

use serde_json::{Value, json};
use slim_runtime::error::ArgumentError;
use slim_runtime::{Error, LatencyTable, LayerLatencies, Prunable, Slimming, Target};
use slim_tests::fill::{fill, images};
use slim_tests::networks::Residual;
use tch::Device;
use tch::nn::VarStore;

use super::{affine, by_hand, coarse, json_by_hand, preresnet, vgg11};

#[test]
fn a_prediction_is_the_sum_of_interpolated_times() {
    let (net, image) = preresnet();
    let table = by_hand(&net, &image, coarse, affine);
    let plan = net.plan(&Slimming::ratio(0.4)).unwrap();
    let predicted = table.predict(&plan).unwrap();
    // Times of the grid, interpolated by rows and by columns in turn, in floats.
    let along = |own: u64, width: u64, time: &dyn Fn(u64) -> f64| {
        let known = coarse(own);
        let above = known.iter().position(|&known| known >= width).unwrap();
        if known[above] == width {
            return time(width);
        }
        let (low, high) = (known[above - 1], known[above]);
        let share = (width - low) as f64 / (high - low) as f64;
        time(low) * (1. - share) + time(high) * share
    };
    let (mut before, mut after) = (0., 0.);
    for layer in plan.layers() {
        for tensor in &layer.tensors {
            let path = format!("{}.{}", layer.path, tensor.name);
            if !table.layers().any(|timed| timed == path) {
                continue;
            }
            let [own, left] = [layer.shape_before(tensor), layer.shape_after(tensor)]
                .map(|shape| [0, 1].map(|dim| shape.get(dim).copied().unwrap_or(1) as u64));
            before += affine(&path, own[0], own[1]) as f64;
            after += along(own[0], left[0], &|rows| {
                along(own[1], left[1], &|columns| affine(&path, rows, columns) as f64)
            });
        }
    }
    assert_eq!((1e9 * predicted.before.median).round(), before);
    // Each of the layers is rounded to a nanosecond.
    let layers = table.layers().count() as f64;
    assert!((1e9 * predicted.after.median - after).abs() <= 0.5 * layers, "{predicted}");
    assert!(after < before && layers > 40.);
    assert_eq!(predicted.share(), predicted.after.median / predicted.before.median);
}

#[test]
fn a_table_is_read_as_it_was_written() {
    let (net, image) = preresnet();
    let table = by_hand(&net, &image, coarse, affine);
    assert_eq!(LatencyTable::from_json(&table.to_json().unwrap()).unwrap(), table);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table.json");
    table.save(&file).unwrap();
    assert_eq!(LatencyTable::load(&file).unwrap(), table);
    let missing = LatencyTable::load(folder.path().join("none.json")).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }) && missing.to_string().contains("none.json"));
    let latencies = match Slimming::latency(0.5, &table).unwrap().target {
        Target::Latency { latencies, .. } => latencies,
        other => panic!("{other}"),
    };
    let json = serde_json::to_string(&latencies).unwrap();
    assert_eq!(serde_json::from_str::<LayerLatencies>(&json).unwrap(), latencies);
    assert_eq!(Slimming::latency(0.5, &table).unwrap().target.to_string(), "0.5 of the latency");
}

#[test]
fn a_damaged_table_is_refused() {
    let vs = VarStore::new(Device::Cpu);
    let net = Residual::new(vs.root());
    let json = json_by_hand(&net, &images(&[1, 3, 8, 8]), coarse, affine);
    let mut said = String::new();
    let mut refused = |name: &str, damage: &dyn Fn(&mut Value)| {
        let mut json = json.clone();
        damage(&mut json);
        let error = LatencyTable::from_json(&json.to_string()).unwrap_err();
        writeln!(said, "{name}\n  {error}").unwrap();
    };
    refused("another format", &|json| json["format"] = json!(2));
    refused("no threads", &|json| json["threads"] = json!(0));
    refused("an unknown key", &|json| json["host"] = json!("here"));
    refused("a missing key", &|json| drop(json.as_object_mut().unwrap().remove("device")));
    refused("widths that fall", &|json| json["shapes"][0]["median"]["rows"] = json!("8,3,1"));
    refused("a time of 0", &|json| json["shapes"][0]["median"]["values"][0] = json!("0,9"));
    refused("a time that is no number", &|json| {
        json["shapes"][0]["median"]["values"][0] = json!("9,NaN");
    });
    refused("a time that is missing", &|json| {
        drop(json["shapes"][0]["median"]["values"].as_array_mut().unwrap().pop());
    });
    refused("a lower quartile above the median", &|json| {
        json["shapes"][0]["lower"]["values"][0] = json!("99999999,99999999");
    });
    refused("quartiles of other widths", &|json| {
        json["shapes"][0]["upper"]["rows"] = json!("1,3,9");
    });
    refused("a shape that does not exist", &|json| json["layers"]["fc.weight"] = json!([99]));
    refused("a layer without times", &|json| json["layers"]["fc.weight"] = json!([]));
    refused("a layer of no shape", &|json| json["shapes"][0]["shape"]["kernel"] = json!([3]));
    writeln!(said, "no JSON\n  {}", LatencyTable::from_json("[1, 2").unwrap_err()).unwrap();
    insta::assert_snapshot!(said);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table.json");
    std::fs::write(&file, "{}").unwrap();
    let error = LatencyTable::load(&file).unwrap_err().to_string();
    assert!(error.contains("table.json: no latency table: missing field"), "{error}");
}

#[test]
fn a_table_of_another_network_or_under_other_conditions_is_refused() {
    let (net, image) = vgg11();
    let table = by_hand(&net, &image, coarse, affine);
    let vs = VarStore::new(Device::Cpu);
    let other = Residual::new(vs.root());
    fill(&vs);
    let mut said = String::new();
    let mut refused = |error: Error| writeln!(said, "{error}").unwrap();
    let plans = |table: &LatencyTable| other.plan(&Slimming::latency(0.5, table).unwrap());
    refused(plans(&table).unwrap_err());
    refused(table.predict(&other.plan(&Slimming::ratio(0.5)).unwrap()).unwrap_err());

    // One layer is not there, is another, or is too wide.
    let json = json_by_hand(&other, &images(&[1, 3, 8, 8]), coarse, affine);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut json = json.clone();
        change(&mut json);
        LatencyTable::from_json(&json.to_string()).unwrap()
    };
    let lacking =
        changed(&|json| drop(json["layers"].as_object_mut().unwrap().remove("conv2.weight")));
    refused(plans(&lacking).unwrap_err());
    refused(lacking.predict(&other.plan(&Slimming::ratio(0.5)).unwrap()).unwrap_err());
    refused(plans(&changed(&|json| json["layers"]["conv3.weight"] = json!([0]))).unwrap_err());
    refused(plans(&changed(&|json| json["layers"]["conv2.weight"] = json!([0]))).unwrap_err());
    refused(plans(&changed(&|json| json["device"] = json!("cuda:0"))).unwrap_err());
    refused(plans(&changed(&|json| json["kind"] = json!("half"))).unwrap_err());

    let threads = changed(&|json| json["threads"] = json!(7));
    let error = Slimming::latency(0.5, &threads).unwrap_err();
    assert!(matches!(error, Error::Argument(ArgumentError::LatencyTable { .. })));
    refused(error);
    let libtorch = changed(&|json| json["libtorch"] = json!("1.0.0"));
    let error = Slimming::latency(0.5, &libtorch).unwrap_err().to_string();
    assert!(error.contains("of libtorch 1.0.0, and this is 2."), "{error}");
    insta::assert_snapshot!(said);
}
