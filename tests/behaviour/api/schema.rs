//! The JSON Schema accepts the plans that the library writes, and no others.

use jsonschema::Validator;
use serde_json::{Value, json};
use slim_runtime::criterion::{L2, Normalisation};
use slim_runtime::{Activation, Coupling, Plan, Prunable, Slimming, Target};
use slim_tests::device;
use slim_tests::fill::{fill, images};
use slim_zoo::{densenet_cifar, mobilenet_v3, preresnet, shufflenet_v2, unet, vgg};
use tch::nn::{self, ModuleT, VarStore};

use crate::common::Net;

fn validator() -> Validator {
    let schema = serde_json::from_str(Plan::JSON_SCHEMA).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    jsonschema::validator_for(&schema).unwrap()
}

fn assert_valid(validator: &Validator, name: &str, plan: &Value) {
    let errors: Vec<_> = validator
        .iter_errors(plan)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}");
}

/// A plan with every optional entry: slimmed twice, with the names of the variables.
fn twice<M: Prunable>(build: impl Fn(&nn::Path) -> M) -> Value {
    let vs = VarStore::new(device());
    let mut net = build(&vs.root());
    fill(&vs);
    let first = net.slim(0.3).unwrap();
    let both = first.then(&net.slim(0.3).unwrap()).unwrap();
    let plan = both.plan().with_variables(&net, &vs).unwrap();
    serde_json::from_str(&plan.to_json().unwrap()).unwrap()
}

#[test]
fn plans_of_the_zoo_are_valid() {
    let validator = validator();
    assert_valid(
        &validator,
        "vgg",
        &twice(|p| vgg::Vgg::new(p, &vgg::cfg(11).unwrap(), 10).unwrap()),
    );
    assert_valid(
        &validator,
        "preresnet",
        &twice(|p| preresnet::PreResNet::new(p, 20, 10).unwrap()),
    );
    assert_valid(
        &validator,
        "densenet",
        &twice(|p| densenet_cifar::DenseNet::new(p, 13, 10).unwrap()),
    );
    assert_valid(&validator, "mobilenet", &twice(|p| mobilenet_v3::MobileNetV3::large(p, 10)));
    assert_valid(&validator, "shufflenet", &twice(|p| shufflenet_v2::ShuffleNetV2::x1_0(p, 10)));
    assert_valid(&validator, "unet", &twice(|p| unet::UNet::new(p, 8, 2)));
}

#[test]
fn all_that_can_be_asked_for_is_known() {
    let vs = VarStore::new(device());
    let net = Net::with_known_scores(&vs.root());
    let cost = net.cost(|net| net.forward_t(&images(&[1, 3, 8, 8]), false)).unwrap();
    assert!(cost.macs().is_err());
    let targets = [
        Slimming::ratio(0.5),
        Slimming::threshold(0.05),
        Slimming::top_k(9),
        Slimming::params(0.5),
    ];
    let validator = validator();
    for slimming in targets {
        let slimming = slimming
            .at_least(2)
            .max_removed(0.9)
            .round_to(2)
            .keep("fc")
            .layers("bn2", Target::Ratio(0.2));
        for slimming in [
            slimming.clone(),
            slimming.clone().local(),
            slimming.clone().isomorphic(),
            slimming.criterion(L2).normalisation(Normalisation::Mean).coupling(Coupling::Sum),
        ] {
            let plan = net.plan(&slimming).unwrap();
            assert_valid(&validator, "asked for", &serde_json::to_value(&plan).unwrap());
        }
    }
    let local = Slimming::ratio(0.7).local().round_down_to(2);
    for slimming in [
        local.clone(),
        local.clone().absorb(),
        local.clone().absorb_after(Activation::Relu),
        local.absorb_after(Activation::LeakyRelu(0.1)),
    ] {
        assert_valid(
            &validator,
            "local",
            &serde_json::to_value(net.plan(&slimming).unwrap()).unwrap(),
        );
    }

    let vs = VarStore::new(device());
    let net = vgg::Vgg::new(vs.root(), &vgg::cfg(11).unwrap(), 10).unwrap();
    fill(&vs);
    let cost = net.cost(|net| net.forward_t(&images(&[1, 3, 32, 32]), false)).unwrap();
    let plan = net.plan(&Slimming::macs(0.5, &cost).unwrap()).unwrap();
    assert_valid(&validator, "MACs", &serde_json::to_value(&plan).unwrap());
    let table = crate::choosing::latency::of_macs(&net, &images(&[1, 3, 32, 32]));
    let plan = net.plan(&Slimming::latency(0.5, &table).unwrap()).unwrap();
    assert_valid(&validator, "latency", &serde_json::to_value(&plan).unwrap());
}

