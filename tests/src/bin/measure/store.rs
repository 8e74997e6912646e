//! A store on disk as the node has it, and what its writer tells of each block.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustorium_chain_spec::ChainSpec;
use rustorium_state::backend::{Rocks, RocksConfig};
use rustorium_state::{Block, BlockHash, Change, Config, Genesis, Handle, Reader};
use rustorium_verkle::{Committer, WindowBits};
use tracing::field::{Field, Visit};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// As the node has it.
const CACHE_BYTES: u64 = 256 << 20;

/// A store's place and what is shared between its openings.
pub(crate) struct Store {
    path: PathBuf,
    committer: Arc<Committer>,
}

/// An open store whose writer runs.
pub(crate) struct Open {
    pub(crate) reader: Reader,
    handle: Handle,
    writer: JoinHandle<()>,
}

/// How long a block took.
#[derive(Clone, Copy)]
pub(crate) struct Applied {
    /// From outside.
    pub(crate) total: Duration,
    /// Reading what it touches and computing what changes.
    pub(crate) computed: Duration,
    /// Making it durable and publishing it.
    pub(crate) written: Duration,
}

impl Store {
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), committer: Arc::new(Committer::new(WindowBits::DEFAULT)) }
    }

    /// Builds the committer's tables.
    pub(crate) fn prepare(&self) {
        self.committer.prepare();
    }

    pub(crate) fn open(&self, spec: &ChainSpec) -> anyhow::Result<Open> {
        let hash = |root: &_| BlockHash(spec.genesis_hash(root));
        let genesis = Genesis { id: spec.id(), pairs: spec.genesis(), hash: &hash };
        let config = Config { committer: self.committer.clone(), cache_bytes: CACHE_BYTES };
        let backend = Arc::new(Rocks::open(&self.path, &RocksConfig::default())?);
        let proceed = &mut |_| ControlFlow::Continue(());
        let (writer, handle, reader) = rustorium_state::open(backend, &genesis, &config, proceed)?;
        Ok(Open { reader, handle, writer: std::thread::spawn(|| writer.run()) })
    }
}

impl Open {
    /// Applies the changes as the next block.
    pub(crate) fn apply(&self, changes: Vec<Change>, timings: &Timings) -> anyhow::Result<Applied> {
        let head = self.reader.head().header().clone();
        let number = head.number + 1;
        let hash = BlockHash(*blake3::hash(&number.to_le_bytes()).as_bytes());
        let parent_hash = head.hash;
        let block = Block { number, hash, parent_hash, timestamp_ms: None, state_root: None, changes };
        let started = Instant::now();
        self.handle.apply_blocking(block)?;
        let total = started.elapsed();
        let Told { computed_us, written_us } = timings.take().context("the writer told nothing of the block")?;
        let (computed, written) = (Duration::from_micros(computed_us), Duration::from_micros(written_us));
        Ok(Applied { total, computed, written })
    }

    /// Closes it, so that it can be opened again.
    pub(crate) fn close(self) {
        self.handle.close();
        self.writer.join().expect("the writer does not panic");
    }
}

/// Hears what the writer logs of the time that a block's parts took: no door of the library tells it.
#[derive(Clone, Default)]
pub(crate) struct Timings(Arc<Mutex<Option<Told>>>);

#[derive(Clone, Copy, Default)]
struct Told {
    computed_us: u64,
    written_us: u64,
}

impl Timings {
    /// Listens from now on.
    pub(crate) fn listen() -> Self {
        let timings = Self::default();
        let writer = Targets::new().with_target("rustorium_state::writer", tracing::Level::DEBUG);
        tracing_subscriber::registry().with(timings.clone().with_filter(writer)).init();
        timings
    }

    fn take(&self) -> Option<Told> {
        self.0.lock().expect("nobody panics with it").take()
    }
}

impl<S: tracing::Subscriber> Layer<S> for Timings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut told = Told::default();
        event.record(&mut told);
        if told.computed_us > 0 {
            *self.0.lock().expect("nobody panics with it") = Some(told);
        }
    }
}

impl Visit for Told {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "computed_us" => self.computed_us = value,
            "written_us" => self.written_us = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
