//! Keep lists: the positions of a dimension that stay.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The positions of a dimension that stay, ascending.
///
/// Prints and serialises as inclusive ranges, `0-3,7,9-12`, which are easy to read and to diff.
/// ```
/// use slim_runtime::KeepList;
///
/// let keep: KeepList = [0, 1, 2, 3, 7, 9, 10].into_iter().collect();
/// assert_eq!(keep.to_string(), "0-3,7,9-10");
/// assert_eq!(keep.len(), 7);
/// assert_eq!("0-3,7,9-10".parse::<KeepList>().unwrap(), keep);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeepList {
    /// First and last position of each run. Ascending, with a gap between runs.
    runs: Vec<(usize, usize)>,
}

impl KeepList {
    /// The number of positions that stay.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether no position stays.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The positions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.runs.iter().flat_map(|&(first, last)| first..=last)
    }

    /// The largest position.
    pub fn last(&self) -> Option<usize> {
        self.runs.last().map(|run| run.1)
    }

    /// The first `len` positions.
    pub(crate) fn all(len: usize) -> Self {
        Self { runs: len.checked_sub(1).map(|last| (0, last)).into_iter().collect() }
    }

    /// Applies two keep lists in turn: `later` holds positions among those that `self` keeps.
    /// Returns the positions that stay, in the original numbering.
    pub(crate) fn then(&self, later: &KeepList) -> KeepList {
        let mut kept = KeepList::default();
        let mut runs = later.runs.iter().peekable();
        // Number of kept positions before the run.
        let mut before = 0;
        for &(first, last) in &self.runs {
            let end = before + last - first + 1;
            while let Some(&&(from, to)) = runs.peek().filter(|run| run.0 < end) {
                kept.push(first + from.max(before) - before, first + to.min(end - 1) - before);
                if to >= end {
                    break;
                }
                runs.next();
            }
            before = end;
        }
        kept
    }

    /// Appends a run of positions. Returns `false`, and appends nothing, unless the run is beyond
    /// all others.
    fn push(&mut self, first: usize, last: usize) -> bool {
        match self.runs.last_mut() {
            Some(run) if first <= run.1 => false,
            Some(run) if first == run.1 + 1 => {
                run.1 = last;
                true
            }
            _ => {
                self.runs.push((first, last));
                true
            }
        }
    }
}

impl FromIterator<usize> for KeepList {
    /// Takes positions in any order; repeated ones count once.
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut keep = KeepList::default();
        let mut positions = positions.into_iter();
        // Ascending positions, the usual case, need no sorting.
        let Some(behind) = positions.by_ref().find(|&position| !keep.push(position, position))
        else {
            return keep;
        };
        let mut sorted: Vec<_> = keep.iter().chain([behind]).chain(positions).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut keep = KeepList::default();
        for position in sorted {
            keep.push(position, position);
        }
        keep
    }
}

impl fmt::Display for KeepList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.runs.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for KeepList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut keep = KeepList::default();
        for run in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let number = |digits: &str| {
                // Half the maximum, so that lengths cannot overflow.
                digits
                    .parse()
                    .ok()
                    .filter(|&n: &usize| n < usize::MAX / 2)
                    .ok_or_else(|| format!("`{run}` is no range of positions such as `0-3`"))
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last || !keep.push(first, last) {
                return Err(format!("`{run}` is out of order: positions ascend"));
            }
        }
        Ok(keep)
    }
}

impl Serialize for KeepList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeepList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_positions_agree() {
        for (text, positions) in [
            ("", vec![]),
            ("0", vec![0]),
            ("2-4", vec![2, 3, 4]),
            ("0-1,3,5-6", vec![0, 1, 3, 5, 6]),
        ] {
            let keep: KeepList = text.parse().expect("is well formed");
            assert_eq!(keep.iter().collect::<Vec<_>>(), positions);
            assert_eq!(keep.len(), positions.len());
            assert_eq!(keep.to_string(), text);
            assert_eq!(positions.into_iter().rev().collect::<KeepList>(), keep);
        }
    }

    #[test]
    fn lists_one_after_the_other() {
        let list = |bits: u32| -> KeepList {
            (0..32).filter(|&position| bits >> position & 1 == 1).collect()
        };
        assert_eq!(list(0b1011).to_string(), "0-1,3");
        for (bits, later_bits) in (0..64).flat_map(|bits| (0..64).map(move |later| (bits, later))) {
            let (keep, later) = (list(bits), list(later_bits));
            let expected = keep
                .iter()
                .enumerate()
                .filter(|(rank, _)| later_bits >> rank & 1 == 1)
                .map(|(_, position)| position)
                .collect();
            assert_eq!(keep.then(&later), expected, "{keep} and then {later}");
            assert_eq!(keep.then(&KeepList::all(keep.len())), keep);
        }
        let huge: KeepList = "0-9,20-999999999999".parse().expect("is well formed");
        assert_eq!(huge.then(&huge).to_string(), "0-9,30-999999999999");
    }

    #[test]
    fn bad_text_is_refused() {
        for text in
            ["a", "1-", "-1", "3-2", "1,1", "2,1", "0-3,3", "1,,2", "99999999999999999999", " 1"]
        {
            assert!(text.parse::<KeepList>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_huge_range_costs_no_memory() {
        let keep: KeepList = "0-999999999999".parse().expect("is well formed");
        assert_eq!(keep.len(), 1_000_000_000_000);
    }
}
