//! A store of ours on disk as the node has it, and what its writer tells of each block.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rustorium_state::backend::{Backend, Rocks, RocksConfig};
use rustorium_state::{Block, BlockHash, Change, Config, Genesis, Handle, History, Reader};
use rustorium_verkle::{Committer, WindowBits};
use tracing::field::{Field, Visit};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Parts of a block's time, by name.
pub(crate) type Phases = Vec<(String, Duration)>;

/// What the writer tells of a block.
#[derive(Clone, Default)]
pub(crate) struct Account {
    pub(crate) phases: Phases,
    /// Leaves and nodes that it changes.
    pub(crate) leaves: u64,
    pub(crate) nodes: u64,
}

/// An open store whose writer runs.
pub(crate) struct Store {
    pub(crate) reader: Reader,
    pub(crate) handle: Handle,
    writer: JoinHandle<()>,
    told: Told,
}

impl Store {
    /// Opens the store of an empty genesis.
    pub(crate) fn open(path: &Path, committer: Arc<Committer>) -> anyhow::Result<Self> {
        Self::open_chain(path, committer, &Genesis { id: "bench", pairs: &[], hash: &|root| BlockHash(root.0) })
    }

    pub(crate) fn open_chain(path: &Path, committer: Arc<Committer>, genesis: &Genesis<'_>) -> anyhow::Result<Self> {
        let backend = Arc::new(Rocks::open(path, &RocksConfig::default())?);
        Self::open_as(backend, without_history(committer), genesis)
    }

    /// Opens the store of an empty genesis on this backend.
    pub(crate) fn open_on(backend: Arc<dyn Backend>, config: Config) -> anyhow::Result<Self> {
        Self::open_as(backend, config, &Genesis { id: "bench", pairs: &[], hash: &|root| BlockHash(root.0) })
    }

    fn open_as(backend: Arc<dyn Backend>, config: Config, genesis: &Genesis<'_>) -> anyhow::Result<Self> {
        let proceed = &mut |_| ControlFlow::Continue(());
        let (writer, handle, reader) = rustorium_state::open(backend, genesis, &config, proceed)?;
        let told = Told::listen();
        Ok(Self { reader, handle, writer: std::thread::spawn(|| writer.run()), told })
    }

    /// Applies the changes as the next block; it is durable when this returns. Gives what the writer tells of it.
    pub(crate) fn apply(&self, changes: Vec<Change>) -> anyhow::Result<Account> {
        let head = self.reader.head().header().clone();
        let number = head.number + 1;
        let hash = BlockHash(*blake3::hash(&number.to_le_bytes()).as_bytes());
        let block = Block { number, hash, parent_hash: head.hash, timestamp_ms: None, state_root: None, changes };
        self.handle.apply_blocking(block)?;
        Ok(self.told.take())
    }

    /// Makes a block final.
    pub(crate) fn finalize(&self, hash: BlockHash) -> anyhow::Result<()> {
        self.handle.finalize_blocking(hash)?;
        Ok(())
    }

    /// Puts everything that is final into its columns.
    pub(crate) fn flush(&self) -> anyhow::Result<()> {
        self.handle.flush_blocking()?;
        Ok(())
    }

    /// Closes it, so that it can be opened again.
    pub(crate) fn close(self) {
        self.handle.close();
        self.writer.join().expect("the writer does not panic");
    }
}

/// What is usual, but that nothing of the past is kept.
pub(crate) fn without_history(committer: Arc<Committer>) -> Config {
    Config { history: History::None, ..Config::new(committer) }
}

/// A committer as the node has it, its tables built.
pub(crate) fn committer() -> Arc<Committer> {
    let committer = Committer::new(WindowBits::DEFAULT);
    committer.prepare();
    Arc::new(committer)
}

/// Hears what the writer logs of a block: every field that ends in `_us`, and the counts. No door of the library tells it.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Account>>);

impl Told {
    /// What is logged from now on, by all writers of this process.
    fn listen() -> Self {
        static TOLD: OnceLock<Told> = OnceLock::new();
        let listen = || {
            let told = Self::default();
            let writer = Targets::new().with_target("rustorium_state::writer", tracing::Level::DEBUG);
            tracing_subscriber::registry().with(told.clone().with_filter(writer)).init();
            told
        };
        TOLD.get_or_init(listen).clone()
    }

    fn take(&self) -> Account {
        std::mem::take(&mut *self.0.lock().expect("nobody panics with it"))
    }
}

impl<S: tracing::Subscriber> Layer<S> for Told {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut account = Account::default();
        event.record(&mut account);
        if !account.phases.is_empty() {
            *self.0.lock().expect("nobody panics with it") = account;
        }
    }
}

impl Visit for Account {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "leaves" => self.leaves = value,
            "nodes" => self.nodes = value,
            name => {
                let phase = name.strip_suffix("_us");
                self.phases.extend(phase.map(|name| (name.to_owned(), Duration::from_micros(value))));
            }
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
