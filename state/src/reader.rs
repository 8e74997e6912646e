//! The readers' door: views of blocks, published by the writer, each as one `Arc`.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::block::{At, BlockHash, Header};
use crate::error::{AtError, ReadError};
use crate::view::View;

/// Finds views. Cheap to clone; never waits for the writer, and the writer never waits for it.
#[derive(Clone)]
pub struct Reader {
    head: Arc<ArcSwap<View>>,
    genesis_hash: BlockHash,
}

impl Reader {
    pub(crate) fn new(head: View, genesis_hash: BlockHash) -> Self {
        Self { head: Arc::new(ArcSwap::from_pointee(head)), genesis_hash }
    }

    /// Makes a view the head for everyone who asks from now on.
    pub(crate) fn publish(&self, head: View) {
        self.head.store(Arc::new(head));
    }

    /// The state of the newest block.
    pub fn head(&self) -> Arc<View> {
        self.head.load_full()
    }

    /// The state at a block: the head, which is final as soon as it is applied. Anything older is pruned.
    pub fn at(&self, at: At) -> Result<Arc<View>, AtError> {
        let head = self.head();
        match at {
            At::Head | At::Finalized => Ok(head),
            At::Block(hash) if hash == head.header().hash => Ok(head),
            At::Block(hash) if head.header_row(&hash)?.is_some() => {
                Err(AtError::Pruned { oldest: head.header().number })
            }
            At::Block(_) | At::Certified => Err(AtError::Unknown { at: at.to_string() }),
        }
    }

    /// The newest final block.
    pub fn finalized(&self) -> Header {
        self.head().header().clone()
    }

    /// The hash of block 0.
    pub fn genesis_hash(&self) -> BlockHash {
        self.genesis_hash
    }

    /// The header of a block, if it is known.
    pub fn header(&self, hash: &BlockHash) -> Result<Option<Header>, ReadError> {
        Ok(self.head().header_row(hash)?.map(|row| row.header(*hash)))
    }

    /// The hash of the block with this number in the chain of the head.
    pub fn block_hash(&self, number: u64) -> Result<Option<BlockHash>, ReadError> {
        self.head().block_hash(number)
    }
}
