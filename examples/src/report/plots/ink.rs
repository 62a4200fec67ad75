//! Colours by what they are for.

use plotters::style::RGBColor;

/// A colour that stands in for the one that the page's style has under this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) struct Ink {
    pub(in crate::report) name: &'static str,
    number: u8,
}

impl Ink {
    /// As it is in a picture.
    pub(super) fn colour(self) -> RGBColor {
        RGBColor(1, 2, self.number)
    }

    /// As it is in a picture's text.
    pub(in crate::report) fn hex(self) -> String {
        format!("#0102{:02X}", self.number)
    }
}

/// Text.
pub(super) const TEXT: Ink = Ink { name: "text", number: 0 };
/// Text that is less important.
pub(super) const MUTED: Ink = Ink { name: "muted", number: 1 };
/// What is behind.
pub(super) const PAPER: Ink = Ink { name: "paper", number: 2 };
/// Lines that guide the eye.
pub(super) const GRID: Ink = Ink { name: "grid", number: 3 };
/// What was there before, or is to go.
pub(super) const BEFORE: Ink = Ink { name: "before", number: 4 };
/// What is left.
pub(super) const AFTER: Ink = Ink { name: "after", number: 5 };
/// A threshold.
pub(super) const CUT: Ink = Ink { name: "cut", number: 6 };
/// Channels that one layer makes.
pub(super) const LINK: Ink = Ink { name: "link", number: 7 };
/// Channels that several layers make, group after group.
pub(super) const GROUPS: [Ink; 6] = [
    Ink { name: "group-a", number: 8 },
    Ink { name: "group-b", number: 9 },
    Ink { name: "group-c", number: 10 },
    Ink { name: "group-d", number: 11 },
    Ink { name: "group-e", number: 12 },
    Ink { name: "group-f", number: 13 },
];

/// All of them.
pub(in crate::report) const ALL: [Ink; 14] = {
    let [a, b, c, d, e, f] = GROUPS;
    [TEXT, MUTED, PAPER, GRID, BEFORE, AFTER, CUT, LINK, a, b, c, d, e, f]
};
