//! Parts of what errors say.

use std::cmp::Reverse;

use tch::TchError;

/// How many layers an error names.
const MOST_LAYERS: usize = 6;

/// libtorch appends where in its own code it was.
pub(crate) fn without_backtrace(error: &TchError) -> String {
    let text = error.to_string();
    text.split("\nException raised from").next().unwrap_or_default().to_owned()
}

/// Those that are called alike, or begin alike.
pub(super) fn known_layers(pattern: &str, known: &[String]) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let common = |path: &str| path.chars().zip(pattern.chars()).take_while(|(a, b)| a == b).count();
    let mut shown: Vec<_> = known.iter().collect();
    shown.sort_by_key(|path| (last(path) != last(pattern), Reverse(common(path))));
    let shown: Vec<_> =
        shown.into_iter().take(MOST_LAYERS).map(|path| format!("`{path}`")).collect();
    let more = if known.len() > shown.len() { ", …" } else { "" };
    format!("; there are {}{more}", shown.join(", "))
}

pub(super) fn misfits(n: usize) -> String {
    if n == 1 { "1 tensor does not fit".to_owned() } else { format!("{n} tensors do not fit") }
}
