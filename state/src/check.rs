//! Checking a state against itself, row by row.
//!
//! What only leaves can tell is taken from the leaves, everything else is judged by them: node rows, the index of keys,
//! values in a column of their own. A [`Depth::Quick`] check proves each node by its slots (spec §7), some thousands at a
//! time; a [`Depth::Deep`] one builds the whole tree anew from its leaves, reads and hashes every value, and proves
//! random keys. Where one of the two finds something, the other is asked as well: the first says where, the second what
//! the row should be, and so whether it can be mended.
//!
//! Every row is read once or twice, a page at a time, and nothing but pages and a segment of the tree is in memory: some
//! 50 MB whatever the state's size. Nothing is written here; [`crate::repair`] writes.

mod acknowledged;
mod chain;
mod index;
mod layers;
mod nodes;
mod prove;
mod rows;
mod tree;
pub(crate) mod undo;

use std::fmt;

use rustorium_verkle::Committer;

use crate::backend::{BackendError, Batch, Column, Snapshot};
use crate::block::Header;
use crate::error::ReadError;
use crate::schema::Generation;
use crate::view::View;

pub(crate) use layers::check_layer;
pub(crate) use rows::{Cursor, PAGE_BYTES, PAGE_ROWS, Row};
pub(crate) use tree::root_of_leaves;

/// Findings that a report lists; more are counted only.
pub const FINDINGS_MAX: usize = 64;
/// Rows that are mended in place; where more are wrong the tree is written anew.
const MENDS_MAX: usize = 1 << 16;
/// Bytes of a row's key that a finding shows.
const KEY_BYTES_SHOWN: usize = 40;

/// How much a check does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Each node by its slots, the index by a sum of hashes; values over 4 KiB are not read.
    Quick,
    /// The tree anew from its leaves, every value, random witnesses, every row of every column.
    Deep,
}

/// What a check is told besides the rows.
pub(crate) struct Means<'a> {
    /// Makes commitments.
    pub(crate) committer: &'a Committer,
    /// Draws weights and keys: not to be foreseen by whoever could have written the rows.
    pub(crate) seed: [u8; 32],
    /// Hears how far it is.
    pub(crate) progress: &'a mut dyn FnMut(Stage),
}

/// How far a check or a repair is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stage {
    /// What is being done.
    pub what: &'static str,
    /// Rows so far.
    pub rows: u64,
    /// The part that is done, from 0 to 1, where it is known.
    pub part: Option<f32>,
}

/// What a check has seen.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Report {
    /// Leaves in the tree.
    pub leaves: u64,
    /// Inner nodes in the tree.
    pub nodes: u64,
    /// Leaves whose values lie in a column of their own.
    pub bigs: u64,
    /// Blocks from block 0 to the one that was checked.
    pub blocks: u64,
    /// Rows of the journal.
    pub journal: u64,
    /// Changes that a front has acknowledged and that are in no block yet.
    pub pending: u64,
    /// Keys that were proved by a witness.
    pub witnessed: u64,
    /// What is wrong, the first [`FINDINGS_MAX`] of it.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub findings_total: u64,
    /// How much of it has which cure.
    pub cures: Cures,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The column.
    pub column: Column,
    /// The row: its name, or its key in hex.
    pub row: String,
    /// What is wrong with it.
    pub what: String,
    /// What helps.
    pub cure: Cure,
}

/// What helps against something that is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cure {
    /// The row follows from others: a repair writes it, or takes it away.
    Mend,
    /// A block of the journal: a repair drops it and what descends from it.
    Rewind,
    /// The disk gives back other bytes than were written: a repair copies what can be read.
    Copy,
    /// Nothing in the store can say what the row was.
    Resync,
}

/// How many findings have which cure.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Cures {
    /// [`Cure::Mend`].
    pub mend: u64,
    /// [`Cure::Rewind`].
    pub rewind: u64,
    /// [`Cure::Copy`].
    pub copy: u64,
    /// [`Cure::Resync`].
    pub resync: u64,
}

impl Report {
    /// Whether everything agrees.
    pub fn is_sound(&self) -> bool {
        self.findings_total == 0
    }

    /// Adds something that is wrong.
    pub fn find(&mut self, finding: Finding) {
        self.findings_total += 1;
        match finding.cure {
            Cure::Mend => self.cures.mend += 1,
            Cure::Rewind => self.cures.rewind += 1,
            Cure::Copy => self.cures.copy += 1,
            Cure::Resync => self.cures.resync += 1,
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// The same findings, when what the rows should be is not known.
    pub(crate) fn without_cure(self) -> Self {
        let findings = self.findings.into_iter().map(|finding| Finding { cure: Cure::Resync, ..finding }).collect();
        let cures = Cures { resync: self.findings_total, ..Cures::default() };
        Self { findings, cures, ..self }
    }

    /// Puts the findings of another report before its own.
    pub(crate) fn absorb_first(&mut self, first: &mut Self) {
        let own = std::mem::take(&mut self.findings);
        self.findings = std::mem::take(&mut first.findings);
        self.findings.extend(own);
        self.findings.truncate(FINDINGS_MAX);
        self.absorb(Self { findings: Vec::new(), ..first.clone() });
    }

    /// Takes the findings of another report.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.findings_total += other.findings_total;
        self.cures.mend += other.cures.mend;
        self.cures.rewind += other.cures.rewind;
        self.cures.copy += other.cures.copy;
        self.cures.resync += other.cures.resync;
        let room = FINDINGS_MAX - self.findings.len();
        self.findings.extend(other.findings.into_iter().take(room));
    }
}

impl fmt::Display for Report {
    /// The findings, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            finding.fmt(f)?;
        }
        match self.findings_total - self.findings.len() as u64 {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more"),
        }
    }
}

