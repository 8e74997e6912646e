//! The readers' door: views of blocks, published by the writer, all of them as one `Arc`.

use std::sync::Arc;

use crate::block::{At, BlockHash, Header};
use crate::error::{AtError, ReadError};
use crate::forks::{Blocks, Branch, Forks};
use crate::meeting::Shown;
use crate::undo::Kept;
use crate::view::{Shared, View};
use crate::watch::{EndsWatches, Tip, Watch, Watches};

/// Finds views. Cheap to clone; never waits for the writer, and the writer never waits for it.
#[derive(Clone)]
pub struct Reader {
    published: Arc<Shown<Published>>,
    watches: Arc<Watches>,
    genesis_hash: BlockHash,
}

/// While it lives, the states from a block on are kept ([`Reader::pin`]).
pub struct Pin {
    number: u64,
    shared: Arc<Shared>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.pins.remove(self.number);
    }
}

/// What everyone may read, as it was after one command of the writer.
pub(crate) struct Published {
    head: Arc<View>,
    finalized: Arc<View>,
    /// Above the finalised block.
    blocks: Blocks,
    /// From the block in the columns to the finalised one, oldest first.
    settled: Box<[Arc<Branch>]>,
    /// The blocks of the past whose states can be read, those of `settled` apart.
    kept: Option<Kept>,
    /// Blocks of `settled` before this one are of the past, too ([`Forks::mixed_to`]).
    mixed_to: u64,
    status: Status,
}

/// How the state stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The newest block of the chain that counts.
    pub head: Header,
    /// The newest final block.
    pub finalized: Header,
    /// The number of the oldest block whose state can be read.
    pub oldest_number: u64,
    /// The number of the block whose rows are in their columns; the journal has what came since.
    pub base_number: u64,
    /// Blocks above the finalised one, of all forks.
    pub unfinalised_blocks: u64,
    /// Bytes of keys and values that they change.
    pub unfinalised_bytes: u64,
    /// Final blocks that wait to be put into their columns.
    pub settled_blocks: u64,
    /// Bytes of their rows.
    pub settled_bytes: u64,
}

impl Published {
    fn new(forks: &Forks) -> Self {
        let (head, finalized) = (forks.head().view.clone(), forks.finalized().view.clone());
        let (settled_blocks, settled_bytes) = forks.settled();
        let settled: Box<[Arc<Branch>]> = std::iter::once(forks.base()).chain(forks.waiting()).cloned().collect();
        let (kept, mixed_to) = (forks.kept(), forks.mixed_to());
        // Without history; a base with blocks above it may have rows of theirs.
        let oldest_settled = settled.iter().find(|branch| settled.len() == 1 || is_layered(branch, mixed_to));
        let status = Status {
            head: head.header().clone(),
            finalized: finalized.header().clone(),
            oldest_number: kept.map_or(oldest_settled.unwrap_or(forks.finalized()).number(), |kept| kept.oldest),
            base_number: forks.base().number(),
            unfinalised_blocks: forks.blocks().size() as u64,
            unfinalised_bytes: forks.change_bytes(),
            settled_blocks: settled_blocks as u64,
            settled_bytes,
        };
        Self { head, finalized, blocks: forks.blocks().clone(), settled, kept, mixed_to, status }
    }

    /// The state after a block.
    pub(crate) fn at(&self, hash: &BlockHash) -> Result<Arc<View>, AtError> {
        match self.branch(hash) {
            _ if *hash == self.finalized.header().hash => Ok(self.finalized.clone()),
            Some(branch) => Ok(branch.view.clone()),
            None => self.past(hash),
        }
    }

    /// A block whose state is in its layers and those below, whatever the columns have.
    pub(crate) fn branch(&self, hash: &BlockHash) -> Option<&Arc<Branch>> {
        let settled = || self.settled.iter().find(|branch| branch.hash() == *hash);
        self.blocks.get(hash).or_else(|| settled().filter(|branch| is_layered(branch, self.mixed_to)))
    }

    pub(crate) fn head(&self) -> &Arc<View> {
        &self.head
    }

    /// The block whose tree is in the columns.
    pub(crate) fn base(&self) -> &View {
        &self.settled[0].view
    }

    /// The oldest block whose state can be read.
    pub(crate) fn oldest_number(&self) -> u64 {
        self.status.oldest_number
    }

    pub(crate) fn kept(&self) -> Option<Kept> {
        self.kept
    }

    /// The blocks above it, up to the head.
    pub(crate) fn above_base(&self) -> Vec<&Arc<Branch>> {
        let parent = |branch: &&Arc<Branch>| self.blocks.get(&branch.view.header().parent_hash);
        let mut way: Vec<_> = std::iter::successors(self.blocks.get(&self.head.header().hash), parent).collect();
        way.extend(self.settled[1..].iter().rev());
        way.reverse();
        way
    }

