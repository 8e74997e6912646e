//! What a daemon runs with. Flags, the spec file and the environment become one valid [`Config`] here, before anything
//! starts; nothing below reads a flag or the environment again.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use rustorium_chain_spec::{ChainSpec, Finality};
use rustorium_state::History;
use rustorium_state::backend::Durability;
use rustorium_verkle::WindowBits;

use crate::cli::Run;
use crate::exit::Exit;
use crate::{settings, spec_file};

/// Port of the public JSON-RPC listener.
pub const RPC_PORT: u16 = 9644;
/// Port of the privileged JSON-RPC listener.
pub const ENGINE_PORT: u16 = 9646;
/// Port for metrics and health.
pub const METRICS_PORT: u16 = 9645;
/// Memory for nodes and witnesses, in MiB.
const CACHE_MIB: u32 = 256;
/// Blocks that may wait for finality.
/// States before the newest final block that can be read.
const HISTORY_BLOCKS: u64 = 256;
const UNFINALISED_MAX: NonZeroU32 = NonZeroU32::new(1024).expect("not zero");
/// Memory for their changes, in MiB.
const UNFINALISED_MIB: NonZeroU32 = NonZeroU32::new(256).expect("not zero");
/// Final changes that are worth writing into the columns, in MiB.
const FLUSH_MIB: NonZeroU32 = NonZeroU32::new(64).expect("not zero");
/// Room on the disk that blocks leave, in MiB.
const DISK_RESERVE_MIB: u32 = 512;

/// What a daemon runs with.
#[derive(Debug)]
pub struct Config {
    /// The chain.
    pub spec: ChainSpec,
    /// Whether this node makes blocks itself, by `dev_submitChanges`.
    pub dev: bool,
    /// The spec's, but instant in a development node.
    pub finality: Finality,
    /// Where data goes.
    pub base_path: Place,
    /// The public JSON-RPC listener; port 0 means any free one.
    pub rpc: SocketAddr,
    /// The privileged JSON-RPC listener, on loopback; port 0 means any free one.
    pub engine: SocketAddr,
    /// Metrics and health, on loopback; port 0 means any free one.
    pub metrics: SocketAddr,
    /// Threads that compute commitments and witnesses; `None` is one a core.
    pub threads: Option<NonZeroUsize>,
    /// Width of the windows of the commitment tables.
    pub window_bits: WindowBits,
    /// Bytes of nodes and witnesses kept in memory.
    pub cache_bytes: u64,
    /// Blocks that may wait for finality.
    pub unfinalised_max: NonZeroU32,
    /// Bytes of their changes.
    pub unfinalised_bytes_max: u64,
    /// Bytes of final changes that are worth writing into the columns.
    pub flush_bytes: u64,
    /// What an acknowledged block survives.
    pub durability: Durability,
    /// Which states of the past are kept.
    pub history: History,
    /// Whether the engine may take back final blocks.
    pub allow_rollback: bool,
    /// Bytes of the disk that blocks leave free.
    pub disk_reserve_bytes: u64,
}

/// Where data goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder that stays.
    Kept(PathBuf),
    /// A fresh folder that is removed at the end.
    Temporary,
}

/// The environment variables that count.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `XDG_DATA_HOME`
    pub data_home: Option<OsString>,
    /// `HOME`
    pub home: Option<OsString>,
    /// Those of our own, `RUSTORIUM_…`.
    pub settings: Vec<(String, OsString)>,
}

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        let ours = |(name, _): &(String, OsString)| name.starts_with(settings::PREFIX);
        Self {
            data_home: std::env::var_os("XDG_DATA_HOME"),
            home: std::env::var_os("HOME"),
            settings: std::env::vars_os().filter_map(text).filter(ours).collect(),
        }
    }

    /// `$XDG_DATA_HOME/rustorium`, else `$HOME/.local/share/rustorium`.
    fn data_folder(&self) -> Option<PathBuf> {
        // The XDG specification: a relative path is to be ignored.
        let absolute = |variable: &Option<OsString>| variable.as_ref().map(PathBuf::from).filter(|p| p.is_absolute());
        let data_home = absolute(&self.data_home).or_else(|| Some(absolute(&self.home)?.join(".local/share")))?;
        Some(data_home.join("rustorium"))
    }
}

