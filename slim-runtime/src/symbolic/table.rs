//! The guide's list of operations: what each one does to channels.

/// A row of the guide's list of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The heading above the row.
    pub group: &'static str,
    /// The methods of `Tensor`, or the operators, that `forward` calls.
    pub names: &'static [&'static str],
    /// What the operation does to channels.
    pub effect: &'static str,
}

/// Defines the rows of one file: groups of names, with their effect.
macro_rules! operations {
    ($($group:literal { $($($name:literal),+ : $effect:literal;)+ })+) => {
        pub(super) const OPERATIONS: &[super::Operation] = &[$($(
            super::Operation { group: $group, names: &[$($name),+], effect: $effect },
        )+)+];
    };
}
pub(super) use operations;

/// All operations that a `forward` may call on symbolic tensors.
pub const OPERATIONS: &[&[Operation]] = &[
    super::apply::OPERATIONS,
    super::arithmetic::OPERATIONS,
    super::elementwise::OPERATIONS,
    super::concat::OPERATIONS,
    super::cuts::OPERATIONS,
    super::view::OPERATIONS,
    super::window::OPERATIONS,
    super::reduce::OPERATIONS,
    super::norms::OPERATIONS,
    super::contract::OPERATIONS,
    super::create::OPERATIONS,
    super::sizes::OPERATIONS,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The guide's page.
    fn page() -> String {
        let mut page = String::from(
            "What each operation of a forward pass does to channels, as `#[forward]` reads it.\n\n\
            A name stands for its forms in place too, where tch has them (`relu_`, `+=`). *Gated* channels\n\
            carry zeros once the γ and β of their batch norms are zero; who reads an *ungated* channel keeps\n\
            it.\n",
        );
        let mut group = "";
        for row in OPERATIONS.iter().copied().flatten() {
            if row.group != group {
                group = row.group;
                page += &format!("\n# {group}\n\n| operation | channels |\n| --- | --- |\n");
            }
            let names: Vec<_> = row.names.iter().map(|name| format!("`{name}`")).collect();
            page += &format!("| {} | {} |\n", names.join(", "), row.effect);
        }
        page
    }

    #[test]
    fn the_guide_lists_the_operations_of_the_table() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
        let page = page();
        if std::env::var_os("SLIM_WRITE_DOCS").is_some() {
            std::fs::write(file, &page).unwrap();
        }
        let written = std::fs::read_to_string(file).unwrap();
        assert!(
            written == page,
            "write it anew: SLIM_WRITE_DOCS=1 cargo test -p slim-runtime --lib the_guide"
        );
    }
}
