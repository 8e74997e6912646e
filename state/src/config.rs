//! What a state is run with.

use std::sync::Arc;

use rustorium_verkle::Committer;

use crate::backend::Durability;

/// What a state needs besides its backend. [`Config::new`] has what is usual.
#[derive(Clone)]
pub struct Config {
    /// Makes the commitments; shared, since its tables are big.
    pub committer: Arc<Committer>,
    /// Bytes of nodes and witnesses kept in memory; about 150 MB hold all nodes of a tree of 1 000 000 keys.
    pub cache_bytes: u64,
    /// When blocks are final.
    pub finality: Finality,
    /// Blocks above the finalised one, of all forks.
    pub unfinalised_max: u64,
    /// Bytes of keys and values that they change.
    pub unfinalised_bytes_max: u64,
    /// What an acknowledged block survives.
    pub durability: Durability,
    /// Final blocks are put into their columns when their rows have so many bytes, which lie in memory until then and
    /// are read back when a store is opened.
    pub flush_bytes: u64,
    /// Or when there are so many of them.
    pub flush_blocks: u64,
    /// Which states of the past are kept.
    pub history: History,
}

impl Config {
    /// What is usual: 256 MiB of cache, instant finality, synced, 1024 unfinalised blocks with 256 MiB of changes, a flush
    /// every 64 MiB or 256 blocks, the states of the last 256 final blocks.
    pub fn new(committer: Arc<Committer>) -> Self {
        Self {
            committer,
            cache_bytes: 256 << 20,
            finality: Finality::Instant,
            unfinalised_max: 1024,
            unfinalised_bytes_max: 256 << 20,
            durability: Durability::Synced,
            flush_bytes: 64 << 20,
            flush_blocks: 256,
            history: History::Blocks(256),
        }
    }
}

/// When blocks are final.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finality {
    /// As soon as they are applied: there are no forks.
    Instant,
    /// When [`crate::Handle::finalize`] says so.
    Engine,
}

/// Which states before the newest final block can be read. Older ones go, in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum History {
    /// None but those that are not in the columns yet.
    None,
    /// Those of so many blocks before it.
    Blocks(u64),
    /// Those of the blocks so many days before it, by the times that the blocks give; while they give none, all.
    Days(u64),
    /// All, from the block on at which they were first kept.
    Archive,
}