impl Config {
    /// The configuration that the settings of `run` ask for. Reads the chain spec.
    pub fn new(run: Run, environment: &Environment) -> anyhow::Result<Self> {
        let dev = run.dev.unwrap_or(false);
        let chain = match (&run.chain, dev) {
            (Some(chain), _) => chain,
            (None, true) => "dev",
            (None, false) => {
                let message = "which chain? Give --dev for a development chain, or --chain <preset|file>";
                return Err(Exit::Usage.error(message));
            }
        };
        let on_loopback = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let rpc_addr = run.rpc_addr.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let rpc = SocketAddr::new(rpc_addr, run.rpc_port.unwrap_or(RPC_PORT));
        let engine = on_loopback(run.engine_port.unwrap_or(ENGINE_PORT));
        let metrics = on_loopback(run.metrics_port.unwrap_or(METRICS_PORT));
        check_ports([("--rpc-port", rpc), ("--engine-port", engine), ("--metrics-port", metrics)])?;
        let spec = spec_file::load(chain)?;
        let base_path = match run.base_path {
            Some(path) => Place::Kept(path),
            None if dev => Place::Temporary,
            None => Place::Kept(default_base_path(spec.id(), environment)?),
        };
        Ok(Self {
            finality: if dev { Finality::Instant } else { spec.finality() },
            spec,
            dev,
            base_path,
            rpc,
            engine,
            metrics,
            threads: run.threads,
            window_bits: run.window_bits.unwrap_or(WindowBits::DEFAULT),
            cache_bytes: mib(run.cache_mib.unwrap_or(CACHE_MIB)),
            unfinalised_max: run.unfinalised_max.unwrap_or(UNFINALISED_MAX),
            unfinalised_bytes_max: mib(run.unfinalised_mib.unwrap_or(UNFINALISED_MIB).get()),
            flush_bytes: mib(run.flush_mib.unwrap_or(FLUSH_MIB).get()),
            durability: run.durability.unwrap_or(Durability::Synced),
            history: run.history.unwrap_or(History::Blocks(HISTORY_BLOCKS)),
            allow_rollback: run.allow_rollback.unwrap_or(false),
            disk_reserve_bytes: mib(run.disk_reserve_mib.unwrap_or(DISK_RESERVE_MIB)),
        })
    }
}

fn mib(count: u32) -> u64 {
    u64::from(count) << 20
}

/// Whether listeners that meet on loopback have a port each.
fn check_ports(listeners: [(&str, SocketAddr); 3]) -> anyhow::Result<()> {
    let mut taken: Vec<(&str, u16)> = Vec::new();
    for (flag, listener) in listeners {
        let port = listener.port();
        if port == 0 || !covers_loopback(listener.ip()) {
            continue;
        }
        if let Some((other, _)) = taken.iter().find(|(_, other)| *other == port) {
            return Err(Exit::Config.error(format!("{other} and {flag} are both {port}, give each its own")));
        }
        taken.push((flag, port));
    }
    Ok(())
}

/// Whether a listener on this address would also be met on 127.0.0.1.
fn covers_loopback(addr: IpAddr) -> bool {
    addr == IpAddr::V4(Ipv4Addr::LOCALHOST) || addr.is_unspecified()
}

