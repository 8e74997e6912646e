//! The real engine over some backend, and the thread of its writer.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rustorium_state::backend::{Backend, Durability, RocksConfig};
use rustorium_state::{BlockHash, Config, Examination, Finality, Genesis, Handle, History, OpenError, Reader};
use rustorium_tests::chain;
use rustorium_verkle::{Committer, WindowBits};

use crate::forks::{Forks, Pairs};
use crate::script::forgets;

pub const ID: &str = "torture";

/// Of everyone in this process.
pub static COMMITTER: LazyLock<Arc<Committer>> = LazyLock::new(|| Arc::new(Committer::new(WindowBits::SMALL)));

/// A chain to torture: its genesis is a function of the seed.
#[derive(Clone)]
pub struct Chain {
    pub seed: u64,
    pub genesis: BlockHash,
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Chain {
    pub fn new(seed: u64, pairs: u32) -> Self {
        let genesis = BlockHash(*blake3::hash(&seed.to_le_bytes()).as_bytes());
        Self { seed, genesis, pairs: chain::genesis(seed, pairs).into_iter().collect() }
    }

    /// A store of this chain, to be looked at.
    pub fn examine(&self, backend: Arc<dyn Backend>) -> Result<Examination, OpenError> {
        let genesis = Genesis { id: ID, pairs: &self.pairs, hash: &|_| self.genesis };
        Examination::open(backend, &genesis, COMMITTER.clone())
    }

    /// The model of the genesis.
    pub fn forks(&self) -> Forks {
        let pairs = self.pairs.iter().map(|(key, value)| (key.clone(), value.as_slice().into()));
        Forks::new(self.genesis, pairs.collect::<Pairs>())
    }
}

/// The engine, until it is dropped.
pub struct Engine {
    pub handle: Handle,
    pub reader: Reader,
    pub backend: Arc<dyn Backend>,
    writer: Option<JoinHandle<()>>,
}

impl Engine {
    pub fn open(backend: Arc<dyn Backend>, chain: &Chain, config: &Config) -> Result<Self, OpenError> {
        let genesis = Genesis { id: ID, pairs: &chain.pairs, hash: &|_| chain.genesis };
        let proceed = &mut |_| ControlFlow::Continue(());
        let (writer, handle, reader) = rustorium_state::open(backend.clone(), &genesis, config, proceed)?;
        let writer = Some(std::thread::spawn(|| writer.run()));
        Ok(Self { handle, reader, backend, writer })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.handle.close();
        let ended = self.writer.take().expect("it ends once").join();
        // A panic of ours is told once.
        assert!(ended.is_ok() || std::thread::panicking(), "the writer panicked");
    }
}

/// Small tables, a cache that forgets, and flushes as often as can be, or only when asked for.
pub fn config(chain: &Chain, rng: &mut StdRng, durability: Durability) -> Config {
    let flush_blocks = if rng.random_bool(0.3) { u64::MAX } else { rng.random_range(1..6) };
    configured(chain, flush_blocks, durability)
}

pub fn configured(chain: &Chain, flush_blocks: u64, durability: Durability) -> Config {
    let history = if forgets(chain.seed) { History::Blocks(4) } else { History::Archive };
    let finality = Finality::Engine;
    Config { cache_bytes: 1 << 18, finality, flush_blocks, durability, history, ..Config::new(COMMITTER.clone()) }
}

/// Little memory, so that logs change and tables are made.
pub fn rocks_config() -> RocksConfig {
    RocksConfig {
        block_cache_bytes: 4 << 20,
        memtables_bytes: 1 << 20,
        disk_reserve_bytes: 0,
        ..RocksConfig::default()
    }
}
