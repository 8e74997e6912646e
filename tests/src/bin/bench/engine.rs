//! The state engine on RocksDB: blocks above each other, what makes them durable, reads through them, and a store of many
//! keys after a crash.
//!
//! It takes two processes. The first loads the keys in blocks, lays unfinalised blocks over
//! them and measures these; it ends without closing anything, as a crash would have it, with a journal that is as long as
//! it gets. The second opens what is left, reads, applies a few blocks, and tells the most memory that it had. *Rows
//! alone* is RocksDB, with the same settings and the same keys loaded, taking exactly the batches that our engine
//! committed for blocks like those measured, synced where ours were, with nothing computed.

mod cost;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use rustorium_state::backend::{Backend, BackendError, Batch, Column, Compacted, Durability, Rocks, RocksConfig};
use rustorium_state::backend::{Snapshot, Stats};
use rustorium_state::{At, BlockHash, Config, Finality, View};
use serde::{Deserialize, Serialize};

use self::cost::{Batches, Cost, Measured};
use crate::machine::{Took, median, peak_bytes, timed};
use crate::store::{Account, Store, committer, without_history};
use crate::table::{Table, digits, megabytes, thousands, time};
use crate::workload::{Scale, Update, Workload};
use crate::{Choices, own};

/// Updates of a block that is measured, and how many of them.
const UPDATES: usize = 100_000;
const BLOCKS: usize = 5;
/// And of smaller ones, before, whose cost is told beside.
const FEW_UPDATES: usize = 10_000;
const FEW_BLOCKS: usize = 10;
/// Unfinalised blocks that are read through, and their updates.
const DEEP: usize = 64;
const DEEP_UPDATES: usize = 1000;
/// Keys of a block that loads.
const LOAD: usize = 250_000;

/// What the first process found.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Made {
    loaded_us: f64,
    /// Keys a second.
    applied: f64,
    durable: f64,
    rows_alone: f64,
    /// Medians of reads, in microseconds.
    read_final_us: f64,
    read_deep_us: f64,
    columns: Vec<(String, u64)>,
    costs: Vec<Cost>,
}

/// What the second process found.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Found {
    open_ms: f64,
    journal_blocks: u64,
    /// 99th percentiles of reads, in microseconds: from the page cache, and again from our own.
    read_cold_us: f64,
    read_cached_us: f64,
    first_block_ms: f64,
    peak_bytes: u64,
}

pub(crate) fn measure(choices: &Choices, scale: &Scale) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("rustorium-bench-").tempdir_in(&choices.folder)?;
    let keys = scale.keys;
    let mut table = Table::new([
        "keys",
        "loaded, keys/s",
        "applied, keys/s",
        "made durable",
        "rows alone",
        "ours ÷ rows alone",
        "read, final",
        "through 64 blocks",
        "÷ final",
    ]);
    let mut after = Table::new([
        "keys",
        "opened after a crash",
        "its journal, blocks",
        "read, p99, page cache",
        "read, p99, cached",
        "first block",
        "peak memory",
        "node ÷ (leaf + big), bytes",
    ]);
    let path = folder.path().display().to_string();
    let process = |part: &str| [part.to_owned(), path.clone(), keys.to_string()];
    let made: Made = own(choices, &process("engine-made"))?;
    let found: Found = own(choices, &process("engine-found"))?;
    let us = |us: f64| time(Duration::from_secs_f64(us / 1e6));
    table.row([
        thousands(keys as u64),
        digits(1e6 / made.loaded_us),
        digits(made.applied),
        format!("{} keys/s", digits(made.durable)),
        format!("{} keys/s", digits(made.rows_alone)),
        digits(made.durable / made.rows_alone),
        us(made.read_final_us),
        us(made.read_deep_us),
        digits(made.read_deep_us / made.read_final_us),
    ]);
    let column = |name: &str| made.columns.iter().find(|(column, _)| column == name).map_or(0, |(_, bytes)| *bytes);
    after.row([
        thousands(keys as u64),
        us(found.open_ms * 1e3),
        digits(found.journal_blocks as f64),
        us(found.read_cold_us),
        us(found.read_cached_us),
        us(found.first_block_ms * 1e3),
        megabytes(found.peak_bytes),
        digits(column("node") as f64 / (column("leaf") + column("big")) as f64),
    ]);
    let (updates, blocks) = (thousands(UPDATES as u64), thousands(BLOCKS as u64));
    table.print(&format!(
        "Blocks of {updates} updates, half new: {blocks} applied (root, journal synced, not final), then finalised and \
         put into their columns; reads of random keys, medians, through {DEEP} blocks of {DEEP_UPDATES} updates"
    ));
    cost::print(&made.costs, keys);
    after.print("A store after a crash: opened, read, and gone on with, as the node has it; columns after compaction");
    Ok(())
}

