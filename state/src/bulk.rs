//! All pairs of a block in a file, and back: backups, and stores that begin at a block that somebody trusts.
//!
//! ```text
//! file     head ‖ frame* ‖ end, and not a byte more; numbers are little-endian
//! head     "rustorium pairs\n" ‖ version u32 = 1 ‖ length u32 ‖ SCALE [`Origin`] ‖ sum
//! frame    'F' ‖ pairs u32 ‖ length u32 ‖ zipped length u32 ‖ zipped ‖ sum
//! zipped   zstd of, for each pair: key length, Compact ‖ key ‖ value length, Compact ‖ value
//! end      'E' ‖ frames u64 ‖ pairs u64 ‖ length u64 ‖ sum      (lengths are those before zipping)
//! sum      of the head: B3("rustorium.v1 pairs", all before it). Of frame or end: the same of
//!          the head's sum ‖ the frames before it, u64 ‖ all before it from its letter on
//! ```
//!
//! Pairs stand in the order of their keys' paths, which is the store's and the tree's: so both ways take constant memory,
//! whatever the number of pairs: a few frames of at most [`FRAME_BYTES`] and one pair, and one segment of the tree. A frame
//! belongs to its head and its place, so none can be lost, doubled or taken from another file unseen.
//!
//! What is wrong with a file is an error that names the byte from which on it is. The sums find damage; against a liar
//! only the state root helps, which an import computes from the pairs themselves and holds against the file's and, where
//! one is given, against a root that is trusted. An import writes another generation and makes it the live one by one
//! batch. Until then the store is what it was; a broken-off import goes on behind the last frame that it took
//! in, which is not read again, or starts anew.

mod export;
mod file;
mod import;
#[cfg(test)]
mod tests;

use parity_scale_codec::{Decode, Encode};
use rustorium_verkle::StateRoot;

use crate::backend::BackendError;
use crate::block::{BlockHash, Header};
use crate::error::ReadError;

pub use export::export;
pub use file::FRAME_BYTES;
pub use import::{Terms, import};

/// What a file is of: its chain and its block.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Origin {
    /// The chain's id, for people.
    pub chain: String,
    /// The hash of its block 0.
    pub genesis_hash: BlockHash,
    number: u64,
    hash: BlockHash,
    parent_hash: BlockHash,
    state_root: [u8; 32],
    timestamp_ms: Option<u64>,
    /// Tells the block from another under its hash.
    content: [u8; 32],
}

impl Origin {
    /// The block.
    pub fn header(&self) -> Header {
        let Self { number, hash, parent_hash, timestamp_ms, .. } = *self;
        Header { number, hash, parent_hash, state_root: StateRoot(self.state_root), timestamp_ms }
    }
}

/// What went into a file, or came out of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    /// What the file is of.
    pub origin: Origin,
    /// Pairs in it.
    pub pairs: u64,
    /// Bytes of keys and values, with their lengths.
    pub bytes: u64,
    /// Pairs that were there already, of an export or import that was broken off.
    pub resumed: u64,
}

/// Why pairs were not carried.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// It is not such a file.
    #[error("the file is not an export of Rustorium's")]
    NotOurs,
    /// A newer version wrote it.
    #[error("the file has version {found}, this program reads {supported}: run a newer rustorium")]
    Newer {
        /// The file's.
        found: u32,
        /// The newest that this version reads.
        supported: u32,
    },
    /// It is of another chain.
    #[error("the file is of the chain {found}, not of {expected}")]
    OtherChain {
        /// The store's.
        expected: String,
        /// The file's.
        found: String,
    },
    /// There is an export of another block in the file.
    #[error("the file has block {found}, not {expected}: give another name, or take the file away")]
    OtherBlock {
        /// The block to export.
        expected: String,
        /// The file's.
        found: String,
    },
    /// The store is ahead of the file.
    #[error("the file has block {number}, the store has block {finalized} final, which would be lost")]
    Older {
        /// The file's block.
        number: u64,
        /// The store's newest final one.
        finalized: u64,
    },
    /// A front has acknowledged changes that are in no block yet.
    #[error("the store has acknowledged changes that are in no block: start the node once, which makes one of them")]
    Pending,
    /// Something in the file is not what was written.
    #[error("the file is damaged from byte {offset} on: {what}")]
    Damaged {
        /// Where.
        offset: u64,
        /// What.
        what: String,
    },
    /// The file ends too early.
    #[error("the file ends at byte {offset}, in the midst of it: it was not written to its end, or was cut")]
    Truncated {
        /// Where the piece begins that is not whole.
        offset: u64,
    },
    /// The file's state root is not the trusted one.
    #[error("the file says state root {found}, trusted is {trusted}")]
    Untrusted {
        /// What the caller trusts.
        trusted: StateRoot,
        /// The file's.
        found: StateRoot,
    },
    /// The pairs are not those of the block.
    #[error("the file says state root {expected}, its pairs give {got}")]
    RootMismatch {
        /// The file's.
        expected: StateRoot,
        /// What was computed.
        got: StateRoot,
    },
    /// The caller broke it off.
    #[error("broken off; the same command goes on with it")]
    Interrupted,
    /// The file cannot be read or written.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store's disk.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
