//! The door to the disk: ordered byte rows in ten columns, read through owned snapshots, changed by atomic batches.
//!
//! Trusts nobody: whatever a disk can do to us comes back as a [`BackendError`] that names the operation and the place.
//! Life-cycle: open → any number of snapshots and commits, from any thread → drop (a snapshot keeps the store open). A
//! commit that fails poisons its handle: what the disk holds then is for the next open to say.
//! Bounds: a read returns what was asked for, so callers bound the keys of [`Snapshot::get_many`]; [`Snapshot::range`]
//! takes its bounds as arguments. A batch lies in memory once.
//! It is not a schema: it knows the columns' names and nothing of their rows, and it stamps no format.

mod error;
mod memory;
mod rocksdb;
mod stats;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod faulty;

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

pub use error::BackendError;
pub use memory::Memory;
pub use rocksdb::{Lost, Rocks, RocksConfig, Salvaged};
pub use stats::{ColumnStats, Compacted, Stats, Writes};

/// A named, ordered space of rows. The names are on disk and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// gen ‖ path → key and value, or key, length and value hash.
    Leaf,
    /// gen ‖ path → a value too big for its leaf row.
    Big,
    /// gen ‖ depth ‖ path → commitment and bitmap.
    Node,
    /// gen ‖ key → nothing: the listing by raw key.
    Index,
    /// Block number → what the block overwrote.
    Undo,
    /// kind ‖ path ‖ number → where to find it.
    UndoAt,
    /// Headers, and canonical hashes by number.
    Block,
    /// The journal of unfinalised blocks.
    Fork,
    /// Opaque extras.
    Aux,
    /// Format, live generation, heads.
    Meta,
}

impl Column {
    /// Every column; `ALL[c as usize] == c`.
    pub const ALL: [Column; 10] = [
        Column::Leaf,
        Column::Big,
        Column::Node,
        Column::Index,
        Column::Undo,
        Column::UndoAt,
        Column::Block,
        Column::Fork,
        Column::Aux,
        Column::Meta,
    ];

    /// The name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Column::Leaf => "leaf",
            Column::Big => "big",
            Column::Node => "node",
            Column::Index => "index",
            Column::Undo => "undo",
            Column::UndoAt => "undo_at",
            Column::Block => "block",
            Column::Fork => "fork",
            Column::Aux => "aux",
            Column::Meta => "meta",
        }
    }
}

/// What a commit survives once it has returned `Ok`.
///
/// Either way commits come back in order: after any crash the store holds the first `n` commits entire and nothing of
/// the others, `n` being at least what the levels promise. A commit that was under way may be the last of them. What
/// power loss leaves behind `n`, torn or of an older use of the same file, is recognised and dropped when the store is
/// opened; it is neither replayed nor taken for damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives power loss, and with it every commit before, of either level: when the commit returns, the disk has said
    /// that it holds them. (Disks that lie about this break the promise.)
    Synced,
    /// Survives the death of the process, `kill -9` too: when the commit returns, the kernel has it. Power loss or a kernel
    /// crash may take it, and those `Buffered` after it, until a later `Synced` commit returns, an empty one included.
    Buffered,
}

impl Durability {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Durability::Synced => "synced",
            Durability::Buffered => "buffered",
        }
    }
}

/// The longest key or value that a [`Batch`] takes; a schema's own limits lie far below.
pub const PART_BYTES_MAX: usize = 1 << 30;

