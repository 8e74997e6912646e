//! The commands that are one question and one answer.

pub mod chain_spec;
mod client;
pub mod db;
pub mod get;
pub mod state;
pub mod version;
pub mod witness;
