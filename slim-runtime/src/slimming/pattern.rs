//! Patterns of field paths.

use std::str::FromStr;

/// A field path, or a pattern of field paths: `layer1.0.conv1`, `layer*.*.conv1`, `layer4.**`.
///
/// `*` is any text within one name, `**` any number of names, `?` one character, `[0-3]` one of
/// these characters. The path of a block matches all layers in it: `layer4` is `layer4.**`.
#[derive(Debug)]
pub(crate) struct Pattern(glob::Pattern);

impl Pattern {
    /// Whether the pattern matches a layer, by the path of the layer or of a block around it.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let blocks = path.match_indices('.').map(|(end, _)| &path[..end]);
        blocks.chain([path]).any(|path| self.0.matches_with(&as_file(path), OPTIONS))
    }
}

/// Each further `*` multiplies the time that it takes to find that a path does not match.
const MOST_STARS: usize = 4;

/// With these options, `*` matches only within one name.
const OPTIONS: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Rewrites a field path as a file path, the form that `glob` matches.
fn as_file(path: &str) -> String {
    path.replace('.', "/")
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || text.split('.');
        let stars = names().map(|name| name.matches('*').count()).max().unwrap_or(0);
        if stars > MOST_STARS || names().filter(|name| *name == "**").count() > MOST_STARS {
            return Err(format!("it has more than {MOST_STARS} `*` in a name, or as many `**`"));
        }
        let glob = glob::Pattern::new(&as_file(text))
            .map_err(|error| error.msg.replace("path component", "name"))?;
        Ok(Self(glob))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_of_names() {
        for (pattern, path, matches) in [
            ("conv1", "conv1", true),
            ("conv1", "conv10", false),
            ("conv1", "layer1.conv1", false),
            ("layer1", "layer1.0.conv1", true),
            ("layer1", "layer10.0.conv1", false),
            ("layer1.*.conv1", "layer1.0.conv1", true),
            ("layer1.*.conv1", "layer1.0.1.conv1", false),
            ("layer*.*.conv1", "layer4.2.conv1", true),
            ("**.conv1", "layer4.2.conv1", true),
            ("**.conv1", "conv1", true),
            ("layer4.**", "layer4.2.conv1", true),
            ("layer4.[0-1].conv?", "layer4.1.conv2", true),
            ("layer4.[0-1].conv?", "layer4.2.conv2", false),
            ("*", "layer4.2.conv2", true),
            ("", "conv1", false),
        ] {
            assert_eq!(
                pattern.parse::<Pattern>().expect(pattern).matches(path),
                matches,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["layer***", "a**b", "[a", "*a*a*a*a*a", "**.**.**.**.**"] {
            pattern.parse::<Pattern>().expect_err(pattern);
        }
    }
}
