//! The width of lines that rustfmt leaves alone: comments in Rust, prose in Markdown.

use crate::workspace::root;
use anyhow::{Context, Result, bail};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

const WIDTH: usize = 100;

/// Directories without texts of this project, or with texts whose lines are tested.
const LEFT_OUT: [&str; 8] = [
    "target",
    ".git",
    ".libtorch",
    ".onnxruntime",
    ".bench",
    "cases",
    "snapshots",
    "proptest-regressions",
];

/// Checks all Rust and Markdown files.
///
/// # Errors
/// Lists the lines that are too wide.
pub(crate) fn check() -> Result<()> {
    let mut wide = Vec::new();
    for file in texts(root())? {
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let lines = match file.extension().and_then(OsStr::to_str) {
            Some("rs") => wide_comments(&text),
            _ => wide_prose(text.lines().map(Some)),
        };
        let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        wide.extend(lines.into_iter().map(|line| format!("{name}:{line}")));
    }
    if !wide.is_empty() {
        bail!("lines of more than {WIDTH} columns:\n  {}", wide.join("\n  "));
    }
    println!("no comment and no prose is wider than {WIDTH} columns");
    Ok(())
}

fn texts(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| LEFT_OUT.map(OsStr::new).contains(&name)) {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            files.extend(texts(&path)?);
        } else if path.extension().is_some_and(|end| end == "rs" || end == "md") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The numbers of comment lines that are too wide.
fn wide_comments(text: &str) -> Vec<usize> {
    let prose = text.lines().map(|line| {
        let comment = line.trim_start();
        let words = ["///", "//!", "//"].iter().find_map(|mark| comment.strip_prefix(mark))?;
        // The width is that of the whole line; prose is recognised without the comment mark.
        Some((line, words.strip_prefix(' ').unwrap_or(words)))
    });
    let mut wide = Vec::new();
    let mut fenced = false;
    for (number, line) in prose.enumerate() {
        let Some((line, words)) = line else {
            fenced = false;
            continue;
        };
        fenced ^= words.trim_start().starts_with("```");
        if !fenced && is_prose(words) && line.chars().count() > WIDTH {
            wide.push(number + 1);
        }
    }
    wide
}

/// The numbers of Markdown lines that are too wide.
fn wide_prose<'t>(lines: impl Iterator<Item = Option<&'t str>>) -> Vec<usize> {
    let mut wide = Vec::new();
    let mut fenced = false;
    for (number, line) in lines.enumerate() {
        let line = line.unwrap_or_default();
        fenced ^= line.trim_start().starts_with("```");
        if !fenced && is_prose(line) && line.chars().count() > WIDTH {
            wide.push(number + 1);
        }
    }
    wide
}

/// Whether a line can be broken: it is not part of a table, and has no link or name that is itself
/// too wide.
fn is_prose(line: &str) -> bool {
    // Text in backticks is not broken either.
    let unbroken = line
        .split('`')
        .enumerate()
        .map(|(index, part)| if index % 2 == 1 { part.replace(' ', "_") } else { part.to_owned() });
    let unbroken = unbroken.collect::<Vec<_>>().join("`");
    let widest = unbroken.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
    !line.trim_start().starts_with('|') && widest < WIDTH - 30
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_prose_is_found_and_code_and_tables_are_not() {
        let wide = "word ".repeat(21);
        let text = format!("{wide}\n| {wide} |\n```\n{wide}\n```\nshort\n{wide}");
        assert_eq!(wide_prose(text.lines().map(Some)), [1, 7]);
        let code =
            format!("    /// {wide}\nlet x = \"{wide}\";\n//! ```\n//! {wide}\n//! ```\n// {wide}");
        assert_eq!(wide_comments(&code), [1, 6]);
    }

    #[test]
    fn a_line_that_cannot_be_broken_is_left_alone() {
        assert!(
            wide_prose([Some(format!("[a]({})", "x".repeat(120)).as_str())].into_iter()).is_empty()
        );
    }
}
