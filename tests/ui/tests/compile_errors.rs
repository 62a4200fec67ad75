//! What the compiler says about a wrong struct: each case in `cases/`, next to the text that a user reads.
//!
//! The texts are those of the rustc in use when they were written. To write them again: `TRYBUILD=overwrite cargo test -p slim-ui-tests`.

#[test]
fn compile_errors_teach() {
    trybuild::TestCases::new().compile_fail("cases/*/*.rs");
}
