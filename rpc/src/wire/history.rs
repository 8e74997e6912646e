//! What crosses the wire about the past.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Hash32, HexBytes};

/// Which changes of a key are wanted; everything may be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HistoryQuery {
    /// The number of the first block; the oldest that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The number of the last block; the head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// At most so many entries: 1 to 1000, 100 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// What the page before gave as `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<u64>,
}

/// Some changes of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryPage {
    /// Oldest first.
    pub entries: Vec<HistoryEntry>,
    /// The cursor of the next page; null at the end.
    pub next: Option<u64>,
}

/// What a block did to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// The block's number.
    pub number: u64,
    /// Its hash.
    pub hash: Hash32,
    /// The value before, or null.
    pub old: Option<HexBytes>,
    /// The value after, or null.
    pub new: Option<HexBytes>,
}

/// What a block changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// The block's number.
    pub number: u64,
    /// Its hash.
    pub hash: Hash32,
    /// The hash of the block below.
    pub parent_hash: Hash32,
    /// Each key with its value before and after, null for no value; in the order of the keys.
    pub changes: Vec<(HexBytes, Option<HexBytes>, Option<HexBytes>)>,
}

/// How far back the states go, in block numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// The oldest block whose values can be read.
    pub oldest_value: u64,
    /// The oldest block of whose state witnesses can be made.
    pub oldest_witness: u64,
    /// The newest final block.
    pub finalized: u64,
    /// The newest block.
    pub head: u64,
}
