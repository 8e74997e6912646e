//! What is kept in memory so that the disk is not asked again: whole nodes, values, and witnesses.
//!
//! A node is kept under its path and commitment, a value under its leaf's path and its hash, a witness under the state
//! root and the claims that it proves. So what is found is right for every block in which the node looks so, forks share it, and nothing is ever stale: versions that no
//! block needs any more are dropped when their successors are final, or age out. Shared by all threads; bounded in bytes.
//!
//! What went in is trusted. A damaged row makes a wrong entry; whoever finds that out calls [`Cache::clear`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge};
use quick_cache::{Weighter, sync};
use rustorium_verkle::tree::WholeNode;
use rustorium_verkle::{Change, Claim, Leaf, NodePath, Point, StateRoot, update, witness};

use crate::metrics::{CACHE_BYTES, CACHE_HITS, CACHE_MISSES};
use crate::parallel;

/// The shares of the memory that witnesses and values take: one part in so many.
const WITNESS_SHARE: u64 = 16;
const VALUE_SHARE: u64 = 8;
/// And the share of the nodes' that those may take which a block has replaced and another fork may still need.
const REPLACED_SHARE: u64 = 8;
/// Larger values are not kept.
const VALUE_BYTES_MAX: usize = 4096;
/// What an entry takes beside its bytes, about: its place in the table and what the allocator adds.
const ENTRY_BYTES: u64 = 128;
/// Bytes of each as they are expected; the tables are laid out for it.
const NODE_BYTES: u64 = 1536;
const WITNESS_BYTES: u64 = 1024;
const VALUE_BYTES: u64 = ENTRY_BYTES + 128;
/// A table's bytes are added up once in so many insertions: it asks all of its parts.
const INSERTIONS_A_MEASURE: u64 = 64;

/// Nodes, values and witnesses; bounded in bytes.
pub(crate) struct Cache {
    /// By the commitment's fingerprint: what is found is compared with what was asked for.
    nodes: sync::Cache<u64, Arc<WholeNode>, Bytes>,
    values: sync::Cache<Leaf, Arc<[u8]>, Bytes>,
    witnesses: sync::Cache<WitnessId, Arc<[u8]>, Bytes>,
    /// Fingerprints of nodes that unfinalised blocks have replaced, the oldest block's first.
    replaced: Mutex<Replaced>,
    replaced_max: usize,
    node_meter: Meter,
    value_meter: Meter,
    witness_meter: Meter,
}

/// Nodes that have been replaced, by block.
#[derive(Default)]
struct Replaced {
    blocks: VecDeque<Arc<[u64]>>,
    count: usize,
}

/// What a witness proves: a hash of the state root, the claims, and the changes of an update witness.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct WitnessId([u8; 32]);

impl WitnessId {
    /// The claims in the order of their paths.
    pub(crate) fn new(root: &StateRoot, claims: &[Claim]) -> Self {
        Self::of(witness::VERSION, root, claims, &[])
    }

    /// Of an update witness; claims and changes in the order of their paths.
    pub(crate) fn of_update(root: &StateRoot, claims: &[Claim], changes: &[Change]) -> Self {
        Self::of(update::VERSION, root, claims, changes)
    }

