//! `rustorium db`: a node's store, checked, mended, measured and compacted while the node is stopped.
//!
//! Takes the lock of the data directory, as a running node does, and never makes a directory or a store. Answers go to
//! stdout, progress to stderr where that is a terminal.

pub(super) mod progress;
mod rollback;
mod salvage;
mod tell;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rustorium_chain_spec::{ChainSpec, Finality};
use rustorium_state::backend::{Backend, BackendError, Column, Rocks, RocksConfig, Stats};
use rustorium_state::{BlockHash, Depth, Examination, Genesis, OpenError, Reader, Repair};
use rustorium_verkle::{Committer, WindowBits};

use self::progress::Bar;
pub use self::rollback::rollback;
use self::tell::{tell_check, tell_compaction, tell_repair, tell_stats};
use crate::base_path::BasePath;
use crate::cli::{DbCheck, DbStore};
use crate::config::{Environment, Place, default_base_path};
use crate::exit::{Exit, OrExit as _};
use crate::run::store::open_error;
use crate::spec_file;

/// Stores with more bytes of leaves are worth larger tables of the commitment.
const LEAF_BYTES_MANY: u64 = 256 << 20;

/// Checks a store, and mends it if asked to; [`Exit::BadData`] when something is wrong in the end.
pub fn check(check: &DbCheck, out: &mut impl Write) -> anyhow::Result<Exit> {
    let store = Store::find(&check.store)?;
    let mut bar = Bar::default();
    let json = check.store.json;
    if check.repair {
        let repair = store.repair(&mut bar)?;
        bar.end();
        let is_sound = repair.left.is_sound();
        tell_repair(&store.name(), &repair, json, out)?;
        return Ok(if is_sound { Exit::Done } else { Exit::BadData });
    }
    let depth = if check.deep { Depth::Deep } else { Depth::Quick };
    let examination = store.examine(&store.db())?;
    let report = examination
        .check(depth, rand::random(), &mut |stage| bar.show(stage))
        .map_err(|error| open_error(error.into()))
        .with_context(|| format!("cannot check the store {}", store.db().display()))?;
    bar.end();
    tell_check(&store.name(), &report, depth, json, out)?;
    Ok(if report.is_sound() { Exit::Done } else { Exit::BadData })
}

/// Says what a store holds and what it takes.
pub fn stats(stats: &DbStore, out: &mut impl Write) -> anyhow::Result<Exit> {
    let store = Store::find(stats)?;
    let backend = store.open(&store.db())?;
    let examination = store.examine_backend(backend.clone())?;
    let summary = examination
        .summary()
        .map_err(|error| open_error(error.into()))
        .with_context(|| format!("cannot read the store {}", store.db().display()))?;
    tell_stats(&store.name(), &summary, &backend.stats(), stats.json, out)?;
    Ok(Exit::Done)
}

/// Compacts every column.
pub fn compact(compact: &DbStore, out: &mut impl Write) -> anyhow::Result<Exit> {
    let store = Store::find(compact)?;
    let backend = store.open(&store.db())?;
    // Whose it is, before anything is rewritten.
    drop(store.examine_backend(backend.clone())?);
    let before: Stats = backend.stats();
    let mut bar = Bar::default();
    for column in Column::ALL {
        backend
            .compact(column, &mut |compacted| bar.show_compaction(column, compacted))
            .map_err(|error| open_error(error.into()))
            .with_context(|| format!("cannot compact column {}; see `rustorium db check`", column.name()))?;
    }
    bar.end();
    tell_compaction(&store.name(), &before, &backend.stats(), compact.json, out)?;
    Ok(Exit::Done)
}

/// A chain's store on disk, its directory being ours alone.
pub(super) struct Store {
    spec: ChainSpec,
    base_path: BasePath,
}

impl Store {
    /// Takes the lock of a data directory that is there.
    pub(super) fn find(store: &DbStore) -> anyhow::Result<Self> {
        let (spec, path) = place(store)?;
        let remedy = "give --base-path, or start the node once: `rustorium run` makes it";
        if !path.is_dir() {
            return Err(Exit::NoInput.error(format!("there is no data directory {}; {remedy}", path.display())));
        }
        let base_path = BasePath::open_kept(&path)?;
        if !base_path.db().is_dir() {
            return Err(Exit::NoInput.error(format!("there is no store in {}; {remedy}", path.display())));
        }
        Ok(Self { spec, base_path })
    }

    /// Takes the lock of a data directory, which is made if it is not there.
    pub(super) fn make(store: &DbStore) -> anyhow::Result<Self> {
        let (spec, path) = place(store)?;
        Ok(Self { spec, base_path: BasePath::open(&Place::Kept(path))? })
    }