#[test]
fn every_plan_that_is_kept_as_a_snapshot_is_valid() {
    let (validator, mut found) = (validator(), 0);
    let folder = slim_tests::place::path("behaviour/api/snapshots");
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        // The plan follows a front matter between two lines of dashes.
        let Ok(plan) = serde_json::from_str::<Value>(text.splitn(3, "---").last().unwrap()) else {
            continue;
        };
        // The folder has snapshots of costs, too.
        if plan.get("slimming").is_some() {
            assert_valid(&validator, &file.display().to_string(), &plan);
            found += 1;
        }
    }
    assert!(found > 0);
}

#[test]
fn every_kind_and_every_reason_is_known() {
    let validator = validator();
    let plan = |kind: Value, held: Value| {
        json!({"format": 2, "slimming": {"target": {"ratio": 0}}, "threshold": null, "layers": [
            {"path": "a", "kind": kind, "axes": [{"name": "out", "width": 2, "keep": "0-1"}], "unscored": {"axis": "out", "channels": 2, "held": held}}
        ]})
    };
    let read = |value: &Value| -> Result<Plan, _> {
        let mut value = value.clone();
        value["slimming"] = serde_json::to_value(Slimming::ratio(0.)).unwrap();
        serde_json::from_value(value)
    };
    let kinds = [
        "conv",
        "conv_transpose",
        "batch_norm",
        "group_norm",
        "layer_norm",
        "linear",
        "embedding",
        "per_channel",
        "max_pool",
    ];
    let kinds = kinds
        .into_iter()
        .chain(["avg_pool", "split", "shuffle", "channel_select"])
        .map(Value::from)
        .chain([json!({"other": "scale"})]);
    let by = |reason: &str| json!({reason: {"by": "b"}});
    let reasons = ["input", "output", "unscored"].into_iter().map(Value::from);
    let reasons =
        reasons.chain(["keep", "ungated", "mixed", "stream", "broadcast", "tied"].map(by));
    // Both the library and the schema accept all of them, and neither accepts anything else.
    for (kind, reason) in kinds
        .map(|kind| (kind, json!("input")))
        .chain(reasons.map(|reason| (json!("conv"), reason)))
    {
        let plan = plan(kind, reason);
        read(&plan).unwrap();
        assert_valid(&validator, "made", &plan);
    }
    for (kind, reason) in [
        (json!("convolution"), json!("input")),
        (json!("conv"), json!("inputs")),
        (json!("conv"), by("held")),
    ] {
        let plan = plan(kind, reason);
        assert!(read(&plan).is_err() && !validator.is_valid(&plan), "{plan}");
    }
}

#[test]
fn what_is_no_plan_is_not_valid() {
    let validator = validator();
    let good = twice(Net::new);
    assert_valid(&validator, "good", &good);
    let edits: [(&str, &str, Value); 24] = [
        ("", "format", json!(1)),
        ("", "format", json!("1")),
        ("", "thresholds", json!(1)),
        ("", "threshold", json!("0.5")),
        ("", "slimming", json!(0.5)),
        ("", "layers", json!({})),
        ("/passes/0", "ratio", json!(0.5)),
        ("/slimming", "ratio", json!(0.5)),
        ("/slimming", "target", json!({"ratio": 1.5})),
        ("/slimming", "target", json!({"ratio": 0.5, "top_k": 3})),
        ("/slimming", "bounds", json!({"at_most": 3})),
        ("/slimming", "layers", json!([["conv1"]])),
        ("/layers/1/scored", "floor", json!(true)),
        ("/layers/0", "path", json!(1)),
        ("/layers/0", "kind", json!("convolution")),
        ("/layers/0", "kind", json!({"other": 1})),
        ("/layers/0", "axis", json!([])),
        ("/layers/0/axes/0", "width", json!(-1)),
        ("/layers/0/axes/0", "keep", json!("0-2,")),
        ("/layers/0/axes/0", "keep", json!([0, 1, 2])),
        ("/layers/0/tensors/0", "dims", json!(["out", 1.5])),
        ("/layers/0/tensors/0", "role", json!("weight")),
        ("/layers/0/tensors/0", "variable", json!(null)),
        ("/layers/1/scored", "removable", json!("8")),
    ];
    for (place, key, value) in edits {
        let mut bad = good.clone();
        bad.pointer_mut(place).unwrap()[key] = value.clone();
        assert!(!validator.is_valid(&bad), "{place} {key}: {value}");
    }
    // A plan without a required entry is invalid, too.
    for (place, key) in [
        ("", "format"),
        ("", "layers"),
        ("/layers/0", "path"),
        ("/layers/0/axes/0", "keep"),
        ("/layers/0/tensors/0", "dims"),
    ] {
        let mut bad = good.clone();
        bad.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        assert!(!validator.is_valid(&bad), "{place} without {key}");
    }
}
