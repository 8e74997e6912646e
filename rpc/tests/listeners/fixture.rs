//! A node of the dev chain in memory, with both listeners on ports of the operating system's choice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use rustorium_chain_spec::ChainSpec;
use rustorium_rpc::{Engine, Identity, Limits, Public, Running, Secret, serve_engine, serve_public};
use rustorium_state::backend::Memory;
use rustorium_state::{BlockHash, Change, Config, Genesis, Handle, Reader};
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
        Self::open(limits, false)
    }

    pub fn start_dev() -> Self {
        Self::start_dev_with(Limits::PUBLIC)
    }

    pub fn start_dev_with(limits: Limits) -> Self {
        Self::open(limits, true)
    }

    fn open(limits: Limits, dev: bool) -> Self {
        let spec = ChainSpec::preset("dev").expect("the preset");
        let genesis_hash = |root: &_| BlockHash(spec.genesis_hash(root));
        let genesis = Genesis { id: spec.id(), pairs: spec.genesis(), hash: &genesis_hash };
        let config = Config::new(Arc::new(Committer::new(WindowBits::SMALL)));
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
        let ended = self.writer.take().expect("dropped once").join();
        // A second panic would hide the first.
        if !std::thread::panicking() {
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
