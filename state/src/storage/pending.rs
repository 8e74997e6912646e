//! Changes that are acknowledged and in no block yet, as readers see them over the head.
//!
//! Two generations: the one whose block is being made, and over it the one that still grows. A generation is dropped when
//! the head that has its changes is shown, so that whoever looks here first and at the head afterwards misses nothing.
//! Bounded by the writer.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;

use crate::block::Change;

/// Parts of a generation, each behind a lock of its own.
const SHARDS: usize = 16;

type Shard = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// The last change of each key. One thread inserts, any number reads.
#[derive(Default)]
pub(crate) struct Pending {
    shards: [RwLock<Shard>; SHARDS],
}

impl Pending {
    /// A later change of a key takes the place of an earlier one.
    pub(crate) fn insert(&self, (key, value): Change) {
        let shard = &self.shards[shard_of(&key)];
        shard.write().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }

    /// What was last done to a key, if anything was.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.shards[shard_of(key)].read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Each key's change, in no particular order.
    pub(crate) fn to_changes(&self) -> Vec<Change> {
        let shards = || self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner));
        let mut changes = Vec::with_capacity(shards().map(|shard| shard.len()).sum());
        for shard in shards() {
            changes.extend(shard.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        changes
    }
}

fn shard_of(key: &[u8]) -> usize {
    let mixed = key.iter().fold(0u32, |mixed, byte| mixed.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    mixed as usize % SHARDS
}

/// What lies over the head.
#[derive(Default)]
pub(crate) struct Overlay(ArcSwap<Generations>);

#[derive(Default)]
struct Generations {
    /// In the order in which they are asked: the newer one first.
    newest_first: Vec<Arc<Pending>>,
}

impl Overlay {
    /// Shows these from now on, the newest first.
    pub(crate) fn show(&self, newest_first: Vec<Arc<Pending>>) {
        self.0.store(Arc::new(Generations { newest_first }));
    }

    /// What was last done to a key since the head, if anything was.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.0.load().newest_first.iter().find_map(|pending| pending.find(key))
    }
}
