//! Where the CPU time of updates goes: from a block that comes to its rows in their columns.
//!
//! The whole is this process' CPU time while blocks were applied, finalised and flushed, all threads and the kernel's part
//! counted. Each part is what its work costs when it is done alone, in the same run: the bare additions that the
//! commitments need by formula, from points all over the table; the hashes; the rows of each kind, as the next blocks
//! committed them, into an empty RocksDB, through memtable and one sorted file, the journal's synced as ours are; as many
//! synced commits of next to nothing. *Reads* is what the walks took of their one thread. The rest is the
//! shape of the tree, nodes for the cache, layers, encoding, memory that is taken and given back, and what compaction does
//! more than once.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use rustorium_state::backend::{Backend as _, Batch, Column, Durability, Op, Rocks, RocksConfig};
use rustorium_verkle::{Committer, KeyPath, PointBytes, SlotScalar, ValueHash, WindowBits};
use serde::{Deserialize, Serialize};

use crate::commit::SCALAR_BITS;
use crate::machine::{Took, timed};
use crate::store::{Account, Phases};
use crate::table::{Table, digits, thousands};
use crate::workload::Update;

/// Of [`WindowBits::DEFAULT`].
const WINDOW_BITS: usize = 10;

/// Batches as they were committed.
pub(super) type Batches = Vec<(Batch, Durability)>;

/// What one size of block costs.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct Cost {
    pub(super) updates: usize,
    /// Microseconds of CPU for each update, applied, then finalised and flushed.
    applied_us: f64,
    settled_us: f64,
    /// The same of each part, by name.
    parts: Vec<(String, f64)>,
    /// Medians of what the writer tells of a block, in milliseconds.
    phases: Vec<(String, f64)>,
}

/// Blocks that were measured, and the commits of others like them.
pub(super) struct Measured<'a> {
    pub(super) blocks: &'a [Vec<Update>],
    pub(super) applied: Took,
    pub(super) settled: Took,
    pub(super) told: &'a [Account],
    pub(super) batches: &'a Batches,
}

impl Cost {
    pub(super) fn of(measured: &Measured<'_>, committer: &Committer, folder: &Path) -> anyhow::Result<Self> {
        let Measured { blocks, applied, settled, told, batches } = *measured;
        assert_eq!(WindowBits::new(WINDOW_BITS as u8), Some(WindowBits::DEFAULT));
        let updates: usize = blocks.iter().map(Vec::len).sum();
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / updates as f64;
        let slots: u64 = told.iter().map(|told| told.leaves + told.nodes).sum();
        let additions = slots as usize * (SCALAR_BITS / WINDOW_BITS + 1);
        let (curve, _) = timed(|| black_box(committer.bare_additions(additions, true)));
        let nodes: u64 = told.iter().map(|told| told.nodes).sum();
        let (hashing, ()) = timed(|| hash(blocks, nodes));
        let read: Duration = told.iter().map(|told| phase(&told.phases, "read_cpu")).sum();
        let mut parts = vec![("curve", curve.cpu), ("hashing", hashing.cpu), ("reads", read)];
        for (name, columns) in KINDS {
            parts.push((name, alone(batches, columns, folder)?.cpu));
        }
        parts.push(("fsync", synced(batches, folder)?.cpu));
        let median = |name: &str| {
            let all = told.iter().map(|told| phase(&told.phases, name).as_secs_f64() * 1e3);
            crate::machine::median(all)
        };
        Ok(Self {
            updates: blocks[0].len(),
            applied_us: each(applied.cpu),
            settled_us: each(settled.cpu),
            parts: parts.into_iter().map(|(name, cpu)| (name.to_owned(), each(cpu))).collect(),
            phases: PHASES.iter().map(|name| ((*name).to_owned(), median(name))).collect(),
        })
    }
}

/// The kinds of rows.
const KINDS: [(&str, &[Column]); 4] = [
    ("leaf rows", &[Column::Leaf, Column::Big]),
    ("node rows", &[Column::Node]),
    ("index", &[Column::Index]),
    ("journal rows", &[Column::Fork]),
];
/// The parts of applying a block.
const PHASES: [&str; 4] = ["read", "compute", "journal", "publish"];

