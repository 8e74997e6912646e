//! The command line, as `clap` reads it. Texts become types here; what needs the environment or a file comes later
//! ([`crate::settings`], [`crate::config`], [`crate::commands`]).

mod run;

mod db;
mod state;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use rustorium_rpc::wire::{At, Hash32, parse_hex};
use rustorium_state::KEY_BYTES_MAX;

pub use self::run::{LogFormat, Run};

pub use self::db::{DbCheck, DbCommand, DbRollback, DbStore};
pub use self::state::{StateCommand, StateExport, StateImport};

/// What the command line asks for.
#[derive(Debug)]
pub struct Cli {
    /// How much to tell.
    pub verbosity: Verbosity,
    /// What to do.
    pub command: Command,
    /// The flags of `run` that were given.
    pub flags: ArgMatches,
}

impl Cli {
    /// Reads arguments, the program's name first.
    ///
    /// # Errors
    /// A `clap` error, which is also how `--help` and `--version` come; it knows how to print itself.
    pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let matches = Arguments::command().try_get_matches_from(arguments)?;
        let arguments = Arguments::from_arg_matches(&matches)?;
        if let Some((name, _)) = matches.subcommand() {
            let before = Run::augment_args(clap::Command::new("run"));
            let flags = before.get_arguments().map(clap::Arg::get_id);
            if let Some(flag) =
                flags.into_iter().find(|id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine))
            {
                let message = format!("--{} belongs to `run`, it cannot stand before `{name}`", dashed(flag.as_str()));
                return Err(Arguments::command().error(ErrorKind::ArgumentConflict, message));
            }
        }
        let command = arguments.command.unwrap_or(Command::Run(arguments.run));
        let flags = matches.subcommand_matches("run").unwrap_or(&matches).clone();
        Ok(Self { verbosity: arguments.verbosity, command, flags })
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "rustorium",
    version,
    about = "A state-storage node: chain state in a Verkle tree, values with witnesses"
)]
#[command(after_help = "`run` is the default: `rustorium --dev` starts a development node.")]
struct Arguments {
    #[command(flatten)]
    verbosity: Verbosity,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

/// How much to tell.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Verbosity {
    /// Tell more (again for still more); RUST_LOG overrides
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Tell less (again for still less)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    quiet: u8,
}

