//! Mending a store that an [`Examination`] found damaged.
//!
//! Everything is decided by the leaves: only when the tree that they make has the root of a block's header is anything
//! written. Then rows that follow from others are written in place, all in one synced batch; where there are too many of
//! them the whole tree is written anew as another *generation*, which becomes the live one by one row. Until that row is
//! written the old generation is what it was, and what a broken-off repair leaves of the new one belongs to nothing: the
//! next repair takes it away.
//!
//! Blocks of the journal that are damaged are dropped, with what descends from them; whoever made them applies them again.
//! Where the leaves do not make the final block's root, but that of one before it that the journal still leads to, the
//! store goes back to that one. Leaves that make no header's root are left alone: a re-sync is what helps.

use std::fmt;

use rustorium_verkle::{Leaf, StateRoot, ValueHash};

use crate::backend::{Backend, Batch, Bounds, Column, Durability, Op, commit_patiently};
use crate::block::{BlockHash, Header};
use crate::check::{Cursor, Depth, Means, Mends, PAGE_BYTES, PAGE_ROWS, Report, Rows, Stage, root_of_leaves};
use crate::error::ReadError;
use crate::examination::{Examination, Known, Seen, Standing};
use crate::journal;
use crate::schema::{Generation, LeafRow, decode_leaf, meta};
use crate::staging::Staging;

/// What was done may bring to light what it hid; after so many rounds that is the end of it.
const ROUNDS_MAX: u32 = 4;
/// Blocks that are tried for a rewind, beside the base.
const REWINDS_MAX: usize = 64;

/// What a repair did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    /// What was wrong before.
    pub found: Report,
    /// What was done about it.
    pub done: Vec<Deed>,
    /// What is wrong still.
    pub left: Report,
}

/// One thing that a repair did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Rows that follow from others were written, or taken away, in place.
    Mended {
        /// How many.
        rows: u64,
    },
    /// The tree was written anew from its leaves.
    Rebuilt {
        /// Leaves in it.
        leaves: u64,
        /// The generation that it is now.
        generation: u8,
    },
    /// Rows that belonged to nothing were taken away.
    Cleared {
        /// Where.
        column: Column,
    },
    /// Blocks were dropped from the journal: whoever made them must apply them again.
    Rewound {
        /// The newest final block now.
        finalized: u64,
        /// The head now.
        head: u64,
        /// How many.
        dropped: u64,
    },
    /// Changes that a front had acknowledged, and that could not be read, were dropped with those after them: whoever wrote
    /// them must write them again.
    Dropped {
        /// Rows of the log; each has what was gathered of many callers.
        rows: u64,
    },
    /// What could be read was copied into a new store.
    Copied {
        /// Rows that were read.
        rows: u64,
    },
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mended { rows } => write!(f, "{rows} rows that follow from others written in place"),
            Self::Rebuilt { leaves, generation } => {
                write!(f, "the tree of {leaves} leaves written anew, as generation {generation}")
            }
            Self::Cleared { column } => {
                write!(f, "rows that belonged to nothing taken out of column {}", column.name())
            }
            Self::Rewound { finalized, head, dropped } => {
                write!(f, "{dropped} blocks dropped from the journal, to be applied again: ")?;
                write!(f, "the final block is now {finalized}, the head {head}")
            }
            Self::Dropped { rows } => {
                write!(f, "{rows} rows of changes that were acknowledged and in no block dropped, to be written again")
            }
            Self::Copied { rows } => write!(f, "{rows} rows that could be read copied into a new store"),
        }
    }
}

impl Examination {
    /// Mends what can be mended, and checks again. Whatever cannot be proven is left as it is; an error in the midst of
    /// it, or a crash, leaves the store as it was or better.
    pub fn repair(mut self, seed: [u8; 32], progress: &mut dyn FnMut(Stage)) -> Result<Repair, ReadError> {
        let committer = self.committer.clone();
        let mut means = Means { committer: &committer, seed, progress };
        let (mut found, mut done) = (None, Vec::new());
        for round in 0.. {
            let mut mends = Mends::default();
            let seen = self.look(Depth::Deep, &mut means, Some(&mut mends))?;
            let left = seen.report.clone();
            let found = found.get_or_insert_with(|| left.clone());
            let hopeless = round >= ROUNDS_MAX || left.is_sound() || left.cures.copy > 0;
            if hopeless || !self.act(&seen, &mends, &mut means, &mut done)? {
                return Ok(Repair { found: found.clone(), done, left });
            }
        }
        unreachable!("rounds have an end")
    }

