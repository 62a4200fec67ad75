//! Bounds on the channels that every layer keeps.

use slim_runtime::{Rule, Slimming};

use super::{plan, widths};

/// For each bounded layer: its path, the number of channels that the target alone would leave, and
/// the bounds that keep more.
fn bounded(slimming: &Slimming) -> Vec<(String, usize, Vec<Rule>)> {
    plan(slimming)
        .bounded()
        .map(|(path, bounded)| (path.to_owned(), bounded.wanted, bounded.by.clone()))
        .collect()
}

#[test]
fn a_minimum_holds_and_is_reported() {
    let slimming = Slimming::ratio(0.8).at_least(4);
    assert_eq!(widths(&plan(&slimming)), [4, 4]);
    assert_eq!(
        bounded(&slimming),
        [("bn1".to_owned(), 0, vec![Rule::AtLeast]), ("bn2".to_owned(), 2, vec![Rule::AtLeast])]
    );
    // A minimum above a layer's width keeps all its channels.
    assert_eq!(widths(&plan(&Slimming::ratio(0.8).at_least(7))), [7, 6]);
}

#[test]
fn a_largest_share_holds() {
    // At most 6 of the 8 channels of `bn1` go, and 4 of the 6 of `bn2`.
    let slimming = Slimming::ratio(0.95).max_removed(0.75);
    assert_eq!(widths(&plan(&slimming)), [2, 2]);
    assert_eq!(bounded(&slimming)[0], ("bn1".to_owned(), 0, vec![Rule::MaxRemoved]));
    assert_eq!(widths(&plan(&Slimming::ratio(0.95).max_removed(0.))), [8, 6]);
}

#[test]
fn widths_are_rounded_up_or_down_and_never_to_none() {
    // Without rounding, the widths are 5 and 6.
    assert_eq!(widths(&plan(&Slimming::ratio(0.2))), [5, 6]);
    assert_eq!(widths(&plan(&Slimming::ratio(0.2).round_to(4))), [8, 6]);
    assert_eq!(widths(&plan(&Slimming::ratio(0.2).round_down_to(4))), [4, 6]);
    assert_eq!(
        bounded(&Slimming::ratio(0.2).round_down_to(4)),
        [("bn1".to_owned(), 5, vec![Rule::RoundTo])]
    );
    // Without rounding, `bn1` keeps one channel; rounding down would leave none.
    assert_eq!(widths(&plan(&Slimming::ratio(0.6).round_down_to(4))), [4, 4]);
    // No multiple fits into the layer's width, so all channels stay.
    assert_eq!(widths(&plan(&Slimming::ratio(0.2).round_to(16))), [8, 6]);
}

#[test]
fn bounds_hold_together() {
    let slimming = Slimming::ratio(0.8).at_least(3).max_removed(0.7).round_down_to(2);
    // `bn1`: at least 3 stay and at most 5 of 8 go, so 3, and 4 as a multiple of 2. `bn2`: at least
    // 3 stay and at most 4 of 6 go, so 3, and 4.
    assert_eq!(widths(&plan(&slimming)), [4, 4]);
}

#[test]
fn the_report_names_each_bound() {
    insta::assert_snapshot!(plan(&Slimming::ratio(0.8).at_least(3).round_to(2)));
}
