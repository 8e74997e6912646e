//! Rustorium node.
