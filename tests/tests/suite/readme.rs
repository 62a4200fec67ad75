//! The README shows what is there.

#[test]
fn its_snapshot_test_is_one_of_these_tests() {
    let readme = include_str!("../../../README.md");
    let test = readme.split("```").find(|block| block.contains("assert_json_snapshot")).unwrap();
    let test = test.split_once('\n').unwrap().1;
    assert!(include_str!("snapshots.rs").contains(test));
}

#[test]
fn its_first_code_blocks_are_the_examples() {
    let readme = include_str!("../../../README.md");
    let mut blocks =
        readme.split("```rust\n").skip(1).map(|block| block.split("```").next().unwrap());
    let quickstart = include_str!("../../../examples/examples/quickstart.rs");
    assert_eq!(blocks.next().unwrap(), quickstart);
    assert!(quickstart.lines().count() < 40);
    assert_eq!(blocks.next().unwrap(), include_str!("../../../examples/examples/residual.rs"));
}
