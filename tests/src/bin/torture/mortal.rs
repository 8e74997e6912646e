//! A backend that kills its process at a fail point: before or after a commit that is told by what its batch holds.

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};
use rustorium_state::backend::{
    Backend, BackendError, Batch, Column, Compacted, Durability, Op, Rocks, Snapshot, Stats,
};

/// What a commit is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The format of an empty store.
    Stamp,
    /// Rows of the genesis, or of final blocks that are put into their columns.
    Slice,
    /// The last rows of the genesis.
    Genesis,
    /// A block's journal row.
    Apply,
    /// Head and final block.
    Decide,
    /// The last rows of final blocks, and that they are there.
    Base,
    /// Blocks that are dropped.
    Rollback,
    /// Another tree in place of the live one.
    Switch,
    /// What callers of a front write, before it is acknowledged.
    Gather,
    /// A block of what a front has acknowledged.
    Seal,
    /// What final blocks overwrite.
    Undo,
    /// Which blocks can be undone.
    Kept,
    /// Old states that are given up.
    Sweep,
    /// A final block that is taken back.
    Back,
}

impl Purpose {
    pub const ALL: [Self; 14] = [
        Self::Stamp,
        Self::Slice,
        Self::Genesis,
        Self::Apply,
        Self::Decide,
        Self::Base,
        Self::Rollback,
        Self::Switch,
        Self::Gather,
        Self::Seal,
        Self::Undo,
        Self::Kept,
        Self::Sweep,
        Self::Back,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Stamp => "stamp",
            Self::Slice => "slice",
            Self::Genesis => "genesis",
            Self::Apply => "apply",
            Self::Decide => "decide",
            Self::Base => "base",
            Self::Rollback => "rollback",
            Self::Switch => "switch",
            Self::Gather => "gather",
            Self::Seal => "seal",
            Self::Undo => "undo",
            Self::Kept => "kept",
            Self::Sweep => "sweep",
            Self::Back => "back",
        }
    }

    fn of(batch: &Batch) -> Self {
        let puts = |column, name: &[u8]| {
            batch.ops().any(|op| matches!(op, Op::Put { column: c, key, .. } if c == column && key == name))
        };
        let meta = |name| puts(Column::Meta, name);
        let sweeps = batch.ops().any(|op| matches!(op, Op::DeleteRange { column: Column::Undo, .. }));
        match () {
            () if meta(b"chain") => Self::Genesis,
            () if meta(b"format") => Self::Stamp,
            () if meta(b"live") => Self::Switch,
            () if meta(b"base") && sweeps => Self::Back,
            () if meta(b"base") => Self::Base,
            () if batch.ops().any(|op| matches!(op, Op::DeleteRange { column: Column::Aux, .. })) => Self::Seal,
            () if batch.ops().any(|op| matches!(op, Op::Put { column: Column::Aux, .. })) => Self::Gather,
            () if sweeps => Self::Sweep,
            () if meta(b"undo") => Self::Kept,
            () if batch.ops().any(|op| matches!(op, Op::Put { column: Column::Undo, .. })) => Self::Undo,
            () if batch.ops().any(|op| matches!(op, Op::Put { column: Column::Fork, .. })) => Self::Apply,
            () if meta(b"final") => Self::Decide,
            () if meta(b"head") => Self::Rollback,
            () => Self::Slice,
        }
    }
}

/// The `nth` commit for a purpose, from 1; before it or after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailPoint {
    pub purpose: Purpose,
    pub nth: u64,
    pub is_after: bool,
}

impl fmt::Display for FailPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.when(), self.purpose.name(), self.nth)
    }
}

impl FailPoint {
    pub fn when(&self) -> &'static str {
        if self.is_after { "after" } else { "before" }
    }
}

impl FromStr for FailPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('-').collect();
        let [when, name, nth] = parts[..] else { return Err(format!("`{text}` is no when-what-nth")) };
        let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.name() == name);
        let purpose = purpose.ok_or_else(|| format!("no commit is for `{name}`"))?;
        let nth = nth.parse().map_err(|_| format!("`{nth}` is no number"))?;
        Ok(Self { purpose, nth, is_after: when == "after" })
    }
}

pub struct Mortal {
    rocks: Rocks,
    fail_point: Option<FailPoint>,
    seen: AtomicU64,
}

impl Mortal {
    pub fn new(rocks: Rocks, fail_point: Option<FailPoint>) -> Self {
        Self { rocks, fail_point, seen: AtomicU64::new(0) }
    }
}

/// The end of this process, as `kill -9` makes it.
fn die(fail_point: &FailPoint) -> ! {
    println!("dies {} {}", fail_point.when(), fail_point.purpose.name());
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
    loop {
        std::thread::park();
    }
}

impl Backend for Mortal {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.rocks.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError> {
        let here = self.fail_point.filter(|point| point.purpose == Purpose::of(&batch));
        let here = here.filter(|point| self.seen.fetch_add(1, Ordering::Relaxed) + 1 == point.nth);
        match here {
            None => self.rocks.commit(batch, durability),
            Some(point) if point.is_after => {
                self.rocks.commit(batch, durability)?;
                die(&point)
            }
            Some(point) => die(&point),
        }
    }

    fn stats(&self) -> Stats {
        self.rocks.stats()
    }

    fn compact(
        &self,
        column: Column,
        proceed: &mut dyn FnMut(Compacted) -> ControlFlow<()>,
    ) -> Result<(), BackendError> {
        self.rocks.compact(column, proceed)
    }
}
