//! Budgets of latency: what a table predicts, and the networks that it leads to.

mod budgets;
mod measured;
mod tables;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::OnceLock;

use serde_json::{Value, json};
use slim_runtime::{LatencyOptions, LatencyTable, LayerKind, Prunable};
use slim_tests::fill::{fill, images};
use slim_tests::networks::Residual;
use slim_zoo::preresnet::PreResNet;
use slim_zoo::vgg::{self, Vgg};
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// A table that is written by hand: `widths` gives the widths at which a dimension of this size has
/// times, and `time` the nanoseconds of the tensor at a path, by its numbers of rows and columns.
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

/// Options for tests: no time is asserted.
fn quick() -> LatencyOptions {
    LatencyOptions::new().points(3).runs(5)
}