    /// Does something about what was seen; whether there was anything to be done.
    fn act(
        &mut self,
        seen: &Seen,
        mends: &Mends,
        means: &mut Means<'_>,
        done: &mut Vec<Deed>,
    ) -> Result<bool, ReadError> {
        let before = done.len();
        let standing = &seen.standing;
        let Some(finalized) = &standing.finalized else { return Ok(false) };
        match seen.leaves_hold {
            Some(true) => {}
            Some(false) => return self.rewind(standing, means, done),
            None => return Ok(false),
        }
        let (kept, dropped) = sort_journal(standing, finalized, &seen.bad_layers);
        let mut batch = self.named_rows(standing);
        // Names that follow from what is dropped are part of that.
        let mut rows = if dropped.is_empty() { batch.len() as u64 } else { 0 };
        let head = standing
            .head
            .as_ref()
            .filter(|head| head.hash == finalized.hash || kept.iter().any(|known| known.header.hash == head.hash));
        let head = head.unwrap_or(finalized);
        if !dropped.is_empty() {
            dropped.iter().for_each(|key| batch.delete(Column::Fork, key));
            batch.put(Column::Meta, meta::HEAD, &head.hash.0);
            let (finalized, head) = (finalized.number, head.number);
            done.push(Deed::Rewound { finalized, head, dropped: dropped.len() as u64 });
        }
        let mut live = standing.generation;
        if mends.is_full {
            live = live.next();
            // What an import has there goes, too.
            let mut mark = Batch::new();
            mark.delete(Column::Meta, meta::IMPORT);
            commit_patiently(&*self.backend, mark, Durability::Synced)?;
            self.clear(standing.generation, done)?;
            let leaves = self.rebuild(standing, live, means)?;
            self.settle(standing, finalized, &mut batch);
            batch.put(Column::Meta, meta::LIVE, &[live.0]);
            kept.iter().for_each(|known| put_moved(&mut batch, known, live));
            done.push(Deed::Rebuilt { leaves, generation: live.0 });
        } else if !mends.batch.is_empty() || standing.must_settle {
            self.settle(standing, finalized, &mut batch);
            rows += standing.must_settle as u64;
            batch.append(&mends.batch);
            rows += mends.batch.len() as u64 - mends.dropped;
        }
        if !batch.is_empty() {
            commit_patiently(&*self.backend, batch, Durability::Synced)?;
            self.chain_is_mended();
        }
        if mends.dropped > 0 && live == standing.generation {
            done.push(Deed::Dropped { rows: mends.dropped });
        }
        if rows > 0 && live == standing.generation {
            done.push(Deed::Mended { rows });
        }
        self.clear(live, done)?;
        Ok(done.len() > before)
    }

