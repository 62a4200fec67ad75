//! Budgets of latency: what a table predicts, and the networks that it leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::OnceLock;

use serde_json::{Value, json};
use slim_runtime::error::ArgumentError;
use slim_runtime::{
    Benchmark, Error, LatencyOptions, LatencyTable, LayerKind, LayerLatencies, LayerOperation,
    Plan, Prunable, Slimming, Target, model,
};
use slim_tests::fill::{fill, images};
use slim_tests::networks::Residual;
use slim_zoo::preresnet::PreResNet;
use slim_zoo::vgg::{self, Vgg};
use slim_zoo::{mobilenet_v2, unet};
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// A table that is written by hand. `widths` returns the widths at which a dimension of this size
/// is given, and `time` the nanoseconds of the tensor at this path with so many rows and columns.
fn by_hand<M: Prunable + ModuleT>(
    net: &M,
    image: &Tensor,
    widths: impl Fn(u64) -> Vec<u64>,
    time: impl Fn(&str, u64, u64) -> u64,
) -> LatencyTable {
    LatencyTable::from_json(&json_by_hand(net, image, widths, time).to_string()).unwrap()
}

fn json_by_hand<M: Prunable + ModuleT>(
    net: &M,
    image: &Tensor,
    widths: impl Fn(u64) -> Vec<u64>,
    time: impl Fn(&str, u64, u64) -> u64,
) -> Value {
    tch::set_num_threads(1); // other tests run beside this one
    let cost = net.cost(|net| net.forward_t(image, false)).unwrap();
    let (mut shapes, mut layers) = (Vec::new(), BTreeMap::new());
    for layer in cost.layers() {
        let (name, is_norm) = match layer.kind {
            LayerKind::Conv | LayerKind::Linear => ("weight", false),
            LayerKind::BatchNorm => ("running_mean", true),
            _ => continue,
        };
        let tensor = layer.tensors.iter().find(|tensor| tensor.name == name).unwrap();
        let (path, size) = (format!("{}.{name}", layer.path), &tensor.shape);
        let rows = widths(size[0] as u64);
        let columns = if is_norm { vec![1] } else { widths(size[1] as u64) };
        let values: Vec<String> = rows
            .iter()
            .map(|&row| list(columns.iter().map(|&column| time(&path, row, column))))
            .collect();
        let grid = json!({
            "rows": list(rows.iter().copied()), "columns": list(columns.iter().copied()),
            "values": values,
        });
        layers.insert(path, vec![shapes.len()]);
        // What the shape is plays no part.
        let shape = json!({ "operation": "linear", "batch": 1 });
        shapes.push(json!({ "shape": shape, "lower": grid, "median": grid, "upper": grid }));
    }
    json!({
        "format": 1, "libtorch": libtorch(), "device": "cpu", "threads": 1,
        "kind": "float", "shapes": shapes, "layers": layers,
    })
}

/// The version of libtorch, as a table states it.
fn libtorch() -> String {
    static VERSION: OnceLock<String> = OnceLock::new();
    let measure = || {
        let net = Residual::new(VarStore::new(Device::Cpu).root());
        let image = images(&[1, 3, 8, 8]).to_device(Device::Cpu);
        let table = LatencyTable::measure(&net, |net| net.forward_t(&image, false), &quick());
        let json: Value = serde_json::from_str(&table.unwrap().to_json().unwrap()).unwrap();
        json["libtorch"].as_str().unwrap().to_owned()
    };
    VERSION.get_or_init(measure).clone()
}

/// `1,8,16`
fn list(numbers: impl Iterator<Item = u64>) -> String {
    let mut text = String::new();
    numbers.for_each(|number| write!(text, ",{number}").unwrap());
    text.split_off(1)
}

/// A table whose times are a microsecond for each multiply-accumulate, and a nanosecond for each
/// batch norm.
pub(crate) fn of_macs<M: Prunable + ModuleT>(net: &M, image: &Tensor) -> LatencyTable {
    let cost = net.cost(|net| net.forward_t(image, false)).unwrap();
    let mut per_element = BTreeMap::new();
    for layer in cost.layers() {
        for tensor in layer.tensors.iter().filter(|tensor| tensor.uses.times() > 0) {
            let kernel: i64 = tensor.shape[2..].iter().product();
            let path = format!("{}.{}", layer.path, tensor.name);
            per_element.insert(path, 1000 * tensor.uses.times() * kernel as u64);
        }
    }
    let time = |path: &str, rows, columns| {
        per_element.get(path).map_or(1, |per_element| per_element * rows * columns)
    };
    by_hand(net, image, coarse, time)
}

