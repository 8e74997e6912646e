//! What it costs to keep the past, and to read it.
//!
//! The same blocks go into two stores, of which one keeps the states of all blocks: first blocks of many updates, whose
//! time counts with the flushes that put them into the columns, then many small ones, so that there is a block far back.
//! Bytes are those of the columns `undo` and `undo_at` on disk when they are compacted, less the old values themselves.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustorium_state::backend::{Backend as _, Column, Rocks, RocksConfig};
use rustorium_state::{At, BlockHash, Change, Config, History, ReadError, View};

use crate::Choices;
use crate::machine::{Took, median, timed};
use crate::store::{Store, committer, without_history};
use crate::table::{Table, digits, thousands, time};
use crate::workload::{Key, Scale, Update, Workload};

/// Small blocks, and updates of each.
const SMALL_BLOCKS: usize = 1000;
const SMALL_BLOCKS_QUICK: usize = 100;
const SMALL_UPDATES: usize = 1000;
/// Keys of which witnesses are made and values read.
const KEYS: usize = 40;

pub(crate) fn measure(choices: &Choices, scale: &Scale) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("rustorium-bench-").tempdir_in(&choices.folder)?;
    let committer = committer();
    let without = run(choices, scale, &folder.path().join("without"), without_history(committer.clone()), None)?;
    let blocks = if choices.quick { SMALL_BLOCKS_QUICK } else { SMALL_BLOCKS };
    let config = Config { history: History::Archive, ..Config::new(committer.clone()) };
    let with = run(choices, scale, &folder.path().join("with"), config, Some(blocks))?;

    let (keys, updates) = (thousands(scale.keys as u64), thousands(scale.updates as u64));
    let mut table = Table::new(["", "without", "with", "with ÷ without"]);
    let ratio = |with: Duration, without: Duration| digits(with.as_secs_f64() / without.as_secs_f64());
    for (what, took) in [("wall", (|took: &Took| took.wall) as fn(&Took) -> Duration), ("CPU", |took| took.cpu)] {
        let (a, b) = (took(&without.blocks), took(&with.blocks));
        let name = format!("a block of {updates} on {keys} keys, flush counted, {what}");
        table.row([name, time(a / scale.blocks as u32), time(b / scale.blocks as u32), ratio(b, a)]);
    }
    table.print("What it costs to keep the past");
    let past = with.past.context("the store keeps its past")?;
    println!(
        "An update takes {} bytes of undo beyond the old value (blocks of {updates}), {} when blocks have {}.",
        digits(past.bytes_big),
        digits(past.bytes_small),
        thousands(SMALL_UPDATES as u64)
    );
    let mut table = Table::new(["one key, median", "at the head", "far back", "÷"]);
    let (head, back) = past.witness;
    table.row(["a witness".to_owned(), time(head), time(back), ratio(back, head)]);
    let (head, back) = past.value;
    table.row(["a value".to_owned(), time(head), time(back), ratio(back, head)]);
    table.print(&format!("Read {blocks} blocks back, each of {} updates", thousands(SMALL_UPDATES as u64)));
    println!("Keys at random, each met for the first time at either block; page cache warm.");
    Ok(())
}

/// How it went with one store.
struct Ran {
    blocks: Took,
    past: Option<Past>,
}

struct Past {
    bytes_big: f64,
    bytes_small: f64,
    /// At the head, and far back.
    witness: (Duration, Duration),
    value: (Duration, Duration),
}

fn run(choices: &Choices, scale: &Scale, path: &Path, config: Config, far: Option<usize>) -> anyhow::Result<Ran> {
    let backend = Arc::new(Rocks::open(path, &RocksConfig::default())?);
    let workload = Workload::new(choices.seed, *scale);
    let store = Store::open_on(backend.clone(), config)?;
    workload.load().try_for_each(|block| apply(&store, block))?;
    store.flush()?;
    let mut blocks = workload.blocks();
    blocks.by_ref().take(scale.warm_up).try_for_each(|block| apply(&store, block))?;
    store.flush()?;
    let before = undo_bytes(&backend)?;
    let from = store.reader.head().header().number;
    let (took, done) = timed(|| {
        blocks.try_for_each(|block| apply(&store, block))?;
        store.flush()
    });
    done?;
    let mut past = None;
    if let Some(far) = far {
        let then = store.reader.head().header().clone();
        let between = undo_bytes(&backend)?;
        let own = |bytes: u64, first: u64, last: u64, updates: usize| -> anyhow::Result<f64> {
            let blocks = (last - first) as f64 * updates as f64;
            Ok((bytes as f64 - old_bytes(&store, first + 1, last)? as f64) / blocks)
        };
        let bytes_big = own(between - before, from, then.number, scale.updates)?;
        let small = Scale { keys: scale.keys, updates: SMALL_UPDATES, warm_up: 0, blocks: far, ..*scale };
        let small = Workload::new(choices.seed + 1, small);
        small.blocks().try_for_each(|block| apply(&store, block))?;
        store.flush()?;
        let last = store.reader.head().header().number;
        let bytes_small = own(undo_bytes(&backend)? - between, then.number, last, SMALL_UPDATES)?;
        let keys = |part: &str| workload.loaded(part, 0, KEYS);
        let witness = both(&store, then.hash, [keys("head"), keys("back")], |view, key| {
            view.witness(&[key], u64::MAX).map(drop)
        })?;
        let value =
            both(&store, then.hash, [keys("head value"), keys("back value")], |view, key| view.value(&key).map(drop))?;
        past = Some(Past { bytes_big, bytes_small, witness, value });
    }
    store.close();
    Ok(Ran { blocks: took, past })
}

fn apply(store: &Store, block: Vec<Update>) -> anyhow::Result<()> {
    let changes: Vec<Change> = block.into_iter().map(|(key, value)| (key.to_vec(), Some(value))).collect();
    store.apply(changes).map(drop)
}

/// What undo rows take on disk.
fn undo_bytes(backend: &Rocks) -> anyhow::Result<u64> {
    for column in [Column::Undo, Column::UndoAt] {
        backend.compact(column, &mut |_| ControlFlow::Continue(()))?;
    }
    let stats = backend.stats();
    Ok(stats.column(Column::Undo).disk_bytes + stats.column(Column::UndoAt).disk_bytes)
}

/// Bytes of the values that these blocks overwrote.
fn old_bytes(store: &Store, first: u64, last: u64) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for number in first..=last {
        let hash = store.reader.block_hash(number)?.context("a block of the chain")?;
        let old = store.reader.diff(&hash, u64::MAX)?.changes.into_iter().filter_map(|(_, old, _)| old);
        bytes += old.map(|value| value.len() as u64).sum::<u64>();
    }
    Ok(bytes)
}

/// The median time of a read at the head and at a block, each of keys of its own.
fn both(
    store: &Store,
    back: BlockHash,
    keys: [Vec<Key>; 2],
    read: impl Fn(&View, Vec<u8>) -> Result<(), ReadError>,
) -> anyhow::Result<(Duration, Duration)> {
    let median_at = |at: At, keys: &[Key]| -> anyhow::Result<Duration> {
        let view = store.reader.at(at)?;
        let took: anyhow::Result<Vec<Duration>> = keys
            .iter()
            .map(|key| {
                let (took, read) = timed(|| read(&view, key.to_vec()));
                read?;
                Ok(took.wall)
            })
            .collect();
        Ok(median(took?))
    };
    Ok((median_at(At::Head, &keys[0])?, median_at(At::Block(back), &keys[1])?))
}
