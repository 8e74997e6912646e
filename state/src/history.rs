//! What happened to a key, and what a block did: of the blocks whose states are kept, and of those above them.

use rustorium_verkle::KeyPath;

use crate::backend::Column;
use crate::block::{BlockHash, Header};
use crate::error::{AtError, ReadError};
use crate::reader::{Published, Reader};
use crate::schema::decode_leaf;
use crate::undo::{self, Entry};
use crate::view::View;

/// What a block did to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyChange {
    /// The block's number.
    pub number: u64,
    /// Its hash.
    pub hash: BlockHash,
    /// The value before it.
    pub old: Option<Vec<u8>>,
    /// The value after it.
    pub new: Option<Vec<u8>>,
}

/// Some changes of a key, oldest first.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KeyHistory {
    /// The changes.
    pub changes: Vec<KeyChange>,
    /// The number of the block to go on from, if there may be more.
    pub next: Option<u64>,
}

/// Which changes of a key are wanted.
#[derive(Clone, Copy, Debug)]
pub struct HistoryQuery {
    /// The first block, by number.
    pub from: u64,
    /// The last block.
    pub to: u64,
    /// At most so many changes, at least one.
    pub limit: usize,
    /// At most so many bytes of values; a first change is answered however big it is.
    pub bytes_max: u64,
}

/// A key, its value before and its value after.
pub type KeyDiff = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

/// What a block changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diff {
    /// The block.
    pub header: Header,
    /// Each key with its value before and after, in the order of the keys. Values that the block wrote anew stand, too.
    pub changes: Vec<KeyDiff>,
}

impl Reader {
    /// The blocks on the way to the head that changed a key, as far as they are kept. Blocks that are not are passed over.
    pub fn history(&self, key: &[u8], query: HistoryQuery) -> Result<KeyHistory, AtError> {
        let published = self.published();
        let mut history = KeyHistory::default();
        let mut bytes = 0u64;
        let mut from = query.from;
        let path = KeyPath::of(key);
        loop {
            let room = query.limit.max(1) - history.changes.len();
            // One more than there is room for says whether there is more.
            let numbers = published.changed_at(&path, from, query.to, room + 1)?;
            for number in &numbers {
                let hash = published.hash_of(*number)?;
                let (view, before) = (published.at(&hash)?, published.before(&hash)?);
                let change = KeyChange { number: *number, hash, old: before.value(key)?, new: view.value(key)? };
                let len = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len) as u64;
                bytes += len(&change.old) + len(&change.new);
                let is_full = history.changes.len() >= query.limit.max(1) || bytes > query.bytes_max;
                if is_full && !history.changes.is_empty() {
                    history.next = Some(*number);
                    return Ok(history);
                }
                history.changes.push(change);
            }
            match numbers.last() {
                Some(last) if numbers.len() > room => from = last + 1,
                _ => return Ok(history),
            }
        }
    }

    /// What a block changed; refused when keys or values have more than `bytes_max` bytes. [`AtError::Pruned`] names the
    /// oldest block whose changes are kept.
    pub fn diff(&self, hash: &BlockHash, bytes_max: u64) -> Result<Diff, AtError> {
        let published = self.published();
        let mut keys = published.changed_keys(hash, bytes_max)?;
        keys.sort_unstable();
        let (view, before) = (published.at(hash)?, published.before(hash)?);
        let (old, new) = (before.values(&keys, bytes_max)?, view.values(&keys, bytes_max)?);
        let changes = keys.into_iter().zip(old).zip(new).map(|((key, old), new)| (key, old, new)).collect();
        Ok(Diff { header: view.header().clone(), changes })
    }
}

impl Published {
    /// The view of a block's parent.
    fn before(&self, hash: &BlockHash) -> Result<std::sync::Arc<View>, AtError> {
        let parent = self.at(hash)?.header().parent_hash;
        self.at(&parent)
    }

    /// The hash of a block on the way to the head.
    fn hash_of(&self, number: u64) -> Result<BlockHash, ReadError> {
        let hash = self.head().block_hash(number)?;
        hash.ok_or_else(|| ReadError::damaged(format!("no block has number {number}")))
    }

    /// The numbers of blocks on the way to the head that changed a leaf, ascending; at most so many.
    fn changed_at(&self, path: &KeyPath, from: u64, to: u64, count: usize) -> Result<Vec<u64>, ReadError> {
        let base = self.base();
        let mut numbers = match self.kept() {
            Some(kept) => {
                let from = from.max(kept.oldest.saturating_add(1));
                undo::numbers(base.snapshot(), path, from, to.min(base.header().number), count)?
            }
            None => Vec::new(),
        };
        let key = base.generation().leaf_key(path);
        for branch in self.above_base() {
            let number = branch.number();
            let is_changed = branch.rows().is_some_and(|rows| rows.find(Column::Leaf, &key).is_some());
            let is_readable = number > self.oldest_number();
            if numbers.len() < count && (from..=to).contains(&number) && is_changed && is_readable {
                numbers.push(number);
            }
        }
        Ok(numbers)
    }

    /// The keys that a block changed.
    fn changed_keys(&self, hash: &BlockHash, bytes_max: u64) -> Result<Vec<Vec<u8>>, AtError> {
        let (mut keys, mut bytes) = (Vec::new(), 0u64);
        let mut push = |key: &[u8]| {
            bytes += key.len() as u64;
            keys.push(key.to_vec());
            match bytes > bytes_max {
                true => Err(ReadError::ValuesTooLarge { max: bytes_max, got: bytes }),
                false => Ok(()),
            }
        };
        if let Some(branch) = self.branch(hash)
            && let Some(rows) = branch.rows()
        {
            let before = self.at(&branch.view.header().parent_hash)?;
            for (row_key, new) in rows.rows(Column::Leaf) {
                let old = if new.is_none() {
                    before.snapshot().get(Column::Leaf, row_key).map_err(ReadError::from)?
                } else {
                    None
                };
                if let Some(row) = new.or(old.as_deref()) {
                    push(decode_leaf(row_key, row).map_err(ReadError::damaged)?.1.key())?;
                }
            }
            return Ok(keys);
        }
        let view = self.at(hash)?;
        let number = view.header().number;
        match self.kept() {
            Some(kept) if kept.oldest < number => {}
            kept => {
                let base = self.base().header().number;
                return Err(AtError::Pruned { oldest: kept.map_or(base, |kept| kept.oldest).saturating_add(1) });
            }
        }
        undo::for_each_entry(self.base().snapshot(), number, |entry| match entry {
            Entry::New { key } => push(&key),
            Entry::Changed { old } | Entry::Gone { old } => push(old.key()),
            Entry::Node { .. } => Ok(()),
        })?;
        Ok(keys)
    }
}
