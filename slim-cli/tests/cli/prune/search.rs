//! `slim sensitivity` and `slim search`: they go on to the bit after any end, and `slim prune`
//! takes what was found.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use slim_cli::data::{self, Name, Sample, Split};
use slim_cli::model::{Model, Wanted};
use slim_cli::train::evaluate;
use slim_runtime::{LatencyTable, Prunable, Search, Slimming, recalibrate};
use tch::Device;
use tch::nn::ModuleT;

use super::choices::write_latencies;
use super::{CFG, Folder, PRUNE, Said};

const SENSITIVITY: &str = "sensitivity";
const SEARCH: &str = "search";

/// A network that tells digits apart, on few images.
fn line(rest: &str) -> String {
    format!("--model net.safetensors --images 100 {rest}")
}

/// A folder with that network, which is trained once for all tests.
fn folder() -> Folder {
    static TRAINED: OnceLock<Folder> = OnceLock::new();
    let trained = TRAINED.get_or_init(|| {
        let folder = Folder::with(&[]);
        let net = "--dataset digits --cfg [8,'M',12,'M',12,'M',12]";
        let said = folder.run("train", &format!("{net} --epochs 4 --batch-size 32 --save trained"));
        assert_eq!(said.code, 0, "{}", said.err);
        folder
    });
    let folder = Folder::with(&[]);
    fs::copy(trained.path("trained/checkpoint.safetensors"), folder.path("net.safetensors"))
        .unwrap();
    folder
}

/// Runs a command, ends it by this signal as soon as it has written `file`, and starts it again,
/// until it succeeds. Returns how often it was ended.
fn with_interruptions(folder: &Folder, name: &str, line: &str, file: &str, signal: &str) -> usize {
    for ended in 0.. {
        let before = fs::read(folder.path(file)).ok();
        let mut child = folder
            .command(name, line)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                if status.success() {
                    return ended;
                }
                break;
            }
            // At the first runs only, so that the test ends.
            if ended < 2 && fs::read(folder.path(file)).ok() != before {
                let kill = std::process::Command::new("kill")
                    .args([signal, &child.id().to_string()])
                    .status();
                assert!(kill.unwrap().success());
                let status = child.wait().unwrap();
                if signal == "-INT" && !status.success() {
                    assert_eq!(status.code(), Some(130));
                }
                break;
            }
            sleep(Duration::from_millis(2));
        }
    }
    unreachable!()
}

#[test]
fn a_search_goes_on_to_the_bit_after_any_end() {
    let folder = folder();
    let line = |save: &str, generations: usize| {
        line(&format!(
            "--params 0.5 --population 6 --seed 3 --recalibrate --repair-batches 1 --generations {generations} --save {save}"
        ))
    };
    let said = folder.run(SEARCH, &line("whole", 4));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.contains("generation 4: best "), "{}", said.out);
    assert_eq!(folder.names("whole"), ["search.json", "slimming.json"]);

    // Killed, interrupted, and some generations first.
    let killed =
        with_interruptions(&folder, SEARCH, &line("killed", 4), "killed/search.json", "-KILL");
    assert!(killed > 0);
    let asked = with_interruptions(&folder, SEARCH, &line("asked", 4), "asked/search.json", "-INT");
    assert!(asked > 0);
    for generations in [0, 1, 4] {
        assert_eq!(folder.run(SEARCH, &line("some", generations)).code, 0);
    }
    for save in ["killed", "asked", "some"] {
        for file in ["search.json", "slimming.json"] {
            let text = |save: &str| folder.text(&format!("{save}/{file}"));
            assert!(text(save) == text("whole"), "{save}/{file} differs");
        }
    }
    // Nothing is left to do.
    let said = folder.run(SEARCH, &line("whole", 4));
    assert!(said.out.contains("\n0 evaluations; wrote search.json"), "{}", said.out);
}

#[test]
fn a_sensitivity_goes_on_to_the_bit_and_has_a_page() {
    let folder = folder();
    let line = |save: &str| line(&format!("--ratios 0.25,0.5,0.75 --save {save}"));
    let said = folder.run(SENSITIVITY, &line("whole"));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let ended = with_interruptions(
        &folder,
        SENSITIVITY,
        &line("killed"),
        "killed/sensitivity.json",
        "-KILL",
    );
    assert!(ended > 0);
    for file in ["sensitivity.json", "sensitivity.html"] {
        let text = |save: &str| folder.text(&format!("{save}/{file}"));
        assert!(text("killed") == text("whole"), "{file} differs");
    }
    let page = folder.text("whole/sensitivity.html");
    // One picture of all, and one for each of the four batch norms.
    assert_eq!(page.matches("<svg").count(), 5);
    assert!(!page.contains("<script") && page.contains("feature.0.bn, 8 channels"));

    // The accuracies are not all the same, or the comparison would show little.
    let dense = page.split_once("<dt>dense</dt><dd>").unwrap().1.split_once(" %").unwrap().0;
    assert!(dense.parse::<f64>().unwrap() > 50., "{dense}");

    // For the search.
    let measured = "--params 0.5 --population 4 --generations 0 --sensitivity";
    let search =
        |file: &str| folder.run(SEARCH, &self::line(&format!("{measured} {file} --save out")));
    let said = search("whole/sensitivity.json");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    fs::remove_dir_all(folder.path("out")).unwrap();
    let said = search("whole/sensitivity.html");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("does not hold what `slim` writes there"), "{}", said.err);
}

