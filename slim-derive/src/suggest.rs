//! "Did you mean": the known name that is closest to a misspelt one.

/// `; did you mean `keep`?`, or nothing when no known name is close.
pub(crate) fn did_you_mean(name: &str, known: &[&str]) -> String {
    let closest = known.iter().map(|candidate| (distance(name, candidate), candidate)).min();
    match closest {
        // A third of the letters may be wrong.
        Some((edits, candidate)) if edits <= name.len().max(3) / 3 => format!("; did you mean `{candidate}`?"),
        _ => String::new(),
    }
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
