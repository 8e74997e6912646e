//! Rustorium chain-spec.
