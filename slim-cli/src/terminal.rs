//! Output of the programs: lines and tables.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use comfy_table::{CellAlignment, Table};
use slim_runtime::__private::TABLE_STYLE;

/// Prints a line on standard output. A closed pipe, as after `| head`, does not end the program.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A path as a word of a shell's command line, in quotes if it has characters that mean something
/// there.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "_-./+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// An empty table with a header, in the style of the library's reports: rules above, below and
/// under the header. The first column holds names; the others hold numbers, aligned to the right.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(TABLE_STYLE).set_header(header);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_as_a_shell_reads_them() {
        for (path, expected) in [
            ("logs/sparse-1.0", "logs/sparse-1.0"),
            ("my logs", "'my logs'"),
            ("s b'q", r"'s b'\''q'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
