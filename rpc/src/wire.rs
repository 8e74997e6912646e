//! The plain values that cross the wire: what a client sends and what it gets.
//!
//! Bytes are strict `0x` hex, numbers are JSON numbers, names are camelCase. Parsing happens once, here, and names what
//! is wrong; a param object with an unknown field is refused. The same types make the OpenRPC document. Nothing here
//! knows a limit: sizes are judged by the methods.

mod history;
mod text;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::history::{Diff, HistoryEntry, HistoryPage, HistoryQuery, Retention};
pub use self::text::{At, BlockNumber, Hash32, HexBytes, HexError, OneOrMany, parse_hex};

/// A key and its value, or null for no value.
pub type KeyValue = (HexBytes, Option<HexBytes>);

/// Where a block stands and what state it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// Height above genesis.
    pub number: u64,
    /// The block's hash.
    pub hash: Hash32,
    /// The hash of the block below; zeros for genesis.
    pub parent_hash: Hash32,
    /// The state root after the block.
    pub state_root: Hash32,
}

/// A header as Substrate's clients expect it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubstrateHeader {
    /// Height above genesis, hex.
    pub number: String,
    /// The hash of the block below.
    pub parent_hash: Hash32,
    /// The state root after the block.
    pub state_root: Hash32,
    /// Zeros: blocks carry changes, not extrinsics.
    pub extrinsics_root: Hash32,
    /// Empty.
    pub digest: Digest,
}

/// The digest of a [`SubstrateHeader`]; it has no logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Digest {
    /// Always empty.
    pub logs: Vec<HexBytes>,
}

/// A witness and all that is needed to check it but a trusted state root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WitnessBundle {
    /// The block the witness is of.
    pub block_hash: Hash32,
    /// Its number.
    pub block_number: u64,
    /// Its state root. Check it against one you trust: the witness is only as good.
    pub state_root: Hash32,
    /// What the witness proves, in the order asked, a key asked twice once.
    pub claims: Vec<KeyValue>,
    /// The witness.
    pub witness: HexBytes,
    /// A certificate for exactly this block, or null.
    pub certificate: Option<serde_json::Value>,
}

/// A witness to judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WitnessCheck {
    /// The state root to judge against.
    pub state_root: Hash32,
    /// What is claimed: keys with their values, or null for a key that is claimed absent.
    pub claims: Vec<KeyValue>,
    /// The witness.
    pub witness: HexBytes,
}

/// What an update witness is to be made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateQuestion {
    /// Keys that the block reads.
    pub reads: Vec<HexBytes>,
    /// What it changes, each key once; null deletes.
    pub changes: Vec<KeyValue>,
    /// The block before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
}

/// An update witness to judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateCheck {
    /// The state root before, to judge against.
    pub state_root: Hash32,
    /// What is claimed of the state before: keys with their values, or null for a key that is claimed absent.
    pub claims: Vec<KeyValue>,
    /// What changes of these keys, each once; null deletes.
    pub changes: Vec<KeyValue>,
    /// The update witness.
    pub witness: HexBytes,
}

/// Where an update witness leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Updated {
    /// The state root after the changes.
    pub state_root_after: Hash32,
}

/// Values at a block, as Substrate's `state_queryStorageAt` gives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StorageChangeSet {
    /// The block's hash.
    pub block: Hash32,
    /// Keys with their values, in the order asked.
    pub changes: Vec<KeyValue>,
}

/// A block to apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewBlock {
    /// The parent's number and one.
    pub number: u64,
    /// 32 bytes that the caller chose, unique and not zero.
    pub hash: Hash32,
    /// The block below.
    pub parent_hash: Hash32,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_ms: Option<u64>,
    /// When given, checked against the computed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_root: Option<Hash32>,
    /// In order; the last change of a key wins, null deletes.
    pub changes: Vec<KeyValue>,
}

/// What applying a block came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The state root after the block.
    pub state_root: Hash32,
}

/// A block that a development node made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: Hash32,
    /// The state root after it.
    pub state_root: Hash32,
}

/// Where the node stands, for the engine that drives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The head.
    #[serde(flatten)]
    pub head: Head,
    /// The newest finalised block.
    pub finalized: Head,
    /// The chain.
    pub genesis_hash: Hash32,
    /// Blocks above the finalised one, of all forks.
    pub unfinalised_blocks: u64,
    /// Bytes of keys and values that they change.
    pub unfinalised_bytes: u64,
}

/// What `engine_forkchoice` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forkchoice {
    /// The block that is to be the head.
    pub head: Hash32,
    /// The block that is to be final: the head, or one that it descends from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finalized: Option<Hash32>,
}

/// Substrate's `system_health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Connected peers.
    pub peers: u32,
    /// Whether the node is catching up.
    pub is_syncing: bool,
    /// Whether a node of this chain should have peers.
    pub should_have_peers: bool,
}

/// Substrate's entry of `system_peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Who.
    pub peer_id: String,
    /// What it does.
    pub roles: String,
    /// Its best block.
    pub best_hash: Hash32,
    /// That block's number.
    pub best_number: u64,
}

/// Substrate's `rpc_methods`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MethodNames {
    /// Sorted.
    pub methods: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::from_str;

    use super::*;

    #[test]
    fn objects_of_ours_refuse_unknown_fields_and_pairs_of_three() {
        let hash = format!("0x{}", "00".repeat(32));
        let good = format!(r#"{{"stateRoot":"{hash}","claims":[["0x01",null]],"witness":"0x"}}"#);
        assert!(from_str::<WitnessCheck>(&good).is_ok());
        let error = from_str::<WitnessCheck>(&good.replace("claims", "claim")).unwrap_err().to_string();
        assert!(error.contains("unknown field `claim`"), "{error}");
        assert!(from_str::<WitnessCheck>(&good.replace("null]", "null,1]")).is_err());
        assert!(from_str::<WitnessCheck>(&good.replace(",null]", "]")).is_err());
    }
}
