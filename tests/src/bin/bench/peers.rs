//! Other stores under the same workload, each in a process of its own: durable commits, reads and proofs.
//!
//! A run is one process and a fresh store: it loads the keys, applies some blocks that do not count and those that do,
//! reads, and proves. Runs go in turn through all stores, so that whatever else the machine does hits them alike, and the
//! median counts. A commit is timed from outside: from the block in memory to the answer that it is durable and its root
//! known. Ours puts final blocks into their columns behind its writer's back: none waits when the counting begins, and the
//! last are waited for, so that updates a second and CPU time have all of it ([`Peer::settle`]); the median commit has what
//! a caller waits. CPU time is that of all threads; of the work that RocksDB puts off it has what falls into that time.
//!
//! Nobody's cache is tuned to the workload; all hold most of the state. What each does and does not do is in its entry of
//! [`ENTRIES`] and in its file. All of them but ours take the random keys as they are; ours hashes each one to its path.

#[cfg(feature = "peers")]
mod eth_trie;
#[cfg(feature = "peers")]
mod jmt;
#[cfg(feature = "peers")]
mod nomt;
mod ours;
#[cfg(feature = "peers")]
mod redb;
#[cfg(feature = "peers")]
mod rocksdb;
mod run;

use std::path::Path;

use anyhow::Context as _;

use self::run::{Outcome, Run};
use crate::machine::median;
use crate::store::Phases;
use crate::table::{Table, digits, megabytes, thousands};
use crate::workload::{Key, Scale, Update};
use crate::{Choices, own};

/// A store under measurement, open.
pub(crate) trait Peer {
    /// Applies a block, which is sorted by key. When this returns it is durable, and its root is known if there is one.
    fn commit(&mut self, block: Vec<Update>) -> anyhow::Result<()>;

    /// Does what commits have put off, as far as it is their own doing: it counts among them.
    fn settle(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// The newest value of a key.
    fn read(&mut self, key: &Key) -> anyhow::Result<Option<Vec<u8>>>;

    /// What proves the newest value of a key, encoded. Asked only of stores that prove.
    fn prove(&mut self, key: &Key) -> anyhow::Result<Vec<u8>>;

    /// Decodes a proof and verifies that under the newest root the key has this value. Asked only of stores that prove.
    fn verify(&mut self, proof: &[u8], key: &Key, value: &[u8]) -> anyhow::Result<()>;

    /// Where the time of the last commit went, as far as the store tells.
    fn phases(&mut self) -> Phases {
        Phases::new()
    }

    /// Ends its threads and lets go of its files.
    fn close(self: Box<Self>) -> anyhow::Result<()>;
}

/// A store that can be measured.
struct Entry {
    name: &'static str,
    /// What it is, and what it does and does not do.
    about: &'static str,
    proves: bool,
    /// Opens the store in a folder that exists, or makes it.
    open: fn(&Path) -> anyhow::Result<Box<dyn Peer>>,
    /// Why it cannot run here.
    refused: fn() -> Option<&'static str>,
}

/// All stores, ours first.
const ENTRIES: &[Entry] = &[
    Entry {
        name: "ours",
        about: "Verkle tree on RocksDB, through the state's public door. Root of the state alone; newest state and every \
                block's header kept, keys listed. A proof is a witness; it is verified once before it is handed out",
        proves: true,
        open: ours::open,
        refused: || None,
    },
    #[cfg(feature = "peers")]
    Entry {
        name: "nomt",
        about: "nomt 1.0.5: binary Merkle trie (BLAKE3) on its own files through io_uring. Root of the state alone; newest \
                state kept; commits on all cores, no witness of the block, no rollback log",
        proves: true,
        open: nomt::open,
        refused: nomt::refused,
    },
    #[cfg(feature = "peers")]
    Entry {
        name: "jmt",
        about: "jmt 0.12: Jellyfish Merkle tree (BLAKE3) on RocksDB, its batched call. Root of the state alone; one thread; \
                every version kept, nothing pruned, which spares it deletes",
        proves: true,
        open: jmt::open,
        refused: || None,
    },
    #[cfg(feature = "peers")]
    Entry {
        name: "eth_trie",
        about: "eth_trie 0.6: Ethereum's Merkle-Patricia trie (Keccak) on RocksDB. Root of the state alone; one thread; \
                newest state kept; values lie in the tree",
        proves: true,
        open: eth_trie::open,
        refused: || None,
    },
    #[cfg(feature = "peers")]
    Entry {
        name: "rocksdb",
        about: "RocksDB alone: a row a key, a synced batch a block. No root, no proofs; what ours and two others rest on",
        proves: false,
        open: rocksdb::open,
        refused: || None,
    },
    #[cfg(feature = "peers")]
    Entry {
        name: "redb",
        about: "redb 4.6 alone: a row a key, a synced transaction a block. No root, no proofs",
        proves: false,
        open: redb::open,
        refused: || None,
    },
];

/// How it went with one store.
struct Result {
    entry: &'static Entry,
    runs: Vec<Run>,
}

impl Result {
    fn median(&self, of: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(of))
    }
}

