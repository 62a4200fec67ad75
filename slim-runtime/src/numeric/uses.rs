//! How often a pass multiplies the elements of a weight.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How often each element of a weight is multiplied for one sample: `times / parts`, in lowest
/// terms. A fraction means that a use reads one of several equal parts of the weight, as
/// cross-attention does with the weights of query, key and value in one tensor.
///
/// Serialises as a number where it is whole, else as `[times, parts]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Uses {
    times: u64,
    parts: u64,
}

impl Uses {
    /// `times` uses, each of one of `parts` equal parts of the weight. No parts count as one.
    pub(crate) fn new(times: u64, parts: u64) -> Self {
        let parts = parts.max(1);
        let divisor = greatest_common_divisor(times, parts);
        Self { times: times / divisor, parts: parts / divisor }
    }

    /// Number of uses, each of one of [`parts`](Self::parts) equal parts of the weight.
    pub fn times(self) -> u64 {
        self.times
    }

    /// The number of equal parts of the weight, of which a use reads one; 1 where each use reads
    /// the whole weight.
    pub fn parts(self) -> u64 {
        self.parts
    }

    /// Multiply-accumulates of a weight with `elements` elements, rounded down; `None` where a
    /// `u64` cannot hold them.
    pub(crate) fn macs(self, elements: u64) -> Option<u64> {
        let products = u128::from(self.times) * u128::from(elements);
        u64::try_from(products / u128::from(self.parts)).ok()
    }
}

impl From<u64> for Uses {
    fn from(times: u64) -> Self {
        Self::new(times, 1)
    }
}

/// `16`, or `7/3` where uses read a third of the weight.
impl fmt::Display for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts {
            1 => write!(f, "{}", self.times),
            parts => write!(f, "{}/{parts}", self.times),
        }
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// [`Uses`] in files.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of uses, or [uses, parts of the weight]")]
enum Form {
    Whole(u64),
    Part([u64; 2]),
}

impl From<Uses> for Form {
    fn from(Uses { times, parts }: Uses) -> Self {
        if parts == 1 { Form::Whole(times) } else { Form::Part([times, parts]) }
    }
}

impl TryFrom<Form> for Uses {
    type Error = &'static str;

    fn try_from(form: Form) -> Result<Self, &'static str> {
        match form {
            Form::Part([_, 0]) => Err("a weight has at least one part"),
            Form::Part([times, parts]) => Ok(Self::new(times, parts)),
            Form::Whole(times) => Ok(Self::from(times)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_of_a_third_is_a_third_of_the_products() {
        let uses = Uses::new(7 + 2 * 5, 3);
        assert_eq!((uses.to_string(), uses.macs(12)), ("17/3".to_owned(), Some(68)));
        assert_eq!(Uses::new(3 * 7, 3), Uses::from(7));
        assert_eq!(Uses::from(u64::MAX).macs(2), None);
        assert_eq!(Uses::new(u64::MAX, 2).macs(2), Some(u64::MAX));
    }

    #[test]
    fn files_have_a_number_or_a_fraction() {
        for (uses, json) in [(Uses::from(16), "16"), (Uses::new(17, 3), "[17,3]")] {
            assert_eq!(serde_json::to_string(&uses).unwrap(), json);
            assert_eq!(serde_json::from_str::<Uses>(json).unwrap(), uses);
        }
        let error = |json| serde_json::from_str::<Uses>(json).unwrap_err().to_string();
        assert_eq!(error("[1,0]"), "a weight has at least one part");
        assert_eq!(error("-1"), "expected a number of uses, or [uses, parts of the weight]");
    }
}