#[test]
fn a_sensitivity_prints_a_table() {
    let folder = Folder::with(&["vgg11.pth"]);
    // These weights are drawn, and the network takes every image for the same digit.
    let said = folder.run(
        SENSITIVITY,
        &format!("{CFG} --model vgg11.pth --dataset digits --images 100 --ratios 0.25,0.5,0.75 --save out"),
    );
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(said.out);
}

#[test]
fn what_is_found_is_pruned_and_recorded() {
    let folder = folder();
    let search = "--macs 0.6 --criterion l2 --population 4 --generations 1 --save found";
    let said = folder.run(SEARCH, &line(search));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    folder.prune("--model net.safetensors --no-test --slimming found/slimming.json --save out");
    let plan = folder.plan("out/plan.json");
    let found: Slimming = serde_json::from_str(&folder.text("found/slimming.json")).unwrap();
    assert_eq!(plan.slimming().layers, found.layers);
    assert_eq!(plan.slimming().criterion.name(), "l2");
    // The widths are those that were measured.
    let line = said.out.lines().find(|line| line.starts_with("parameters")).unwrap();
    assert!(line.contains(&plan.parameters().to_string()), "{line}: {}", plan.parameters());
    assert!(said.out.lines().any(|line| line.starts_with("MACs")));

    // A criterion that reads gradients finds the same scores again.
    let taylor =
        "--params 0.7 --criterion taylor --taylor-batches 2 --population 3 --generations 0";
    let said = folder.run(SEARCH, &self::line(&format!("{taylor} --save taylor")));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let prune = "--model net.safetensors --slimming taylor/slimming.json --save out";
    folder.prune(&format!("{prune} --dataset digits --taylor-batches 2"));
    assert_eq!(folder.plan("out/plan.json").slimming().criterion.name(), "taylor");
    let said = folder.run(PRUNE, &format!("{prune} --no-test"));
    assert!(said.err.contains("`--criterion taylor` reads training images"), "{}", said.err);

    // A criterion that has recorded activations, of which a file has the name, goes on.
    for generations in 0..2 {
        let rest = "--params 0.7 --criterion mean-activation --taylor-batches 2 --population 3";
        let line = self::line(&format!("{rest} --generations {generations} --save activation"));
        let said = folder.run(SEARCH, &line);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
    }
}

#[test]
fn a_search_within_a_latency_compares_its_prediction_with_a_measurement() {
    let folder = Folder::with(&[]);
    write_latencies(&folder, "times.json", 1);
    folder.prune("--cfg [16,24] --no-test --percent 0 --criterion random --save net");
    let search = |save: &str| {
        let network = "--model net/pruned.safetensors --dataset digits --images 20 --criterion l2";
        let budget = "--latency 0.7 --latency-table times.json --population 3 --generations 1";
        folder.run(SEARCH, &format!("{network} {budget} --save {save}"))
    };
    let said = search("found");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let table = LatencyTable::load(folder.path("times.json")).unwrap();
    let file = folder.path("net/pruned.safetensors");
    let model = Model::read(&file, &Wanted::default(), Device::Cpu).unwrap();
    let found: Slimming = serde_json::from_str(&folder.text("found/slimming.json")).unwrap();
    let predicted = table.predict(&model.net.plan(&found).unwrap()).unwrap();
    assert!((0.5..=0.7).contains(&predicted.share()), "{predicted:?}");
    let line = said.out.lines().find(|line| line.starts_with(" share")).unwrap();
    let share = format!("{:.1} %", 100. * predicted.share());
    assert!(line[" share".len()..].trim_start().starts_with(&share), "{line}: {share}");
    // The table is read, so the budget is the same.
    let said = search("found");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(!said.out.contains("measuring the times"), "{}", said.out);
    assert!(said.out.contains("\n0 evaluations; wrote search.json"), "{}", said.out);
    // A folder of another run is refused before a table is measured.
    fs::remove_file(folder.path("times.json")).unwrap();
    let said = folder.run(
        SEARCH,
        "--model net/pruned.safetensors --dataset digits --images 21 --latency 0.7 --latency-table times.json --save found",
    );
    assert!(said.err.contains("of another run") && !folder.path("times.json").exists());
}

