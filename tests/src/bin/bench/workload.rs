//! What every store is given: keys and values that are functions of a seed, in the same blocks for all.
//!
//! A key is the hash of its index, so it is 32 random bytes and no table of keys is kept. A block overwrites keys chosen at
//! random among those that exist, and adds as many new ones; values are 32 to 100 random bytes. Blocks are sorted by key,
//! for the sake of stores that keep keys in their order. (Ours does not: it sorts again, by the hash of the key.)

use rand::rngs::StdRng;
use rand::seq::index;
use rand::{Rng as _, RngExt as _};
use rustorium_tests::chain::rng;

/// A key of all blocks.
pub(crate) type Key = [u8; 32];
/// A key and its new value.
pub(crate) type Update = (Key, Vec<u8>);

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Keys that are loaded first.
    pub(crate) keys: usize,
    /// Keys of a block that loads.
    pub(crate) load: usize,
    /// Updates of a block after that.
    pub(crate) updates: usize,
    /// Blocks after the load that do not count.
    pub(crate) warm_up: usize,
    /// Blocks that count.
    pub(crate) blocks: usize,
    /// Point reads.
    pub(crate) reads: usize,
    /// Proofs of one key each.
    pub(crate) proofs: usize,
    /// Times that all of it is done; the median counts.
    pub(crate) runs: usize,
}

/// The stream of blocks of a seed.
pub(crate) struct Workload {
    seed: u64,
    scale: Scale,
}

impl Workload {
    pub(crate) fn new(seed: u64, scale: Scale) -> Self {
        Self { seed, scale }
    }

    /// The blocks that load the first keys.
    pub(crate) fn load(&self) -> impl Iterator<Item = Vec<Update>> + '_ {
        (0..self.scale.keys).step_by(self.scale.load).map(|first| {
            let mut rng = rng(self.seed, "load", first as u64);
            let indices = first..(first + self.scale.load).min(self.scale.keys);
            sorted(indices.map(|index| (self.key(index), value(&mut rng))).collect())
        })
    }

    /// The blocks that come after the load.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Vec<Update>> + '_ {
        (0..self.scale.warm_up + self.scale.blocks).map(|number| self.block(number))
    }

    /// Keys that were loaded, at random.
    pub(crate) fn loaded(&self, part: &str, number: u64, count: usize) -> Vec<Key> {
        self.known(part, number, count, 0)
    }

    /// Keys that exist after the last block, at random.
    pub(crate) fn final_keys(&self, part: &str, count: usize) -> Vec<Key> {
        self.known(part, 0, count, self.scale.warm_up + self.scale.blocks)
    }

    fn known(&self, part: &str, number: u64, count: usize, blocks: usize) -> Vec<Key> {
        let mut rng = rng(self.seed, part, number);
        (0..count).map(|_| self.key(rng.random_range(0..self.keys_before(blocks)))).collect()
    }

    /// Updates in no order: half of them of keys that were loaded, half of the keys from index `new` on, which nothing else
    /// here uses when it lies behind those of the blocks.
    pub(crate) fn shuffled(&self, new: usize, count: usize) -> Vec<Update> {
        let mut rng = rng(self.seed, "shuffled", new as u64);
        let known = index::sample(&mut rng, self.scale.keys, count - count / 2);
        let mut updates: Vec<Update> =
            known.into_iter().chain(new..new + count / 2).map(|index| (self.key(index), value(&mut rng))).collect();
        // Keys are hashes: another end of them is another order.
        updates.sort_unstable_by(|(a, _), (b, _)| a[16..].cmp(&b[16..]));
        updates
    }

    /// Half of them keys that exist, half new ones.
    fn block(&self, number: usize) -> Vec<Update> {
        let mut rng = rng(self.seed, "block", number as u64);
        let (before, new) = (self.keys_before(number), self.scale.updates / 2);
        let known = index::sample(&mut rng, before, self.scale.updates - new);
        let indices = known.into_iter().chain(before..before + new);
        sorted(indices.map(|index| (self.key(index), value(&mut rng))).collect())
    }

    /// Keys that exist before a block, counted from 0 after the load.
    fn keys_before(&self, block: usize) -> usize {
        self.scale.keys + block * (self.scale.updates / 2)
    }

    fn key(&self, index: usize) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&(index as u64).to_le_bytes());
        *hasher.finalize().as_bytes()
    }
}

fn sorted(mut block: Vec<Update>) -> Vec<Update> {
    block.sort_unstable();
    block
}

/// 32 to 100 random bytes.
pub(crate) fn value(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(32..=100)];
    rng.fill_bytes(&mut bytes);
    bytes
}
