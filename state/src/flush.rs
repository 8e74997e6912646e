//! Putting final blocks into the columns, behind the writer's back.
//!
//! What is final is safe already: the journal has it. So its rows are written when enough have come together, each key
//! once, in slices that are small enough to keep no block waiting, and not synced. A last batch, which is, has the root's
//! row, names the block that the columns now hold and takes its journal rows away. A crash before it leaves columns in
//! which some rows are newer than the base; the journal's blocks lie over every one of them, so that nothing reads wrong,
//! and the next flush writes them again.
//!
//! Where history is kept, what the blocks overwrite is written and synced before the first slice: after a crash in between
//! it cannot be had any more. Between flushes the same thread sweeps what is too old.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use async_channel::{Receiver, Sender, TryRecvError, bounded};
use parity_scale_codec::Encode;
use rustorium_verkle::NodePath;

use crate::backend::{Backend, BackendError, Batch, Column, Durability, Op, Snapshot, commit_patiently};
use crate::block::BlockHash;
use crate::config::History;
use crate::error::ReadError;
use crate::journal;
use crate::layer::Run;
use crate::meeting;
use crate::meters::Flushing;
use crate::schema::{Generation, meta};
use crate::undo::{self, Kept, Pruner};
use crate::view::{Shared, View};

/// Rows and bytes of a slice; a single row may have more.
const SLICE_ROWS: usize = 8192;
const SLICE_BYTES: usize = 2 << 20;

/// Rows of final blocks that follow each other.
pub(crate) struct Flush {
    pub(crate) generation: Generation,
    /// Of all of them, each key once.
    pub(crate) rows: Run,
    /// Oldest first.
    pub(crate) blocks: Vec<Final>,
}

/// A final block that is not in the columns yet.
pub(crate) struct Final {
    pub(crate) number: u64,
    pub(crate) hash: BlockHash,
    pub(crate) rows: Arc<Run>,
    pub(crate) parent: Arc<View>,
}

/// What the columns hold now.
pub(crate) struct Flushed {
    pub(crate) number: u64,
    pub(crate) hash: BlockHash,
    pub(crate) snapshot: Arc<dyn Snapshot>,
    /// What is kept of the blocks before.
    pub(crate) kept: Option<Kept>,
    pub(crate) took: Flushing,
}

impl Flush {
    /// Writes it all.
    fn write(&self, backend: &dyn Backend, history: History) -> Result<Flushed, BackendError> {
        let started = Instant::now();
        let newest = self.blocks.last().expect("a flush has a block at least");
        let (mut rows, mut bytes) = (0, 0);
        let is_kept = self.keep(backend, history)?;
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
        slice.put(Column::Meta, meta::BASE, &newest.hash.0);
        if !is_kept && history != History::None && undo::is_empty(&*backend.snapshot()?)? {
            slice.put(Column::Meta, meta::UNDO, &Kept { oldest: newest.number, newest: newest.number }.encode());
        }
        for block in &self.blocks {
            slice.delete(Column::Fork, &journal::key(block.number, &block.hash));
        }
        commit_patiently(backend, slice, Durability::Synced)?;
        let snapshot = backend.snapshot()?;
        let took = Flushing { time: started.elapsed(), rows, bytes };
        // A row that does not decode keeps nothing; the next flush says so.
        let kept = Kept::read(&*snapshot).ok().flatten();
        Ok(Flushed { number: newest.number, hash: newest.hash, snapshot, kept, took })
    }

    /// Writes what the blocks overwrite, if there is a history that they continue; whether there is.
    fn keep(&self, backend: &dyn Backend, history: History) -> Result<bool, BackendError> {
        let kept = Kept::read(&*backend.snapshot()?);
        let base = self.blocks[0].number - 1;
        let undone = match kept {
            Ok(None) => return Ok(false),
            Ok(Some(kept)) if history != History::None && kept.newest >= base => self.write_undo(backend, kept),
            Ok(Some(_)) => Ok(false),
            Err(error) => Err(error),
        };
        match undone {
            Ok(true) => return Ok(true),
            Err(ReadError::Backend(error)) => return Err(error),
            Err(error) => tracing::error!(%error, "what the blocks overwrite cannot be read: history starts anew"),
            Ok(false) => {}
        }
        let mut batch = Batch::new();
        batch.delete(Column::Meta, meta::UNDO);
        commit_patiently(backend, batch, Durability::Synced)?;
        Ok(false)
    }

