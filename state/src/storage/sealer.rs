//! A thread that makes blocks of pending changes while the writer goes on acknowledging others, and wakes the writer when
//! something is due.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::pending::Pending;
use super::prover::{Door, Wish};
use crate::apply::{Made, seal};
use crate::error::ApplyError;
use crate::forks::{Branch, Ground};
use crate::layer::Run;

/// A block to be made.
pub(crate) struct Sealing {
    pub(crate) parent: Arc<Branch>,
    pub(crate) ground: Ground,
    pub(crate) changes: Arc<Pending>,
    /// Who wants something of it proved.
    pub(crate) wishes: Vec<Wish>,
}

/// A block that is made, and whom to tell whether it was kept.
pub(crate) struct Ended {
    pub(crate) made: Made,
    pub(crate) kept: Option<Sender<Result<(), ApplyError>>>,
}

enum Job {
    Seal(Sealing),
    /// The writer is to be woken at this time, instead of at any that was named before.
    Wake(Instant),
    /// To be freed here: what many changes take, takes a while.
    Drop(Arc<Pending>),
}

/// The thread. Dropping this waits for what it is at.
pub(crate) struct Sealer {
    jobs: Option<Sender<Job>>,
    done: Receiver<Result<Ended, ApplyError>>,
    is_busy: bool,
    wakes_at: Option<Instant>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.jobs = None;
        // A panic there has been told.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Sealer {
    pub(crate) fn start(prover: Door, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (jobs, work) = channel();
        let (ended, done) = channel();
        let mut alarm = None;
        let run = move || {
            loop {
                match next(&work, alarm) {
                    Ok(Job::Seal(sealing)) => {
                        // The writer may be gone.
                        let _ = ended.send(make(sealing, &prover));
                        wake();
                    }
                    Ok(Job::Wake(at)) => alarm = Some(at),
                    Ok(Job::Drop(pending)) => drop(pending),
                    Err(RecvTimeoutError::Timeout) => {
                        alarm = None;
                        wake();
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = Some(Builder::new().name("sealer".into()).spawn(run)?);
        Ok(Self { jobs: Some(jobs), done, is_busy: false, wakes_at: None, thread })
    }

    /// Begins a block.
    pub(crate) fn begin(&mut self, sealing: Sealing) {
        assert!(!self.is_busy, "one block at a time");
        self.is_busy = true;
        self.send(Job::Seal(sealing));
    }

    /// The block, if it is made; waits for it if told to.
    pub(crate) fn take(&mut self, wait: bool) -> Option<Result<Ended, ApplyError>> {
        let ended = match (self.is_busy, wait) {
            (false, _) => None,
            // A panic of the thread is ours, and ends this one, too.
            (true, true) => Some(self.done.recv().expect("the sealer does not panic")),
            (true, false) => match self.done.try_recv() {
                Ok(ended) => Some(ended),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => panic!("the sealer has panicked"),
            },
        };
        self.is_busy &= ended.is_none();
        ended
    }

    /// Has the writer woken at this time, or earlier.
    pub(crate) fn wake_at(&mut self, at: Instant, now: Instant) {
        if self.wakes_at.is_none_or(|set| set <= now || at < set) {
            self.wakes_at = Some(at);
            self.send(Job::Wake(at));
        }
    }

    /// Frees what is in a block by now.
    pub(crate) fn free(&self, pending: Arc<Pending>) {
        self.send(Job::Drop(pending));
    }

    fn send(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("they are there until this is dropped");
        assert!(jobs.send(job).is_ok(), "the sealer has panicked");
    }
}

/// Makes a block, and has it proved already while the writer keeps it.
fn make(sealing: Sealing, prover: &Door) -> Result<Ended, ApplyError> {
    let Sealing { parent, ground, changes, wishes } = sealing;
    let committer = &ground.shared.committer;
    let mut made = match seal(&parent.view, changes.to_changes(), ground.generation, committer) {
        Ok(made) => made,
        Err(error) => {
            wishes.iter().for_each(|wish| wish.disappoint(&error));
            return Err(error);
        }
    };
    // What is cached is right whether the block stays or not.
    std::mem::take(&mut made.delta.whole).into_iter().for_each(|node| ground.shared.cache.insert(node));
    if wishes.is_empty() {
        return Ok(Ended { made, kept: None });
    }
    let run = Arc::new(Run::new(made.header.number, made.rows.clone()));
    let (_, view) = ground.child(&parent, made.header.clone(), made.delta.root, run);
    let (kept, is_kept) = channel();
    prover.begin(view, wishes, is_kept);
    Ok(Ended { made, kept: Some(kept) })
}

fn next(work: &Receiver<Job>, alarm: Option<Instant>) -> Result<Job, RecvTimeoutError> {
    match alarm {
        Some(at) => work.recv_timeout(at.saturating_duration_since(Instant::now())),
        None => work.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}