/// The first process.
pub(crate) fn made(path: &Path, keys: usize, seed: u64) -> anyhow::Result<()> {
    let backend = Arc::new(Recording::new(Rocks::open(path, &RocksConfig::default())?));
    let committer = committer();
    let config = Config { finality: Finality::Engine, ..without_history(committer.clone()) };
    let store = Store::open_on(backend.clone(), config)?;
    let mut made = Made::default();
    let workload = workload(seed, keys, UPDATES);
    let (loading, loaded) = timed(|| -> anyhow::Result<()> {
        workload.load().try_for_each(|block| store.finalize(apply(&store, block)?.0))?;
        store.flush()
    });
    loaded?;
    made.loaded_us = loading.wall.as_secs_f64() * 1e6 / keys as f64;
    backend.inner.compact(Column::Leaf, &mut |_| std::ops::ControlFlow::Continue(()))?;
    backend.inner.compact(Column::Node, &mut |_| std::ops::ControlFlow::Continue(()))?;
    let stats = backend.stats();
    made.columns = Column::ALL.map(|column| (column.name().to_owned(), stats.column(column).disk_bytes)).to_vec();

    let mut grown = keys;
    for (updates, count) in [(FEW_UPDATES, FEW_BLOCKS), (UPDATES, BLOCKS)] {
        let workload = self::workload(seed, grown, updates);
        grown += (2 + 2 * count) * updates / 2;
        let mut blocks = workload.blocks();
        // Two that do not count: the nodes they meet are not in memory.
        settle(&store, &blocks.by_ref().take(2).collect::<Vec<_>>())?;
        let first: Vec<_> = blocks.by_ref().take(count).collect();
        let (applied, settled, told) = settle(&store, &first)?;
        // What blocks like these commit: taking it down costs, so these are not measured.
        backend.start();
        settle(&store, &blocks.take(count).collect::<Vec<_>>())?;
        let batches = backend.stop();
        let measured = Measured { blocks: &first, applied, settled, told: &told, batches: &batches };
        made.costs.push(Cost::of(&measured, &committer, path.parent().context("a folder")?)?);
        if updates == UPDATES {
            let rate = |wall: Duration| (updates * count) as f64 / wall.as_secs_f64();
            (made.applied, made.durable) = (rate(applied.wall), rate(applied.wall + settled.wall));
            // The same rows once more, over what is there.
            let commit = |(batch, durability)| backend.inner.commit(batch, durability);
            let (took, done) = timed(|| batches.into_iter().try_for_each(commit));
            done?;
            made.rows_alone = rate(took.wall);
        }
    }

    deep(&store, seed, keys, &mut made)?;
    println!("{}", serde_json::to_string(&made)?);
    // No thread ends well, no file is closed: what a crash leaves.
    std::process::exit(0);
}

/// Applies blocks, then makes them final and puts them into their columns; what both took, and what the writer told.
fn settle(store: &Store, blocks: &[Vec<Update>]) -> anyhow::Result<(Took, Took, Vec<Account>)> {
    let (mut applying, mut told, mut last) = (Took::default(), Vec::new(), None);
    for block in blocks {
        let block = block.clone();
        let (took, done) = timed(|| apply(store, block));
        let (hash, account) = done?;
        applying += took;
        told.push(account);
        last = Some(hash);
    }
    let (settling, done) = timed(|| store.finalize(last.context("a block")?).and_then(|()| store.flush()));
    done?;
    Ok((applying, settling, told))
}