pub(crate) fn default_base_path(id: &str, environment: &Environment) -> anyhow::Result<PathBuf> {
    let folder = environment.data_folder();
    let folder = folder.ok_or_else(|| Exit::Config.error("neither HOME nor XDG_DATA_HOME is set, give --base-path"))?;
    // An id is the spec's text, and must not name a folder elsewhere.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.starts_with('.') || !id.chars().all(plain) || Path::new(id).file_name().is_none() {
        return Err(Exit::Config.error(format!("the chain id {id:?} does not make a folder name, give --base-path")));
    }
    Ok(folder.join(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(data_home: Option<&str>, home: Option<&str>) -> Environment {
        Environment { data_home: data_home.map(Into::into), home: home.map(Into::into), settings: vec![] }
    }

    fn dev() -> Run {
        Run { dev: Some(true), ..Run::default() }
    }

    #[test]
    fn dev_is_the_dev_chain_in_a_temporary_place() {
        let config = Config::new(dev(), &Environment::default()).unwrap();
        assert!(config.dev);
        assert_eq!((config.spec.id(), config.base_path), ("dev", Place::Temporary));
        assert_eq!((config.rpc, config.engine), (([127, 0, 0, 1], 9644).into(), ([127, 0, 0, 1], 9646).into()));
    }

    #[test]
    fn dev_combines_with_a_chain_and_a_base_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spec.json");
        let text = r#"{"name": "T", "id": "t", "genesis": {"raw": {"top": {}}}, "rustorium": {"finality": "engine"}}"#;
        std::fs::write(&path, text).unwrap();
        let chain = Some(path.to_str().unwrap().to_owned());
        let run = Run { chain: chain.clone(), base_path: Some("here".into()), ..dev() };
        let config = Config::new(run, &Environment::default()).unwrap();
        assert_eq!((config.spec.id(), config.finality), ("t", Finality::Instant));
        assert_eq!(config.base_path, Place::Kept("here".into()));

        let home = environment(None, Some("/home/u"));
        let config = Config::new(Run { chain, ..Run::default() }, &home).unwrap();
        assert_eq!((config.dev, config.finality), (false, Finality::Engine));
        assert_eq!(config.base_path, Place::Kept("/home/u/.local/share/rustorium/t".into()));
    }

    #[test]
    fn the_default_base_path_is_in_the_users_data_folder() {
        let path = |id, environment| default_base_path(id, &environment).map_err(|error| error.to_string());
        for (environment, expected) in [
            (environment(Some("/data"), Some("/home/u")), "/data/rustorium/ksmcc3"),
            (environment(Some("data"), Some("/home/u")), "/home/u/.local/share/rustorium/ksmcc3"),
            (environment(Some(""), Some("/home/u")), "/home/u/.local/share/rustorium/ksmcc3"),
        ] {
            assert_eq!(path("ksmcc3", environment), Ok(expected.into()));
        }
        assert!(path("t", environment(None, None)).unwrap_err().contains("give --base-path"));
        for id in ["..", ".", ".ssh", "a/b", "/etc", "a b", "a\0b", ""] {
            assert!(path(id, environment(None, Some("/home/u"))).unwrap_err().contains("give --base-path"), "{id}");
        }
    }

    #[test]
    fn two_listeners_cannot_share_a_port() {
        let with = |addr: &str, rpc, engine| {
            let rpc_addr = Some(addr.parse().unwrap());
            let run = Run { rpc_addr, rpc_port: Some(rpc), engine_port: Some(engine), ..dev() };
            Config::new(run, &Environment::default())
        };
        for addr in ["127.0.0.1", "0.0.0.0", "::"] {
            assert_eq!(Exit::of(&with(addr, 7000, 7000).unwrap_err()), Exit::Config, "{addr}");
            assert!(with(addr, 0, 0).is_ok() && with(addr, 7000, 7001).is_ok(), "{addr}");
        }
        assert!(with("192.168.0.1", 7000, 7000).is_ok());
        let run = Run { metrics_port: Some(ENGINE_PORT), ..dev() };
        let error = Config::new(run, &Environment::default()).unwrap_err();
        assert_eq!(error.to_string(), "--engine-port and --metrics-port are both 9646, give each its own");
    }
}
