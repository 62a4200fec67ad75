//! The same surgery in every process, or in none.

use crate::launch::words;

#[test]
fn no_process_slims_when_rank_0_has_no_plan() {
    insta::assert_snapshot!(words("plan fails", 3).join("\n\n"));
}

#[test]
fn no_process_slims_when_one_cannot() {
    insta::assert_snapshot!(words("surgery fails", 3).join("\n\n"));
}

#[test]
fn gradients_are_not_averaged_by_buckets_of_other_shapes() {
    let all = words("stale", 2);
    assert_eq!(all[0], all[1]);
    insta::assert_snapshot!(all[0]);
}

#[test]
fn a_change_that_ends_the_averaging_of_gradients_is_an_error() {
    let all = words("changed", 2);
    assert_eq!(all[0], all[1]);
    insta::assert_snapshot!(all[0]);
}
