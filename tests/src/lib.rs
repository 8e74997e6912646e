//! What the scenarios across crates share: the import law, real data, made-up chains with a model, a daemon to drive, and
//! power loss.
//!
//! The scenarios themselves are in `tests/`; the program that measures is `src/bin/bench`, the one that crashes the state
//! engine `src/bin/torture`. Nothing here is part of the product.
#![forbid(unsafe_code)]

pub mod chain;
pub mod daemon;
pub mod data;
pub mod law;
pub mod power;
pub mod program;
pub mod stateless;

/// The code that README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