    /// Goes back to the newest block before the final one whose root the leaves give, if there is one.
    fn rewind(&mut self, standing: &Standing, means: &mut Means<'_>, done: &mut Vec<Deed>) -> Result<bool, ReadError> {
        let (Some(base), Some(finalized)) = (&standing.base, &standing.finalized) else { return Ok(false) };
        let snapshot = self.backend.snapshot()?;
        let way = standing.way(&finalized.hash);
        let before = way.iter().rev().skip(1).map(|known| &known.header).take(REWINDS_MAX);
        let base = Some(base).filter(|base| base.hash != finalized.hash);
        for header in before.chain(base) {
            let over = standing.stack(&header.hash).over(snapshot.clone());
            let rows = Rows { snapshot: &*over, generation: standing.generation, header };
            if root_of_leaves(rows, means)? != header.state_root {
                continue;
            }
            let mut batch = self.named_rows(standing);
            let is_kept =
                |known: &&Known| way.iter().any(|on| on.header == known.header && on.header.number <= header.number);
            let others = standing.journal.iter().filter(|known| !is_kept(known)).map(key_of);
            let dropped: Vec<Vec<u8>> = others.chain(standing.useless.iter().cloned()).collect();
            dropped.iter().for_each(|key| batch.delete(Column::Fork, key));
            [meta::FINAL, meta::HEAD].iter().for_each(|name| batch.put(Column::Meta, name, &header.hash.0));
            // It may reach beyond this block.
            batch.delete(Column::Meta, meta::UNDO);
            commit_patiently(&*self.backend, batch, Durability::Synced)?;
            self.chain_is_mended();
            let number = header.number;
            done.push(Deed::Rewound { finalized: number, head: number, dropped: dropped.len() as u64 });
            return Ok(true);
        }
        Ok(false)
    }

    /// Writes the tree of the final block as another generation; how many leaves it has.
    fn rebuild(&self, standing: &Standing, to: Generation, means: &mut Means<'_>) -> Result<u64, ReadError> {
        let header = standing.finalized.as_ref().expect("leaves that hold are those of a block");
        let over = standing.stack(&header.hash).over(self.backend.snapshot()?);
        let from = Rows { snapshot: &*over, generation: standing.generation, header };
        let (leaves, state_root) = copy(from, to, &*self.backend, means)?;
        if state_root != header.state_root {
            return Err(ReadError::damaged("the leaves have changed while they were read"));
        }
        Ok(leaves)
    }

    /// The rows that name things, as they should be.
    fn named_rows(&self, standing: &Standing) -> Batch {
        let mut batch = standing.mends.clone();
        if let Some(row) = &self.chain_row {
            batch.put(Column::Meta, meta::CHAIN, row);
        }
        batch
    }

    /// Puts what the journal has up to the final block into the columns, and makes it the base.
    fn settle(&self, standing: &Standing, finalized: &Header, batch: &mut Batch) {
        if let Some(run) = standing.stack(&finalized.hash).merged() {
            // What it overwrites is not kept: history starts anew.
            batch.delete(Column::Meta, meta::UNDO);
            for column in Column::ALL {
                for (key, value) in run.rows(column) {
                    match value {
                        Some(value) => batch.put(column, key, value),
                        None => batch.delete(column, key),
                    }
                }
            }
        }
        standing.way(&finalized.hash).iter().for_each(|known| batch.delete(Column::Fork, &key_of(known)));
        if standing.base.as_ref() != Some(finalized) {
            batch.put(Column::Meta, meta::BASE, &finalized.hash.0);
        }
    }

    /// Takes away the rows of generations that are not live.
    fn clear(&self, live: Generation, done: &mut Vec<Deed>) -> Result<(), ReadError> {
        for (column, bounds) in not_live(live) {
            if clear(&*self.backend, column, bounds)? && !done.contains(&Deed::Cleared { column }) {
                done.push(Deed::Cleared { column });
            }
        }
        Ok(())
    }
}

/// The blocks above the final one that stay, and the keys of the journal's rows that do not.
fn sort_journal<'a>(standing: &'a Standing, finalized: &Header, bad: &[BlockHash]) -> (Vec<&'a Known>, Vec<Vec<u8>>) {
    let mut dropped = standing.useless.clone();
    let mut kept = Vec::new();
    let settled: Vec<BlockHash> = standing.way(&finalized.hash).iter().map(|known| known.header.hash).collect();
    for known in &standing.journal {
        let hash = known.header.hash;
        if settled.contains(&hash) {
            continue;
        }
        match standing.descends(&hash, finalized) && !bad.contains(&hash) {
            true => kept.push(known),
            false => dropped.push(key_of(known)),
        }
    }
    (kept, dropped)
}

fn key_of(known: &Known) -> Vec<u8> {
    journal::key(known.header.number, &known.header.hash).to_vec()
}