/// 1, a third, and all of a width.
fn coarse(width: u64) -> Vec<u64> {
    let mut widths = vec![1, width.div_ceil(3), width];
    widths.dedup();
    widths
}

/// Times that grow with both widths, and have a fixed part.
fn affine(path: &str, rows: u64, columns: u64) -> u64 {
    let weight = path.bytes().map(u64::from).sum::<u64>() % 7 + 1;
    5_000 + weight * (40 * rows + 30 * columns + 9 * rows * columns)
}

fn vgg11() -> (Vgg, Tensor) {
    let vs = VarStore::new(Device::Cpu);
    let net = Vgg::new(vs.root(), &vgg::cfg(11).unwrap(), 10).unwrap();
    fill(&vs);
    (net, Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu)))
}

fn preresnet() -> (PreResNet, Tensor) {
    let vs = VarStore::new(Device::Cpu);
    let net = PreResNet::new(vs.root(), 20, 10).unwrap();
    fill(&vs);
    (net, Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu)))
}

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

/// The plan with the next more channels by the same scores.
fn next_larger<M: Prunable>(net: &M, plan: &Plan) -> Plan {
    let mut more = plan.channels().after as usize + 1..;
    let larger = more.find_map(|k| {
        let larger = net.plan(&Slimming::top_k(k)).unwrap();
        (larger.channels().after > plan.channels().after).then_some(larger)
    });
    larger.unwrap()
}

fn meets_its_budget<M: Prunable + ModuleT>(net: &M, image: &Tensor) {
    let table = by_hand(net, image, coarse, affine);
    for share in [0.8, 0.5, 0.35] {
        let slimming = Slimming::latency(share, &table).unwrap();
        let plan = net.plan(&slimming).unwrap();
        let predicted = table.predict(&plan).unwrap();
        assert!(predicted.share() <= share, "{share}: {predicted}");
        let larger = table.predict(&next_larger(net, &plan)).unwrap();
        assert!(larger.share() > share, "{share}: {larger}");
        assert_eq!(plan, net.plan(&slimming).unwrap());
        assert_eq!(plan, Plan::from_json(&plan.to_json().unwrap()).unwrap());
        let said = format!(
            "{:.1} % of the latency asked for, {:.1} % predicted",
            100. * share,
            100. * predicted.share()
        );
        assert!(plan.to_string().contains(&said), "{plan}");

        for slimming in [slimming.clone().round_to(4), slimming.round_down_to(4)] {
            let rounded = net.plan(&slimming).unwrap();
            let predicted = table.predict(&rounded).unwrap();
            assert!(predicted.share() <= share, "{share}: {predicted}");
            // The budget is used: four channels of a layer are a few per cent.
            assert!(predicted.share() > 0.85 * share, "{share}: {predicted}");
            assert!(rounded.cfg().widths().all(|width| width % 4 == 0), "{}", rounded.cfg());
        }
    }
}

#[test]
fn a_budget_of_latency_is_the_largest_network_within_it() {
    let (net, image) = vgg11();
    meets_its_budget(&net, &image);
}

#[test]
fn a_budget_of_latency_holds_on_residual_streams() {
    let (net, image) = preresnet();
    meets_its_budget(&net, &image);
}

#[test]
fn times_that_are_macs_lead_to_the_plan_of_macs() {
    fn is_equal<M: Prunable + ModuleT>(net: &M, image: &Tensor) {
        let cost = net.cost(|net| net.forward_t(image, false)).unwrap();
        let table = of_macs(net, image);
        for share in [0.9, 0.5, 0.3] {
            let by_macs = net.plan(&Slimming::macs(share, &cost).unwrap()).unwrap();
            let by_time = net.plan(&Slimming::latency(share, &table).unwrap()).unwrap();
            assert_eq!(by_time.layers(), by_macs.layers());
            assert_eq!(by_time.threshold(), by_macs.threshold());
        }
    }
    let (net, image) = vgg11();
    is_equal(&net, &image);
    let (net, image) = preresnet();
    is_equal(&net, &image);
}

