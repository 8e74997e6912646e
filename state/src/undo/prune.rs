//! Giving up the oldest states: a little at a time, between flushes, from where it stood before.
//!
//! First the row `undo` of the column `meta` says that a state is not to be read any more, and is synced; then its rows are
//! swept, a slice at a time. Whoever still reads such a state reads a snapshot from before.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use parity_scale_codec::Encode;

use super::{Kept, at, decode_chunk};
use crate::backend::{Backend, Batch, Bounds, Column, Durability, commit_patiently};
use crate::config::History;
use crate::error::ReadError;
use crate::schema::meta;
use crate::view::{header_row, number_hash};

/// Chunks of a slice, and bytes of them (a single row may have more): some thousand rows.
const SLICE_CHUNKS: usize = 64;
const SLICE_BYTES: usize = 1 << 20;
/// Between two slices, so that blocks have the disk.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);
/// So many headers are looked at in one step for the first that is young enough.
const HEADERS: u64 = 1024;

/// Blocks whose states somebody wants to keep for now, and how many do.
#[derive(Default)]
pub(crate) struct Pins(Mutex<BTreeMap<u64, usize>>);

impl Pins {
    pub(crate) fn add(&self, number: u64) {
        *self.lock().entry(number).or_insert(0) += 1;
    }

    pub(crate) fn remove(&self, number: u64) {
        let mut pins = self.lock();
        if let Some(count) = pins.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&number);
            }
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.lock().keys().next().copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, usize>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Sweeps what the window has left behind.
pub(crate) struct Pruner {
    pub(crate) history: History,
    /// Where the rows that are left begin.
    swept: Vec<u8>,
}

impl Pruner {
    pub(crate) fn new(history: History) -> Self {
        Self { history, swept: Vec::new() }
    }

    /// Does a little; whether there is more to do.
    pub(crate) fn step(&mut self, backend: &dyn Backend, pins: &Pins) -> Result<bool, ReadError> {
        let snapshot = backend.snapshot()?;
        let kept = Kept::read(&*snapshot)?;
        let end = kept.map_or(u64::MAX, |kept| kept.oldest.saturating_add(1));
        let bounds = Bounds { start: self.swept.clone(), end: Some(end.to_be_bytes().to_vec()) };
        if !bounds.is_empty() {
            let found = snapshot.range(Column::Undo, &bounds, SLICE_CHUNKS, SLICE_BYTES)?;
            if let Some((last, _)) = found.rows.last() {
                let mut batch = Batch::new();
                for (key, value) in &found.rows {
                    take(&mut batch, key, value)?;
                }
                let swept = bounds.after(last).start;
                batch.delete_range(Column::Undo, &found.rows[0].0, &swept);
                commit_patiently(backend, batch, Durability::Buffered)?;
                self.swept = swept;
                return Ok(true);
            }
        }
        let Some(kept) = kept else {
            self.swept.clear();
            // Places whose chunk a crash has kept from being written.
            if !snapshot.range(Column::UndoAt, &Bounds::all(), 1, 0)?.rows.is_empty() {
                let mut batch = Batch::new();
                batch.delete_range(Column::UndoAt, &[], &[0xff]);
                commit_patiently(backend, batch, Durability::Buffered)?;
            }
            return Ok(false);
        };
        let oldest = self.oldest(&*snapshot, kept)?;
        let oldest = pins.oldest().map_or(oldest, |pinned| oldest.min(pinned)).max(kept.oldest);
        if oldest > kept.oldest {
            let mut batch = Batch::new();
            batch.put(Column::Meta, meta::UNDO, &Kept { oldest, ..kept }.encode());
            commit_patiently(backend, batch, Durability::Synced)?;
        }
        Ok(oldest > kept.oldest)
    }

    /// The oldest state that is to be kept; some that are too old may take further steps.
    fn oldest(&self, snapshot: &dyn crate::backend::Snapshot, kept: Kept) -> Result<u64, ReadError> {
        Ok(match self.history {
            History::Archive => 0,
            History::None => kept.newest,
            History::Blocks(blocks) => kept.newest.saturating_sub(blocks),
            History::Days(days) => {
                let time = |number: u64| -> Result<Option<u64>, ReadError> {
                    let Some(hash) = number_hash(snapshot, number)? else { return Ok(None) };
                    Ok(header_row(snapshot, &hash)?.and_then(|row| row.timestamp_ms))
                };
                let Some(newest) = time(kept.newest)? else { return Ok(0) };
                let since = newest.saturating_sub(days.saturating_mul(24 * 3600 * 1000));
                let mut oldest = kept.oldest;
                while oldest < kept.newest.min(kept.oldest.saturating_add(HEADERS))
                    && time(oldest + 1)?.is_some_and(|time| time <= since)
                {
                    oldest += 1;
                }
                oldest
            }
        })
    }
}

/// Deletes the places that an undo row's entries have.
fn take(batch: &mut Batch, key: &[u8], value: &[u8]) -> Result<(), ReadError> {
    let (number, kind) = match key.split_first_chunk() {
        Some((number, [kind, ..])) => (u64::from_be_bytes(*number), *kind),
        _ => return Err(ReadError::damaged("a key of undo")),
    };
    if kind == 0 {
        for entry in decode_chunk(value)? {
            entry.places().iter().for_each(|id| batch.delete(Column::UndoAt, &at(id, number)));
        }
    }
    Ok(())
}
