//! The API: one trait a namespace, from which server, client and OpenRPC document come.
//!
//! `public` and `engine` make the method sets of the two listeners. They share nothing: a method that is not in the
//! public set does not exist there, in whatever form it is called. Each file holds its trait, what the methods do, and
//! their part of the document. A method judges sizes first and then does what takes disk or cores on `Work`.

pub(crate) mod chain;
pub(crate) mod dev;
pub(crate) mod engine;
pub(crate) mod history;
pub(crate) mod rpc;
pub(crate) mod state;
pub(crate) mod subscribe;
pub(crate) mod system;

use std::collections::HashSet;

use jsonrpsee::{Methods, RpcModule};
use rustorium_chain_spec::ChainSpec;
use rustorium_state::{At as StateAt, BlockHash, Handle, Header, Reader};

pub use self::chain::{ChainApiClient, ChainApiServer};
pub use self::dev::{DevApiClient, DevApiServer};
pub use self::engine::{EngineApiClient, EngineApiServer};
pub use self::history::{HistoryApiClient, HistoryApiServer};
pub use self::rpc::{RpcApiClient, RpcApiServer};
pub use self::state::{StateApiClient, StateApiServer};
pub use self::subscribe::{SubscribeApiClient, SubscribeApiServer};
pub use self::system::{SystemApiClient, SystemApiServer};
use crate::openrpc::Document;
use crate::wire::{At, Hash32, Head, HexBytes, KeyValue};
use crate::work::Work;

/// What the public listener serves.
#[derive(Clone)]
pub struct Public {
    /// The chain's blocks and their state.
    pub reader: Reader,
    /// Which node of which chain this is.
    pub identity: Identity,
    /// The writer, for `dev_submitChanges`; without it that method does not exist.
    pub dev: Option<Handle>,
}

/// What the privileged listener serves.
#[derive(Clone)]
pub struct Engine {
    /// The chain's blocks and their state.
    pub reader: Reader,
    /// The writer.
    pub handle: Handle,
    /// Whether `engine_rollback` exists.
    pub allow_rollback: bool,
}

/// Which node of which chain this is: what `system_*` says.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The program, `system_name`.
    pub node_name: String,
    /// Its version, `system_version`.
    pub node_version: String,
    /// The chain's name, `system_chain`.
    pub chain: String,
    /// As the chain spec has it: `"Development"`, `"Local"`, `"Live"` or `{"Custom": "…"}`.
    pub chain_type: serde_json::Value,
    /// As the chain spec has them.
    pub properties: serde_json::Map<String, serde_json::Value>,
}

impl Identity {
    /// A node of this program and version, of the chain of `spec`.
    pub fn new(node_name: &str, node_version: &str, spec: &ChainSpec) -> Self {
        Self {
            node_name: node_name.into(),
            node_version: node_version.into(),
            chain: spec.name().into(),
            chain_type: serde_json::to_value(spec.chain_type()).expect("a name and a text are JSON"),
            properties: spec.properties().clone(),
        }
    }
}

/// The methods of the public listener, `rpc_methods` and `rpc.discover` among them.
pub(crate) fn public(public: Public, work: &Work) -> Methods {
    let mut methods = Methods::new();
    let mut document = Document::new(&public.identity);
    add(&mut methods, state::State::new(public.reader.clone(), work.clone()).into_rpc());
    state::document(&mut document);
    add(&mut methods, history::History::new(public.reader.clone(), work.clone()).into_rpc());
    history::document(&mut document);
    add(&mut methods, chain::Chain::new(public.reader.clone(), work.clone()).into_rpc());
    chain::document(&mut document);
    add(&mut methods, subscribe::Subscribe::new(public.reader, work.clone()).into_rpc());
    subscribe::document(&mut document);
    add(&mut methods, system::System::new(public.identity).into_rpc());
    system::document(&mut document);
    if let Some(handle) = public.dev {
        add(&mut methods, dev::Dev::new(handle).into_rpc());
        dev::document(&mut document);
    }
    rpc::document(&mut document);
    let rpc = rpc::Rpc::new(methods.method_names(), document.finish()).into_rpc();
    add(&mut methods, rpc);
    methods
}

/// The methods of the privileged listener.
pub(crate) fn engine(engine: Engine) -> Methods {
    let allow_rollback = engine.allow_rollback;
    let mut methods = engine::Engine::new(engine).into_rpc();
    if !allow_rollback {
        methods.remove_method("engine_rollback").expect("it was there");
    }
    methods.into()
}

fn add<T>(methods: &mut Methods, module: RpcModule<T>) {
    methods.merge(module).expect("every method has one name");
}

impl From<At> for StateAt {
    fn from(at: At) -> Self {
        match at {
            At::Head => Self::Head,
            At::Finalized => Self::Finalized,
            At::Certified => Self::Certified,
            At::Block(hash) => Self::Block(hash.into()),
        }
    }
}

impl From<Hash32> for BlockHash {
    fn from(hash: Hash32) -> Self {
        Self(hash.0)
    }
}

impl From<BlockHash> for Hash32 {
    fn from(hash: BlockHash) -> Self {
        Self(hash.0)
    }
}

impl From<&Header> for Head {
    fn from(header: &Header) -> Self {
        Self {
            number: header.number,
            hash: header.hash.into(),
            parent_hash: header.parent_hash.into(),
            state_root: Hash32(header.state_root.0),
        }
    }
}

/// Changes as the state takes them.
fn changes(changes: Vec<KeyValue>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    changes.into_iter().map(|(key, value)| (key.0, value.map(|value| value.0))).collect()
}

/// Keys as the state takes them, each once, in the order asked.
fn distinct(keys: Vec<HexBytes>) -> Vec<Vec<u8>> {
    let mut seen = HashSet::with_capacity(keys.len());
    keys.into_iter().map(|key| key.0).filter(|key| seen.insert(key.clone())).collect()
}
