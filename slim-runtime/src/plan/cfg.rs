//! The cfg of Network Slimming: the widths from which a network can be built again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;
use crate::error::ArgumentError;

/// The widths of a network: an integer for each batch norm, `'M'` for each max-pool, in the order
/// of the data flow.
///
/// Prints and parses exactly like the Python list of the reference implementation. Build one with
/// [`channels!`](crate::channels).
/// ```
/// use slim_runtime::{Cfg, channels};
///
/// let cfg: Cfg = "[49, 64, 'M', 128]".parse()?;
/// assert_eq!(cfg, channels![49, 64, M, 128]);
/// assert_eq!(cfg.to_string(), "[49, 64, 'M', 128]");
/// # Ok::<(), slim_runtime::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Cfg {
    stages: Vec<Stage>,
}

/// One entry of a [`Cfg`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The channels of a batch norm.
    Channels(i64),
    /// A max-pool.
    MaxPool,
}

impl Cfg {
    /// The entries, in the order of the data flow.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// # Errors
    /// [`ArgumentError::Cfg`](crate::error::ArgumentError::Cfg) when a width is below 1.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.widths().find(|&width| width < 1) {
            None => Ok(()),
            Some(width) => Err(Error::Argument(ArgumentError::Cfg {
                text: self.to_string(),
                reason: format!("`{width}` is no width"),
            })),
        }
    }

    /// The widths alone.
    pub fn widths(&self) -> impl DoubleEndedIterator<Item = i64> + '_ {
        self.stages.iter().filter_map(|stage| match stage {
            Stage::Channels(width) => Some(*width),
            Stage::MaxPool => None,
        })
    }
}

impl From<i64> for Stage {
    fn from(width: i64) -> Self {
        Stage::Channels(width)
    }
}

impl FromIterator<Stage> for Cfg {
    fn from_iter<I: IntoIterator<Item = Stage>>(stages: I) -> Self {
        Self { stages: stages.into_iter().collect() }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Channels(width) => width.fmt(f),
            Stage::MaxPool => f.write_str("'M'"),
        }
    }
}

impl fmt::Display for Cfg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, stage) in self.stages.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{stage}")?;
        }
        f.write_str("]")
    }
}

impl FromStr for Cfg {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error =
            |reason: String| Error::Argument(ArgumentError::Cfg { text: text.to_owned(), reason });
        let list = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let list = list.ok_or_else(|| error("it is not in brackets".to_owned()))?.trim();
        let stage = |entry: &str| match entry.trim() {
            "'M'" | "\"M\"" => Ok(Stage::MaxPool),
            number => match number.parse() {
                Ok(width @ 1..) => Ok(Stage::Channels(width)),
                _ => Err(error(format!("`{number}` is neither a width nor 'M'"))),
            },
        };
        list.split(',').filter(|_| !list.is_empty()).map(stage).collect()
    }
}

impl Serialize for Cfg {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cfg {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Builds a [`Cfg`] in the notation of papers: widths, and `M` for a max-pool.
///
/// ```
/// use slim_runtime::channels;
///
/// let width = 64;
/// let cfg = channels![width, width, M, 2 * width, M];
/// assert_eq!(cfg.to_string(), "[64, 64, 'M', 128, 'M']");
/// ```
#[macro_export]
macro_rules! channels {
    ($($stage:expr),* $(,)?) => {{
        #[allow(dead_code)]
        const M: $crate::Stage = $crate::Stage::MaxPool;
        <$crate::Cfg as ::core::iter::FromIterator<$crate::Stage>>::from_iter([$(<$crate::Stage as ::core::convert::From<_>>::from($stage)),*])
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_as_python_does() {
        for text in ["[]", "[64]", "['M']", "[49, 64, 'M', 128, 'M']"] {
            assert_eq!(text.parse::<Cfg>().expect("is well formed").to_string(), text);
        }
        let loose: Cfg = " [ 1,\"M\" ,2 ] ".parse().expect("is well formed");
        assert_eq!(loose, channels![1, M, 2]);
    }

    #[test]
    fn bad_text_is_refused_with_the_entry() {
        for (text, part) in [
            ("", "brackets"),
            ("64, 'M'", "brackets"),
            ("[64, ]", "``"),
            ("[0]", "`0`"),
            ("[-4]", "`-4`"),
            ("[64, 'A']", "`'A'`"),
            ("[6.4]", "`6.4`"),
        ] {
            let error = text.parse::<Cfg>().expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn is_a_string_in_files() {
        let cfg = channels![2, M, 3];
        let json = serde_json::to_string(&cfg).expect("is serialisable");
        assert_eq!(json, r#""[2, 'M', 3]""#);
        assert_eq!(serde_json::from_str::<Cfg>(&json).expect("is well formed"), cfg);
        assert!(serde_json::from_str::<Cfg>("\"[2, 'X']\"").is_err());
    }
}
