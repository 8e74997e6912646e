//! Applying a block: from a view of its parent and its changes to the new root and everything that changes. Nothing is
//! written here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use rustorium_verkle::{Committer, Delta, StateRoot};

use crate::backend::Batch;
use crate::block::{
    Block, BlockHash, CHANGE_BYTES_MAX, CHANGES_MAX, Change, Changes, Header, KEY_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::error::{ApplyError, ReadError};
use crate::finalize;
use crate::forks::Size;
use crate::journal;
use crate::meters::Phases;
use crate::schema::{Generation, HeaderRow};
use crate::view::View;

/// A block carried out in memory.
pub(crate) struct Applied {
    pub(crate) header: Header,
    /// Tells the same block from another under its hash.
    pub(crate) content: [u8; 32],
    pub(crate) changes: Changes,
    pub(crate) delta: Delta,
    /// How long it took: what was read, and what was computed.
    pub(crate) phases: Phases,
}

/// An applied block, ready to be made durable.
pub(crate) struct Made {
    pub(crate) header: Header,
    pub(crate) delta: Delta,
    pub(crate) size: Size,
    /// The rows that put it into the columns.
    pub(crate) rows: Arc<Batch>,
    /// What puts it into the journal.
    pub(crate) entry: Batch,
    pub(crate) phases: Phases,
}

impl Made {
    /// Refused when the journal cannot take its rows.
    pub(crate) fn new(applied: Applied, generation: Generation) -> Result<Self, ApplyError> {
        let started = Instant::now();
        let rows = Arc::new(finalize::rows(generation, &applied));
        let Applied { header, content, changes, delta, mut phases } = applied;
        journal::check_size(&rows, journal::ENTRY_BYTES_MAX)?;
        let size = Size { changes: changes.bytes(), rows: rows.bytes() as u64 };
        let entry = journal::entry(&HeaderRow::new(&header, content), &header.hash, size.changes, &rows);
        phases.journal = started.elapsed();
        Ok(Self { header, delta, size, rows, entry, phases })
    }
}

/// Refuses changes that no block may hold.
pub(crate) fn check_sizes(changes: &[Change]) -> Result<(), ApplyError> {
    if changes.len() > CHANGES_MAX {
        return Err(ApplyError::TooManyChanges { max: CHANGES_MAX, got: changes.len() });
    }
    changes.iter().try_for_each(|(key, value)| check_size(key, value.as_deref()))?;
    let got = changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
    match got > CHANGE_BYTES_MAX {
        true => Err(ApplyError::BlockTooLarge { max: CHANGE_BYTES_MAX, got }),
        false => Ok(()),
    }
}

/// Refuses a pair that no block may hold.
pub(crate) fn check_size(key: &[u8], value: Option<&[u8]>) -> Result<(), ApplyError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(ApplyError::KeyTooLong { max: KEY_BYTES_MAX, got: key.len() });
    }
    let got = value.map_or(0, <[u8]>::len);
    if got > VALUE_BYTES_MAX {
        return Err(ApplyError::ValueTooLarge { max: VALUE_BYTES_MAX, got });
    }
    Ok(())
}

/// Carries out a block on its parent's state. That the block fits its parent is the writer's to know.
pub(crate) fn apply(parent: &View, block: Block, committer: &Committer) -> Result<Applied, ApplyError> {
    let Block { number, hash, parent_hash, timestamp_ms, state_root: expected, changes } = block;
    let started = Instant::now();
    let changes = Changes::new(changes);
    let mut phases = Phases::default();
    let delta = change(parent, &changes, committer, &mut phases)?;
    let got = delta.state_root();
    if let Some(expected) = expected.filter(|expected| *expected != got) {
        return Err(ApplyError::RootMismatch { expected, got });
    }
    let content = changes.content(number, &parent_hash, timestamp_ms);
    let header = Header { number, hash, parent_hash, state_root: got, timestamp_ms };
    phases.compute = started.elapsed() - phases.read;
    Ok(Applied { header, content, changes, delta, phases })
}

/// Makes a block of these changes, with the dev rule's hash. They are not looked at for what no block may hold.
pub(crate) fn seal(
    parent: &View,
    changes: Vec<Change>,
    generation: Generation,
    committer: &Committer,
) -> Result<Made, ApplyError> {
    let Header { number, hash: parent_hash, .. } = *parent.header();
    let no_number = || ApplyError::NotAChild { expected: "a number that fits".into(), got: "one more".into() };
    let number = number.checked_add(1).ok_or_else(no_number)?;
    let block = Block { number, hash: BlockHash::ZERO, parent_hash, timestamp_ms: None, state_root: None, changes };
    let mut applied = apply(parent, block, committer)?;
    applied.header.hash = BlockHash::of_dev_block(&parent_hash, number, &applied.header.state_root);
    Made::new(applied, generation)
}

/// What these changes do to the tree of a view; notes what it took to read what they meet.
pub(crate) fn change(
    view: &View,
    changes: &Changes,
    committer: &Committer,
    phases: &mut Phases,
) -> Result<Delta, ReadError> {
    let (started, cpu) = (Instant::now(), thread_cpu());
    let subtree = view.walk().update(changes.to_tree())?;
    (phases.read, phases.read_cpu) = (started.elapsed(), thread_cpu().saturating_sub(cpu));
    // Differences are right only on the rows that the root was made of; this much of it can be seen for one hash.
    if StateRoot::of(&subtree.root()) != view.header().state_root {
        let what = format!("the root node is not that of state root {}", view.header().state_root);
        return Err(ReadError::damaged(what));
    }
    Ok(subtree.apply(committer))
}

/// CPU time of this thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
