//! `slim train` in several processes, as `torchrun` starts them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use slim_cli::model::{Model, Wanted};
use slim_cli::train::read_metrics;
use slim_runtime::{Prunable, Slimming, checkpoint};
use tch::{Device, Kind, Tensor};

use crate::slim;

/// Eight steps an epoch. The last batch has two images, fewer than three processes.
const TINY: &str = "-sr --s 5e-3 --dataset digits --cfg [8,'M',16,'M',16] --batch-size 205 --threads 1 --no-cuda --log-interval 1";
/// Longer than any of these runs takes, and shorter than the timeout of collective operations.
const PATIENCE: Duration = Duration::from_secs(200);

/// Processes of one run.
struct Run {
    processes: Vec<Child>,
}

impl Run {
    /// Starts `processes` processes; `change` changes the command of each rank.
    fn start(command: &str, processes: usize, change: impl Fn(usize, &mut Command)) -> Self {
        // The port is free again when the first process serves the store there.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let start = |rank: usize| {
            let mut process = slim(command);
            process
                .env("RANK", rank.to_string())
                .env("LOCAL_RANK", rank.to_string())
                .env("WORLD_SIZE", processes.to_string())
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", port.to_string())
                .env("OMP_NUM_THREADS", "1")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            change(rank, &mut process);
            process.spawn().unwrap()
        };
        Self { processes: (0..processes).map(start).collect() }
    }

    /// Trains the network of [`TINY`].
    fn tiny(more: &str, save: &Path, processes: usize) -> Self {
        Self::start("train", processes, |_, process| {
            process.args(TINY.split(' ')).args(more.split(' ')).arg("--save").arg(save);
            process.env("TORCHELASTIC_RUN_ID", "a job");
        })
    }

    /// Waits until rank 0 prints a line that begins with `line`. Returns the lines before it.
    fn until(&mut self, line: &str) -> Vec<String> {
        let lines = BufReader::new(self.processes[0].stdout.as_mut().unwrap()).lines();
        let mut seen = Vec::new();
        for found in lines.map_while(Result::ok) {
            if found.starts_with(line) {
                return seen;
            }
            seen.push(found);
        }
        let mut error = String::new();
        self.processes[0].stderr.take().unwrap().read_to_string(&mut error).unwrap();
        panic!("it never printed {line}, but {seen:#?} and {error}");
    }

    fn signal(&self, rank: usize, name: &str) {
        let id = self.processes[rank].id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Exit code, standard output and standard error of each process at its end.
    fn end(mut self) -> Vec<(Option<i32>, String, String)> {
        let begun = Instant::now();
        while self.processes.iter_mut().any(|process| process.try_wait().unwrap().is_none()) {
            assert!(begun.elapsed() < PATIENCE, "a process hangs");
            sleep(Duration::from_millis(10));
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ended = std::mem::take(&mut self.processes).into_iter().map(|process| {
            let Output { status, stdout, stderr } = process.wait_with_output().unwrap();
            (status.code(), text(stdout), text(stderr))
        });
        ended.collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn file(save: &Path) -> String {
    save.join("checkpoint.safetensors").display().to_string()
}

fn tensors(save: &Path) -> BTreeMap<String, Tensor> {
    checkpoint::tensors(file(save)).unwrap().into_iter().collect()
}

/// The largest difference between weights, and between momenta, as a share of their norms.
fn differences(found: &Path, expected: &Path) -> [f64; 2] {
    let (found, expected) = (tensors(found), tensors(expected));
    assert!(found.keys().eq(expected.keys()));
    let norm = |tensor: &Tensor| tensor.to_kind(Kind::Double).norm().double_value(&[]);
    let of = |are_momenta: bool| {
        let chosen = expected
            .iter()
            .filter(|(name, _)| name.starts_with("optimizer.momentum.") == are_momenta);
        let (mut difference, mut whole) = (0., 0.);
        for (name, expected) in chosen {
            difference += norm(&(&found[name] - expected)).powi(2);
            whole += norm(expected).powi(2);
        }
        f64::sqrt(difference / whole)
    };
    [of(false), of(true)]
}

/// The lines without what depends on time and place.
fn shape(text: &str, save: &Path) -> String {
    let text = text.replace(&save.display().to_string(), "FOLDER");
    let cut = |line: &str| match line.split_once("trained ") {
        Some(_) => line.split_once(": accuracy").unwrap().1.to_owned(),
        // Losses are equal but for rounding.
        None => line.split("oss: ").next().unwrap().to_owned(),
    };
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}

#[test]
fn several_processes_train_as_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str| folder.path().join(name);
    let alone = slim("train")
        .args(TINY.split(' '))
        .args(["--epochs", "1", "--save"])
        .arg(save("1"))
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let expected = shape(&String::from_utf8(alone.stdout).unwrap(), &save("1"));
    let cfg = |save: &Path| {
        let file = save.join("checkpoint.safetensors");
        let model = Model::read(&file, &Wanted::default(), Device::Cpu).unwrap();
        let plan = model.net.plan(&Slimming::ratio(0.5)).unwrap();
        plan.cfg().to_string()
    };
    let metrics = |save: &Path| read_metrics(&save.join("metrics.jsonl")).unwrap().remove(0);
    for processes in [2, 3] {
        let own = save(&processes.to_string());
        let said = Run::tiny("--epochs 1", &own, processes).end();
        for (rank, (code, stdout, stderr)) in said.into_iter().enumerate() {
            assert_eq!(code, Some(0), "{stderr}");
            if rank == 0 {
                let stdout = stdout.replacen(&format!(", in {processes} processes"), "", 1);
                assert_eq!(shape(&stdout, &own), expected);
                assert!(stderr.starts_with("warning: the largest |γ| that goes"), "{stderr}");
            } else {
                assert_eq!((&stdout[..], &stderr[..]), ("", ""));
            }
        }
        let [weights, momenta] = differences(&own, &save("1"));
        println!(
            "{processes} processes: weights differ by {weights:.1e}, momenta by {momenta:.1e}"
        );
        assert!(weights < 1e-5 && momenta < 1e-3, "{weights:e}, {momenta:e}");
        assert_eq!(cfg(&own), cfg(&save("1")));
        let (found, expected) = (metrics(&own), metrics(&save("1")));
        assert_eq!(found.train_accuracy, expected.train_accuracy);
        assert_eq!(found.test_accuracy, expected.test_accuracy);
        assert!((found.train_loss - expected.train_loss).abs() < 1e-5);
        assert!((found.test_loss - expected.test_loss).abs() < 1e-5);
    }

    // Training goes on from a file that only rank 0 finds, and ends as that of one process.
    let elsewhere = tempfile::tempdir().unwrap();
    let resumed = Run::start("train", 2, |rank, process| {
        process.args(["--threads", "1", "--no-cuda", "--epochs", "2", "--resume"]);
        process.arg("1/checkpoint.safetensors");
        process.current_dir(if rank == 0 { folder.path() } else { elsewhere.path() });
    });
    std::fs::create_dir(save("copy")).unwrap();
    for name in ["checkpoint.safetensors", "metrics.jsonl"] {
        std::fs::copy(save("2").join(name), save("copy").join(name)).unwrap();
    }
    let said = resumed.end();
    assert!(said[0].1.starts_with("going on with epoch 1, step 0, of 1/checkpoint"), "{said:?}");
    assert_eq!((said[1].0, &said[1].1[..], &said[1].2[..]), (Some(0), "", ""));
    let alone = slim("train")
        .args(["--threads", "1", "--no-cuda", "--epochs", "2", "--resume", &file(&save("copy"))])
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    assert!(alone.status.success());
    let [weights, momenta] = differences(&save("1"), &save("copy"));
    println!("resumed: weights differ by {weights:.1e}, momenta by {momenta:.1e}");
    assert!(weights < 2e-5 && momenta < 2e-3, "{weights:e}, {momenta:e}");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

/// Only rank 0 finds the teacher's file. All make the same masks and the same cut.
#[test]
fn several_processes_prune_while_they_train_as_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let save = |name: &str| folder.path().join(name);
    let trained = |more: &str, own: &Path, processes: usize| {
        let run = Run::start("train", processes, |rank, process| {
            process.args(TINY.split(' ')).args(more.split(' ')).arg("--save").arg(own);
            process.current_dir(if rank == 0 { folder.path() } else { elsewhere.path() });
        });
        for (code, _, stderr) in run.end() {
            assert_eq!(code, Some(0), "{stderr}");
        }
    };
    trained("--epochs 1", &save("dense"), 1);
    let cfg = |save: &Path| {
        let file = save.join("checkpoint.safetensors");
        Model::read(&file, &Wanted::default(), Device::Cpu).unwrap().slimmed.unwrap().cfg()
    };
    for (name, more) in [
        (
            "gradual",
            "--epochs 2 --gradual 0.5 --gradual-every 3 --teacher dense/checkpoint.safetensors",
        ),
        ("growing", "--epochs 2 --growing 0.5 --refine dense/checkpoint.safetensors"),
    ] {
        let (one, two) = (save(&format!("{name}-1")), save(&format!("{name}-2")));
        trained(more, &one, 1);
        trained(more, &two, 2);
        assert_eq!(cfg(&one), cfg(&two));
        let (found, expected) = (tensors(&two), tensors(&one));
        assert!(found.keys().eq(expected.keys()));
        for (tensor, expected) in expected {
            let difference = (&found[&tensor] - &expected).norm() / expected.norm().clamp_min(1e-3);
            let difference = difference.double_value(&[]);
            assert!(difference < 1e-3, "{name}: {tensor} differs by {difference:e}");
        }
    }
}

/// The others end with an error; started again, all go on from the checkpoint of their job, and
/// from that of no other.
#[test]
fn a_run_that_lost_a_process_goes_on_when_it_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let save = folder.path().join("run");
    for victim in [1, 0] {
        let mut run = Run::tiny("--epochs 1000", &save, 2);
        run.until("Train Epoch: 1 [205/");
        run.signal(victim, "-KILL");
        let (code, _, stderr) = &run.end()[1 - victim];
        assert_eq!(*code, Some(1));
        assert!(stderr.starts_with(&format!("error: rank {} cannot ", 1 - victim)), "{stderr}");
        std::fs::rename(&save, folder.path().join(victim.to_string())).unwrap();
    }
    std::fs::rename(folder.path().join("1"), &save).unwrap();

    // One process is asked to end, and all do.
    let mut run = Run::tiny("--epochs 1000", &save, 2);
    let before = run.until("Train Epoch: 1 [205/");
    assert!(before[0].starts_with("going on with epoch 1, step 0, of "), "{before:?}");
    run.signal(1, "-TERM");
    let said = run.end();
    let way = format!("`--resume {}` goes on from here: interrupted in epoch ", file(&save));
    assert!(said[0].2.starts_with(&way), "{said:?}");
    assert_eq!((said[0].0, said[1].0), (Some(130), Some(130)));
    assert_eq!((&said[1].1[..], &said[1].2[..]), ("", ""));

    let other = Run::start("train", 2, |_, process| {
        process.args(TINY.split(' ')).arg("--save").arg(&save);
        process.env("TORCHELASTIC_RUN_ID", "another job");
    });
    let said = other.end();
    assert!(said[0].2.contains(" is of another run: go on from it (--resume)"), "{said:?}");
    assert_eq!((said[0].0, said[1].0), (Some(1), Some(1)));
    assert_eq!(&said[1].2, "");
}

#[test]
fn what_one_process_lacks_is_an_error_in_all() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start("train", 3, |rank, process| {
        process.args(["--no-cuda", "--threads", "1", "--dataset"]);
        process.arg(if rank == 1 { "cifar10" } else { "digits" });
        process.args(["--data-dir", "nowhere", "--save"]).arg(folder.path().join("run"));
    });
    let said = run.end();
    assert_eq!(said.iter().map(|said| said.0).collect::<Vec<_>>(), [Some(1), Some(2), Some(1)]);
    assert!(
        said[0].2.starts_with("error: rank 1 has failed: no CIFAR-10 in `nowhere`"),
        "{said:?}"
    );
    assert!(said[1].2.starts_with("error: no CIFAR-10 in `nowhere`"), "{said:?}");
    assert_eq!(&said[2].2, "");
    assert!(!folder.path().join("run").exists());
}

#[test]
fn other_commands_run_in_rank_0_alone() {
    let run = Run::start("prune", 3, |_, process| {
        process.args(["--percent", "0.5"]);
    });
    let said = run.end();
    let line = "slim prune runs in one process: rank 0 of 3 does all of it, and the others end\n";
    assert!(said[0].2.starts_with(line) && said[0].2.len() > line.len(), "{said:?}");
    assert_ne!(said[0].0, Some(0));
    assert!(said[1..].iter().all(|said| *said == (Some(0), String::new(), String::new())));
}
