//! Where a store stands: what its rows name, what they should name, and the blocks of its journal that are of use.

use std::collections::HashMap;
use std::sync::Arc;

use parity_scale_codec::DecodeAll;
use rustorium_verkle::StateRoot;

use crate::backend::{Batch, Bounds, Column, Op, Snapshot};
use crate::block::{BlockHash, Header};
use crate::check::{Cure, Cursor, Finding, Report};
use crate::error::ReadError;
use crate::journal;
use crate::layer::{Run, Stack};
use crate::schema::{Generation, HeaderRow, header_key, meta, number_key};
use crate::view::header_row;
use crate::walk;

/// Journal rows that are read at once.
const PAGE_ROWS: usize = 16;

/// What a store's rows name.
pub(crate) struct Standing {
    pub(crate) generation: Generation,
    /// The block whose tree the columns are, a flush that was broken off aside; `None` where it is not to be found.
    pub(crate) base: Option<Header>,
    /// The newest final block that is of use.
    pub(crate) finalized: Option<Header>,
    /// The head, or the final block in its stead.
    pub(crate) head: Option<Header>,
    /// The number of the block that the rows call final, if they say.
    pub(crate) finalized_named: Option<u64>,
    /// Blocks above the base that are as they should be, parents before children.
    pub(crate) journal: Vec<Known>,
    /// Where each of them is.
    places: HashMap<BlockHash, usize>,
    /// The keys of the journal's other rows.
    pub(crate) useless: Vec<Vec<u8>>,
    /// Rows of the journal, and their bytes.
    pub(crate) journal_rows: (u64, u64),
    /// Whether the final block must be put into the columns, since the base cannot stay.
    pub(crate) must_settle: bool,
    /// What is wrong with all this.
    pub(crate) report: Report,
    /// The rows of the column `meta` that should be.
    pub(crate) mends: Batch,
}

/// A block of the journal.
pub(crate) struct Known {
    pub(crate) header: Header,
    pub(crate) row: HeaderRow,
    pub(crate) change_bytes: u64,
    pub(crate) rows: Arc<Batch>,
    pub(crate) stack: Stack,
}

impl Standing {
    /// Nothing is known.
    pub(crate) fn nowhere() -> Self {
        Self {
            generation: Generation(0),
            base: None,
            finalized: None,
            head: None,
            finalized_named: None,
            journal: Vec::new(),
            places: HashMap::new(),
            useless: Vec::new(),
            journal_rows: (0, 0),
            must_settle: false,
            report: Report::default(),
            mends: Batch::new(),
        }
    }

    pub(crate) fn read(snapshot: &dyn Snapshot) -> Result<Self, ReadError> {
        let mut standing = Self::nowhere();
        standing.find_base(snapshot)?;
        standing.find_live(snapshot)?;
        standing.find_journal(snapshot)?;
        standing.find_final(snapshot)?;
        standing.find_head(snapshot)?;
        standing.find_root(snapshot)?;
        Ok(standing)
    }

    /// What lies over the columns at a block: the base, or one of the journal.
    pub(crate) fn stack(&self, hash: &BlockHash) -> Stack {
        self.known(hash).map(|known| known.stack.clone()).unwrap_or_default()
    }

    pub(crate) fn known(&self, hash: &BlockHash) -> Option<&Known> {
        self.places.get(hash).map(|place| &self.journal[*place])
    }

    /// The blocks from the base, exclusive, to this one, oldest first.
    pub(crate) fn way(&self, hash: &BlockHash) -> Vec<&Known> {
        let mut way = Vec::new();
        let mut next = self.known(hash);
        while let Some(known) = next {
            way.push(known);
            next = self.known(&known.header.parent_hash);
        }
        way.reverse();
        way
    }

