//! See `tests/` and `cases/`.
