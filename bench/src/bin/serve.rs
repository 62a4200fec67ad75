//! Compares `slim_serve::Runner` with the network, `deploy`, OpenVINO and ONNX Runtime.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde_json::{Value, json};
use slim_cli::model::Model;
use slim_cli::network::{Arch, Net, Spec};
use slim_cli::program;
use slim_cli::terminal::say;
use slim_runtime::export::{Calibration, OnnxExport};
use slim_runtime::{Benchmark, Compared, Prunable, Slimming, deploy, export, recalibrate};
use slim_serve::Runner;
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};

const SCRIPT: &str = include_str!("../../python/serve.py");

/// The other runtimes by their names in the table, and whether they compute in 8 bits.
const OTHERS: [(&str, &str, bool); 3] = [
    ("openvino", "openvino", false),
    ("onnxruntime", "onnxruntime", false),
    ("onnxruntime int8", "onnxruntime", true),
];

/// How far outputs in single precision may be from the network's, as a share of the largest.
const TOLERANCE: f64 = 1e-3;

/// Slims networks, writes them as ONNX, and measures the runner, `deploy`, OpenVINO and ONNX
/// Runtime in turn on the same networks, threads and inputs. Prints how far the outputs are from
/// the network's, and the ratios of the medians.
#[derive(Parser)]
struct Cli {
    /// Python with numpy, safetensors, onnxruntime and openvino
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// The networks, with commas between them
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "resnet50,vgg,mobilenet_v2,efficientnet_b0"
    )]
    networks: Vec<Arch>,
    /// The batches, with commas between them
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    batches: Vec<i64>,
    /// Round the widths to multiples of these, with commas between them; 1 leaves them
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    multiples: Vec<usize>,
    /// How often each contender has its turn
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Threads of each contender; with 1, the time is that of the processor
    #[arg(long, default_value_t = 2)]
    threads: i32,
    /// Print what `deploy` and the runner report of each network
    #[arg(long)]
    reports: bool,
    /// Where to keep the networks, each with a sample and its outputs
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    program::main(|| run(&Cli::parse()))
}

fn run(cli: &Cli) -> Result<()> {
    tch::set_num_threads(cli.threads);
    let temporary = tempfile::tempdir()?;
    let folder = cli.out.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut ratios: Vec<(&str, Vec<f64>)> =
        ["deploy", "openvino", "onnxruntime", "onnxruntime int8"]
            .map(|name| (name, Vec::new()))
            .into();
    for &arch in &cli.networks {
        for &multiple in &cli.multiples {
            for &batch in &cli.batches {
                let compared = case(cli, arch, multiple, batch, folder)?;
                let median =
                    |name: &str| compared.case(name).map(|latency| latency.seconds.median * 1e3);
                let own = median("runner").unwrap_or(f64::NAN);
                let mut line = format!("{arch} x{multiple} b{batch}: runner {own:.2} ms");
                for (name, all) in &mut ratios {
                    if let Some(other) = compared.times_as_fast(name, "runner") {
                        all.push(other.median);
                        let ratio = other.median;
                        line += &format!(", {name} {ratio:.2}");
                    }
                }
                say(&line);
            }
        }
    }
    for (name, ratios) in ratios {
        let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
        let worst = ratios.iter().copied().fold(0., f64::max);
        say(format!("time of the runner / {name}: geometric mean {mean:.3}, worst {worst:.2}"));
    }
    Ok(())
}

