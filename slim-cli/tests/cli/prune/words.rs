//! Texts that users read.

use super::{CFG, Folder, ITERATE, PRUNE, Said};

/// Cuts off the text that differs between runs and between machines.
fn shape(text: &str) -> String {
    let line = |line: &str| {
        let ends = ["same function: ", "planned in ", ", after "];
        match ends.into_iter().find_map(|end| Some((line.split_once(end)?.0, end))) {
            Some((before, end)) => format!("{before}{end}…"),
            None => line.to_owned(),
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_network_of_pytorch_without_data() {
    let folder = Folder::with(&["vgg11.pth.tar"]);
    insta::assert_snapshot!(shape(
        &folder.prune(&format!("{CFG} --model vgg11.pth.tar --no-test --save out"))
    ));
}

#[test]
fn pruned_again() {
    let folder = Folder::with(&["vgg11.pth"]);
    folder.prune(&format!("{CFG} --model vgg11.pth --no-test --percent 0.3 --save out"));
    insta::assert_snapshot!(shape(&folder.prune(
        "--model out/pruned.safetensors --no-test --percent 0.3 --max-removed 0.5 --save again"
    )));
    assert_eq!(folder.plan("again/plan.json").passes().len(), 1);
}

#[test]
fn a_fresh_network_says_that_it_is_one() {
    let said = Folder::with(&[]).prune("--cfg [8,'M',16] --no-test --save out");
    insta::assert_snapshot!(said.lines().next().unwrap(), @"no --model: a fresh vgg [8, 'M', 16], 10 classes, which nobody has trained; γ are drawn from U(0, 1), so that something ranks the channels");
}

#[test]
fn the_help_is_complete() {
    let folder = Folder::with(&[]);
    let help = |program| {
        let said = Said::by(folder.command(program, "--help").env("COLUMNS", "100"));
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        said.out
    };
    insta::assert_snapshot!("help_of_prune", help(PRUNE));
    insta::assert_snapshot!("help_of_iterate", help(ITERATE));
    insta::assert_snapshot!("help_of_sensitivity", help("sensitivity"));
    insta::assert_snapshot!("help_of_search", help("search"));
}
