//! Rustorium state.

pub mod backend;
