//! Rustorium p2p.
