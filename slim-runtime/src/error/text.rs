//! Parts of what errors say.

use std::cmp::Reverse;
use std::fmt;

use tch::TchError;

/// How many layers an error names.
const MOST_LAYERS: usize = 6;

/// An error of libtorch, without the backtrace of its own code that libtorch appends to the text.
pub struct LibtorchError(pub TchError);

impl fmt::Display for LibtorchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.split("\nException raised from").next().unwrap_or_default())
    }
}

impl std::error::Error for LibtorchError {}

/// The layers whose names end or begin like the pattern first.
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