pub(super) fn print(costs: &[Cost], keys: usize) {
    let mut table = Table::new(
        ["CPU of an update, µs".to_owned()]
            .into_iter()
            .chain(costs.iter().map(|cost| format!("blocks of {}", thousands(cost.updates as u64)))),
    );
    let mut row = |name: &str, of: &dyn Fn(&Cost) -> f64| {
        table.row([name.to_owned()].into_iter().chain(costs.iter().map(|cost| digits(of(cost)))));
    };
    let whole = |cost: &Cost| cost.applied_us + cost.settled_us;
    row("all of it", &whole);
    row("until applied", &|cost| cost.applied_us);
    row("finalised and flushed", &|cost| cost.settled_us);
    for (index, (name, _)) in costs[0].parts.iter().enumerate() {
        row(&format!("— {name}"), &|cost| cost.parts[index].1);
    }
    row("— the rest", &|cost| whole(cost) - cost.parts.iter().map(|(_, us)| us).sum::<f64>());
    for (index, (name, _)) in costs[0].phases.iter().enumerate() {
        row(&format!("a block's {name}, median, ms of wall time"), &|cost| cost.phases[index].1);
    }
    table.print(&format!(
        "Where the CPU time of updates goes, half of them new, on {} keys; each part as it costs alone",
        thousands(keys as u64)
    ));
}

fn phase(phases: &Phases, name: &str) -> Duration {
    phases.iter().find(|(phase, _)| phase == name).map_or(Duration::ZERO, |(_, time)| *time)
}

/// The hashes of these blocks: of keys, values, leaves' slots, the blocks' content, and as many nodes.
fn hash(blocks: &[Vec<Update>], nodes: u64) {
    let mut content = blake3::Hasher::new();
    for (key, value) in blocks.iter().flatten() {
        let (path, value_hash) = (KeyPath::of(key), ValueHash::of(value));
        black_box(SlotScalar::leaf(&path, &value_hash));
        content.update(key).update(value);
    }
    black_box(content.finalize());
    let commitment = PointBytes([7; 48]);
    for _ in 0..nodes {
        black_box(SlotScalar::node(black_box(&commitment)));
    }
}

/// The rows of these columns, committed as they were, into an empty store.
fn alone(batches: &Batches, columns: &[Column], folder: &Path) -> anyhow::Result<Took> {
    let folder = tempfile::tempdir_in(folder)?;
    let rocks = Rocks::open(folder.path(), &RocksConfig::default())?;
    let kept: Batches = batches.iter().map(|(batch, durability)| (only(batch, columns), *durability)).collect();
    let (took, done) = timed(|| -> anyhow::Result<()> {
        for (batch, durability) in kept.into_iter().filter(|(batch, _)| !batch.is_empty()) {
            rocks.commit(batch, durability)?;
        }
        for column in columns {
            rocks.compact(*column, &mut |_| ControlFlow::Continue(()))?;
        }
        Ok(())
    });
    done?;
    Ok(took)
}

fn only(batch: &Batch, columns: &[Column]) -> Batch {
    let mut kept = Batch::new();
    for op in batch.ops() {
        match op {
            Op::Put { column, key, value } if columns.contains(&column) => kept.put(column, key, value),
            Op::Delete { column, key } if columns.contains(&column) => kept.delete(column, key),
            _ => {}
        }
    }
    kept
}

/// As many synced commits, of one small row each.
fn synced(batches: &Batches, folder: &Path) -> anyhow::Result<Took> {
    let folder = tempfile::tempdir_in(folder)?;
    let rocks = Rocks::open(folder.path(), &RocksConfig::default())?;
    let count = batches.iter().filter(|(_, durability)| *durability == Durability::Synced).count();
    let (took, done) = timed(|| {
        (0..count).try_for_each(|number| {
            let mut batch = Batch::new();
            batch.put(Column::Meta, b"bench", &number.to_le_bytes());
            rocks.commit(batch, Durability::Synced)
        })
    });
    done?;
    Ok(took)
}