/// An ordered list of changes that happen together or not at all. A later change of a row wins over an earlier one.
///
/// All keys and values lie in one buffer: a change costs two copies and no allocation of its own.
///
/// # Panics
/// When a key or value is over [`PART_BYTES_MAX`].
#[derive(Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ops: Vec<Entry>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// An empty batch with room for `ops` changes of `bytes` bytes of keys and values altogether.
    pub fn with_capacity(ops: usize, bytes: usize) -> Batch {
        Batch { bytes: Vec::with_capacity(bytes), ops: Vec::with_capacity(ops) }
    }

    /// Sets a row. Both key and value may be empty.
    pub fn put(&mut self, column: Column, key: &[u8], value: &[u8]) {
        self.push(Kind::Put, column, key, value);
    }

    /// Deletes a row; nothing happens where there is none.
    pub fn delete(&mut self, column: Column, key: &[u8]) {
        self.push(Kind::Delete, column, key, &[]);
    }

    /// Deletes every row with `start <= key < end`, those put earlier in this batch among them, those put later not.
    /// Nothing happens when `end <= start`.
    pub fn delete_range(&mut self, column: Column, start: &[u8], end: &[u8]) {
        if start < end {
            self.push(Kind::DeleteRange, column, start, end);
        }
    }

    /// Adds the changes of `later` behind those of this batch.
    pub fn append(&mut self, later: &Batch) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&later.bytes);
        let moved = later.ops.iter().map(|op| Entry { first_end: base + op.first_end, end: base + op.end, ..*op });
        self.ops.extend(moved);
    }

    /// Changes in the batch.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is no change in the batch.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The changes, in order.
    pub fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        (0..self.ops.len()).map(|index| self.op(index))
    }

    /// The change at this place.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn op(&self, index: usize) -> Op<'_> {
        let Entry { kind, column, first_end, end } = self.ops[index];
        let start = index.checked_sub(1).map_or(0, |before| self.ops[before].end);
        let (first, second) = (&self.bytes[start..first_end], &self.bytes[first_end..end]);
        match kind {
            Kind::Put => Op::Put { column, key: first, value: second },
            Kind::Delete => Op::Delete { column, key: first },
            Kind::DeleteRange => Op::DeleteRange { column, start: first, end: second },
        }
    }

    fn push(&mut self, kind: Kind, column: Column, first: &[u8], second: &[u8]) {
        // Longer ones a backend may drop without a word.
        assert!(first.len() <= PART_BYTES_MAX && second.len() <= PART_BYTES_MAX, "a key or value over 1 GiB");
        self.bytes.extend_from_slice(first);
        let first_end = self.bytes.len();
        self.bytes.extend_from_slice(second);
        self.ops.push(Entry { kind, column, first_end, end: self.bytes.len() });
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} changes, {} bytes)", self.len(), self.bytes())
    }
}

/// One change of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// Sets the row `key`.
    Put {
        /// Where.
        column: Column,
        /// The row's key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Deletes the row `key`.
    Delete {
        /// Where.
        column: Column,
        /// The row's key.
        key: &'a [u8],
    },
    /// Deletes the rows of `start <= key < end`; never an empty range.
    DeleteRange {
        /// Where.
        column: Column,
        /// The first key.
        start: &'a [u8],
        /// The key after the last.
        end: &'a [u8],
    },
}

/// A range of keys in byte order: from `start`, which is in, to `end`, which is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first key.
    pub start: Vec<u8>,
    /// The key after the last; `None` runs to the end of the column.
    pub end: Option<Vec<u8>>,
}

impl Bounds {
    /// A whole column.
    pub fn all() -> Bounds {
        Bounds { start: Vec::new(), end: None }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Bounds {
        Bounds { start: prefix.to_vec(), end: prefix_end(prefix) }
    }

    /// The part of this range behind `key`: what is left after a page that ended with `key`.
    pub fn after(self, key: &[u8]) -> Bounds {
        // The least key above k is k ‖ 0.
        let mut next = Vec::with_capacity(key.len() + 1);
        next.extend_from_slice(key);
        next.push(0);
        Bounds { start: self.start.max(next), end: self.end }
    }

    /// Whether this key lies in the range.
    pub fn holds(&self, key: &[u8]) -> bool {
        *self.start <= *key && self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// Whether no key at all can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// The least key above every key that begins with `prefix`; `None` if there is none (`prefix` is empty or all `ff`).
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// What [`Snapshot::range`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// (key, value) in ascending order of keys.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether a limit ended the reading: the range holds at least one more row, behind the last of `rows`.
    pub more: bool,
}

/// A store of rows that one process has open.
pub trait Backend: Send + Sync + 'static {
    /// The rows as they are now: all of every commit that has returned, nothing of any that has not begun, and all or
    /// nothing of one under way. Cheap, never waits for a commit to end, and works on a poisoned handle. The snapshot
    /// keeps old rows from being reclaimed for as long as it lives, and the store from being closed.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError>;

    /// Makes all changes of the batch, in their order, over all columns, or none of them; they are in every snapshot
    /// taken after the return. An empty batch changes nothing, and with [`Durability::Synced`] still makes every
    /// commit before it durable.
    ///
    /// [`BackendError::Busy`] and [`BackendError::Full`] are refusals: nothing was written, the handle is as it was, and
    /// the same batch may be committed again, when the backend has caught up (which it was given a second for) or the disk
    /// has room. After any other error
    /// the batch may be in the store or not, wholly or not at all (a disk can fail after the bytes are down), so the
    /// handle is poisoned: every later commit is refused with [`BackendError::Poisoned`], reads go on, and opening the
    /// store anew tells which it was.
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError>;

    /// How the store stands. About as dear as a few point reads; never waits for a commit, and works on a poisoned handle.
    fn stats(&self) -> Stats;

    /// Moves the rows of a column to where they rest, and gives back the room of those that are deleted and that no
    /// snapshot sees; no row is changed. Runs beside reads and commits, for as long as it takes to rewrite the column.
    /// `proceed` is told of every slice that is done (and once before the first), and may break it off: what is done is
    /// done, and `Ok` is returned. Does not poison the handle, but rows that turn out damaged may make the backend
    /// refuse every later commit.
    fn compact(
        &self,
        column: Column,
        proceed: &mut dyn FnMut(Compacted) -> ControlFlow<()>,
    ) -> Result<(), BackendError>;
}

/// [`Backend::commit`] for a caller whom nobody waits for: while the backend is busy, it is tried again, for
/// [`PATIENCE`] at most.
pub fn commit_patiently(backend: &dyn Backend, batch: Batch, durability: Durability) -> Result<(), BackendError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match backend.commit(batch.clone(), durability) {
            Err(BackendError::Busy { retry_ms, .. }) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(retry_ms));
            }
            outcome => return outcome,
        }
    }
}