impl Verbosity {
    /// Steps above (or below) what is usual.
    pub fn steps(&self) -> i16 {
        i16::from(self.verbose) - i16::from(self.quiet)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node (the default)
    Run(Run),
    /// Look at chain specs
    ChainSpec {
        /// What of them.
        #[command(subcommand)]
        command: ChainSpecCommand,
    },
    /// Ask a node for the value of a key
    Get(Get),
    /// Fetch and verify witnesses
    Witness {
        /// Which of the two.
        #[command(subcommand)]
        command: WitnessCommand,
    },
    /// Look after a node's store, while the node is stopped
    Db {
        /// How.
        #[command(subcommand)]
        command: DbCommand,
    },
    /// All pairs of a block into a file and back, while the node is stopped
    State {
        /// Which way.
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Print the version
    Version,
}

/// What of a chain spec.
#[derive(Debug, Subcommand)]
pub enum ChainSpecCommand {
    /// Print a chain's name, keys and hashes
    Show(Show),
}

/// Flags of `chain-spec show`.
#[derive(Args, Debug)]
pub struct Show {
    /// A preset (`dev`) or a chain spec file, plain or gzipped
    #[arg(long, value_name = "PRESET|FILE")]
    pub chain: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which node, and which block of its.
#[derive(Args, Debug)]
pub struct Remote {
    /// The block: its hash, `head`, `finalized` or `certified`
    #[arg(long, value_name = "BLOCK", default_value = "head")]
    pub at: At,
    /// The node's public JSON-RPC
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9644")]
    pub url: String,
}

/// Arguments of `get`.
#[derive(Args, Debug)]
pub struct Get {
    /// The key: 0x hex, or plain text
    #[arg(value_name = "KEY")]
    pub key: Key,
    /// Fetch a witness, verify it, and say what was verified
    #[arg(long)]
    pub witness: bool,
    /// Print the value's bytes as they are, not hex
    #[arg(long)]
    pub raw: bool,
    /// The node to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// What to do with witnesses.
#[derive(Debug, Subcommand)]
pub enum WitnessCommand {
    /// Fetch a witness for keys from a node: prints a bundle, the result of state_getWitness
    Get(WitnessGet),
    /// Verify a bundle offline: exit code 0 if it is valid, 65 if not
    Verify(WitnessVerify),
    /// Fetch an update witness for a block's changes from a node: prints a bundle, the result of state_getUpdateWitness
    /// with the changes
    UpdateGet(UpdateGet),
    /// Verify such a bundle offline and print the state root after the changes: exit code 0 if it is valid, 65 if not
    UpdateVerify(WitnessVerify),
}

/// Arguments of `witness get`.
#[derive(Args, Debug)]
pub struct WitnessGet {
    /// The keys: 0x hex, or plain text
    #[arg(value_name = "KEY", required = true)]
    pub keys: Vec<Key>,
    /// The node to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// Arguments of `witness update-get`.
#[derive(Args, Debug)]
pub struct UpdateGet {
    /// The changes: a file of JSON [[key, value], …], 0x hex, null to delete; or - for standard input
    #[arg(long, value_name = "FILE")]
    pub changes: PathBuf,
    /// Keys that are read besides: 0x hex, or plain text
    #[arg(value_name = "KEY")]
    pub reads: Vec<Key>,
    /// The node to ask; the block is the one before the changes.
    #[command(flatten)]
    pub remote: Remote,
}

/// Arguments of `witness verify` and `witness update-verify`.
#[derive(Args, Debug)]
pub struct WitnessVerify {
    /// The bundle's file, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The state root that you trust; without it the bundle's own is used, which proves little
    #[arg(long, value_name = "ROOT")]
    pub state_root: Option<Hash32>,
}

/// A key of the state: `0x` and hex, or plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub Vec<u8>);

/// Why a text is not a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It begins as hex does and is not.
    #[error("{0} (a key that begins with 0x is hex)")]
    Hex(#[from] rustorium_rpc::wire::HexError),
    /// No state has such a key.
    #[error("a key has at most {KEY_BYTES_MAX} bytes, this has {0}")]
    TooLong(usize),
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = if text.starts_with("0x") { parse_hex(text)? } else { text.as_bytes().to_vec() };
        if key.len() > KEY_BYTES_MAX { Err(KeyError::TooLong(key.len())) } else { Ok(Self(key)) }
    }
}

fn dashed(id: &str) -> String {
    id.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::parse(line.split(' '))
    }

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_key_is_hex_or_text() {
        for (text, key) in [
            ("0x", &b""[..]),
            ("0x00fF", b"\x00\xff"),
            ("alice", b"alice"),
            (":code", b":code"),
            ("", b""),
            ("00ff", b"00ff"),
            ("0Xff", b"0Xff"),
            ("é", "é".as_bytes()),
        ] {
            assert_eq!(text.parse::<Key>().unwrap().0, key, "{text}");
        }
        for (text, message) in [
            ("0x0", "hex has an odd number of digits, 1 (a key that begins with 0x is hex)"),
            ("0xzz", "not a hex digit at position 0: 'z' (a key that begins with 0x is hex)"),
        ] {
            assert_eq!(text.parse::<Key>().unwrap_err().to_string(), message);
        }
        assert!("k".repeat(1024).parse::<Key>().is_ok());
        let error = "k".repeat(1025).parse::<Key>().unwrap_err().to_string();
        assert_eq!(error, "a key has at most 1024 bytes, this has 1025");
        assert!(format!("0x{}", "00".repeat(1025)).parse::<Key>().is_err());
    }

    #[test]
    fn run_is_the_default() {
        for line in [
            "rustorium --dev --rpc-port 0 -v",
            "rustorium -v run --dev --rpc-port 0",
            "rustorium run --dev --rpc-port 0 -v",
        ] {
            let cli = parse(line).unwrap();
            assert_eq!(cli.verbosity.steps(), 1, "{line}");
            let Command::Run(run) = cli.command else { panic!("{line}") };
            assert!(run.dev == Some(true) && run.rpc_port == Some(0) && run.chain.is_none(), "{line}");
        }
    }

    #[test]
    fn global_flags_may_stand_anywhere() {
        for line in ["rustorium -qq get k", "rustorium get -qq k", "rustorium get k -q --quiet"] {
            assert_eq!(parse(line).unwrap().verbosity.steps(), -2, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, message) in [
            ("rustorium --dev get k", "--dev belongs to `run`, it cannot stand before `get`"),
            ("rustorium --rpc-port 1 run --dev", "--rpc-port belongs to `run`, it cannot stand before `run`"),
            ("rustorium rum --dev", "unrecognized subcommand 'rum'"),
            ("rustorium --dev --rpc-port 65536", "65536"),
            ("rustorium --dev --threads 0", "--threads"),
            ("rustorium --dev --window-bits 3", "give a number from 4 to 12"),
            ("rustorium --dev --window-bits 13", "--window-bits"),
            ("rustorium --dev --cache-mib much", "--cache-mib"),
            ("rustorium --dev=maybe", "--dev"),
            ("rustorium --dev --unfinalised-max 0", "--unfinalised-max"),
            ("rustorium --dev --durability none", "synced, buffered"),
            ("rustorium --dev --log-format xml", "text, json"),
            ("rustorium get", "<KEY>"),
            ("rustorium get 0xz", "not a hex digit"),
            ("rustorium get k --at latest", "--at"),
            ("rustorium witness get", "<KEY>"),
            ("rustorium witness verify f --state-root 0x12", "a hash has 32 bytes, this has 1"),
            ("rustorium chain-spec show", "--chain"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.use_stderr() && error.to_string().contains(message), "{line}: {error}");
        }
        for line in ["rustorium --help", "rustorium --version", "rustorium witness verify --help"] {
            assert!(!parse(line).unwrap_err().use_stderr(), "{line}");
        }
    }
}