    /// The state after a final block.
    fn past(&self, hash: &BlockHash) -> Result<Arc<View>, AtError> {
        let row = self.finalized.header_row(hash)?.ok_or(AtError::Unknown { at: hash.to_string() })?;
        let number = row.number;
        if self.finalized.block_hash(number)? != Some(*hash) {
            return Err(AtError::Unknown { at: hash.to_string() });
        }
        // With nothing above it, the columns have exactly this block.
        if number == self.base().header().number && self.settled.len() == 1 {
            return Ok(self.settled[0].view.clone());
        }
        match self.kept.filter(|kept| kept.oldest <= number) {
            Some(kept) => Ok(Arc::new(self.newest(kept).past(row.header(*hash), kept)?)),
            None => Err(AtError::Pruned { oldest: self.status.oldest_number }),
        }
    }

    /// The block that states of the past are told from: the last of which it is kept what it overwrote.
    fn newest(&self, kept: Kept) -> &View {
        let newest = self.settled.iter().rfind(|branch| branch.number() <= kept.newest);
        &newest.unwrap_or(&self.settled[0]).view
    }
}

/// Whether a final block has layers that hide what the columns may have of later ones.
fn is_layered(branch: &Branch, mixed_to: u64) -> bool {
    branch.rows().is_some() && branch.number() >= mixed_to
}

impl Reader {
    pub(crate) fn new(forks: &Forks, genesis_hash: BlockHash) -> Self {
        Self { published: Arc::new(Shown::new(Published::new(forks))), watches: Arc::default(), genesis_hash }
    }

    /// Shows everyone who asks from now on the blocks as they are.
    pub(crate) fn publish(&self, forks: &Forks) {
        #[cfg(test)]
        if crate::meeting::checker::is_torn() {
            self.publish_torn(forks);
        }
        let before = self.tip().hashes();
        self.published.show(Published::new(forks));
        let tip = self.tip();
        if tip.hashes() != before {
            self.watches.tell(&tip);
        }
    }

    /// Ends all watches when it is dropped.
    pub(crate) fn ends_watches(&self) -> EndsWatches {
        EndsWatches(self.watches.clone())
    }

    fn tip(&self) -> Tip {
        let published = self.published.load();
        Tip { head: published.head.clone(), finalized: published.finalized.clone() }
    }

    /// The newest blocks, and each move of head or finality from there on. At most `tips_max` of them wait for the watcher;
    /// who is slower is told how many he has missed, and hears nothing more.
    pub fn watch(&self, tips_max: usize) -> (Tip, Watch) {
        self.watches.add(tips_max, || self.tip())
    }

    /// What must never be done, so that tests see it found: the head first, and then the rest.
    #[cfg(test)]
    fn publish_torn(&self, forks: &Forks) {
        let (now, next) = (self.published.load(), Published::new(forks));
        let (finalized, blocks) = (now.finalized.clone(), now.blocks.clone());
        let status = Status { finalized: now.status.finalized.clone(), ..next.status };
        self.published.show(Published { finalized, blocks, status, ..next });
    }

    /// The state of the newest block.
    pub fn head(&self) -> Arc<View> {
        self.published.load().head.clone()
    }

    /// The state at a block: any above the finalised one, and that one and those before it as far as history is kept.
    pub fn at(&self, at: At) -> Result<Arc<View>, AtError> {
        let published = self.published.load();
        match at {
            At::Head => Ok(published.head.clone()),
            At::Finalized => Ok(published.finalized.clone()),
            At::Block(hash) => published.at(&hash),
            At::Certified => Err(AtError::Unknown { at: at.to_string() }),
        }
    }

    pub(crate) fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published.load())
    }

    /// Keeps the states from this block on from being given up, until the pin is dropped. What is gone already stays gone.
    pub fn pin(&self, number: u64) -> Pin {
        let shared = self.published.load().finalized.shared().clone();
        shared.pins.add(number);
        Pin { number, shared }
    }

    /// The newest final block.
    pub fn finalized(&self) -> Header {
        self.published.load().finalized.header().clone()
    }

    /// How the state stands.
    pub fn status(&self) -> Status {
        self.published.load().status.clone()
    }

    /// The hash of block 0.
    pub fn genesis_hash(&self) -> BlockHash {
        self.genesis_hash
    }

    /// The header of a block, if it is known.
    pub fn header(&self, hash: &BlockHash) -> Result<Option<Header>, ReadError> {
        let published = self.published.load();
        match published.blocks.get(hash) {
            Some(branch) => Ok(Some(branch.view.header().clone())),
            None => Ok(published.finalized.header_row(hash)?.map(|row| row.header(*hash))),
        }
    }

    /// The hash of the block with this number in the chain of the head.
    pub fn block_hash(&self, number: u64) -> Result<Option<BlockHash>, ReadError> {
        self.head().block_hash(number)
    }
}
