//! `iterate`: the files of each pass, how it resumes, and the final number of channels.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use slim_cli::numbers::grouped;
use slim_cli::train::read_metrics;
use slim_runtime::Change;

use super::{FILES, Folder, ITERATE, Said, bits};

/// Two passes, each with an epoch of 12 steps and an epoch of fine-tuning. The criterion reads
/// gradients, which must be the same after training and after reading a file.
const TINY: &str = "--dataset digits --cfg [8,'M',16,'M',16] --batch-size 128 --epochs 1 --lr 0.02 --passes 2 --log-interval 1 \
    --criterion taylor --taylor-batches 1";

/// Starts a command, waits for two lines, one after the other, and sends a signal.
fn stopped(folder: &Folder, line: &str, at: [&str; 2], signal: &str) -> Said {
    let mut child = folder
        .command(ITERATE, line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    for start in at {
        assert!(lines.any(|line| line.starts_with(start)), "it never printed {start}");
    }
    assert!(
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success()
    );
    let rest: Vec<_> = lines.collect();
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: rest.join("\n"),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn left(change: Change) -> String {
    format!(
        "{} ({:.1} %)",
        grouped(change.after),
        100. * change.after as f64 / change.before as f64
    )
}

#[test]
fn passes_arrive_and_can_be_stopped() {
    let folder = Folder::with(&[]);
    let through = folder.run(ITERATE, &format!("{TINY} --target 0.75 --save through"));
    assert_eq!((through.code, through.err.as_str()), (0, ""));

    // Every file is there, and the table agrees with the files.
    let rows: Vec<&str> = through.out.lines().rev().skip(1).take(2).collect();
    for (pass, row) in [2, 1].into_iter().zip(rows) {
        let file = |name: &str| format!("through/pass-{pass}/{name}");
        assert_eq!(folder.names(&file("prune")), FILES);
        let accuracies = ["train", "refine"].map(|stage| {
            assert_eq!(
                folder.names(&file(stage)),
                ["checkpoint.safetensors", "metrics.jsonl", "model_best.safetensors"]
            );
            let metrics = read_metrics(&folder.path(&file(stage)).join("metrics.jsonl")).unwrap();
            assert_eq!(metrics.len(), 1);
            format!("{:.2} %", metrics[0].test_accuracy)
        });
        let plan = folder.plan(&file("prune/plan.json"));
        assert_eq!((plan.passes().len(), plan.channels().before), (pass - 1, 40));
        let masked: f64 =
            folder.text(&file("prune/prune.txt")).lines().last().unwrap().parse().unwrap();
        let cells: Vec<_> =
            row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let [trained, refined] = &accuracies;
        let slimmed = format!("{:.2} %", 100. * masked);
        assert_eq!(
            cells[..6],
            [
                &pass.to_string(),
                trained,
                &slimmed,
                refined,
                &left(plan.channels()),
                &left(plan.parameters())
            ],
            "{row}"
        );
    }
    let last = folder.plan("through/pass-2/prune/plan.json").channels().after;
    assert!(
        (8..=12).contains(&last),
        "{last} of 40 channels are left, and a quarter was asked for"
    );

    // Interrupted while it fine-tunes, then killed in the second pass, `iterate` ends with the same
    // weights.
    let line = format!("{TINY} --target 0.75 --save stopped");
    let said = stopped(&folder, &line, ["== pass 1: fine-tune", "Train Epoch: 0 [128/"], "-INT");
    assert_eq!(said.code, 130);
    assert!(
        said.err.starts_with("the same command goes on from here: interrupted in epoch 0 after "),
        "{}",
        said.err
    );
    assert!(said.err.lines().count() == 1 && !said.err.contains("--resume"), "{}", said.err);
    let said = stopped(&folder, &line, ["== pass 2: train", "Train Epoch: 0 [128/"], "-KILL");
    assert_eq!(said.code, -1);
    let said = folder.run(ITERATE, &line);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    for file in [
        "pass-1/prune/pruned",
        "pass-1/refine/checkpoint",
        "pass-2/prune/pruned",
        "pass-2/refine/checkpoint",
    ] {
        let bits = |run: &str| bits(&folder.path(run).join(format!("{file}.safetensors")));
        assert!(bits("stopped") == bits("through"), "{file}");
    }

    // `prune` can continue from the file of a pass, which names its data set.
    let said = folder
        .prune("--model stopped/pass-2/refine/model_best.safetensors --percent 0.1 --save again");
    assert!(
        said.contains("pruned before  Accuracy: ")
            && folder.plan("again/plan.json").passes().len() == 2,
        "{said}"
    );

    // Other options would be another run. They are refused, and the files stay as they are.
    let files = folder.written("through/pass-1/prune");
    let texts: Vec<_> = [
        "--percent 0.2",
        "--target 0.75 --refine-epochs 2",
        "--target 0.75 --epochs 2",
        "--target 0.75 --cfg [8,'M',16,'M',8]",
    ]
    .iter()
    .map(|options| {
        let said = folder.run(ITERATE, &format!("{TINY} {options} --save through"));
        assert_eq!(said.code, 1, "{options}: {}", said.err);
        said.err
    })
    .collect();
    insta::assert_snapshot!(texts.concat(), @r"
    error: through/pass-1/refine/checkpoint.safetensors is of another run, with other options: choose another --save
    error: through/pass-1/refine/checkpoint.safetensors is of another run, with other options: choose another --save
    error: through/pass-1/train/checkpoint.safetensors is of another run, with other options: choose another --save
    error: through/pass-1/train/checkpoint.safetensors is of another run, with other options: choose another --save
    ");
    assert!(folder.written("through/pass-1/prune") == files);
}
