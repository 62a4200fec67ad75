#![doc = include_str!("../../docs/operations.md")]
