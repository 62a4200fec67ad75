//! The README shows what is there.

#[test]
fn its_snapshot_test_is_one_of_these_tests() {
    let readme = include_str!("../../../README.md");
    let test = readme.split("```").find(|block| block.contains("assert_json_snapshot")).unwrap();
    let test = test.split_once('\n').unwrap().1;
    assert!(include_str!("snapshots.rs").contains(test));
}

#[test]
fn its_first_code_block_is_the_quickstart_example() {
    let readme = include_str!("../../../README.md");
    let quickstart = include_str!("../../../examples/examples/quickstart.rs");
    let (_, rest) = readme.split_once("```rust\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    assert_eq!(block, quickstart);
    assert!(quickstart.lines().count() < 40);
}
