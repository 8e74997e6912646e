//! The readers' door: views of blocks, published by the writer, all of them as one `Arc`.

use std::sync::Arc;

use crate::block::{At, BlockHash, Header};
use crate::error::{AtError, ReadError};
use crate::forks::{Blocks, Forks};
use crate::meeting::Shown;
use crate::view::View;
use crate::watch::{EndsWatches, Tip, Watch, Watches};

/// Finds views. Cheap to clone; never waits for the writer, and the writer never waits for it.
#[derive(Clone)]
pub struct Reader {
    published: Arc<Shown<Published>>,
    watches: Arc<Watches>,
    genesis_hash: BlockHash,
}

/// What everyone may read, as it was after one command of the writer.
struct Published {
    head: Arc<View>,
    finalized: Arc<View>,
    /// Above the finalised block.
    blocks: Blocks,
    status: Status,
}

/// How the state stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The newest block of the chain that counts.
    pub head: Header,
    /// The newest final block.
    pub finalized: Header,
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
        let status = Status {
            head: head.header().clone(),
            finalized: finalized.header().clone(),
            base_number: forks.base_number(),
            unfinalised_blocks: forks.blocks().size() as u64,
            unfinalised_bytes: forks.change_bytes(),
            settled_blocks: settled_blocks as u64,
            settled_bytes,
        };
        Self { head, finalized, blocks: forks.blocks().clone(), status }
    }
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
        self.published.show(Published { head: next.head, finalized, blocks, status });
    }

    /// The state of the newest block.
    pub fn head(&self) -> Arc<View> {
        self.published.load().head.clone()
    }

    /// The state at a block: the finalised one or any above it. Anything older is pruned.
    pub fn at(&self, at: At) -> Result<Arc<View>, AtError> {
        let published = self.published.load();
        let Published { head, finalized, blocks, .. } = &**published;
        match at {
            At::Head => Ok(head.clone()),
            At::Finalized => Ok(finalized.clone()),
            At::Block(hash) if hash == finalized.header().hash => Ok(finalized.clone()),
            At::Block(hash) => match blocks.get(&hash) {
                Some(branch) => Ok(branch.view.clone()),
                None if finalized.header_row(&hash)?.is_some() => {
                    Err(AtError::Pruned { oldest: finalized.header().number })
                }
                None => Err(AtError::Unknown { at: at.to_string() }),
            },
            At::Certified => Err(AtError::Unknown { at: at.to_string() }),
        }
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
