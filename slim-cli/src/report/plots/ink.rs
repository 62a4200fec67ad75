//! Colours by purpose.

use plotters::style::RGBColor;

/// A placeholder for the colour that the page's style has under this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) struct Ink {
    pub(in crate::report) name: &'static str,
    number: u8,
}

impl Ink {
    /// The placeholder in a picture.
    pub(super) fn colour(self) -> RGBColor {
        RGBColor(1, 2, self.number)
    }

    /// The placeholder in a picture's SVG text.
    pub(in crate::report) fn hex(self) -> String {
        format!("#0102{:02X}", self.number)
    }
}

/// Text.
pub(super) const TEXT: Ink = Ink { name: "text", number: 0 };
/// Text that is less important.
pub(super) const MUTED: Ink = Ink { name: "muted", number: 1 };
/// Background.
pub(super) const PAPER: Ink = Ink { name: "paper", number: 2 };
/// Grid lines.
pub(super) const GRID: Ink = Ink { name: "grid", number: 3 };
/// Values before slimming, and removed channels.
pub(super) const BEFORE: Ink = Ink { name: "before", number: 4 };
/// Values after slimming, and kept channels.
pub(super) const AFTER: Ink = Ink { name: "after", number: 5 };
/// A threshold.
pub(super) const CUT: Ink = Ink { name: "cut", number: 6 };
/// Channels that one layer makes.
pub(super) const LINK: Ink = Ink { name: "link", number: 7 };
/// Channels that several layers make; groups take these colours in turn.
pub(super) const GROUPS: [Ink; 6] = [
    Ink { name: "group-a", number: 8 },
    Ink { name: "group-b", number: 9 },
    Ink { name: "group-c", number: 10 },
    Ink { name: "group-d", number: 11 },
    Ink { name: "group-e", number: 12 },
    Ink { name: "group-f", number: 13 },
];

/// All colours.
pub(in crate::report) const ALL: [Ink; 14] = {
    let [a, b, c, d, e, f] = GROUPS;
    [TEXT, MUTED, PAPER, GRID, BEFORE, AFTER, CUT, LINK, a, b, c, d, e, f]
};
