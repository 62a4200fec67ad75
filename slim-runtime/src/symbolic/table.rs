//! What each operation does to channels, as the guide lists it.

/// A row of the guide's list of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The heading that it stands under.
    pub group: &'static str,
    /// What `forward` calls: methods of `Tensor`, or operators.
    pub names: &'static [&'static str],
    /// What it does to channels.
    pub effect: &'static str,
}

/// Writes the rows of one file: groups of names, with their effect.
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
    super::channels::OPERATIONS,
    super::view::OPERATIONS,
    super::window::OPERATIONS,
    super::reduce::OPERATIONS,
    super::contract::OPERATIONS,
    super::create::OPERATIONS,
    super::sizes::OPERATIONS,
];
