//! Arguments of `db`: a node's store, looked after while the node is stopped.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Check every row: exit code 0 if all is well, 65 if not
    Check(DbCheck),
    /// Say what the store holds and what it takes
    Stats(DbStore),
    /// Move rows to where they rest, and give back the room of those that are gone
    Compact(DbStore),
    /// Take final blocks back, as far as their states are kept
    Rollback(DbRollback),
}

/// Which store.
#[derive(Args, Debug)]
pub struct DbStore {
    /// The chain: a preset (`dev`) or a chain spec file, plain or gzipped
    #[arg(long, value_name = "PRESET|FILE")]
    pub chain: String,
    /// The data directory; by default `rustorium/<chain id>` in the user's data folder
    #[arg(long, value_name = "FOLDER")]
    pub base_path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `db rollback`.
#[derive(Args, Debug)]
pub struct DbRollback {
    /// Which store.
    #[command(flatten)]
    pub store: DbStore,
    /// The number of the block that is to be the head
    #[arg(long, value_name = "NUMBER")]
    pub to: u64,
    /// Do it: what is taken back is gone for good
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `db check`.
#[derive(Args, Debug)]
pub struct DbCheck {
    /// Which store.
    #[command(flatten)]
    pub store: DbStore,
    /// Build the tree anew from its leaves, read every value, prove random keys
    #[arg(long)]
    pub deep: bool,
    /// Mend what can be mended: checks deeply, says what was done, and ends with 0 if all is well then
    #[arg(long)]
    pub repair: bool,
}