    /// Opens the state as a node does, which loads the genesis if there is nothing.
    pub(super) fn load(&self, backend: Arc<Rocks>) -> anyhow::Result<Reader> {
        let finality = match self.spec.finality() {
            Finality::Instant => rustorium_state::Finality::Instant,
            Finality::Engine => rustorium_state::Finality::Engine,
        };
        let usual = rustorium_state::Config::new(Arc::new(Committer::new(WindowBits::SMALL)));
        let config = rustorium_state::Config { finality, ..usual };
        let hash = |root: &_| BlockHash(self.spec.genesis_hash(root));
        let genesis = Genesis { id: self.spec.id(), pairs: self.spec.genesis(), hash: &hash };
        let opened = rustorium_state::open(backend, &genesis, &config, &mut |_| ControlFlow::Continue(()));
        let (_, _, reader) =
            opened.map_err(open_error).with_context(|| format!("cannot open the store {}", self.db().display()))?;
        Ok(reader)
    }

    /// The chain's.
    pub(super) fn id(&self) -> &str {
        self.spec.id()
    }

    pub(super) fn db(&self) -> PathBuf {
        self.base_path.db()
    }

    /// Chain and place, for people.
    fn name(&self) -> String {
        format!("{} in {}", self.spec.id(), self.db().display())
    }

    pub(super) fn open(&self, db: &Path) -> anyhow::Result<Arc<Rocks>> {
        let backend = Rocks::open(db, &RocksConfig::default());
        Ok(Arc::new(backend.map_err(|error| damaged_or(error, db))?))
    }

    fn examine(&self, db: &Path) -> anyhow::Result<Examination> {
        self.examine_backend(self.open(db)?)
    }

    pub(super) fn examine_backend(&self, backend: Arc<Rocks>) -> anyhow::Result<Examination> {
        let bits = self.window_bits(&*backend);
        let path = backend.path().to_path_buf();
        let hash = |root: &_| BlockHash(self.spec.genesis_hash(root));
        let genesis = Genesis { id: self.spec.id(), pairs: self.spec.genesis(), hash: &hash };
        let opened = Examination::open(backend, &genesis, Arc::new(Committer::new(bits)));
        opened
            .map_err(|error| match error {
                OpenError::Interrupted => Exit::Temporary.error(
                    "there is no state yet, the loading of the genesis was broken off: `rustorium run` starts it over",
                ),
                error => open_error(error),
            })
            .with_context(|| format!("cannot examine the store {}", path.display()))
    }

    fn window_bits(&self, backend: &dyn Backend) -> WindowBits {
        match backend.stats().column(Column::Leaf).disk_bytes {
            0..LEAF_BYTES_MANY => WindowBits::SMALL,
            _ => WindowBits::DEFAULT,
        }
    }

    /// Mends in place; where blocks of files do not read, in a copy of what does, which then takes the store's place.
    fn repair(&self, bar: &mut Bar) -> anyhow::Result<Repair> {
        let in_place = match Rocks::open(&self.db(), &RocksConfig::default()) {
            Ok(backend) => self.repair_backend(Arc::new(backend), bar).map(Some)?,
            Err(BackendError::Damaged { what, .. }) => {
                tracing::warn!(what, "the store does not open");
                None
            }
            Err(error) => return Err(damaged_or(error, &self.db())),
        };
        match in_place {
            Some(repair) if repair.left.cures.copy == 0 => Ok(repair),
            in_place => self.repair_copy(in_place.map(|repair| repair.found), bar),
        }
    }

    fn repair_backend(&self, backend: Arc<Rocks>, bar: &mut Bar) -> anyhow::Result<Repair> {
        let path = backend.path().to_path_buf();
        self.examine_backend(backend)?
            .repair(rand::random(), &mut |stage| bar.show(stage))
            .map_err(|error| open_error(error.into()))
            .with_context(|| format!("cannot repair the store {}", path.display()))
    }
}

/// The chain, and where its data directory is.
fn place(store: &DbStore) -> anyhow::Result<(ChainSpec, PathBuf)> {
    let spec = spec_file::load(&store.chain)?;
    let path = match &store.base_path {
        Some(path) => path.clone(),
        None => default_base_path(spec.id(), &Environment::of_process())?,
    };
    Ok((spec, path))
}

/// A store that does not open: damaged files have a remedy.
fn damaged_or(error: BackendError, db: &Path) -> anyhow::Error {
    let remedy = match &error {
        BackendError::Damaged { .. } => "; `rustorium db check --repair` copies what can be read",
        _ => "",
    };
    let context = format!("cannot open the store {}{remedy}", db.display());
    Err::<(), _>(open_error(error.into())).context(context).or_exit(Exit::BadData).expect_err("an error stays one")
}