/// A journal row with the rows of another generation.
fn put_moved(batch: &mut Batch, known: &Known, to: Generation) {
    let mut rows = Batch::with_capacity(known.rows.len(), known.rows.bytes());
    let moved = |column, key: &[u8]| match column {
        Column::Leaf | Column::Big | Column::Node | Column::Index => [&[to.0], &key[1..]].concat(),
        _ => key.to_vec(),
    };
    for op in known.rows.ops() {
        match op {
            Op::Put { column, key, value } => rows.put(column, &moved(column, key), value),
            Op::Delete { column, key } => rows.delete(column, &moved(column, key)),
            Op::DeleteRange { .. } => unreachable!("a block's rows name no ranges"),
        }
    }
    batch.put(Column::Fork, &key_of(known), &journal::encode(&known.row, known.change_bytes, &rows));
}

/// Writes leaves, values and keys as another generation, and the tree that they make; how many, and its root.
fn copy(
    from: Rows<'_>,
    to: Generation,
    backend: &dyn Backend,
    means: &mut Means<'_>,
) -> Result<(u64, StateRoot), ReadError> {
    let mut staging = Staging::new(backend, to, means.committer);
    let mut leaf_rows = Cursor::new(from.snapshot, Column::Leaf, from.generation.all(), PAGE_ROWS);
    let mut bigs = Cursor::new(from.snapshot, Column::Big, from.generation.all(), PAGE_ROWS);
    let mut copied = 0;
    loop {
        let page = leaf_rows.page()?;
        if page.is_empty() {
            break;
        }
        copied += page.len() as u64;
        for (row_key, row_bytes) in &page {
            let (path, row) = decode_leaf(row_key, row_bytes).map_err(ReadError::damaged)?;
            let leaf = Leaf { path, value_hash: row.value_hash() };
            let big = match &row {
                LeafRow::Inline { .. } => None,
                LeafRow::Big { .. } => bigs.seek(row_key, |_| ())?,
            };
            match (&row, &big) {
                (LeafRow::Inline { key, value }, _) => staging.put(leaf, key, value)?,
                (LeafRow::Big { key, .. }, Some(value)) if ValueHash::of(value) == leaf.value_hash => {
                    staging.put(leaf, key, value)?;
                }
                // A value that is lost stays lost.
                (LeafRow::Big { key, .. }, _) => staging.put_lost(leaf, key, row_bytes)?,
            }
        }
        staging.commit(&Batch::new())?;
        (means.progress)(Stage { what: "writing the tree anew", rows: copied, part: None });
    }
    Ok((copied, staging.finish()?))
}

/// Where the rows of generations other than this one lie.
fn not_live(generation: Generation) -> Vec<(Column, Bounds)> {
    let Bounds { start, end } = generation.all();
    let before = Bounds { start: Vec::new(), end: Some(start) };
    let after = Bounds { start: end.unwrap_or_default(), end: None };
    let tree = [Column::Leaf, Column::Big, Column::Node, Column::Index];
    let all = tree.into_iter().flat_map(|column| [(column, before.clone()), (column, after.clone())]);
    all.filter(|(_, bounds)| !bounds.is_empty()).collect()
}

/// Deletes the rows within these bounds; whether there were any.
fn clear(backend: &dyn Backend, column: Column, bounds: Bounds) -> Result<bool, ReadError> {
    let snapshot = backend.snapshot()?;
    let first = |bounds: &Bounds| snapshot.range(column, bounds, PAGE_ROWS, PAGE_BYTES);
    let mut page = first(&bounds)?;
    let Some((start, _)) = page.rows.first() else { return Ok(false) };
    let mut batch = Batch::new();
    match &bounds.end {
        Some(end) => batch.delete_range(column, start, end),
        // A range without an end is deleted by what is found in it.
        None => loop {
            page.rows.iter().for_each(|(key, _)| batch.delete(column, key));
            match page.rows.last() {
                Some((key, _)) if page.more => page = first(&bounds.clone().after(key))?,
                _ => break,
            }
        },
    }
    commit_patiently(backend, batch, Durability::Synced)?;
    Ok(true)
}
