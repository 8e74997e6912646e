//! Rustorium tests.
