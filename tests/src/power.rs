//! Power loss, without a machine to unplug.
//!
//! [`PowerLoss`] is a backend in memory that keeps commits apart which were not synced, and at a crash keeps a seeded
//! number of the first of them. [`redb`] has a disk beneath that loses any of the sectors that were not synced. [`log`] does it to a directory of RocksDB: it cuts the write-ahead log somewhere behind what
//! was synced, and leaves there what a disk may leave.
//! What both have in common is what [`Durability`] promises: afterwards the store holds the first so many commits, those
//! synced among them.

pub mod log;
pub mod redb;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustorium_state::backend::{
    Backend, BackendError, Batch, Bounds, Column, Compacted, Durability, Memory, Snapshot, Stats,
};

/// A handle on a machine whose power may fail. Handles of before a crash are dead: they refuse to write and to read.
pub struct PowerLoss {
    machine: Arc<Mutex<Machine>>,
    /// Which start of the machine this handle is of.
    start: u64,
}

struct Machine {
    /// What is on the disk for good.
    disk: Memory,
    /// What was committed since the last sync, in order.
    unsynced: Vec<Batch>,
    /// Disk and unsynced together: what is read.
    now: Memory,
    start: u64,
    is_on: bool,
    commits: u64,
    /// The commit in the middle of which the power fails.
    fail_at: Option<u64>,
}

/// What a crash left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Commits that were not synced, the one among them in the middle of which the power failed.
    pub unsynced: usize,
    /// How many of them, the first ones, are in the store.
    pub kept: usize,
}

impl Default for PowerLoss {
    fn default() -> Self {
        Self::new()
    }
}

impl PowerLoss {
    /// An empty store on a machine that runs.
    pub fn new() -> Self {
        let machine = Machine {
            disk: Memory::new(),
            unsynced: Vec::new(),
            now: Memory::new(),
            start: 0,
            is_on: true,
            commits: 0,
            fail_at: None,
        };
        Self { machine: Arc::new(Mutex::new(machine)), start: 0 }
    }

    /// Lets the power fail in the middle of the `commit`th commit from now, counted from 1: it returns an error, and may be in
    /// the store after the crash, or not.
    pub fn fail_at(&self, commit: u64) {
        let mut machine = self.machine();
        machine.fail_at = Some(machine.commits + commit);
    }

    /// Whether the power has failed already.
    pub fn is_off(&self) -> bool {
        !self.machine().is_on
    }

    /// The power fails, unless it has, and the machine comes up again: a handle on what the disk then holds. A commit that
    /// another thread is at ends before or fails.
    pub fn crash(&self, seed: u64) -> (Self, Crash) {
        let mut machine = self.machine();
        let unsynced = std::mem::take(&mut machine.unsynced);
        let crash =
            Crash { unsynced: unsynced.len(), kept: StdRng::seed_from_u64(seed).random_range(0..=unsynced.len()) };
        for batch in unsynced.into_iter().take(crash.kept) {
            machine.disk.commit(batch, Durability::Synced).expect("memory never fails");
        }
        machine.now = copy(&machine.disk);
        machine.start += 1;
        (machine.is_on, machine.commits, machine.fail_at) = (true, 0, None);
        (Self { machine: self.machine.clone(), start: machine.start }, crash)
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine, if it runs and is the one of this handle.
    fn running(&self, operation: &'static str) -> Result<MutexGuard<'_, Machine>, BackendError> {
        let machine = self.machine();
        if machine.is_on && machine.start == self.start { Ok(machine) } else { Err(no_power(operation)) }
    }
}

impl Backend for PowerLoss {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.running("read")?.now.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError> {
        let Ok(mut machine) = self.running("commit to") else {
            return Err(BackendError::Poisoned { path: PATH.into() });
        };
        machine.commits += 1;
        if machine.fail_at == Some(machine.commits) {
            machine.unsynced.push(batch);
            machine.is_on = false;
            return Err(no_power("commit to"));
        }
        machine.now.commit(batch.clone(), durability)?;
        machine.unsynced.push(batch);
        if durability == Durability::Synced {
            for batch in std::mem::take(&mut machine.unsynced) {
                machine.disk.commit(batch, durability)?;
            }
        }
        Ok(())
    }

    fn stats(&self) -> Stats {
        let machine = self.machine();
        Stats { is_poisoned: !machine.is_on || machine.start != self.start, ..machine.now.stats() }
    }

    fn compact(
        &self,
        column: Column,
        proceed: &mut dyn FnMut(Compacted) -> ControlFlow<()>,
    ) -> Result<(), BackendError> {
        drop(self.running("compact")?);
        Memory::new().compact(column, proceed)
    }
}

const PATH: &str = "a machine without power";

fn no_power(operation: &'static str) -> BackendError {
    BackendError::Io { operation, path: PATH.into(), what: "the power failed".to_owned() }
}

fn copy(from: &Memory) -> Memory {
    let (rows, to) = (from.snapshot().expect("memory never fails"), Memory::new());
    let mut batch = Batch::new();
    for column in Column::ALL {
        let found = rows.range(column, &Bounds::all(), usize::MAX, usize::MAX).expect("memory never fails");
        found.rows.iter().for_each(|(key, value)| batch.put(column, key, value));
    }
    to.commit(batch, Durability::Synced).expect("memory never fails");
    to
}
