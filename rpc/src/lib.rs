//! Rustorium rpc.
