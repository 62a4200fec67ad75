//! Impossible requests are refused in time, with an exit code, and nothing is written.

use super::{CFG, Folder, ITERATE, PRUNE};

/// Exit code and first line of standard error. Only clap prints more than one line.
fn refused(folder: &Folder, program: &str, line: &str) -> String {
    let said = folder.run(program, &format!("{line} --save out"));
    assert!(said.err.starts_with("error: "), "{line}: {}", said.err);
    assert!(!said.err.contains("panicked"), "{line}: {}", said.err);
    assert!(!folder.path("out").exists(), "{line}: there is a folder");
    let by_clap = said.err.ends_with("For more information, try '--help'.\n");
    assert!(
        said.code == 2 && by_clap || said.err.lines().count() == 1,
        "{line}: {}, {}",
        said.code,
        said.err
    );
    format!("{line}\n  {} {}\n", said.code, said.err.lines().next().unwrap())
}

#[test]
fn a_data_set_that_is_not_there_is_said_before_all_else() {
    let folder = Folder::with(&["vgg11.pth"]);
    for program in [PRUNE, ITERATE] {
        // The data set is checked before the file with the weights.
        let model = if program == PRUNE { "--model nowhere.pth" } else { "" };
        let said = folder.run(program, &format!("{model} --dataset cifar10 --save out"));
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{}", said.err);
        assert!(
            said.err.starts_with("error: no CIFAR-10 in `data`: expected are `data_batch_1.bin`, "),
            "{}",
            said.err
        );
        assert!(said.err.contains("https://") && said.err.lines().count() == 1, "{}", said.err);
    }
    assert_eq!(folder.names("."), ["vgg11.pth"]);
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let folder = Folder::with(&["vgg11.pth"]);
    let model = format!("{CFG} --model vgg11.pth");
    let lines = [
        // Data.
        "--dataset digits --no-test",
        "",
        "--no-test --criterion taylor",
        "--no-test --criterion mean-activation",
        "--no-test --reconstruct",
        "--no-test --reconstruct --absorb",
        // Shares.
        "--no-test --percent 1",
        "--no-test --percent -0.1",
        "--no-test --percent NaN",
        "--no-test --params -1",
        "--no-test --params 0.001",
        "--no-test --percent 0.5 --macs 0.5",
        "--no-test --local --isomorphic",
        // Layers.
        "--no-test --layer feature.0",
        "--no-test --layer nowhere=0.5",
        "--no-test --keep nowhere",
    ];
    let mut texts: Vec<_> = lines
        .iter()
        .map(|line| refused(&folder, PRUNE, &format!("{model} {line}")).replace(&model, "prune"))
        .collect();
    let networks = [
        "--no-test --arch lenet",
        "--no-test --arch resnet50 --depth 50",
        "--no-test --arch resnet50 --cfg [8]",
        "--no-test --depth 12",
        "--dataset digits --arch resnet18",
        "--no-test --depth 19 --cfg [8] --model vgg11.pth",
    ];
    let again = Folder::with(&["vgg11.pth"]);
    again.prune(&format!("{CFG} --model vgg11.pth --no-test --save ."));
    let said = again.run(PRUNE, "--model pruned.safetensors --no-test --save .");
    assert_eq!(
        (said.code, said.err.as_str()),
        (
            2,
            "error: pruned.safetensors in --save would replace the file of --model: choose another folder\n"
        )
    );
    texts.extend(networks.iter().map(|line| format!("prune {}", refused(&folder, PRUNE, line))));
    insta::assert_snapshot!(texts.concat());
}

#[test]
fn passes_that_cannot_be_are_refused_before_training() {
    let folder = Folder::with(&[]);
    let tiny = "--dataset digits --cfg [4,'M',8] --epochs 1";
    let lines = [
        "--target 0.5 --percent 0.5",
        "--target 1",
        "--pace cubic",
        "--passes 0",
        "--percent 1",
        "--layer nowhere=0.5",
        "--keep nowhere",
        "--lr inf",
    ];
    let texts: Vec<_> = lines
        .iter()
        .map(|line| refused(&folder, ITERATE, &format!("{tiny} {line}")).replace(tiny, "iterate"))
        .collect();
    insta::assert_snapshot!(texts.concat());
    let none = refused(&folder, ITERATE, "--cfg [4]");
    assert!(none.contains("which data set?"), "{none}");
}
