//! Tests that need more than one crate. The README's code is one of them.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