#[test]
fn recalibrated_networks_are_measured_as_recalibration_leaves_them() {
    let folder = folder();
    let rest =
        "--params 0.3 --population 3 --generations 0 --recalibrate --repair-batches 2 --seed 4";
    let said = folder.run(SEARCH, &line(&format!("{rest} --save found")));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let next = "--slimming found/slimming.json --recalibrate --repair-batches 2 --seed 4\n";
    assert!(said.out.ends_with(next), "{}", said.out);
    let saved: serde_json::Value = serde_json::from_str(&folder.text("found/search.json")).unwrap();
    let search: Search = serde_json::from_value(saved["state"].clone()).unwrap();

    let mut model = read(&folder);
    let data = data::load(Name::Digits, Path::new("data"), Device::Cpu).unwrap();
    let accuracy = |model: &Model| {
        evaluate(&model.net, &Sample::new(&*data.train, 100, 4), 256).unwrap().accuracy()
    };
    let plan = model.net.plan(&search.found().unwrap()).unwrap();
    model.net.apply(&plan).unwrap();
    let before = accuracy(&model);
    let images = Sample::apart_from(&*data.train, 100, 128, 4);
    let batches = images.batches(64).map(|batch| batch.unwrap().images);
    recalibrate(&mut model.net, batches, |net, xs| Ok(net.forward_t(&xs, true))).unwrap();
    assert_eq!(search.best().unwrap().value, Some(accuracy(&model)));
    assert_ne!(accuracy(&model), before);
}

/// The network that tells digits apart.
fn read(folder: &Folder) -> Model {
    tch::set_num_threads(1);
    Model::read(&folder.path("net.safetensors"), &Wanted::default(), Device::Cpu).unwrap()
}

#[test]
fn other_options_and_wrong_files_are_refused() {
    let folder = folder();
    let search =
        |rest: &str| folder.run(SEARCH, &line(&format!("--generations 0 --population 3 {rest}")));
    let said = search("--params 0.5 --save out");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let before = folder.text("out/search.json");
    let refused = |said: Said| {
        assert_ne!(said.code, 0);
        assert!(!said.err.contains("panicked"), "{}", said.err);
        assert_eq!(folder.text("out/search.json"), before);
        format!("{} {}", said.code, said.err.lines().next().unwrap())
    };
    let mut texts = vec![
        refused(search("--params 0.4 --save out")),
        refused(search("--params 0.5 --save out --seed 2")),
        refused(search("--params 0.5 --save out --population 4")),
        refused(search("--params 0.5 --save out --images 99")),
        refused(search("--params 0.5 --save out --criterion l1")),
        refused(search("--params 0.5 --save out --recalibrate")),
        refused(search("--params 0.5 --repair-batches 2 --save other")),
        refused(search("--latency 0.5 --save other")),
        refused(search("--params 0.001 --save other")),
        refused(search("--save other")),
        refused(search("--params 0.5 --macs 0.5 --save other")),
        refused(search("--params 0.5 --population 1 --save other")),
    ];
    let prune = |rest: &str| {
        folder.run(PRUNE, &format!("--model net.safetensors --no-test --save pruned {rest}"))
    };
    fs::write(folder.path("wrong.json"), r#"{"target": {"ratio": 7.0}}"#).unwrap();
    fs::write(
        folder.path("other.json"),
        r#"{"target": {"ratio": 0.0}, "layers": [["nowhere", {"ratio": 0.5}]]}"#,
    )
    .unwrap();
    texts.push(refused(prune("--slimming nowhere.json")));
    texts.push(refused(prune("--slimming out/search.json")));
    texts.push(refused(prune("--slimming wrong.json")));
    texts.push(refused(prune("--slimming other.json")));
    texts.push(refused(prune("--slimming out/slimming.json --percent 0.5")));
    texts.push(refused(prune("--slimming out/slimming.json --keep feature.0")));
    assert!(!folder.path("pruned").exists() && !folder.path("other").exists());
    // Other weights, of which the criterion reads none.
    let weights = folder.path("net.safetensors");
    let trained = fs::read(&weights).unwrap();
    let model = read(&folder);
    let mut bias = model.vs.variables()["classifier.bias"].detach();
    let _ = bias.g_add_scalar_(0.01);
    model.writer().unwrap().write(&weights).unwrap();
    texts.push(refused(search("--params 0.5 --save out")));
    let _ = bias.fill_(f64::NAN);
    model.writer().unwrap().write(&weights).unwrap();
    texts.push(refused(search("--params 0.5 --save other")));
    fs::write(&weights, trained).unwrap();
    // Tables of times.
    texts.push(refused(search("--params 0.5 --save other --latency-table times.json")));
    texts.push(refused(search("--latency 0.5 --save out --latency-table out/search.json")));
    texts.push(refused(search("--latency 0.5 --save other --latency-table nowhere/times.json")));
    texts.push(refused(search("--params 0.5 --save other --generations 18446744073709551615")));
    // A damaged state.
    fs::write(folder.path("out/search.json"), &before[..before.len() / 2]).unwrap();
    let said = search("--params 0.5 --save out");
    assert_eq!(said.code, 1);
    texts.push(said.err.lines().next().unwrap().to_owned());
    insta::assert_snapshot!(texts.join("\n"));
}