#[test]
fn a_table_in_which_wider_layers_are_faster_still_has_its_budget_met() {
    let (net, image) = vgg11();
    // Widths that are no multiple of 8 take twice as long.
    let uneven = |path: &str, rows: u64, columns: u64| {
        affine(path, rows, columns) * if (rows % 8, columns % 8) == (0, 0) { 1 } else { 2 }
    };
    let widths = |width: u64| {
        let widths: BTreeSet<u64> = (1..=width).step_by(7).chain([width]).collect();
        widths.into_iter().collect()
    };
    let table = by_hand(&net, &image, widths, uneven);
    for share in [0.7, 0.4] {
        let slimming = Slimming::latency(share, &table).unwrap();
        let plan = net.plan(&slimming).unwrap();
        assert!(table.predict(&plan).unwrap().share() <= share);
        assert!(table.predict(&next_larger(&net, &plan)).unwrap().share() > share);
        assert_eq!(plan, net.plan(&slimming).unwrap());
    }
}

#[test]
fn a_budget_that_cannot_be_reached_is_an_error() {
    let (net, image) = vgg11();
    let table = by_hand(&net, &image, coarse, |_, rows, _| 1_000_000 + rows);
    insta::assert_snapshot!(net.plan(&Slimming::latency(0.5, &table).unwrap()).unwrap_err());
    insta::assert_snapshot!(net.plan(&Slimming::latency(1.5, &table).unwrap()).unwrap_err());
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

/// Options for tests: no time is asserted.
fn quick() -> LatencyOptions {
    LatencyOptions::new().points(3).runs(5)
}

model! {
    /// A residual sum around a convolution that is wide enough for its time to depend on its width.
    #[derive(Debug)]
    struct Wide {
        conv1 = conv2d(3 => 64, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(64);
        a = relu;
        conv2 = conv2d(64 => 64, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(64);
        bn2 + a;
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(64 => 5);
    }
}

#[test]
fn a_measured_table_leads_to_a_plan_and_a_check() {
    tch::set_num_threads(1); // other tests run beside this one
    let (first, second) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    let (dense, mut slim) = (Wide::new(first.root()), Wide::new(second.root()));
    fill(&first);
    fill(&second);
    let image = images(&[2, 3, 16, 16]).to_device(Device::Cpu);
    let pass = |net: &Wide| net.forward_t(&image, false);
    let mut table = LatencyTable::measure(&dense, pass, &quick()).unwrap();
    // Two convolutions, since the inputs of the first are the same in any plan; one batch norm.
    assert_eq!(table.shapes().count(), 4);
    let paths: Vec<_> = table.layers().collect();
    assert_eq!(
        paths,
        ["bn1.running_mean", "bn2.running_mean", "conv1.weight", "conv2.weight", "fc.weight"]
    );
    let conv = table.shapes().find(|shape| shape.operation == LayerOperation::Conv).unwrap();
    assert_eq!(
        (conv.batch, &conv.sides[..], &conv.kernel[..]),
        (Some(2), &[16, 16][..], &[3, 3][..])
    );
    assert_eq!((&conv.padding[..], conv.bias), (&[1, 1][..], false));
    assert_eq!(LatencyTable::from_json(&table.to_json().unwrap()).unwrap(), table);

    let plan = slim.plan(&Slimming::latency(0.7, &table).unwrap()).unwrap();
    let predicted = table.predict(&plan).unwrap();
    assert!(predicted.share() <= 0.7 && predicted.after.median > 0.);
    assert!(predicted.after.lower <= predicted.after.median);
    assert!(predicted.after.median <= predicted.after.upper);
    slim.apply(&plan).unwrap();
    let compared = Benchmark::new()
        .runs(15)
        .in_turn()
        .case("dense", || pass(&dense))
        .case("slimmed", || pass(&slim))
        .run()
        .unwrap();
    let [before, after] = ["dense", "slimmed"].map(|name| compared.case(name).unwrap());
    let check = table.check(&plan, before, after).unwrap();
    let error = predicted.after.median / after.seconds.median - 1.;
    assert_eq!((check.predicted, check.errors()[1]), (predicted, error));

    // The slimmed network has no shape that is missing, and a larger image has all of them.
    assert_eq!(table.extend(&slim, pass, &quick()).unwrap(), 0);
    assert!(slim.plan(&Slimming::latency(1., &table).unwrap()).is_ok());
    let larger = images(&[2, 3, 20, 20]).to_device(Device::Cpu);
    assert_eq!(table.extend(&dense, |net| net.forward_t(&larger, false), &quick()).unwrap(), 3);
    assert_eq!(table.shapes().count(), 7);
    let before = table.clone();
    // A network in doubles has no times here.
    let mut doubles = VarStore::new(Device::Cpu);
    let net = Wide::new(doubles.root());
    doubles.double();
    let larger = larger.to_kind(Kind::Double);
    let refused = table.extend(&net, |net| net.forward_t(&larger, false), &quick());
    assert!(matches!(refused, Err(Error::Argument(ArgumentError::LatencyTable { .. }))));
    assert_eq!(table, before);
}

model! {
    /// Layers of one, two and three dimensions, transposed, grouped and depthwise.
    #[derive(Debug)]
    struct Kinds {
        conv1 = conv2d(3 => 12, kernel = 3, stride = 2, padding = 1, padding_mode = tch::nn::PaddingMode::Reflect);
        bn1 = batch_norm(12);
        relu;
        grouped = conv2d(12 => 24, kernel = 3, dilation = 2, padding = 2, groups = 3, bias = false);
        bn2 = batch_norm(24);
        relu;
        depthwise = conv2d(24 => 48, kernel = 3, padding = 1, groups = 24);
        bn3 = batch_norm(48);
        relu;
        up = conv_transpose2d(48 => 6, kernel = 2, stride = 2);
        bn4 = batch_norm(6);
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(6 => 5);
    }
}

#[test]
fn layers_of_all_kinds_are_measured_up_to_their_own_widths() {
    fn dense_is_covered<M: Prunable + ModuleT>(net: &M, image: &Tensor, ratio: f64) {
        tch::set_num_threads(1); // other tests run beside this one
        let options = LatencyOptions::new().points(2).runs(1);
        let table =
            LatencyTable::measure(net, |net| net.forward_t(image, false), &options).unwrap();
        let plan = net.plan(&Slimming::ratio(ratio)).unwrap();
        let predicted = table.predict(&plan).unwrap();
        assert!(predicted.after.median > 0. && predicted.share() <= 1., "{predicted}");
        let all = net.plan(&Slimming::latency(1., &table).unwrap()).unwrap();
        assert_eq!(table.predict(&all).unwrap().after, predicted.before);
    }
    let vs = VarStore::new(Device::Cpu);
    let image = |side| Tensor::zeros([1, 3, side, side], (Kind::Float, Device::Cpu));
    let net = Kinds::new(vs.root());
    fill(&vs);
    dense_is_covered(&net, &image(16), 0.5);
    let vs = VarStore::new(Device::Cpu);
    let net = unet::UNet::new(vs.root(), 8, 2);
    fill(&vs);
    dense_is_covered(&net, &image(16), 0.3);
    let vs = VarStore::new(Device::Cpu);
    let net = mobilenet_v2::MobileNetV2::new(vs.root(), 10);
    fill(&vs);
    dense_is_covered(&net, &image(32), 0.3);
}

#[test]
fn what_cannot_be_timed_is_named() {
    let vs = VarStore::new(Device::Cpu);
    let net = crate::common::Net::new(&vs.root());
    let image = images(&[1, 3, 8, 8]).to_device(Device::Cpu);
    let error = |result: Result<LatencyTable, Error>| result.unwrap_err().to_string();
    let tchs = error(LatencyTable::measure(&net, |net| net.forward_t(&image, false), &quick()));
    let net = Residual::new(vs.root());
    let partly = error(LatencyTable::measure(&net, |_| (), &quick()));
    let outside = error(LatencyTable::measure(
        &net,
        |net| {
            let vs = VarStore::new(Device::Cpu);
            let _ = Residual::new(vs.root()).forward_t(&image, false);
            net.forward_t(&image, false)
        },
        &quick(),
    ));
    insta::assert_snapshot!([tchs, partly, outside].join("\n"));
}

#[test]
fn a_budget_of_latency_is_one_of_the_whole_network_also_where_layers_share_it() {
    let (net, image) = vgg11();
    let table = by_hand(&net, &image, coarse, affine);
    let slimming = Slimming::latency(0.5, &table).unwrap();
    let local = net.plan(&slimming.clone().local()).unwrap();
    let share = table.predict(&local).unwrap().share();
    assert!(share <= 0.5 && share > 0.45, "{share}");
    let error = net.plan(&Slimming::ratio(0.5).layers("feature.0", slimming.target)).unwrap_err();
    assert!(error.to_string().contains("cannot have a budget of their own"), "{error}");
}