/// How long a backend may be busy before [`commit_patiently`] gives up.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// The rows of one moment; no later commit changes what it answers.
pub trait Snapshot: Send + Sync + 'static {
    /// The value of each key, in the keys' order; `None` where there is no row (an empty value is a row).
    ///
    /// # Panics
    /// If the keys do not ascend strictly: that would be our bug, and a backend that relies on it would answer wrongly.
    fn get_many(&self, column: Column, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, BackendError>;

    /// The first rows within the bounds, in ascending order of keys: at most `rows_max`, and at most `bytes_max` bytes of
    /// keys and values. A first row is returned however big it is, and with limits of 0 too, so that paging always
    /// moves on.
    fn range(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, BackendError>;

    /// [`Snapshot::range`] of each of the bounds, which ascend and do not overlap; the limits hold for each.
    fn ranges(
        &self,
        column: Column,
        bounds: &[Bounds],
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Rows>, BackendError> {
        bounds.iter().map(|bounds| self.range(column, bounds, rows_max, bytes_max)).collect()
    }

    /// The value of one key.
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(self.get_many(column, &[key.to_vec()])?.pop().flatten())
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

/// A change in `Batch::bytes`: its first part begins where the entry before it ends.
#[derive(Clone, Copy)]
struct Entry {
    kind: Kind,
    column: Column,
    first_end: usize,
    end: usize,
}

/// The contract of [`Snapshot::get_many`], enforced alike by every backend.
pub(crate) fn assert_ascending(keys: &[Vec<u8>]) {
    assert!(keys.is_sorted_by(|a, b| a < b), "get_many takes strictly ascending keys");
}

/// Collects rows until a limit is met: the contract of [`Snapshot::range`], shared by the backends.
pub(crate) struct Page {
    found: Rows,
    rows_max: usize,
    bytes_max: usize,
    bytes: usize,
}

impl Page {
    pub(crate) fn new(rows_max: usize, bytes_max: usize) -> Page {
        Page { found: Rows::default(), rows_max, bytes_max, bytes: 0 }
    }

    /// Takes a row, or refuses it and is full.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> bool {
        let bytes = self.bytes.saturating_add(key.len()).saturating_add(value.len());
        let first = self.found.rows.is_empty();
        if !first && (self.found.rows.len() >= self.rows_max || bytes > self.bytes_max) {
            self.found.more = true;
            return false;
        }
        self.bytes = bytes;
        self.found.rows.push((key.to_vec(), value.to_vec()));
        true
    }

    pub(crate) fn rows_max(&self) -> usize {
        self.rows_max
    }

    pub(crate) fn finish(self) -> Rows {
        self.found
    }
}
