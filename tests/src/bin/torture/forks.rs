//! The model: a map for each block that is final or may become so.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustorium_state::{Block, BlockHash, Header};
use rustorium_verkle::StateRoot;

use crate::script::Step;

/// Blocks that were dropped and are remembered.
const DROPPED_MAX: usize = 16;

/// Keys and values; a state shares its values with those that it came from.
pub type Pairs = BTreeMap<Vec<u8>, Arc<[u8]>>;

/// A block and the state after it.
#[derive(Clone)]
pub struct Known {
    pub block: Arc<Block>,
    pub pairs: Arc<Pairs>,
    /// Once the engine has said it.
    pub root: Option<StateRoot>,
}

/// The finalised block and all above it.
#[derive(Clone)]
pub struct Forks {
    pub blocks: BTreeMap<BlockHash, Known>,
    /// The final blocks by number.
    pub chain: Vec<BlockHash>,
    /// Of those between block 0 and this one the store knows nothing.
    pub first: u64,
    /// Those before the finalised one, by number.
    pub past: Vec<Known>,
    pub head: BlockHash,
    /// The last ones that have lost.
    pub dropped: Vec<BlockHash>,
}

impl Forks {
    pub fn new(genesis: BlockHash, pairs: Pairs) -> Self {
        let block = Block {
            number: 0,
            hash: genesis,
            parent_hash: BlockHash::ZERO,
            timestamp_ms: None,
            state_root: None,
            changes: vec![],
        };
        let known = Known { block: block.into(), pairs: pairs.into(), root: None };
        Self {
            blocks: [(genesis, known)].into(),
            chain: vec![genesis],
            first: 0,
            past: vec![],
            head: genesis,
            dropped: vec![],
        }
    }

    pub fn finalized(&self) -> BlockHash {
        self.chain[self.chain.len() - 1]
    }

    /// Whether a block is another or comes after it.
    pub fn descends(&self, hash: BlockHash, from: BlockHash) -> bool {
        hash == from || self.blocks.get(&hash).is_some_and(|known| self.descends(known.block.parent_hash, from))
    }

    /// Carries out a step; the block that its answer is about.
    pub fn carry_out(&mut self, step: &Step) -> BlockHash {
        match step {
            Step::Apply(block) => {
                let mut pairs = Pairs::clone(&self.blocks[&block.parent_hash].pairs);
                for (key, value) in &block.changes {
                    match value {
                        Some(value) => drop(pairs.insert(key.clone(), value.as_slice().into())),
                        None => drop(pairs.remove(key)),
                    }
                }
                self.blocks.insert(block.hash, Known { block: block.clone(), pairs: pairs.into(), root: None });
                if self.head == block.parent_hash {
                    self.head = block.hash;
                }
                block.hash
            }
            Step::Finalize(hash) => {
                let head = if self.descends(self.head, *hash) { self.head } else { *hash };
                self.decide(head, *hash);
                *hash
            }
            Step::ChooseHead { head, finalized } => {
                self.decide(*head, finalized.unwrap_or(self.finalized()));
                *head
            }
            Step::Rollback(hash) if self.is_past(hash) => {
                self.carry_out(&Step::Rollback(self.finalized()));
                let gone = self.chain.pop().expect("a block has one before it");
                self.dropped.push(gone);
                let known = self.past.pop().expect("the same");
                self.blocks = [(*hash, known)].into();
                self.head = *hash;
                *hash
            }
            Step::Rollback(hash) => {
                self.drop_unless(|all, block| block == *hash || !all.descends(block, *hash));
                self.head = *hash;
                *hash
            }
            Step::Flush => self.finalized(),
        }
    }

    fn decide(&mut self, head: BlockHash, finalized: BlockHash) {
        let mut way = vec![];
        let mut at = finalized;
        while at != self.finalized() {
            way.push(at);
            at = self.blocks[&at].block.parent_hash;
        }
        let losers = |all: &Self, block| all.descends(block, finalized) || way.contains(&block);
        self.drop_unless(losers);
        // Those on the way are final, and their states nobody's any more.
        let before = self.finalized();
        let passed = std::iter::once(&before).chain(way.iter().skip(1).rev()).map(|hash| self.blocks[hash].clone());
        if finalized != before {
            self.past.extend(passed.collect::<Vec<_>>());
        }
        self.blocks.retain(|hash, _| *hash == finalized || *hash != before && !way.contains(hash));
        self.chain.extend(way.into_iter().rev());
        self.head = head;
    }

    /// Whether it is the final block before the finalised one.
    pub fn is_past(&self, hash: &BlockHash) -> bool {
        self.past.last().is_some_and(|known| known.block.hash == *hash)
    }

    fn drop_unless(&mut self, is_kept: impl Fn(&Self, BlockHash) -> bool) {
        let finalized = self.finalized();
        let is_lost = |hash: &BlockHash| *hash != finalized && !is_kept(self, *hash);
        let gone: Vec<BlockHash> = self.blocks.keys().copied().filter(is_lost).collect();
        gone.iter().for_each(|hash| drop(self.blocks.remove(hash)));
        self.dropped.extend(gone);
        let many = self.dropped.len().saturating_sub(DROPPED_MAX);
        self.dropped.drain(..many);
    }

    /// Whether a header is that of the block; its root is learnt.
    pub fn learn(&mut self, hash: BlockHash, header: &Header) -> anyhow::Result<()> {
        let known = self.blocks.get_mut(&hash).with_context(|| format!("the model does not know {hash}"))?;
        let Block { number, parent_hash, timestamp_ms, .. } = *known.block;
        let root = *known.root.get_or_insert(header.state_root);
        let expected = Header { number, hash, parent_hash, state_root: root, timestamp_ms };
        ensure!(*header == expected, "{header:?} instead of {expected:?}");
        Ok(())
    }
}
