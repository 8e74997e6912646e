//! A backend over another one, of which one commit fails: to see what the rooms above make of it.
//!
//! Opening the store anew is making a new handle over the same inner backend.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::{Backend, BackendError, Batch, Column, Compacted, Durability, Snapshot, Stats};

/// Passes everything through, but fails one commit; it is poisoned from then on, unless the error is a refusal.
pub(crate) struct Faulty {
    inner: Arc<dyn Backend>,
    fault: Option<Fault>,
    /// Commits after which no snapshot can be taken; 0 for never.
    pub blind_after: AtomicU64,
    state: Mutex<State>,
}

/// When and how a commit fails.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// Which one, counted from 1.
    pub commit: u64,
    /// Whether the batch is in the store all the same, as when the disk fails after the bytes are down.
    pub written: bool,
    /// What the caller is told.
    pub error: BackendError,
}

impl Faulty {
    /// A handle on `inner`; without a fault it never fails.
    pub fn new(inner: Arc<dyn Backend>, fault: Option<Fault>) -> Faulty {
        Faulty {
            inner,
            fault,
            blind_after: AtomicU64::new(0),
            state: Mutex::new(State { commits: 0, poisoned: false }),
        }
    }
}

impl Backend for Faulty {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        let blind = self.blind_after.load(Ordering::Relaxed);
        if blind != 0 && self.state.lock().expect("no commit panics").commits >= blind {
            return Err(io_error());
        }
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError> {
        let mut state = self.state.lock().expect("no commit panics");
        if state.poisoned {
            return Err(BackendError::Poisoned { path: "faulty".into() });
        }
        state.commits += 1;
        match &self.fault {
            Some(fault) if fault.commit == state.commits => {
                state.poisoned = !fault.error.is_refusal();
                if fault.written {
                    self.inner.commit(batch, durability)?;
                }
                Err(fault.error.clone())
            }
            _ => self.inner.commit(batch, durability),
        }
    }

    fn stats(&self) -> Stats {
        Stats { is_poisoned: self.state.lock().expect("no commit panics").poisoned, ..self.inner.stats() }
    }

    fn compact(
        &self,
        column: Column,
        proceed: &mut dyn FnMut(Compacted) -> ControlFlow<()>,
    ) -> Result<(), BackendError> {
        self.inner.compact(column, proceed)
    }
}

struct State {
    commits: u64,
    poisoned: bool,
}

/// A disk that is full.
pub(crate) fn no_space() -> BackendError {
    BackendError::NoSpace { operation: "commit to", path: "faulty".into(), what: "injected".to_owned() }
}

/// A disk that is as good as full, before anything was written.
pub(crate) fn full() -> BackendError {
    BackendError::Full { path: "faulty".into(), free_bytes: 1, wanted_bytes: 2 }
}

/// A disk that fails.
pub(crate) fn io_error() -> BackendError {
    BackendError::Io { operation: "commit to", path: "faulty".into(), what: "injected".to_owned() }
}
