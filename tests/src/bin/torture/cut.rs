//! RocksDB's write-ahead log is cut where it was not synced, and garbage put behind.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use rand::RngExt as _;
use rustorium_state::backend::{Backend, BackendError, Batch, Column, Compacted, Durability, Rocks, Snapshot, Stats};
use rustorium_tests::power::log::{self, Place};

use crate::Round;
use crate::counts::Counts;
use crate::engine::{Chain, Engine, config, rocks_config};
use crate::verdict::Told;

const PAIRS: u32 = 300;
/// Commits that a life lasts at most.
const COMMITS_MAX: u64 = 40;

pub fn round(round: Round, place: &Path, counts: &mut Counts) -> anyhow::Result<()> {
    let mut rng = round.rng();
    let durability = if rng.random_bool(0.7) { Durability::Synced } else { Durability::Buffered };
    let mut told = Told::new(Chain::new(round.blocks(), PAIRS), durability == Durability::Synced);
    let lives = rng.random_range(2..8);
    let dir = |life: u32| place.join(format!("{life}"));
    for life in 0..lives {
        let fail_at = rng.random_bool(0.6).then(|| rng.random_range(1..=COMMITS_MAX));
        let disk = Arc::new(Disk::open(&dir(life), &dir(life + 1), fail_at)?);
        match Engine::open(disk.clone(), &told.chain, &config(&told.chain, &mut rng, durability)) {
            Ok(engine) => {
                let kept = told.judge(&engine.reader, &mut rng).with_context(|| format!("life {life}"))?;
                counts.add("steps that a crash might have lost, and has not", kept as u64);
                let before = told.index;
                let steps = rng.random_range(0..COMMITS_MAX);
                let driven = told.drive(&engine, steps, &mut rng);
                if let Err(error) = driven.map(|driven| driven.map_err(anyhow::Error::from)).and_then(|driven| driven) {
                    ensure!(disk.is_off(), "step {}: {error:#}", told.index);
                }
                counts.add("steps acknowledged", told.index - before);
                let in_commit = disk.fail()?;
                counts.one(if in_commit { "log cut in a commit" } else { "log cut between commits" });
            }
            Err(error) => {
                ensure!(disk.is_off(), "life {life}: {error}");
                counts.one("log cut in a commit");
            }
        }
        let synced = disk.state.lock().unwrap_or_else(PoisonError::into_inner).synced;
        drop(disk);
        log::cut(&dir(life + 1), synced, &mut rng)?;
        std::fs::remove_dir_all(dir(life))?;
    }
    let rocks = Rocks::open(&dir(lives), &rocks_config())?;
    let engine = Engine::open(Arc::new(rocks), &told.chain, &config(&told.chain, &mut rng, Durability::Synced))?;
    told.judge(&engine.reader, &mut rng)?;
    told.drive(&engine, 3, &mut rng)??;
    told.settle(&engine)
}

/// A store whose power fails: what its directory is then, is copied, and it refuses everything from there on.
struct Disk {
    rocks: Rocks,
    away: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// Where the log was when something was last synced.
    synced: Place,
    commits: u64,
    fail_at: Option<u64>,
    is_off: bool,
}

impl Disk {
    fn open(path: &Path, away: &Path, fail_at: Option<u64>) -> anyhow::Result<Self> {
        let rocks = Rocks::open(path, &rocks_config())?;
        let state = State { synced: Place { log: 0, bytes: 0 }, commits: 0, fail_at, is_off: false };
        Ok(Self { rocks, away: away.to_owned(), state: state.into() })
    }

    fn is_off(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_off
    }

    /// The power fails, unless it has in the middle of a commit, which is answered.
    fn fail(&self) -> anyhow::Result<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let in_commit = std::mem::replace(&mut state.is_off, true);
        if !in_commit {
            log::copy(self.rocks.path(), &self.away)?;
        }
        Ok(in_commit)
    }

    fn no_power(&self) -> BackendError {
        BackendError::Poisoned { path: self.rocks.path().to_owned() }
    }
}

impl Backend for Disk {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.rocks.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_off {
            return Err(self.no_power());
        }
        state.commits += 1;
        if state.fail_at == Some(state.commits) {
            // Written, and the disk has not answered yet.
            self.rocks.commit(batch, Durability::Buffered)?;
            log::copy(self.rocks.path(), &self.away).expect("a copy of the store");
            state.is_off = true;
            return Err(self.no_power());
        }
        self.rocks.commit(batch, durability)?;
        if durability == Durability::Synced {
            state.synced = log::end(self.rocks.path()).expect("the store has a log");
        }
        Ok(())
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
