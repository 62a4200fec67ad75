//! The README and the tour show code that exists.

const README: &str = include_str!("../../../README.md");
const TOUR: &str = include_str!("../../../slim-runtime/docs/tour.md");

#[test]
fn the_tours_snapshot_test_is_one_of_these_tests() {
    let test = TOUR.split("```").find(|block| block.contains("assert_json_snapshot")).unwrap();
    let test = test.split_once('\n').unwrap().1;
    assert!(include_str!("snapshots.rs").contains(test));
}

#[test]
fn the_readmes_code_is_that_of_the_examples() {
    let mut blocks =
        README.split("```rust\n").skip(1).map(|block| block.split("```").next().unwrap());
    let quickstart = include_str!("../../../examples/quickstart.rs");
    assert_eq!(blocks.next().unwrap(), quickstart);
    assert!(quickstart.lines().count() < 40);
    let residual = include_str!("../../../examples/residual.rs");
    let fields = |text: &str| -> Vec<String> {
        let body = text.split("pub struct Tiny").nth(1).unwrap().split("\n}\n").next().unwrap();
        body.lines().map(|line| line.trim().to_owned()).collect()
    };
    assert_eq!(fields(blocks.next().unwrap()), fields(residual));
}

#[test]
fn the_readme_is_one_page() {
    assert!(README.len() <= 9 * 1024, "{} bytes", README.len());
}
