//! Blocks as the state sees them: a number, an opaque hash, a parent and a list of changes.

use std::fmt;

use parity_scale_codec::{Decode, Encode};
use rustorium_verkle::{KeyPath, StateRoot, ValueHash};

use crate::parallel;

/// Bytes of the longest key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes of the largest value.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// Changes of the largest block.
pub const CHANGES_MAX: usize = 1 << 20;
/// Bytes of keys and values that the largest block changes.
pub const CHANGE_BYTES_MAX: usize = 256 << 20;

const DEV_BLOCK_CONTEXT: &str = "rustorium.v1 dev block";
const CONTENT_CONTEXT: &str = "rustorium.v1 block content";

/// A key and its new value; `None` deletes. Of two changes of one key the last wins.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// 32 opaque bytes, chosen by whoever makes the block; unique and never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct BlockHash(pub [u8; 32]);

impl BlockHash {
    /// No block's hash: what the genesis block names as its parent.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of a block that the node itself makes: `B3("rustorium.v1 dev block", parent ‖ number u64 LE ‖ root)`.
    pub fn of_dev_block(parent: &Self, number: u64, state_root: &StateRoot) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(DEV_BLOCK_CONTEXT);
        hasher.update(&parent.0).update(&number.to_le_bytes()).update(&state_root.0);
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is kept of a block for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The parent's number and one; the genesis block has 0.
    pub number: u64,
    /// The block's own hash.
    pub hash: BlockHash,
    /// The parent's hash; [`BlockHash::ZERO`] for the genesis block.
    pub parent_hash: BlockHash,
    /// The root of the state after the block.
    pub state_root: StateRoot,
    /// When the block was made, in milliseconds since 1970, if its maker said so.
    pub timestamp_ms: Option<u64>,
}

/// A block to apply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// The parent's number and one.
    pub number: u64,
    /// The block's hash.
    pub hash: BlockHash,
    /// The parent's hash.
    pub parent_hash: BlockHash,
    /// When the block was made, in milliseconds since 1970.
    pub timestamp_ms: Option<u64>,
    /// The root that its maker expects; checked when given.
    pub state_root: Option<StateRoot>,
    /// What the block changes, in order.
    pub changes: Vec<Change>,
}

/// Which block's state a reader wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// The newest block.
    Head,
    /// The newest final block.
    Finalized,
    /// The newest block that the authorities have certified.
    Certified,
    /// This block.
    Block(BlockHash),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("head"),
            Self::Finalized => f.write_str("finalized"),
            Self::Certified => f.write_str("certified"),
            Self::Block(hash) => hash.fmt(f),
        }
    }
}

/// A block's changes in order: ascending by path, each key once, its last change.
#[derive(Clone, Debug)]
pub(crate) struct Changes(Vec<Entry>);

/// One key of [`Changes`].
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: KeyPath,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) value_hash: Option<ValueHash>,
}

impl Changes {
    pub(crate) fn new(changes: Vec<Change>) -> Self {
        let entry = |(key, value): Change| Entry {
            path: KeyPath::of(&key),
            value_hash: value.as_deref().map(ValueHash::of),
            key,
            value,
        };
        let mut entries: Vec<Entry> = parallel::map_into(changes, entry);
        // The sort is stable, so that of one key's changes the last is the first after reversing.
        entries.sort_by_key(|entry| entry.path);
        entries.reverse();
        entries.dedup_by_key(|entry| entry.path);
        entries.reverse();
        Self(entries)
    }

    /// Ascending by path.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        self.0
            .iter()
            .map(|entry| entry.key.len() as u64 + entry.value.as_ref().map_or(0, |value| value.len() as u64))
            .sum()
    }

    pub(crate) fn to_tree(&self) -> impl Iterator<Item = rustorium_verkle::Change> + '_ {
        self.0.iter().map(|entry| rustorium_verkle::Change { path: entry.path, value: entry.value_hash })
    }

    /// What makes two blocks of one hash the same block: number, parent, time and effective changes.
    pub(crate) fn content(&self, number: u64, parent: &BlockHash, timestamp_ms: Option<u64>) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(CONTENT_CONTEXT);
        hasher.update(&(number, parent, timestamp_ms, self.0.len() as u64).encode());
        for entry in &self.0 {
            hasher.update(&(entry.path.0, entry.value_hash.map(|hash| hash.0)).encode());
        }
        *hasher.finalize().as_bytes()
    }
}
