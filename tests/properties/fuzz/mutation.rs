//! Changes to bytes, as damaged files, editors and attackers make them.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// One change, at a place that exists in any input.
#[derive(Debug, Clone)]
pub enum Mutation {
    Byte(Index, u8),
    Cut(Index, Index),
    Truncate(Index),
    /// Inserts a piece of the dictionary.
    Insert(Index, Vec<u8>),
    /// Copies a piece to another place.
    Copy(Index, Index, Index),
    /// Replaces a number by a piece of the dictionary.
    Number(Index, Vec<u8>),
    /// Replaces a word by another word of the input.
    Word(Index, Index),
    DropLine(Index),
    RepeatLine(Index, Index),
    SwapLines(Index, Index),
}

/// A few changes, with pieces from the `dictionary`.
pub fn mutations(dictionary: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<Mutation>> {
    let (at, piece) = (any::<Index>, move || select(dictionary.clone()));
    let mutation = prop_oneof![
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        1 => (at(), at()).prop_map(|(from, to)| Mutation::Cut(from, to)),
        1 => at().prop_map(Mutation::Truncate),
        1 => (at(), piece()).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        1 => (at(), at(), at()).prop_map(|(from, to, at)| Mutation::Copy(from, to, at)),
        3 => (at(), piece()).prop_map(|(at, piece)| Mutation::Number(at, piece)),
        3 => (at(), at()).prop_map(|(at, from)| Mutation::Word(at, from)),
        3 => at().prop_map(Mutation::DropLine),
        2 => (at(), at()).prop_map(|(from, to)| Mutation::RepeatLine(from, to)),
        2 => (at(), at()).prop_map(|(a, b)| Mutation::SwapLines(a, b)),
    ];
    prop::collection::vec(mutation, 0..5)
}

pub fn pieces(pieces: &[&str]) -> Vec<Vec<u8>> {
    pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect()
}

pub fn mutated(bytes: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    mutations.iter().fold(bytes.to_vec(), |bytes, mutation| mutation.apply(bytes))
}

impl Mutation {
    fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len() + 1;
        match self {
            Mutation::Byte(at, byte) => {
                if let Some(old) = at.index(end).checked_sub(1).and_then(|at| bytes.get_mut(at)) {
                    *old = *byte;
                }
            }
            Mutation::Cut(from, to) => drop(bytes.drain(ordered(from.index(end), to.index(end)))),
            Mutation::Truncate(at) => bytes.truncate(at.index(end)),
            Mutation::Insert(at, piece) => {
                let at = at.index(end);
                bytes.splice(at..at, piece.iter().copied());
            }
            Mutation::Copy(from, to, at) => {
                let piece = bytes[ordered(from.index(end), to.index(end))].to_vec();
                let at = at.index(end);
                bytes.splice(at..at, piece);
            }
            Mutation::Number(at, piece) => {
                replace(&mut bytes, at, |byte| byte.is_ascii_digit(), piece);
            }
            Mutation::Word(at, from) => {
                let words = runs(&bytes, is_word);
                if !words.is_empty() {
                    let word = bytes[words[from.index(words.len())].clone()].to_vec();
                    replace(&mut bytes, at, is_word, &word);
                }
            }
            Mutation::DropLine(_) | Mutation::RepeatLine(..) | Mutation::SwapLines(..) => {
                return self.apply_to_lines(&bytes);
            }
        }
        bytes
    }

    fn apply_to_lines(&self, bytes: &[u8]) -> Vec<u8> {
        let mut lines: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
        let count = lines.len();
        match self {
            Mutation::DropLine(at) => drop(lines.remove(at.index(count))),
            Mutation::RepeatLine(from, to) => {
                lines.insert(to.index(count), lines[from.index(count)]);
            }
            Mutation::SwapLines(a, b) => lines.swap(a.index(count), b.index(count)),
            _ => {}
        }
        lines.join(&b'\n')
    }
}

fn ordered(a: usize, b: usize) -> std::ops::Range<usize> {
    a.min(b)..a.max(b)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)
}

/// The ranges of successive bytes that `is` accepts.
fn runs(bytes: &[u8], is: fn(u8) -> bool) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let mut begun = None;
    for (at, byte) in bytes.iter().copied().chain([0]).enumerate() {
        match (begun, is(byte)) {
            (None, true) => begun = Some(at),
            (Some(first), false) => {
                runs.push(first..at);
                begun = None;
            }
            _ => {}
        }
    }
    runs
}

fn replace(bytes: &mut Vec<u8>, at: &Index, is: fn(u8) -> bool, piece: &[u8]) {
    let runs = runs(bytes, is);
    if !runs.is_empty() {
        bytes.splice(runs[at.index(runs.len())].clone(), piece.iter().copied());
    }
}