    /// Whether a block is another or comes after it.
    pub(crate) fn descends(&self, hash: &BlockHash, from: &Header) -> bool {
        let base = self.base.as_ref().is_some_and(|base| base.hash == from.hash);
        *hash == from.hash || base || self.way(hash).iter().any(|known| known.header.hash == from.hash)
    }

    /// The base: where no row says which, the parent of the journal's first block, or else the newest block that a number
    /// leads to.
    fn find_base(&mut self, snapshot: &dyn Snapshot) -> Result<(), ReadError> {
        let named = named(snapshot, meta::BASE)?.and_then(|hash| header_of(snapshot, &hash));
        self.base = named;
        if self.base.is_some() {
            return Ok(());
        }
        let first = snapshot.range(Column::Fork, &Bounds::all(), 1, 0)?.rows.into_iter().next();
        let first = first.and_then(|(key, value)| journal::decode(&key, &value).ok());
        self.base = match first {
            Some(first) => header_of(snapshot, &first.header.parent_hash),
            None => newest_of_numbers(snapshot)?,
        };
        match &self.base {
            Some(header) => {
                let hash = header.hash;
                self.mend("base", meta::BASE, &hash.0);
            }
            None => self.find("base", "names no block, and nothing else does", Cure::Resync),
        }
        Ok(())
    }

    /// The live generation: where no row says which, the one with a root, if there is one alone.
    fn find_live(&mut self, snapshot: &dyn Snapshot) -> Result<(), ReadError> {
        if let Some([generation]) = snapshot.get(Column::Meta, meta::LIVE)?.as_deref() {
            self.generation = Generation(*generation);
            return Ok(());
        }
        let has_leaves = |generation: &Generation| -> Result<bool, ReadError> {
            Ok(!snapshot.range(Column::Leaf, &generation.all(), 1, 0)?.rows.is_empty())
        };
        let mut found = Vec::new();
        for generation in (0..u8::MAX).map(Generation) {
            if has_leaves(&generation)? {
                found.push(generation);
            }
        }
        // Beside the live one there may be what a broken-off repair has left, which has no root, or not the right one.
        if found.len() > 1 {
            let state_root = self.base.as_ref().map(|base| base.state_root);
            found.retain(|generation| {
                let root = walk::root(snapshot, *generation).ok();
                root.map(|root| StateRoot::of(&root.commitment.encode())) == state_root
            });
        }
        match found[..] {
            [] | [_] => {
                self.generation = found.first().copied().unwrap_or(Generation(0));
                self.mend("live", meta::LIVE, &[self.generation.0]);
            }
            _ => {
                self.base = None;
                self.find("live", "names no generation, and there are several", Cure::Resync);
            }
        }
        Ok(())
    }

    /// Judges each block of the journal by its row alone.
    fn find_journal(&mut self, snapshot: &dyn Snapshot) -> Result<(), ReadError> {
        let mut cursor = Cursor::new(snapshot, Column::Fork, Bounds::all(), PAGE_ROWS);
        while let Some((key, value)) = cursor.next()? {
            self.journal_rows.0 += 1;
            self.journal_rows.1 += (key.len() + value.len()) as u64;
            match self.judge(&key, &value) {
                Ok(known) => {
                    self.places.insert(known.header.hash, self.journal.len());
                    self.journal.push(known);
                }
                Err((row, what)) => {
                    self.report.find(Finding::new(Column::Fork, row, what, Cure::Rewind));
                    self.useless.push(key);
                }
            }
        }
        Ok(())
    }