impl Finding {
    pub(crate) fn new(column: Column, row: impl ToString, what: impl ToString, cure: Cure) -> Self {
        Self { column, row: row.to_string(), what: what.to_string(), cure }
    }

    /// About a row that has no better name than its key.
    pub(crate) fn of_key(column: Column, key: &[u8], what: impl ToString, cure: Cure) -> Self {
        let shown: String = key.iter().take(KEY_BYTES_SHOWN).map(|byte| format!("{byte:02x}")).collect();
        let rest = if key.len() > KEY_BYTES_SHOWN { "…" } else { "" };
        Self::new(column, format!("0x{shown}{rest}"), what, cure)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}, {}: {} ({})", self.column.name(), self.row, self.what, self.cure)
    }
}

impl fmt::Display for Cure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mend => "can be mended",
            Self::Rewind => "can be rewound",
            Self::Copy => "copying may help",
            Self::Resync => "needs a re-sync",
        })
    }
}

/// Checks everything that a view is made of, deeply but for witnesses.
pub fn check(view: &View, committer: &Committer) -> Result<Report, ReadError> {
    let mut means = Means { committer, seed: [0; 32], progress: &mut |_| () };
    let rows = Rows { snapshot: view.snapshot(), generation: view.generation(), header: view.header() };
    // What is in no block is no view's.
    Ok(Report { pending: 0, ..examine(rows, Depth::Deep, &mut means, None)?.report })
}

/// The rows of one block's state.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) snapshot: &'a dyn Snapshot,
    pub(crate) generation: Generation,
    pub(crate) header: &'a Header,
}

/// What came of an examination of rows.
pub(crate) struct Examined {
    pub(crate) report: Report,
    /// Whether the leaves give the header's state root; not known where they could not be read.
    pub(crate) leaves_hold: Option<bool>,
}

/// The rows that should be, for those that are wrong and follow from others.
#[derive(Default)]
pub(crate) struct Mends {
    pub(crate) batch: Batch,
    /// Whether there are more than are kept.
    pub(crate) is_full: bool,
    /// How many of them take away what nothing can bring back.
    pub(crate) dropped: u64,
}

impl Mends {
    fn put(&mut self, column: Column, key: &[u8], value: &[u8]) {
        if self.has_room() {
            self.batch.put(column, key, value);
        }
    }

    fn delete(&mut self, column: Column, key: &[u8]) {
        if self.has_room() {
            self.batch.delete(column, key);
        }
    }

    /// Takes away a row that is lost, or that follows one.
    fn drop_row(&mut self, column: Column, key: &[u8]) {
        let before = self.batch.len();
        self.delete(column, key);
        self.dropped += (self.batch.len() - before) as u64;
    }

    fn append(&mut self, other: Self) {
        self.dropped += other.dropped;
        self.batch.append(&other.batch);
        self.is_full |= other.is_full;
    }

    fn has_room(&mut self) -> bool {
        self.is_full |= self.batch.len() >= MENDS_MAX;
        !self.is_full
    }
}

/// Checks rows; `mends` takes what should be written instead of those that follow from others.
pub(crate) fn examine(
    rows: Rows<'_>,
    depth: Depth,
    means: &mut Means<'_>,
    mends: Option<&mut Mends>,
) -> Result<Examined, ReadError> {
    let mut unkept = Mends::default();
    let mends = mends.unwrap_or(&mut unkept);
    let mut report = Report::default();
    let tree = readable(Column::Leaf, tree::check(rows, depth, means, mends, &mut report), &mut report)?;
    if let Some(checked) = &tree {
        let checked = index::check(rows, checked.keys, means, mends, &mut report);
        readable(Column::Index, checked, &mut report)?;
    }
    let checked = chain::check(rows, depth, means, mends, &mut report);
    readable(Column::Block, checked, &mut report)?;
    let checked = acknowledged::check(rows, mends, &mut report);
    readable(Column::Aux, checked, &mut report)?;
    let checked = rows::check_strays(rows, depth, means, &mut report);
    readable(Column::Meta, checked, &mut report)?;
    Ok(Examined { report, leaves_hold: tree.map(|tree| tree.leaves_hold) })
}

/// Makes a finding of bytes that the disk does not give back; `None` then.
fn readable<T>(column: Column, found: Result<T, ReadError>, report: &mut Report) -> Result<Option<T>, ReadError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(ReadError::Backend(error @ BackendError::Damaged { .. })) => {
            report.find(Finding::new(column, "a block of the file", error, Cure::Copy));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
