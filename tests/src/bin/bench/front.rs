//! The front of the store on RocksDB: writes of many tasks at once, writes with proofs, and large batches.
//!
//! *Acknowledged* is durable: synced. Blocks are made meanwhile, as many as come due; *in blocks* is the time until the
//! last of them is kept, from the first write. Tasks run on a tokio runtime with a thread for each core, and each has one
//! write under way. Half of the keys are new ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustorium_state::backend::{Rocks, RocksConfig};
use rustorium_state::{Change, Config, Front, FrontConfig, Storage as _};
use tokio::runtime::Runtime;

use crate::Choices;
use crate::machine::{Took, Watch, cores, median};
use crate::store::{Store, committer};
use crate::table::{Table, digits, thousands, time};
use crate::workload::{Scale, Update, Workload};

const TASKS: usize = 256;
/// Keys of a batch, and batches.
const BATCH: usize = 100_000;
const BATCHES: usize = 5;
/// Keys of a block that loads.
const LOAD: usize = 250_000;

/// What many writes took.
struct Taken {
    acknowledged: Took,
    /// Until all are in blocks.
    whole: Took,
    latencies: Vec<Duration>,
    blocks: u64,
}

pub(crate) fn measure(choices: &Choices, scale: &Scale) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("rustorium-bench-").tempdir_in(&choices.folder)?;
    let backend = Arc::new(Rocks::open(folder.path(), &RocksConfig::default())?);
    let store = Store::open_on(backend, Config::new(committer()))?;
    let (writes, proofs) = if choices.quick { (200_000, 20_000) } else { (1_000_000, 100_000) };
    let keys = scale.keys;
    let load = Workload::new(choices.seed, Scale { load: LOAD, ..*scale });
    for block in load.load() {
        store.apply(block.into_iter().map(|(key, value)| (key.to_vec(), Some(value))).collect())?;
    }
    store.flush()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores()?).enable_all().build()?;
    let front = runtime.block_on(Front::open(&store.handle, FrontConfig::default()))?;
    let mut new = keys;
    let mut updates = |count: usize| {
        let updates = load.shuffled(new, count);
        new += count / 2;
        updates
    };

    let mut table = Table::new([
        "what",
        "tasks",
        "writes",
        "writes/s",
        "p50",
        "p99",
        "in blocks, writes/s",
        "blocks",
        "CPU a write",
    ]);
    // The nodes that a block meets are in memory once there was one like it.
    run(&runtime, &store, &front, updates(writes / 5), false)?;
    row(&mut table, "write", &run(&runtime, &store, &front, updates(writes), false)?);
    run(&runtime, &store, &front, updates(proofs / 5), true)?;
    row(&mut table, "write_with_proof", &run(&runtime, &store, &front, updates(proofs), true)?);
    table.print(&format!(
        "The front on a tree of {} keys: synced, {} cores for tasks, blocks and disk together",
        thousands(keys as u64),
        cores()?
    ));
    batches(&runtime, &store, &front, &mut updates)?;
    runtime.block_on(front.close())?;
    drop(front);
    store.close();
    Ok(())
}

fn batches(
    runtime: &Runtime,
    store: &Store,
    front: &Front,
    updates: &mut dyn FnMut(usize) -> Vec<Update>,
) -> anyhow::Result<()> {
    let mut table = Table::new(["what", "keys", "accepted", "keys/s", "in a block", "keys/s"]);
    let (mut accepted, mut whole) = (Vec::new(), Vec::new());
    for number in 0..=BATCHES {
        let changes: Vec<Change> = updates(BATCH).into_iter().map(|(key, value)| (key.to_vec(), Some(value))).collect();
        let started = Instant::now();
        runtime.block_on(front.write_batch(changes))?;
        let taken = started.elapsed();
        runtime.block_on(front.seal())?;
        // The first meets nodes that are not in memory.
        if number > 0 {
            accepted.push(taken);
            whole.push(started.elapsed());
        }
        store.flush()?;
    }
    let rate = |time: Duration| digits(BATCH as f64 / time.as_secs_f64());
    let (accepted, whole) = (median(accepted), median(whole));
    table.row([
        "write_batch".into(),
        thousands(BATCH as u64),
        time(accepted),
        rate(accepted),
        time(whole),
        rate(whole),
    ]);
    table.print(&format!("Batches, medians of {BATCHES}: accepted is durable, and no root asked for"));
    Ok(())
}

fn row(table: &mut Table, what: &str, taken: &Taken) {
    let Taken { acknowledged, whole, latencies, blocks } = taken;
    let writes = latencies.len();
    let rate = |took: &Took| digits(writes as f64 / took.wall.as_secs_f64());
    let at = |part: usize| time(latencies[(writes * part / 100).min(writes - 1)]);
    let cpu = time(whole.cpu / writes as u32);
    let cells = [thousands(TASKS as u64), thousands(writes as u64), rate(acknowledged), at(50), at(99), rate(whole)];
    table.row([what.to_owned()].into_iter().chain(cells).chain([thousands(*blocks), cpu]));
}

/// All writes, by tasks that have one under way each.
fn run(runtime: &Runtime, store: &Store, front: &Front, updates: Vec<Update>, proved: bool) -> anyhow::Result<Taken> {
    let before = store.reader.head().header().number;
    let mut shares: Vec<Vec<Update>> = vec![Vec::new(); TASKS];
    for (index, update) in updates.into_iter().enumerate() {
        shares[index % TASKS].push(update);
    }
    let watch = Watch::start();
    let (acknowledged, mut latencies) = runtime.block_on(async {
        let tasks: Vec<_> = shares.into_iter().map(|share| tokio::spawn(task(front.clone(), share, proved))).collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        anyhow::Ok((watch.stop(), latencies))
    })?;
    let head = runtime.block_on(front.seal())?;
    let whole = watch.stop();
    store.flush()?;
    latencies.sort_unstable();
    Ok(Taken { acknowledged, whole, latencies, blocks: head.number - before })
}

async fn task(front: Front, share: Vec<Update>, proved: bool) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(share.len());
    for (key, value) in share {
        let started = Instant::now();
        match proved {
            false => front.write(key, value).await?,
            true => drop(front.write_with_proof(key, value).await?.witness.claims.first().context("a claim")?),
        }
        latencies.push(started.elapsed());
    }
    Ok(latencies)
}
