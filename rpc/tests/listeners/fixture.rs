//! A node of the dev chain in memory, with both listeners on ports of the operating system's choice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use rustorium_chain_spec::ChainSpec;
use rustorium_rpc::{Engine, Identity, Limits, Public, Running, Secret, serve_engine, serve_public};
use rustorium_state::backend::Memory;
use rustorium_state::{Block, BlockHash, Change, Config, Finality, Genesis, Handle, History, Reader};
use rustorium_verkle::{Committer, WindowBits};
use tokio::runtime::Runtime;

pub const SECRET: [u8; 32] = [0x5e; 32];

pub struct Node {
    pub public: SocketAddr,
    pub engine: SocketAddr,
    pub spec: ChainSpec,
    pub runtime: Runtime,
    reader: Reader,
    handle: Handle,
    running: Vec<Running>,
    writer: Option<JoinHandle<()>>,
}

impl Node {
    pub fn start() -> Self {
        Self::start_with(Limits::PUBLIC)
    }

    pub fn start_with(limits: Limits) -> Self {
        Self::open(limits, false, Finality::Instant, History::Archive)
    }

    /// A node whose engine says what is final.
    pub fn start_engine() -> Self {
        Self::open(Limits::PUBLIC, false, Finality::Engine, History::Archive)
    }

    /// One that keeps no states of the past.
    pub fn start_without_history() -> Self {
        Self::open(Limits::PUBLIC, false, Finality::Instant, History::None)
    }

    pub fn start_dev() -> Self {
        Self::start_dev_with(Limits::PUBLIC)
    }

    pub fn start_dev_with(limits: Limits) -> Self {
        Self::open(limits, true, Finality::Instant, History::Archive)
    }

    fn open(limits: Limits, dev: bool, finality: Finality, history: History) -> Self {
        let spec = ChainSpec::preset("dev").expect("the preset");
        let genesis_hash = |root: &_| BlockHash(spec.genesis_hash(root));
        let genesis = Genesis { id: spec.id(), pairs: spec.genesis(), hash: &genesis_hash };
        let usual = Config::new(Arc::new(Committer::new(WindowBits::SMALL)));
        let config = Config { finality, history, ..usual };
        let (writer, handle, reader) = rustorium_state::open(Arc::new(Memory::new()), &genesis, &config, &mut |_| {
            std::ops::ControlFlow::Continue(())
        })
        .expect("a new state");
        let writer = std::thread::spawn(move || writer.run());

        let public = Public {
            reader: reader.clone(),
            identity: Identity::new("Rustorium", "0.0.0-test", &spec),
            dev: dev.then(|| handle.clone()),
        };
        let engine = Engine { reader: reader.clone(), handle: handle.clone(), allow_rollback: false };
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let runtime = Runtime::new().expect("a runtime");
        let (public, engine) = runtime.block_on(async {
            let public = serve_public(any_port, public, limits).await.expect("a public listener");
            let engine = serve_engine(any_port, engine, secret(), Limits::ENGINE).await.expect("a privileged listener");
            (public, engine)
        });
        Self {
            public: public.addr(),
            engine: engine.addr(),
            spec,
            runtime,
            reader,
            handle,
            running: vec![public, engine],
            writer: Some(writer),
        }
    }

    pub fn secret(&self) -> Secret {
        secret()
    }

    /// An `Authorization` header that is good for a minute.
    pub fn bearer(&self) -> String {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        format!("Bearer {}", secret().token(now_s))
    }

    pub fn genesis_hash(&self) -> String {
        self.reader.genesis_hash().to_string()
    }

    /// Makes a block without the API's limits.
    pub fn seal(&self, changes: Vec<Change>) {
        self.runtime.block_on(self.handle.seal(changes)).expect("a block");
    }

    /// Applies a block named by one byte to the one of another name; 0 is the genesis.
    pub fn apply(&self, number: u64, name: u8, parent: u8, changes: Vec<Change>) {
        let parent_hash = if parent == 0 { self.reader.genesis_hash() } else { BlockHash([parent; 32]) };
        let hash = BlockHash([name; 32]);
        let block = Block { number, hash, parent_hash, timestamp_ms: None, state_root: None, changes };
        self.handle.apply_blocking(block).expect("a block");
    }

    /// Makes a block the head, and another one final.
    pub fn choose(&self, head: u8, finalized: u8) {
        let hash = |name: u8| BlockHash([name; 32]);
        self.handle.choose_head_blocking(hash(head), Some(hash(finalized))).expect("a choice");
    }

    /// Goes back to a block that is not final.
    pub fn roll_back(&self, head: u8) {
        self.handle.rollback_blocking(BlockHash([head; 32])).expect("a way back");
    }

    /// Ends the writer, the listeners still being there.
    pub fn stop_writer(&mut self) {
        self.handle.close();
        self.writer.take().expect("stopped once").join().expect("the writer ends well");
    }

    /// Puts what is final into its columns.
    pub fn flush(&self) {
        self.handle.flush_blocking().expect("a flush");
    }

    pub fn stop_listeners(&mut self) {
        for running in self.running.drain(..) {
            self.runtime.block_on(running.stop());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop_listeners();
        self.handle.close();
        let ended = self.writer.take().map(JoinHandle::join);
        // A second panic would hide the first.
        if let Some(ended) = ended.filter(|_| !std::thread::panicking()) {
            ended.expect("the writer ends well");
        }
    }
}

/// 32 times one byte, as hex.
pub fn hash(byte: u8) -> String {
    const_hex::encode_prefixed([byte; 32])
}

fn secret() -> Secret {
    Secret::parse(&const_hex::encode(SECRET)).expect("64 digits")
}