    fn of(version: u8, root: &StateRoot, claims: &[Claim], changes: &[Change]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[version]).update(&root.0).update(&(claims.len() as u64).to_le_bytes());
        let claims = claims.iter().map(|Claim { path, value }| (path, value));
        for (path, value) in claims.chain(changes.iter().map(|Change { path, value }| (path, value))) {
            hasher.update(&path.0).update(&[value.is_some() as u8]);
            if let Some(value_hash) = value {
                hasher.update(&value_hash.0);
            }
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl Cache {
    /// A cache of at most about `bytes_max` bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let (witnesses_max, values_max) = (bytes_max / WITNESS_SHARE, bytes_max / VALUE_SHARE);
        let nodes_max = bytes_max - witnesses_max - values_max;
        let entries = |bytes_max: u64, each: u64| (bytes_max / each).max(16) as usize;
        Self {
            nodes: sync::Cache::with_weighter(entries(nodes_max, NODE_BYTES), nodes_max, Bytes),
            values: sync::Cache::with_weighter(entries(values_max, VALUE_BYTES), values_max, Bytes),
            witnesses: sync::Cache::with_weighter(entries(witnesses_max, WITNESS_BYTES), witnesses_max, Bytes),
            replaced: Mutex::default(),
            replaced_max: entries(nodes_max / REPLACED_SHARE, NODE_BYTES),
            node_meter: Meter::new("nodes"),
            value_meter: Meter::new("values"),
            witness_meter: Meter::new("witnesses"),
        }
    }

    /// The node at this path with this commitment.
    pub(crate) fn node(&self, path: &NodePath, commitment: &Point) -> Option<Arc<WholeNode>> {
        let found = self.nodes.get(&commitment.fingerprint());
        let found = found.filter(|node| node.row().commitment == *commitment && node.path() == path);
        self.node_meter.note_lookup(found.is_some());
        found
    }

    /// Keeps nodes, many of them on all threads.
    pub(crate) fn insert_all(&self, nodes: Vec<Arc<WholeNode>>) {
        parallel::map_into(nodes, |node| self.insert(node));
    }

    pub(crate) fn insert(&self, node: Arc<WholeNode>) {
        self.nodes.insert(node.row().commitment.fingerprint(), node);
        self.node_meter.note_insertion(|| self.nodes.weight());
    }

    /// Hears which nodes a block has replaced that is not final yet. They stay for other forks, but not many of them: where
    /// blocks are large, they would push out what the next block meets.
    pub(crate) fn retire(&self, fingerprints: Arc<[u64]>) {
        // What is behind the lock is a list of hints, right after a panic, too.
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        if !fingerprints.is_empty() {
            replaced.count += fingerprints.len();
            replaced.blocks.push_back(fingerprints);
        }
        while replaced.count > self.replaced_max
            && let Some(oldest) = replaced.blocks.pop_front()
        {
            replaced.count -= oldest.len();
            self.drop_nodes(&oldest);
        }
    }

    /// Drops nodes by their fingerprints: versions that no block needs any more.
    pub(crate) fn drop_nodes(&self, fingerprints: &[u64]) {
        // What is removed is freed, which takes the longest.
        parallel::map(fingerprints, |fingerprint| drop(self.nodes.remove(fingerprint)));
    }

    /// The value of this leaf.
    pub(crate) fn value(&self, leaf: &Leaf) -> Option<Arc<[u8]>> {
        let found = self.values.get(leaf);
        self.value_meter.note_lookup(found.is_some());
        found
    }

    /// Keeps the value of a leaf, unless it is a large one.
    pub(crate) fn insert_value(&self, leaf: Leaf, value: &[u8]) {
        if value.len() <= VALUE_BYTES_MAX {
            self.values.insert(leaf, value.into());
            self.value_meter.note_insertion(|| self.values.weight());
        }
    }

    pub(crate) fn witness(&self, id: &WitnessId) -> Option<Arc<[u8]>> {
        let found = self.witnesses.get(id);
        self.witness_meter.note_lookup(found.is_some());
        found
    }

    pub(crate) fn insert_witness(&self, id: WitnessId, witness: Arc<[u8]>) {
        self.witnesses.insert(id, witness);
        self.witness_meter.note_insertion(|| self.witnesses.weight());
    }

    /// Bytes of memory that are taken, about.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.nodes.weight() + self.values.weight() + self.witnesses.weight()
    }

    /// Forgets everything: something of it has turned out to be wrong.
    pub(crate) fn clear(&self) {
        self.nodes.clear();
        self.values.clear();
        self.witnesses.clear();
        [&self.node_meter, &self.value_meter, &self.witness_meter].iter().for_each(|meter| meter.bytes.set(0.0));
    }
}

/// What operators see of one of the tables.
struct Meter {
    hits: Counter,
    misses: Counter,
    bytes: Gauge,
    insertions: AtomicU64,
}

impl Meter {
    fn new(cache: &'static str) -> Self {
        Self {
            hits: metrics::counter!(CACHE_HITS, "cache" => cache),
            misses: metrics::counter!(CACHE_MISSES, "cache" => cache),
            bytes: metrics::gauge!(CACHE_BYTES, "cache" => cache),
            insertions: AtomicU64::new(0),
        }
    }

    fn note_lookup(&self, found: bool) {
        if found { self.hits.increment(1) } else { self.misses.increment(1) }
    }

    fn note_insertion(&self, bytes: impl FnOnce() -> u64) {
        if self.insertions.fetch_add(1, Ordering::Relaxed).is_multiple_of(INSERTIONS_A_MEASURE) {
            self.bytes.set(bytes() as f64);
        }
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<u64, Arc<WholeNode>> for Bytes {
    fn weight(&self, _: &u64, node: &Arc<WholeNode>) -> u64 {
        node.bytes() as u64 + ENTRY_BYTES
    }
}

impl Weighter<Leaf, Arc<[u8]>> for Bytes {
    fn weight(&self, _: &Leaf, value: &Arc<[u8]>) -> u64 {
        value.len() as u64 + ENTRY_BYTES
    }
}

impl Weighter<WitnessId, Arc<[u8]>> for Bytes {
    fn weight(&self, _: &WitnessId, witness: &Arc<[u8]>) -> u64 {
        witness.len() as u64 + ENTRY_BYTES
    }
}
