//! "Did you mean": the known name that is closest to a misspelt one.

pub(crate) fn did_you_mean<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let (edits, closest) = known.iter().map(|candidate| (distance(name, candidate), *candidate)).min()?;
    // A third of the letters may be wrong.
    (edits <= name.chars().count() / 3).then_some(closest)
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_close_names_are_suggested() {
        let known = ["skip", "keep", "elementwise"];
        assert_eq!(did_you_mean("kep", &known), Some("keep"));
        assert_eq!(did_you_mean("elementwize", &known), Some("elementwise"));
        assert_eq!(did_you_mean("element_wise", &known), Some("elementwise"));
        assert_eq!(did_you_mean("from", &known), None);
        assert_eq!(did_you_mean("", &known), None);
        assert_eq!(did_you_mean("7", &["0", "1"]), None);
    }

    #[test]
    fn distance_counts_insertions_deletions_and_substitutions() {
        for (a, b, edits) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("skip", "skip", 0), ("γ", "g", 1)] {
            assert_eq!(distance(a, b), edits);
            assert_eq!(distance(b, a), edits);
        }
    }
}