fn case(cli: &Cli, arch: Arch, multiple: usize, batch: i64, folder: &Path) -> Result<Compared> {
    tch::manual_seed(0);
    let model = |seed| -> Result<Model> {
        tch::manual_seed(seed);
        let mut model = Model::new(Spec::new(arch, None, None, Spec::CLASSES)?, Device::Cpu)?;
        model.draw_scales();
        let slimming = Slimming::ratio(0.5);
        let slimming = if multiple > 1 { slimming.round_to(multiple) } else { slimming };
        let plan = model.net.plan(&slimming)?;
        model.net.apply(&plan)?;
        // Values of an untrained network would vanish, and denormal numbers are slow.
        let batch = Tensor::f_rand([&[4][..], &arch.image()].concat(), (Kind::Float, Device::Cpu))?;
        recalibrate(&mut model.net, [batch], |net, batch| Ok(net.forward_t(&batch, true)))?;
        Ok(model)
    };
    let net = model(0)?.net;
    let mut deployed = model(0)?.net;
    let shape = [&[batch][..], &arch.image()].concat();
    let images = Tensor::f_rand(&shape, (Kind::Float, Device::Cpu))?;
    let forward = |net: &Net, images: &Tensor| net.forward_t(images, false);

    let file = folder.join(format!("{arch}-x{multiple}-b{batch}.onnx"));
    export::onnx(&file, &net, &[&arch.image()])?;
    let int8 = file.with_extension("int8.onnx");
    let calibration = Calibration::record(&net, [images.shallow_clone()], forward)?;
    OnnxExport::new().int8(&calibration).write(&int8, &net, &[&arch.image()])?;
    let output = tch::no_grad(|| forward(&net, &images));
    let sample = file.with_extension("safetensors");
    Tensor::write_safetensors(&[("input", &images), ("output", &output)], &sample)?;
    let mut differences = String::new();
    let mut others = Vec::new();
    for (name, runtime, is_int8) in OTHERS {
        let mut other = Other::start(cli)?;
        let model = if is_int8 { &int8 } else { &file };
        let request = json!({ "do": "load", "runtime": runtime, "model": model, "sample": sample });
        match other.ask(&request) {
            Ok(answer) => {
                let off = answer["off"].as_f64().unwrap_or(f64::INFINITY);
                ensure!(is_int8 || off < TOLERANCE, "{name} computes something else: {off}");
                differences += &format!(", {name} {off:.1e}");
                others.push((name, runtime, other));
            }
            Err(error) => say(format!("{arch} x{multiple} b{batch}, {name}: {error:#}")),
        }
    }

    let report = deploy(&mut deployed, &images, forward)?;
    let runner = Runner::new(&net, &images, forward)?;
    let own = runner.report();
    let off = own.shapes.first().map_or(f64::NAN, |shape| shape.difference / shape.magnitude);
    say(format!("{arch} x{multiple} b{batch}: outputs differ by: runner {off:.1e}{differences}"));
    if cli.reports {
        say(format!("{report}\n{own}"));
    }
    let mut in_turn = Benchmark::new()
        .warm_up(Duration::ZERO)
        .runs(cli.rounds)
        .in_turn()
        .timed_case("runner", || timed(|| drop(runner.run(&images))))
        .timed_case("deploy", || timed(|| drop(forward(&deployed, &images))));
    for (name, runtime, mut other) in others {
        in_turn = in_turn.timed_case(name, move || {
            let answer = other.ask(&json!({ "do": "pass", "runtime": runtime }));
            let seconds = answer.ok().and_then(|answer| answer["seconds"].as_f64());
            seconds
                .map(Duration::from_secs_f64)
                .ok_or_else(|| slim_runtime::Error::Custom(format!("{name} has failed")))
        });
    }
    Ok(in_turn.run()?)
}

/// The time of the second of two passes: the first finds the caches of another contender. On one
/// thread it is the time that the thread has computed, so other load does not count.
fn timed(mut pass: impl FnMut()) -> slim_runtime::Result<Duration> {
    pass();
    let one = tch::get_num_threads() == 1;
    let (begun, computed) = (Instant::now(), computed());
    pass();
    Ok(if one { self::computed().saturating_sub(computed) } else { begun.elapsed() })
}

/// For how long this thread has computed.
fn computed() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// A Python process with one of the other runtimes.
struct Other {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    fn start(cli: &Cli) -> Result<Self> {
        let mut child = Command::new(&cli.python)
            .args(["-c", SCRIPT, &cli.threads.to_string()])
            .env("OMP_NUM_THREADS", cli.threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", cli.python.display()))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{} has no pipes", cli.python.display())
        };
        Ok(Self { child, requests, answers: BufReader::new(answers) })
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.requests, "{request}")?;
        self.requests.flush()?;
        let mut line = String::new();
        // Libraries may print lines of their own.
        while self.answers.read_line(&mut line)? > 0 {
            if let Ok(answer) = serde_json::from_str::<Value>(&line) {
                if let Some(error) = answer.get("error") {
                    bail!("{error}");
                }
                return Ok(answer);
            }
            line.clear();
        }
        bail!("it has ended")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