/// Lays blocks over the final one and reads through them.
fn deep(store: &Store, seed: u64, keys: usize, made: &mut Made) -> anyhow::Result<()> {
    let workload = self::workload(seed, keys, DEEP_UPDATES);
    for block in workload.blocks().take(DEEP) {
        apply(store, block)?;
    }
    let keys = self::workload(seed, keys, UPDATES).loaded("reads", 0, 20_000);
    let (head, last) = (store.reader.head(), store.reader.at(At::Finalized)?);
    // In turn, and each key once: none of them is in our own cache.
    let mut times = [Vec::new(), Vec::new()];
    for (index, key) in keys.iter().enumerate() {
        let view: &View = if index % 2 == 0 { &head } else { &last };
        let (took, value) = timed(|| view.value(key));
        value?.context("a key that was loaded")?;
        times[index % 2].push(took.wall);
    }
    let [deep, last] = times.map(|times| median(times).as_secs_f64() * 1e6);
    (made.read_deep_us, made.read_final_us) = (deep, last);
    Ok(())
}

/// The second process.
pub(crate) fn found(path: &Path, keys: usize, seed: u64) -> anyhow::Result<()> {
    let config = Config { finality: Finality::Engine, ..without_history(committer()) };
    let (took, store) = timed(|| Store::open_on(Arc::new(Rocks::open(path, &RocksConfig::default())?), config));
    let store = store?;
    let status = store.reader.status();
    let mut found = Found {
        open_ms: took.wall.as_secs_f64() * 1e3,
        journal_blocks: status.unfinalised_blocks + status.settled_blocks,
        ..Found::default()
    };
    let workload = workload(seed, keys, 10_000);
    let asked = workload.loaded("found", 0, 10_000);
    let view = store.reader.head();
    let percentile = || -> anyhow::Result<f64> {
        let mut times = Vec::with_capacity(asked.len());
        for key in &asked {
            let (took, value) = timed(|| view.value(key));
            value?.context("a key that was loaded")?;
            times.push(took.wall);
        }
        times.sort_unstable();
        Ok(times[times.len() * 99 / 100].as_secs_f64() * 1e6)
    };
    found.read_cold_us = percentile()?;
    // Nodes come into the cache with what walks through them.
    for keys in asked.chunks(1000) {
        view.witness(&keys.iter().map(|key| key.to_vec()).collect::<Vec<_>>(), u64::MAX)?;
    }
    found.read_cached_us = percentile()?;
    for (number, block) in workload.blocks().take(20).enumerate() {
        let (took, done) = timed(|| apply(&store, block));
        store.finalize(done?.0)?;
        if number == 0 {
            found.first_block_ms = took.wall.as_secs_f64() * 1e3;
        }
    }
    store.flush()?;
    found.peak_bytes = peak_bytes()?;
    store.close();
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

fn workload(seed: u64, keys: usize, updates: usize) -> Workload {
    let scale = Scale { keys, load: LOAD, updates, warm_up: 0, blocks: DEEP, reads: 0, proofs: 0, runs: 1 };
    Workload::new(seed, scale)
}

fn apply(store: &Store, block: Vec<Update>) -> anyhow::Result<(BlockHash, Account)> {
    let account = store.apply(block.into_iter().map(|(key, value)| (key.to_vec(), Some(value))).collect())?;
    Ok((store.reader.head().header().hash, account))
}

/// RocksDB, and what was committed to it.
struct Recording {
    inner: Rocks,
    batches: Mutex<Option<Batches>>,
}

impl Recording {
    fn new(inner: Rocks) -> Self {
        Self { inner, batches: Mutex::new(None) }
    }

    fn start(&self) {
        *self.batches.lock().expect("nobody panics with it") = Some(Vec::new());
    }

    fn stop(&self) -> Batches {
        self.batches.lock().expect("nobody panics with it").take().unwrap_or_default()
    }
}

impl Backend for Recording {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError> {
        if let Some(batches) = &mut *self.batches.lock().expect("nobody panics with it") {
            batches.push((batch.clone(), durability));
        }
        self.inner.commit(batch, durability)
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn compact(
        &self,
        column: Column,
        proceed: &mut dyn FnMut(Compacted) -> std::ops::ControlFlow<()>,
    ) -> Result<(), BackendError> {
        self.inner.compact(column, proceed)
    }
}