/// Measures all stores in child processes and prints the tables.
pub(crate) fn measure(choices: &Choices, scale: &Scale) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("rustorium-bench-").tempdir_in(&choices.folder)?;
    let is_chosen = |entry: &&Entry| choices.stores.is_empty() || choices.stores.contains(&entry.name.into());
    let mut left: Vec<Result> = ENTRIES.iter().filter(is_chosen).map(|entry| Result { entry, runs: vec![] }).collect();
    let mut failed = Vec::new();
    for _ in 0..scale.runs {
        left.retain_mut(|result| {
            let Entry { name, .. } = result.entry;
            let place = folder.path().join(name);
            let outcome = own(choices, &["peer".to_owned(), (*name).to_owned(), place.display().to_string()]);
            let cleared = if place.exists() { std::fs::remove_dir_all(place) } else { Ok(()) };
            match outcome.and_then(|outcome| Ok(cleared.map(|()| outcome)?)) {
                Ok(Outcome::Done(run)) => {
                    result.runs.push(run);
                    return true;
                }
                Ok(Outcome::Refused(why)) => println!("\n**{name}: skipped: {why}**"),
                Err(error) => {
                    println!("\n**{name}: failed: {error:#}**");
                    failed.push(*name);
                }
            }
            false
        });
    }
    print(&left, scale);
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// The run of one store, in its own process: prints the outcome for the parent.
pub(crate) fn run(name: &str, folder: &Path, seed: u64, scale: &Scale) -> anyhow::Result<()> {
    let entry = ENTRIES.iter().find(|entry| entry.name == name).context("no such store")?;
    let outcome = run::in_full(entry, folder, seed, scale)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn print(results: &[Result], scale: &Scale) {
    let ours = results.iter().find(|result| result.entry.name == "ours");
    let ratio = |result: &Result, of: fn(&Run) -> f64| match ours {
        Some(ours) if result.entry.name != "ours" => digits(ours.median(of) / result.median(of)),
        _ => String::new(),
    };
    let rate: fn(&Run) -> f64 = |run| 1e6 / run.update.wall_us;
    let cpu: fn(&Run) -> f64 = |run| run.update.cpu_us;
    let mut commits = Table::new([
        "store",
        "a commit",
        "updates/s",
        "ours ÷ it",
        "CPU µs/update",
        "ours ÷ it",
        "loaded, keys/s",
        "CPU µs/key",
        "peak memory",
        "on disk",
    ]);
    let mut proofs = Table::new(["store", "a read, µs", "proof, bytes", "made, µs", "verified, µs", "both, ours ÷ it"]);
    for result in results {
        let entry = result.entry;
        commits.row([
            entry.name.to_owned(),
            format!("{} ms", digits(result.median(|run| run.commit_ms))),
            digits(result.median(rate)),
            ratio(result, rate),
            digits(result.median(cpu)),
            ratio(result, cpu),
            digits(result.median(|run| 1e6 / run.load.wall_us)),
            digits(result.median(|run| run.load.cpu_us)),
            megabytes(result.median(|run| run.peak_bytes as f64) as u64),
            megabytes(result.median(|run| run.disk_bytes as f64) as u64),
        ]);
        let mut row = vec![entry.name.to_owned(), digits(result.median(|run| run.read.wall_us))];
        if entry.proves && scale.proofs > 0 {
            row.push(digits(result.median(|run| run.proof_bytes)));
            row.push(digits(result.median(|run| run.prove.wall_us)));
            row.push(digits(result.median(|run| run.verify.wall_us)));
            row.push(ratio(result, |run| run.prove.wall_us + run.verify.wall_us));
        }
        proofs.row(row);
    }
    let Scale { keys, updates, blocks, runs, warm_up, reads, proofs: proved, .. } = *scale;
    let thousands = |count| thousands(count as u64);
    commits.print(&format!(
        "Durable commits (fsync) with root: {} updates each, half of them new keys, on {} keys; {blocks} commits after \
         {warm_up} that do not count, runs: {runs}",
        thousands(updates),
        thousands(keys)
    ));
    proofs.print(&format!("{} point reads, {} proofs of one key each", thousands(reads), thousands(proved)));
    for result in results {
        println!("- {}: {}.", result.entry.name, result.entry.about);
        let last = result.runs.last().expect("a store that is left has run");
        let phases: Vec<String> =
            last.phases_ms.iter().map(|(name, ms)| format!("{name} {} ms", digits(*ms))).collect();
        if !phases.is_empty() {
            println!("  Of a commit, by its own account, in the last run: {}.", phases.join(", "));
        }
    }
}
