//! "Did you mean": the known name that is closest to a misspelt one, regardless of case.

pub(crate) fn did_you_mean<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let edits = |candidate: &str| {
        (distance(&name.to_lowercase(), &candidate.to_lowercase()), distance(name, candidate))
    };
    let ((edits, _), closest) =
        known.iter().map(|candidate| (edits(candidate), *candidate)).min()?;
    // At most a third of the letters may be wrong.
    (edits <= name.chars().count() / 3).then_some(closest)
}

/// The number of insertions, deletions, substitutions and swaps of neighbours (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let substituted = rows[i][j] + usize::from(a[i] != b[j]);
            let swapped = (i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j])
                .then(|| rows[i - 1][j - 1] + 1);
            let edits = [Some(substituted), Some(rows[i][j + 1] + 1), Some(row[j] + 1), swapped];
            row.extend(edits.into_iter().flatten().min());
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
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
        assert_eq!(did_you_mean("Relu", &["elu", "relu"]), Some("relu"));
        assert_eq!(did_you_mean("from", &known), None);
        assert_eq!(did_you_mean("", &known), None);
        assert_eq!(did_you_mean("7", &["0", "1"]), None);
    }

    #[test]
    fn distance_counts_insertions_deletions_and_substitutions() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("skip", "skip", 0),
            ("γ", "g", 1),
            ("form", "from", 1),
            ("ab", "ba", 1),
        ] {
            assert_eq!(distance(a, b), edits);
            assert_eq!(distance(b, a), edits);
        }
    }
}
