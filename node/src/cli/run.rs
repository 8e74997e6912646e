//! The flags of `run`. Each is a variable and a key of the configuration file as well, by its name alone
//! ([`crate::settings`]): a new one is a field here.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use rustorium_state::History;
use rustorium_state::backend::Durability;
use rustorium_verkle::WindowBits;

/// Flags of `run`, as far as they are given.
#[derive(Args, Debug, Default)]
pub struct Run {
    /// A development node: blocks are made here, final at once, and gone at the end unless --base-path is given
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(hide_possible_values = true)]
    pub dev: Option<bool>,
    /// The chain: a preset (`dev`) or a chain spec file, plain or gzipped
    #[arg(long, value_name = "PRESET|FILE")]
    pub chain: Option<String>,
    /// Where to keep data; by default `rustorium/<chain id>` in the user's data folder, or a temporary one with --dev
    #[arg(long, value_name = "FOLDER")]
    pub base_path: Option<PathBuf>,
    /// A TOML file of settings: flags without their dashes, as in `rpc-port = 9644`. A flag wins over its variable
    /// (RUSTORIUM_RPC_PORT), that over the file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the public JSON-RPC listener [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub rpc_addr: Option<IpAddr>,
    /// Port of the public JSON-RPC listener, 0 for any free one [default: 9644]
    #[arg(long, value_name = "PORT")]
    pub rpc_port: Option<u16>,
    /// Port of the privileged JSON-RPC listener on loopback, 0 for any free one [default: 9646]
    #[arg(long, value_name = "PORT")]
    pub engine_port: Option<u16>,
    /// Port for metrics and health on loopback, 0 for any free one [default: 9645]
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,
    /// Threads that compute commitments and witnesses [default: one a core]
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<NonZeroUsize>,
    /// Width of the windows of the commitment tables, 4 to 12 bits: more memory, faster blocks (8: 134 MB, 10: 436 MB)
    /// [default: 10]
    #[arg(long, value_name = "BITS", value_parser = window_bits)]
    pub window_bits: Option<WindowBits>,
    /// Memory for nodes of the tree and for witnesses, in MiB [default: 256]
    #[arg(long, value_name = "MIB")]
    pub cache_mib: Option<u32>,
    /// Blocks that may wait for finality; more are refused [default: 1024]
    #[arg(long, value_name = "COUNT")]
    pub unfinalised_max: Option<NonZeroU32>,
    /// Memory for the changes of blocks that wait for finality, in MiB; more are refused [default: 256]
    #[arg(long, value_name = "MIB")]
    pub unfinalised_mib: Option<NonZeroU32>,
    /// Final changes are written into the tree's columns once there are so many MiB of them [default: 64]
    #[arg(long, value_name = "MIB")]
    pub flush_mib: Option<NonZeroU32>,
    /// What an acknowledged block survives: power loss (synced), or the end of the process alone (buffered)
    /// [default: synced]
    #[arg(long, value_name = "LEVEL", value_parser = one_of(DURABILITIES))]
    pub durability: Option<Durability>,
    /// Which states of the past can be read: those of so many blocks before the newest final one, of so many days (30d),
    /// none, or all from now on (archive) [default: 256]
    #[arg(long, value_name = "BLOCKS|DAYSd|none|archive", value_parser = history)]
    pub history: Option<History>,
    /// Let the engine drop blocks, final ones too as far as their states are kept (engine_rollback)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(hide_possible_values = true)]
    pub allow_rollback: Option<bool>,
    /// Blocks are refused while less of the disk is free, in MiB; reading goes on [default: 512]
    #[arg(long, value_name = "MIB")]
    pub disk_reserve_mib: Option<u32>,
    /// How log lines look [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = one_of(LOG_FORMATS))]
    pub log_format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
const DURABILITIES: [(&str, Durability); 2] =
    [(Durability::Synced.name(), Durability::Synced), (Durability::Buffered.name(), Durability::Buffered)];

fn window_bits(text: &str) -> Result<WindowBits, String> {
    let bits = text.parse::<u8>().ok().filter(|bits| *bits >= 4).and_then(WindowBits::new);
    bits.ok_or_else(|| "give a number from 4 to 12".to_owned())
}

fn history(text: &str) -> Result<History, String> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
    let history = match (text, text.strip_suffix('d')) {
        ("none", _) => Some(History::None),
        ("archive", _) => Some(History::Archive),
        (_, Some(days)) => number(days).map(History::Days),
        _ => number(text).map(History::Blocks),
    };
    history.ok_or_else(|| "give a number of blocks, of days (30d), none or archive".to_owned())
}

fn one_of<T: Copy + Send + Sync + 'static>(values: [(&'static str, T); 2]) -> impl TypedValueParser<Value = T> {
    let parser = PossibleValuesParser::new(values.map(|(name, _)| name));
    parser.map(move |name| values.into_iter().find(|(other, _)| *other == name).expect("one of the names").1)
}
