//! What is done to the engine: each step a function of the seed, its index and the blocks there are.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _};
use rustorium_state::{ApplyError, Block, BlockHash, Handle, Header};
use rustorium_tests::chain;

use crate::forks::Forks;

/// So many blocks above the finalised one make one be finalised.
const BLOCKS_MAX: usize = 20;
/// Every block writes its hash here.
pub const BLOCK_KEY: &[u8] = b"block";
/// More than is put into the columns at once.
const HUGE_BYTES: usize = 2_200_000;
const HUGE_KEY: &[u8] = b"huge";

#[derive(Clone, Debug)]
pub enum Step {
    Apply(Arc<Block>),
    Finalize(BlockHash),
    ChooseHead { head: BlockHash, finalized: Option<BlockHash> },
    Rollback(BlockHash),
    Flush,
}

impl Step {
    /// Step `index`.
    pub fn new(seed: u64, index: u64, forks: &Forks) -> Self {
        let mut rng = chain::rng(seed, "step", index);
        let any =
            |rng: &mut StdRng| *forks.blocks.keys().collect::<Vec<_>>().choose(rng).copied().expect("one is final");
        // Mostly finality lags behind the head; sometimes another fork wins.
        let winner = |rng: &mut StdRng| {
            let tip = if rng.random_bool(0.8) { forks.head } else { any(rng) };
            above(forks, tip, rng.random_range(0..6))
        };
        let choice = if forks.blocks.len() > BLOCKS_MAX { 60 } else { rng.random_range(0..100) };
        match choice {
            0..60 => {
                let parent = if rng.random_bool(0.6) { forks.head } else { any(&mut rng) };
                Self::Apply(block(seed, index, parent, forks, &mut rng).into())
            }
            60..75 => Self::Finalize(winner(&mut rng)),
            75..80 => Self::ChooseHead { head: any(&mut rng), finalized: None },
            80..86 => {
                let head = any(&mut rng);
                Self::ChooseHead { head, finalized: Some(above(forks, head, rng.random_range(0..8))) }
            }
            86..90 => match forks.past.last() {
                Some(before) if takes_back(seed) && rng.random_bool(0.4) => Self::Rollback(before.block.hash),
                _ => Self::Rollback(any(&mut rng)),
            },
            _ => Self::Flush,
        }
    }

    pub fn send(&self, handle: &Handle) -> Result<Header, ApplyError> {
        match self {
            Self::Apply(block) => handle.apply_blocking(Block::clone(block)),
            Self::Finalize(hash) => handle.finalize_blocking(*hash),
            Self::ChooseHead { head, finalized } => handle.choose_head_blocking(*head, *finalized),
            Self::Rollback(hash) => handle.rollback_blocking(*hash),
            Self::Flush => handle.flush_blocking(),
        }
    }

    /// Whether it is on the disk for good when it is acknowledged, however little the blocks are promised.
    pub fn is_decision(&self) -> bool {
        matches!(self, Self::Rollback(_))
    }
}

/// Whether final blocks of this chain are taken back, too; its store is not damaged then, and keeps all states.
pub fn takes_back(seed: u64) -> bool {
    seed.is_multiple_of(2)
}

/// Whether it keeps the states of a few blocks alone.
pub fn forgets(seed: u64) -> bool {
    seed % 4 == 1
}

/// The block so many above the finalised one on the way to `tip`, or `tip`.
fn above(forks: &Forks, tip: BlockHash, height: usize) -> BlockHash {
    let mut way = vec![tip];
    while let Some(last) = way.last().filter(|last| **last != forks.finalized()) {
        way.push(forks.blocks[last].block.parent_hash);
    }
    way[way.len().saturating_sub(height + 1)]
}

fn block(seed: u64, index: u64, parent_hash: BlockHash, forks: &Forks, rng: &mut StdRng) -> Block {
    let mut hash = [0; 32];
    rng.fill_bytes(&mut hash);
    let mut changes = chain::changes(seed, index);
    changes.truncate(rng.random_range(0..=changes.len()));
    match rng.random_range(0..20) {
        0 => changes.push((HUGE_KEY.to_vec(), Some(vec![index as u8; HUGE_BYTES]))),
        1..4 => changes.push((HUGE_KEY.to_vec(), None)),
        _ => {}
    }
    changes.push((BLOCK_KEY.to_vec(), Some(hash.to_vec())));
    let number = forks.blocks[&parent_hash].block.number + 1;
    let timestamp_ms = rng.random_bool(0.5).then_some(index);
    Block { number, hash: BlockHash(hash), parent_hash, timestamp_ms, state_root: None, changes }
}
