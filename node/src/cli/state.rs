//! Arguments of `state`: all pairs of a block, in a file.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rustorium_rpc::wire::Hash32;

use super::DbStore;

/// Which way.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Write all pairs of a final block into a file; broken off, the same command goes on with it
    Export(StateExport),
    /// Make a file's block and its pairs the state of a store, which is made if it is not there
    Import(StateImport),
}

/// Arguments of `state export`.
#[derive(Args, Debug)]
pub struct StateExport {
    /// The file: a new one, or what a broken-off export has left
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which store.
    #[command(flatten)]
    pub store: DbStore,
    /// The number of a final block whose state is kept [default: the newest final one]
    #[arg(long, value_name = "NUMBER")]
    pub at: Option<u64>,
}

/// Arguments of `state import`.
#[derive(Args, Debug)]
pub struct StateImport {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which store.
    #[command(flatten)]
    pub store: DbStore,
    /// The state root that you trust: a file with another one is refused
    #[arg(long, value_name = "ROOT")]
    pub state_root: Option<Hash32>,
    /// Take a block that is not above the store's newest final one, which is lost then
    #[arg(long)]
    pub may_lose: bool,
}
