//! Every choice of `Slimming`, from the command line to plan.json.

use serde_json::{Value, json};
use slim_cli::model::Model;
use slim_cli::network::{Arch, Net, Spec};
use slim_runtime::{LatencyOptions, LatencyTable, Plan, channels};
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};

use super::{CFG, Folder};

/// Widths of the dense network.
const WIDTHS: [i64; 8] = [8, 8, 8, 8, 12, 12, 12, 12];

/// Options, the plan's `slimming` without its coupling, and a check of the plan and its widths.
type Choice = (&'static str, &'static str, fn(&Plan, &[i64]) -> bool);

const CHOICES: [Choice; 20] = [
    ("", r#"{"target":{"ratio":0.5}}"#, |_, widths| total(widths) == 39),
    ("--percent 0.25", r#"{"target":{"ratio":0.25}}"#, |_, widths| total(widths) == 59),
    ("--threshold 0.4", r#"{"target":{"threshold":0.4}}"#, |plan, widths| {
        plan.threshold() == Some(0.4) && total(widths) > 39
    }),
    ("--top-k 30", r#"{"target":{"top_k":30}}"#, |_, widths| total(widths) == 30),
    ("--params 0.5", r#"{"target":{"params":0.5}}"#, |plan, _| {
        is_near(plan.parameters().after as f64, 0.5 * 6_986.)
    }),
    ("--local", r#"{"target":{"ratio":0.5},"scope":"local"}"#, |_, widths| {
        widths == [3, 3, 3, 3, 5, 5, 5, 5]
    }),
    (
        "--layer feature.0=0.25 --layer feature.7.bn=0",
        r#"{"target":{"ratio":0.5},"layers":[["feature.0",{"ratio":0.25}],["feature.7.bn",{"ratio":0.0}]]}"#,
        |_, widths| widths[0] == 5 && widths[7] == 12 && widths[3] < 8,
    ),
    (
        "--keep feature.0 --keep feature.7",
        r#"{"target":{"ratio":0.5},"keep":["feature.0","feature.7"]}"#,
        |_, widths| widths[0] == 8 && widths[7] == 12 && widths[3] < 8,
    ),
    (
        "--criterion l1",
        r#"{"target":{"ratio":0.5},"criterion":"l1","masking":"parameters"}"#,
        |_, widths| total(widths) < 43,
    ),
    (
        "--criterion l2",
        r#"{"target":{"ratio":0.5},"criterion":"l2","masking":"parameters"}"#,
        |_, widths| total(widths) == 39,
    ),
    (
        "--criterion fpgm",
        r#"{"target":{"ratio":0.5},"criterion":"fpgm","masking":"parameters"}"#,
        |_, widths| total(widths) < 44,
    ),
    (
        "--criterion random --seed 5",
        r#"{"target":{"ratio":0.5},"criterion":"random(5)","masking":"parameters"}"#,
        |_, widths| total(widths) == 39,
    ),
    ("--normalisation max", r#"{"target":{"ratio":0.5},"normalisation":"max"}"#, |plan, _| {
        plan.threshold() < Some(1.)
    }),
    ("--normalisation mean", r#"{"target":{"ratio":0.5},"normalisation":"mean"}"#, |plan, _| {
        plan.threshold() > Some(0.5)
    }),
    ("--normalisation l2", r#"{"target":{"ratio":0.5},"normalisation":"l2"}"#, |plan, _| {
        plan.threshold() < Some(0.5)
    }),
    ("--at-least 3", r#"{"target":{"ratio":0.5},"bounds":{"at_least":3}}"#, |_, widths| {
        widths.iter().min() == Some(&3)
    }),
    (
        "--max-removed 0.5",
        r#"{"target":{"ratio":0.5},"bounds":{"max_removed":0.5}}"#,
        |_, widths| {
            widths.iter().zip(WIDTHS).all(|(left, width)| 2 * left >= width) && total(widths) > 39
        },
    ),
    (
        "--round-to 4",
        r#"{"target":{"ratio":0.5},"bounds":{"round_to":{"multiple":4,"direction":"up"}}}"#,
        |_, widths| widths.iter().all(|width| width % 4 == 0) && total(widths) > 39,
    ),
    (
        "--round-down-to 4",
        r#"{"target":{"ratio":0.5},"bounds":{"round_to":{"multiple":4,"direction":"down"}}}"#,
        |_, widths| widths.iter().all(|width| width % 4 == 0) && total(widths) < 39,
    ),
    ("--absorb", r#"{"target":{"ratio":0.5},"absorb":{}}"#, |_, widths| total(widths) == 39),
];

fn total(widths: &[i64]) -> i64 {
    widths.iter().sum()
}

/// Whether a value is within a budget, and not far below.
fn is_near(found: f64, budget: f64) -> bool {
    found <= budget && found > 0.9 * budget
}

fn widths(plan: &Plan) -> Vec<i64> {
    plan.cfg().widths().collect()
}

fn slimming(folder: &Folder) -> Value {
    let plan: Value = serde_json::from_str(&folder.text("out/plan.json")).unwrap();
    plan["slimming"].clone()
}

#[test]
fn every_choice_reaches_the_plan() {
    let folder = Folder::with(&["vgg11.pth"]);
    for (options, expected, holds) in CHOICES {
        let said = folder.prune(&format!("{CFG} --model vgg11.pth --no-test --save out {options}"));
        let mut expected: Value = serde_json::from_str(expected).unwrap();
        expected["coupling"] = "max".into();
        assert_eq!(slimming(&folder), expected, "{options}");
        let plan = folder.plan("out/plan.json");
        assert!(
            holds(&plan, &widths(&plan)),
            "{options}: {}, threshold {:?}",
            plan.cfg(),
            plan.threshold()
        );
        assert_eq!(said.contains("\nabsorbed: "), options == "--absorb", "{said}");
    }
}

