//! Opening the store, which may take a while: it loads the genesis when it is new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use rustorium_chain_spec::Finality;
use rustorium_state::backend::{Backend, BackendError, Rocks, RocksConfig};
use rustorium_state::{BlockHash, Genesis, Handle, OpenError, Progress, Reader, Writer};
use rustorium_verkle::Committer;

use super::Stop;
use super::genesis;
use super::health::{Readiness, Stage};
use crate::base_path::BasePath;
use crate::config::Config;
use crate::exit::{Exit, OrExit as _};

/// An open store.
pub(super) struct Opened {
    pub(super) writer: Writer,
    pub(super) handle: Handle,
    pub(super) reader: Reader,
    /// To be asked how it does.
    pub(super) backend: Arc<dyn Backend>,
}

/// Opens the store on a thread of its own; `None` when a signal came first.
pub(super) async fn open(
    config: Config,
    base_path: &BasePath,
    readiness: &Readiness,
    stop: &mut Stop,
) -> anyhow::Result<Option<Opened>> {
    let db = base_path.db();
    let stopping = Arc::new(AtomicBool::new(false));
    let asked = stopping.clone();
    let readiness = readiness.clone();
    readiness.set(Stage::Starting("the store is being opened".into()));
    let mut opening = tokio::task::spawn_blocking(move || {
        let committer = Arc::new(Committer::new(config.window_bits));
        let tables = committer.clone();
        // A new store needs them at once, any other at its first block.
        std::thread::Builder::new().name("tables".into()).spawn(move || tables.prepare())?;
        let rocks = RocksConfig { disk_reserve_bytes: config.disk_reserve_bytes, ..RocksConfig::default() };
        let backend = Rocks::open(&db, &rocks).map_err(|error| open_error(error.into()))?;
        let backend: Arc<dyn Backend> = Arc::new(backend);
        let hash = |root: &_| BlockHash(config.spec.genesis_hash(root));
        let genesis = Genesis { id: config.spec.id(), pairs: config.spec.genesis(), hash: &hash };
        let state = state(&config, committer);
        let mut bar = genesis::Bar::default();
        let mut progressed = |progress| {
            let Progress { pairs, pairs_total } = progress;
            let what = format!("the genesis is being loaded: {pairs} of {pairs_total} keys");
            readiness.set(Stage::Starting(what));
            bar.show(progress, &asked)
        };
        let opened = rustorium_state::open(backend.clone(), &genesis, &state, &mut progressed);
        let (writer, handle, reader) =
            opened.map_err(open_error).with_context(|| format!("cannot open the store {}", db.display()))?;
        anyhow::Ok(Opened { writer, handle, reader, backend })
    });
    let opened = tokio::select! {
        opened = &mut opening => opened,
        () = stop.asked() => {
            stopping.store(true, Ordering::Relaxed);
            let _ = opening.await;
            return Ok(None);
        }
    };
    let opened = opened.context("the store could not be opened")??;
    let head = opened.reader.head();
    let header = head.header();
    tracing::info!(number = header.number, hash = %header.hash, state_root = %header.state_root, "the head");
    Ok(Some(opened))
}

/// As the state wants it.
fn state(config: &Config, committer: Arc<Committer>) -> rustorium_state::Config {
    rustorium_state::Config {
        cache_bytes: config.cache_bytes,
        finality: match config.finality {
            Finality::Instant => rustorium_state::Finality::Instant,
            Finality::Engine => rustorium_state::Finality::Engine,
        },
        unfinalised_max: config.unfinalised_max.get().into(),
        unfinalised_bytes_max: config.unfinalised_bytes_max,
        durability: config.durability,
        flush_bytes: config.flush_bytes,
        history: config.history,
        ..rustorium_state::Config::new(committer)
    }
}

/// The exit code is the reason's.
pub(crate) fn open_error(error: OpenError) -> anyhow::Error {
    let exit = match &error {
        OpenError::Newer { .. } | OpenError::Foreign | OpenError::OtherChain { .. } => Exit::Config,
        OpenError::Damaged { .. } | OpenError::Genesis { .. } => Exit::BadData,
        OpenError::Interrupted | OpenError::Pending { .. } => Exit::Temporary,
        OpenError::Backend(error) => match error {
            BackendError::Foreign { .. } => Exit::Config,
            BackendError::Damaged { .. } | BackendError::TooMuch { .. } => Exit::BadData,
            BackendError::Locked { .. }
            | BackendError::Busy { .. }
            | BackendError::Full { .. }
            | BackendError::NoSpace { .. } => Exit::Temporary,
            BackendError::Poisoned { .. } | BackendError::Io { .. } => Exit::CannotCreate,
        },
    };
    Err::<(), _>(error).or_exit(exit).expect_err("an error stays one")
}
