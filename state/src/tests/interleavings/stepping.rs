//! A backend of which every use is a step, and which can break its contract.

use super::*;
use crate::backend::{Bounds, Compacted, Rows, Snapshot, Stats};

/// How the backend breaks its contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Breach {
    None,
    /// A snapshot shows what is committed later.
    Moving,
    /// A snapshot lacks what was committed last.
    Late,
}

/// Rows in memory, of which every use is a step.
pub(super) struct Stepping {
    pub(super) inner: Arc<Memory>,
    breach: Breach,
    /// Whether the contract is broken already: not while the store is opened.
    pub(super) is_broken: AtomicBool,
    before: std::sync::Mutex<Arc<dyn Snapshot>>,
}

impl Stepping {
    pub(super) fn new(breach: Breach) -> Self {
        let inner = Arc::new(Memory::new());
        let before = std::sync::Mutex::new(inner.snapshot().unwrap());
        Self { inner, breach, is_broken: AtomicBool::new(false), before }
    }
}

impl Backend for Stepping {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        step();
        let now = self.inner.snapshot()?;
        Ok(match self.breach {
            Breach::None => Arc::new(Still(now)),
            Breach::Moving => Arc::new(Moving(self.inner.clone())),
            Breach::Late if !self.is_broken.load(SeqCst) => now,
            Breach::Late => self.before.lock().unwrap().clone(),
        })
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError> {
        step();
        *self.before.lock().unwrap() = self.inner.snapshot()?;
        self.inner.commit(batch, durability)?;
        step();
        Ok(())
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn compact(
        &self,
        column: Column,
        proceed: &mut dyn FnMut(Compacted) -> ControlFlow<()>,
    ) -> Result<(), BackendError> {
        self.inner.compact(column, proceed)
    }
}

/// A snapshot of which every use is a step.
pub(super) struct Still(Arc<dyn Snapshot>);

impl Snapshot for Still {
    fn get_many(&self, column: Column, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        step();
        self.0.get_many(column, keys)
    }

    fn range(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, BackendError> {
        step();
        self.0.range(column, bounds, rows_max, bytes_max)
    }
}

/// No snapshot at all.
pub(super) struct Moving(Arc<Memory>);

impl Snapshot for Moving {
    fn get_many(&self, column: Column, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        step();
        self.0.snapshot()?.get_many(column, keys)
    }

    fn range(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, BackendError> {
        step();
        self.0.snapshot()?.range(column, bounds, rows_max, bytes_max)
    }
}