    /// A block whose parent is known, and whose root is its header's; else its name, and what is wrong.
    fn judge(&self, key: &[u8], value: &[u8]) -> Result<Known, (String, String)> {
        let nameless = || Finding::of_key(Column::Fork, key, "", Cure::Rewind).row;
        let entry = journal::decode(key, value).map_err(|what| (nameless(), what))?;
        let name = format!("block {} {}", entry.header.number, entry.hash);
        let header = entry.header.header(entry.hash);
        let damage = |what: String| Err((name.clone(), what));
        let base = self.base.as_ref().filter(|base| base.hash == header.parent_hash);
        let parent = base.or_else(|| self.known(&header.parent_hash).map(|known| &known.header));
        let Some(parent) = parent else {
            return damage(format!("its parent {} is not among the blocks that are whole", header.parent_hash));
        };
        if Some(header.number) != parent.number.checked_add(1) {
            return damage("its number is not its parent's and one".to_owned());
        }
        if let Some(column) = foreign(&entry.rows, self.generation) {
            return damage(format!("a row of column {} that no block has", column.name()));
        }
        let rows = Arc::new(entry.rows);
        let run = Run::new(header.number, rows.clone());
        let root = match run.root(self.generation) {
            Ok(root) => root.map_or(parent.state_root, |root| StateRoot::of(&root.encode())),
            Err(what) => return damage(what),
        };
        if root != header.state_root {
            return damage(format!("its root node is not that of {}", header.state_root));
        }
        // Nothing is on its way to the columns: every run may be merged.
        let stack = self.stack(&header.parent_hash).push(Arc::new(run), 0);
        Ok(Known { header, row: entry.header, change_bytes: entry.change_bytes, rows, stack })
    }

    /// The final block: where it is not of use, the newest that is and is not above it.
    fn find_final(&mut self, snapshot: &dyn Snapshot) -> Result<(), ReadError> {
        let Some(base) = self.base.clone() else { return Ok(()) };
        let hash = named(snapshot, meta::FINAL)?;
        let exact = hash.and_then(|hash| self.known(&hash).map(|known| known.header.clone()));
        let exact = exact.or_else(|| Some(base.clone()).filter(|base| hash == Some(base.hash)));
        if let Some(header) = exact {
            self.finalized_named = Some(header.number);
            self.finalized = Some(header);
            return Ok(());
        }
        // A key of the journal names the block, also where the row is no use.
        let of_key = |key: &Vec<u8>| {
            let (number, rest) = key.split_first_chunk::<8>()?;
            (Some(rest) == hash.as_ref().map(|hash| &hash.0[..])).then_some(u64::from_be_bytes(*number))
        };
        self.finalized_named = self.useless.iter().find_map(of_key);
        let number_max = self.finalized_named.unwrap_or(base.number);
        let below = self.journal.iter().rev().find(|known| known.header.number <= number_max);
        let header = below.map_or(base, |known| known.header.clone());
        let what = match self.finalized_named {
            Some(number) => format!("names block {number}, which is no use"),
            None => "names no block that is known".to_owned(),
        };
        self.find("final", &what, self.cure_of_names());
        self.mends.put(Column::Meta, meta::FINAL, &header.hash.0);
        self.finalized = Some(header);
        Ok(())
    }

    /// The head: where it is not of use, the newest block if there is one alone, or else the final one.
    fn find_head(&mut self, snapshot: &dyn Snapshot) -> Result<(), ReadError> {
        let Some(finalized) = self.finalized.clone() else { return Ok(()) };
        let named = named(snapshot, meta::HEAD)?;
        let above = self.journal.iter().filter(|known| self.descends(&known.header.hash, &finalized));
        let above: Vec<Header> = above.map(|known| known.header.clone()).collect();
        let exact = above.iter().chain([&finalized]).find(|header| Some(header.hash) == named).cloned();
        self.head = exact;
        if self.head.is_none() {
            let number = above.iter().map(|header| header.number).max();
            let newest: Vec<&Header> = above.iter().filter(|header| Some(header.number) == number).collect();
            let header = match newest[..] {
                [one] => one.clone(),
                _ => finalized,
            };
            self.find("head", "names no block that is of use", self.cure_of_names());
            self.mends.put(Column::Meta, meta::HEAD, &header.hash.0);
            self.head = Some(header);
        }
        Ok(())
    }

