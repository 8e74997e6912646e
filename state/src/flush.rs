//! Putting final blocks into the columns, behind the writer's back.
//!
//! What is final is safe already: the journal has it. So its rows are written when enough have come together, each key
//! once, in slices that are small enough to keep no block waiting, and not synced. A last batch, which is, has the root's
//! row, names the block that the columns now hold and takes its journal rows away. A crash before it leaves columns in
//! which some rows are newer than the base; the journal's blocks lie over every one of them, so that nothing reads wrong,
//! and the next flush writes them again.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use async_channel::{Receiver, Sender, bounded};
use rustorium_verkle::NodePath;

use crate::backend::{Backend, BackendError, Batch, Column, Durability, Snapshot, commit_patiently};
use crate::block::BlockHash;
use crate::forks::Settled;
use crate::journal;
use crate::layer::Run;
use crate::meeting;
use crate::meters::Flushing;
use crate::schema::{Generation, meta};

/// Rows and bytes of a slice; a single row may have more.
const SLICE_ROWS: usize = 8192;
const SLICE_BYTES: usize = 2 << 20;

/// Rows of final blocks, and the journal rows that they make needless.
pub(crate) struct Flush {
    pub(crate) generation: Generation,
    pub(crate) rows: Run,
    pub(crate) settled: Vec<Settled>,
}

/// What the columns hold now.
pub(crate) struct Flushed {
    pub(crate) number: u64,
    pub(crate) hash: BlockHash,
    pub(crate) snapshot: Arc<dyn Snapshot>,
    pub(crate) took: Flushing,
}

impl Flush {
    /// Writes it all.
    fn write(&self, backend: &dyn Backend) -> Result<Flushed, BackendError> {
        let started = Instant::now();
        let (mut rows, mut bytes) = (0, 0);
        let root = self.generation.node_key(&NodePath::ROOT);
        let (mut slice, mut last) = (Batch::new(), Batch::new());
        for column in Column::ALL {
            for (key, value) in self.rows.rows(column) {
                let batch = if column == Column::Node && key == root { &mut last } else { &mut slice };
                match value {
                    Some(value) => batch.put(column, key, value),
                    None => batch.delete(column, key),
                }
                rows += 1;
                bytes += (key.len() + value.map_or(0, <[u8]>::len)) as u64;
                if slice.len() >= SLICE_ROWS || slice.bytes() >= SLICE_BYTES {
                    commit_patiently(backend, std::mem::take(&mut slice), Durability::Buffered)?;
                }
            }
        }
        slice.append(&last);
        let newest = self.settled.last().expect("a flush has a block at least");
        slice.put(Column::Meta, meta::BASE, &newest.hash.0);
        for block in &self.settled {
            slice.delete(Column::Fork, &journal::key(block.number, &block.hash));
        }
        commit_patiently(backend, slice, Durability::Synced)?;
        let snapshot = backend.snapshot()?;
        let took = Flushing { time: started.elapsed(), rows, bytes };
        Ok(Flushed { number: newest.number, hash: newest.hash, snapshot, took })
    }
}

/// What a thread is to do.
pub(crate) type Work<'a> = Box<dyn FnOnce() + Send + 'a>;

/// A thread that writes one flush after the other. It ends when this is dropped.
pub(crate) struct Flusher {
    jobs: Sender<Flush>,
    done: Receiver<Result<Flushed, BackendError>>,
    is_busy: bool,
}

impl Flusher {
    /// Has `spawn` start the thread; `wake` is called when a flush has ended.
    pub(crate) fn start<'a>(
        spawn: impl FnOnce(Work<'a>) -> io::Result<()>,
        backend: Arc<dyn Backend>,
        wake: impl Fn() + Send + 'a,
    ) -> io::Result<Self> {
        // One flush at a time.
        let (jobs, work) = bounded::<Flush>(1);
        let (ended, done) = bounded(1);
        spawn(Box::new(move || {
            while let Ok(flush) = meeting::recv(&work) {
                // Whoever asked may be gone; what was written stays written.
                let _ = ended.try_send(flush.write(&*backend));
                wake();
            }
        }))?;
        Ok(Self { jobs, done, is_busy: false })
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Begins a flush.
    pub(crate) fn begin(&mut self, flush: Flush) {
        assert!(!self.is_busy, "one flush at a time");
        self.is_busy = self.jobs.try_send(flush).is_ok();
    }

    /// What the flush has come to, if it has ended; waits for the end if told to.
    pub(crate) fn take(&mut self, wait: bool) -> Option<Result<Flushed, BackendError>> {
        let ended = match self.is_busy {
            false => None,
            true if wait => meeting::recv(&self.done).ok(),
            true => self.done.try_recv().ok(),
        };
        self.is_busy &= ended.is_none();
        ended
    }
}
