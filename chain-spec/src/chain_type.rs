//! Substrate's word on what a chain is for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a chain is for; shown to people and tools, never acted upon. As JSON it is Substrate's: `"Live"`, or
/// `{"Custom": "…"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainType {
    /// One developer's chain.
    Development,
    /// A chain of a few nodes on one machine.
    Local,
    /// A chain that others rely on; what a spec without a `chainType` is.
    #[default]
    Live,
    /// Something else.
    Custom(String),
}

impl fmt::Display for ChainType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Development => "Development",
            Self::Local => "Local",
            Self::Live => "Live",
            Self::Custom(name) => name,
        })
    }
}