#[test]
fn multiply_accumulates_are_counted() {
    let folder = Folder::with(&["vgg11.pth"]);
    folder.prune(&format!("{CFG} --model vgg11.pth --no-test --save out --macs 0.5"));
    // MACs of a network of these widths, counted by hand. The convolutions read images of 32, 16,
    // 8, 8, 4, 4, 2 and 2 pixels a side.
    let macs = |widths: &[i64]| -> i64 {
        let sides = [32_i64, 16, 8, 8, 4, 4, 2, 2];
        let inputs = std::iter::once(&3).chain(widths);
        inputs
            .zip(widths)
            .zip(sides)
            .map(|((inputs, outputs), side)| 9 * inputs * outputs * side * side)
            .sum::<i64>()
            + 10 * widths[7]
    };
    let (before, after) = (macs(&WIDTHS), macs(&widths(&folder.plan("out/plan.json"))));
    assert!(is_near(after as f64, 0.5 * before as f64), "{after} of {before}");
    assert_eq!(slimming(&folder)["target"]["macs"]["share"], 0.5);
}

/// Writes a table of times for the network of `--cfg [16,24]` into a file, as if each product of a
/// number of input and output channels took a microsecond.
pub(super) fn write_latencies(folder: &Folder, name: &str, threads: i32) {
    tch::set_num_threads(1);
    let cfg = Some(channels![16, 24]);
    let spec = Spec::new(Arch::Vgg, None, cfg, Spec::CLASSES).unwrap();
    let [channels, height, width] = spec.image();
    let model = Model::new(spec, Device::Cpu).unwrap();
    let image = Tensor::zeros([1, channels, height, width], (Kind::Float, Device::Cpu));
    let options = LatencyOptions::new().points(2).runs(1);
    let pass = |net: &Net| net.forward_t(&image, false);
    let table = LatencyTable::measure(&model.net, pass, &options).unwrap();
    let mut json: Value = serde_json::from_str(&table.to_json().unwrap()).unwrap();
    json["threads"] = json!(threads);
    for shape in json["shapes"].as_array_mut().unwrap() {
        for quartile in ["lower", "median", "upper"] {
            let grid = &mut shape[quartile];
            let numbers = |text: &Value| -> Vec<u64> {
                text.as_str().unwrap().split(',').map(|number| number.parse().unwrap()).collect()
            };
            let (rows, columns) = (numbers(&grid["rows"]), numbers(&grid["columns"]));
            let row = |row: &u64| {
                let times = columns.iter().map(|column| (1000 * row * column).to_string());
                times.collect::<Vec<_>>().join(",")
            };
            grid["values"] = json!(rows.iter().map(row).collect::<Vec<_>>());
        }
    }
    std::fs::write(folder.path(name), json.to_string()).unwrap();
}

#[test]
fn a_table_of_times_leads_to_a_share_of_the_latency() {
    let folder = Folder::with(&[]);
    write_latencies(&folder, "latency.json", 1);
    let command = "--cfg [16,24] --no-test --save out --latency 0.5 --latency-table";
    let said = folder.prune(&format!("{command} latency.json"));
    let plan = folder.plan("out/plan.json");
    // Two convolutions, two batch norms and a linear layer of these widths.
    let [first, second] = widths(&plan)[..] else { panic!("{}", plan.cfg()) };
    let time = |first: i64, second: i64| 3 * first + first * second + first + second + 10 * second;
    let (before, after) = (time(16, 24), time(first, second));
    assert!(2 * after <= before && is_near(after as f64, 0.5 * before as f64), "{after}");
    let share = format!(
        "50.0 % of the latency asked for, {:.1} % predicted",
        100. * after as f64 / before as f64
    );
    assert!(said.contains(&share), "{said}");
    assert_eq!(slimming(&folder)["target"]["latency"]["share"], 0.5);
    // The predictions stand beside measurements.
    assert!(said.contains("error of the prediction"), "{said}");
    let predicted = format!(" before    {before} µs ({before}–{before})");
    assert!(said.contains(&predicted), "{said}");
    let report = folder.text("out/report.html");
    assert!(report.contains(&format!("{before} µs")) && report.contains("the predictions are"));

    // A table that was measured on other threads.
    write_latencies(&folder, "other.json", 7);
    let refused = folder.run("prune", &format!("{command} other.json"));
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("--latency-table other.json"), "{}", refused.err);
    assert!(refused.err.contains("of 7 threads, and libtorch computes on 1"), "{}", refused.err);
}

#[test]
fn coupled_channels_are_ranked_together() {
    let folder = Folder::with(&[]);
    let plans = ["mean", "sum"].map(|coupling| {
        folder.prune(&format!(
            "--arch mobilenet_v2 --no-test --percent 0.3 --coupling {coupling} --save out"
        ));
        assert_eq!(slimming(&folder)["coupling"], coupling);
        folder.plan("out/plan.json")
    });
    assert!(plans[0].layers() != plans[1].layers());
}

#[test]
fn the_seed_draws_a_network_and_the_random_criterion() {
    let folder = Folder::with(&[]);
    let run = |options: &str| {
        folder.prune(&format!("--cfg [8,16] --no-test --save out {options}"));
        (folder.written("out")[2].clone(), folder.plan("out/plan.json"))
    };
    let (first, again, other) = (run("--seed 3"), run("--seed 3"), run("--seed 4"));
    assert!(first == again && first.0 != other.0 && first.1.layers() != other.1.layers());
}