    /// The base's root node, which opening a store asks for, though the journal's blocks may lie over it.
    fn find_root(&mut self, snapshot: &dyn Snapshot) -> Result<(), ReadError> {
        let (Some(base), Some(finalized)) = (&self.base, &self.finalized) else { return Ok(()) };
        let root = match walk::root(snapshot, self.generation) {
            Ok(root) => Some(StateRoot::of(&root.commitment.encode())),
            Err(ReadError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        // Where nothing lies over it, it is seen with the tree.
        if root != Some(base.state_root) && base.hash != finalized.hash {
            let row = format!("the root node of block {}", base.number);
            self.report.find(Finding::new(Column::Node, row, "not that of the header's state root", Cure::Mend));
            self.must_settle = true;
        }
        Ok(())
    }

    /// A name without its block is wrong itself, unless blocks are missing.
    fn cure_of_names(&self) -> Cure {
        if self.useless.is_empty() { Cure::Mend } else { Cure::Rewind }
    }

    fn mend(&mut self, row: &str, key: &[u8], value: &[u8]) {
        self.find(row, "missing, or not what it should be", Cure::Mend);
        self.mends.put(Column::Meta, key, value);
    }

    pub(crate) fn find(&mut self, row: &str, what: &str, cure: Cure) {
        self.report.find(Finding::new(Column::Meta, format!("`{row}`"), what, cure));
    }
}

/// A column with a row that a block of this generation cannot have.
fn foreign(rows: &Batch, generation: Generation) -> Option<Column> {
    rows.ops().find_map(|op| {
        let (Op::Put { column, key, .. } | Op::Delete { column, key } | Op::DeleteRange { column, start: key, .. }) =
            op;
        let is_ours = match column {
            Column::Leaf | Column::Big | Column::Node | Column::Index => key.first() == Some(&generation.0),
            column => column == Column::Block,
        };
        (!is_ours).then_some(column)
    })
}

/// The block that a row of the column `meta` names. The first format has one for the head alone.
fn named(snapshot: &dyn Snapshot, name: &[u8]) -> Result<Option<BlockHash>, ReadError> {
    let row = match snapshot.get(Column::Meta, name)? {
        None if crate::store::is_first_format(snapshot)? => snapshot.get(Column::Meta, meta::HEAD)?,
        row => row,
    };
    Ok(row.and_then(|hash| Some(BlockHash(hash.try_into().ok()?))))
}

/// The header of a block in the columns, if its row is one.
fn header_of(snapshot: &dyn Snapshot, hash: &BlockHash) -> Option<Header> {
    header_row(snapshot, hash).ok().flatten().map(|row| row.header(*hash))
}

/// The block that a number leads to.
pub(crate) fn block_of(snapshot: &dyn Snapshot, number: u64) -> Result<Option<Header>, ReadError> {
    let hash = snapshot.get(Column::Block, &number_key(number))?;
    let Some(hash) = hash.and_then(|hash| Some(BlockHash(hash.try_into().ok()?))) else { return Ok(None) };
    let row = snapshot.get(Column::Block, &header_key(&hash))?;
    let row = row.and_then(|row| HeaderRow::decode_all(&mut &row[..]).ok());
    Ok(row.map(|row| row.header(hash)))
}

/// The block with the highest number, found by halving.
fn newest_of_numbers(snapshot: &dyn Snapshot) -> Result<Option<Header>, ReadError> {
    let end = Bounds::prefix(b"n").end;
    let is_above = |number: u64| -> Result<bool, ReadError> {
        let bounds = Bounds { start: number_key(number), end: end.clone() };
        Ok(!snapshot.range(Column::Block, &bounds, 1, 0)?.rows.is_empty())
    };
    // Some number lies at or above `low`, if any does, and none at or above `high`.
    let (mut low, mut high) = (0, u64::MAX);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if is_above(middle)? { low = middle } else { high = middle }
    }
    block_of(snapshot, low)
}