    fn write_undo(&self, backend: &dyn Backend, kept: Kept) -> Result<bool, ReadError> {
        // After a crash they may be there, and what they were made from may be gone.
        for block in self.blocks.iter().filter(|block| block.number > kept.newest) {
            let made = undo::of_block(&block.parent, block.number, &block.rows)?;
            let mut slice = Batch::new();
            for op in made.ops() {
                if let Op::Put { column, key, value } = op {
                    slice.put(column, key, value);
                }
                if slice.len() >= SLICE_ROWS || slice.bytes() >= SLICE_BYTES {
                    commit_patiently(backend, std::mem::take(&mut slice), Durability::Buffered)?;
                }
            }
            commit_patiently(backend, slice, Durability::Buffered)?;
        }
        let newest = self.blocks.last().map_or(kept.newest, |block| block.number.max(kept.newest));
        let mut batch = Batch::new();
        batch.put(Column::Meta, meta::UNDO, &Kept { newest, ..kept }.encode());
        commit_patiently(backend, batch, Durability::Synced)?;
        Ok(true)
    }
}

/// What a thread is to do.
pub(crate) type Work<'a> = Box<dyn FnOnce() + Send + 'a>;

/// What the thread does.
enum Job {
    Flush(Box<Flush>),
    /// Goes back from the block of this view, which is in the columns, to that with this number.
    Back {
        from: Arc<View>,
        to: u64,
        done: Sender<Result<(), ReadError>>,
    },
}

/// A thread that writes one flush after the other, and sweeps old rows in between. It ends when this is dropped.
pub(crate) struct Flusher {
    jobs: Sender<Job>,
    done: Receiver<Result<Flushed, BackendError>>,
    is_busy: bool,
}

impl Flusher {
    /// Has `spawn` start the thread; `wake` is called when a flush has ended.
    pub(crate) fn start<'a>(
        spawn: impl FnOnce(Work<'a>) -> io::Result<()>,
        backend: Arc<dyn Backend>,
        shared: Arc<Shared>,
        history: History,
        wake: impl Fn() + Send + 'a,
    ) -> io::Result<Self> {
        // One job at a time.
        let (jobs, work) = bounded::<Job>(1);
        let (ended, done) = bounded(1);
        spawn(Box::new(move || {
            let mut pruner = Pruner::new(history);
            while let Some(job) = sweep_until_job(&work, &mut pruner, &*backend, &shared) {
                // Whoever asked may be gone; what was written stays written.
                match job {
                    Job::Flush(flush) => {
                        let _ = ended.try_send(flush.write(&*backend, history));
                        wake();
                    }
                    Job::Back { from, to, done } => {
                        let _ = done.try_send(go_back(&from, to, &*backend));
                    }
                }
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
        self.is_busy = self.jobs.try_send(Job::Flush(Box::new(flush))).is_ok();
    }

    /// Goes back from the block of this view, which is in the columns and has none above it; waits for the end.
    pub(crate) fn go_back(&mut self, from: Arc<View>, to: u64) -> Result<(), ReadError> {
        assert!(!self.is_busy, "nothing is being written");
        let (done, answer) = bounded(1);
        let gone = || ReadError::damaged("the thread that writes has ended");
        self.jobs.try_send(Job::Back { from, to, done }).map_err(|_| gone())?;
        meeting::recv(&answer).unwrap_or_else(|_| Err(gone()))
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

/// The next job; sweeps old rows while there is none. `None` when there will be no more.
fn sweep_until_job(work: &Receiver<Job>, pruner: &mut Pruner, backend: &dyn Backend, shared: &Shared) -> Option<Job> {
    loop {
        let is_more = pruner.step(backend, &shared.pins).unwrap_or_else(|error| {
            tracing::error!(%error, "old states cannot be swept; tried again after the next flush");
            false
        });
        if !is_more {
            return meeting::recv(work).ok();
        }
        meeting::pause(undo::PAUSE);
        match work.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Closed) => return None,
        }
    }
}

fn go_back(from: &View, to: u64, backend: &dyn Backend) -> Result<(), ReadError> {
    let mut view = None;
    while view.as_ref().unwrap_or(from).header().number > to {
        let parent = undo::step(view.as_ref().unwrap_or(from), backend)?;
        tracing::info!(number = parent.header().number, hash = %parent.header().hash, "went back to");
        view = Some(parent);
    }
    Ok(())
}
