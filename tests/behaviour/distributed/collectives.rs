//! Operations over all processes.

use crate::launch::words;

#[test]
fn every_process_gets_the_same() {
    let all = words("collectives", 3);
    assert!(all.iter().all(|words| words == &all[0]), "{all:#?}");
    insta::assert_snapshot!(all[0]);
}

#[test]
fn a_variable_that_differs_is_named_in_every_process() {
    let all = words("differs", 2);
    assert_eq!(all[0], all[1]);
    insta::assert_snapshot!(all[0]);
}

#[test]
fn processes_with_other_variables_are_named() {
    insta::assert_snapshot!(words("unlike", 3).join("\n\n"));
}
