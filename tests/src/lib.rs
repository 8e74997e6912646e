//! What the scenarios across crates share: the import law, real data, seeds, a model of the state, and a daemon to drive.
//!
//! The scenarios themselves are in `tests/`, the program that measures is `src/bin/measure.rs`. Nothing here is part of
//! the product.
#![forbid(unsafe_code)]

pub mod law;
