//! Rustorium state.
