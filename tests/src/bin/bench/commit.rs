//! What a block costs in arithmetic, beside its floor: commits and proofs on a tree in memory, nothing durable.
//!
//! Timed is [`Subtree::apply`](rustorium_verkle::Subtree): the shape of the new tree, all hashing and all commitments, from
//! nodes and leaves that were loaded before. The *floor*, in the same run, is the bare additions that the batch needs by
//! formula, by the same kernel on all threads: `⌊248/w⌋ + 1` for each slot that changes, windows being `w` bits wide;
//! once on points that stay in the cache, once on points from all over the table. What else a batch does is measured alone,
//! too, so that what is left over is known: inversions, digits, merges, the shape. Two batches that do not count go before.

use std::hint::black_box;
use std::time::Duration;

use rustorium_verkle::curve::Kernel;
use rustorium_verkle::{Change, Committer, Delta, SlotScalar, WindowBits};

use crate::Choices;
use crate::machine::{Took, cores, medians, peak_bytes, timed};
use crate::memory::Tree;
use crate::proofs::Proofs;
use crate::table::{Table, digits, megabytes, thousands, time};

/// Bits of the scalars that the spec allows in slots.
pub(crate) const SCALAR_BITS: usize = 248;
/// Times that a floor is measured.
const FLOORS: usize = 3;
/// The floors, by what their columns are called, and whether the table's points come from memory.
const FLOOR_KINDS: [(&str, bool); 2] = [("floor, cached", false), ("floor, cold", true)];
/// The batch whose parts are told apart, and whose keys are proved.
const BLOCK: usize = 10_000;
/// Batches of each row that do not count.
const WARM_ROUNDS: usize = 2;

/// One row of the table.
#[derive(Clone, Copy)]
struct Run {
    kernel: Kernel,
    bits: u8,
    keys: usize,
    batch: usize,
    rounds: usize,
}

/// The batches of the table, on a tree that grows from run to run.
fn runs(quick: bool) -> Vec<Run> {
    let all = [(1, 200), (16, 100), (100, 50), (1000, 20), (BLOCK, 9), (100_000, 3), (1_000_000, 3)];
    let (keys, most) = if quick { (300_000, 100_000) } else { (1_000_000, 1_000_000) };
    let mut runs = Vec::new();
    let fastest = Kernel::available()[0];
    for kernel in Kernel::available() {
        for bits in if kernel == fastest { vec![10, 8] } else { vec![8] } {
            // The widths and kernels that a node does not use show what the choice is worth.
            let chosen = kernel == fastest && bits == 10;
            let batches = all.iter().filter(|(batch, _)| if chosen { *batch <= most } else { *batch == BLOCK });
            runs.extend(batches.map(|(batch, rounds)| Run { kernel, bits, keys, batch: *batch, rounds: *rounds }));
        }
    }
    if !quick {
        runs.push(Run { kernel: fastest, bits: 10, keys: 10_000_000, batch: BLOCK, rounds: 9 });
    }
    runs
}

/// Prints the tables of commits and of proofs in memory.
pub(crate) fn measure(choices: &Choices) -> anyhow::Result<()> {
    let mut tree = Tree::new(choices.seed);
    let mut committer = prepared(Kernel::available()[0], 10);
    let mut head = vec!["kernel", "window", "keys", "batch", "a commit", "keys/s", "CPU µs/key", "additions"];
    head.extend(FLOOR_KINDS.iter().flat_map(|(name, _)| [*name, "÷ ours", "its CPU", "÷ ours"]));
    let mut table = Table::new(head);
    let mut parts = None;
    let mut proofs = None;
    let (mut kernel, mut bits) = (Kernel::available()[0], 10);
    for run in runs(choices.quick) {
        if (run.kernel, run.bits) != (kernel, bits) {
            (kernel, bits) = (run.kernel, run.bits);
            committer = prepared(kernel, bits);
        }
        tree.grow(run.keys, &committer);
        table.row(commits(&mut tree, &committer, &run)?);
        if run.batch == BLOCK && parts.is_none() {
            parts = Some(parts_of(&mut tree, &committer, &run)?);
            proofs = Some(Proofs::measure(&mut tree, &committer, BLOCK)?);
        }
    }
    table.print("Commits in memory, nothing durable, beside the bare additions that they need");
    if let Some(parts) = parts {
        parts.print(&format!(
            "Where the time of a batch of {} goes, first row's kernel and windows",
            thousands(BLOCK as u64)
        ));
    }
    if let Some(proofs) = proofs {
        proofs.print();
    }
    println!("Peak memory of this part: {}.", megabytes(peak_bytes()?));
    Ok(())
}

fn prepared(kernel: Kernel, bits: u8) -> Committer {
    let committer = Committer::with_kernel(WindowBits::new(bits).expect("a width that tables have"), kernel);
    let (took, ()) = timed(|| committer.prepare());
    let megabytes = megabytes(committer.table_bytes() as u64);
    println!("Tables of {bits}-bit windows, kernel {}: {megabytes}, built in {}.", kernel.name(), time(took.wall));
    committer
}

/// Slots that change: one for each leaf, and one for each node but the root.
fn additions(delta: &Delta, bits: u8) -> usize {
    (delta.leaves.len() + delta.nodes.len() - 1) * (SCALAR_BITS / bits as usize + 1)
}

fn commits(tree: &mut Tree, committer: &Committer, run: &Run) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    let mut count = 0;
    for round in 0..WARM_ROUNDS + run.rounds {
        let changes = tree.batch(run.batch);
        let subtree = tree.to_commit(&changes);
        let (took, delta) = timed(|| subtree.apply(committer));
        all.extend((round >= WARM_ROUNDS).then_some(took));
        count = additions(&delta, run.bits);
    }
    let ours = medians(&all);
    let mut row = vec![
        run.kernel.name().to_owned(),
        format!("{} bits", run.bits),
        thousands(run.keys as u64),
        thousands(run.batch as u64),
        time(ours.wall),
        digits(run.batch as f64 / ours.wall.as_secs_f64()),
        digits(ours.cpu.as_secs_f64() * 1e6 / run.batch as f64),
        thousands(count as u64),
    ];
    for (_, cold) in FLOOR_KINDS {
        let floor = floor(|| committer.bare_additions(count, cold));
        let share = |of: fn(&Took) -> Duration| digits(of(&floor).as_secs_f64() / of(&ours).as_secs_f64());
        row.extend([time(floor.wall), share(|took| took.wall), time(floor.cpu), share(|took| took.cpu)]);
    }
    Ok(row)
}

fn floor(bare: impl Fn() -> u64) -> Took {
    let all: Vec<Took> = (0..FLOORS).map(|_| timed(|| black_box(bare())).0).collect();
    medians(&all)
}

/// What a batch consists of, each part alone, as far as it can be done alone.
const PARTS: [&str; 8] = [
    "the batch, on all cores",
    "the same, making whole nodes for a cache",
    "the batch, on one thread",
    "bare additions, on all cores",
    "compress and hash nodes",
    "hash leaves, old and new",
    "sort changes",
    "the rest: inversions, digits, merges, shape",
];

fn parts_of(tree: &mut Tree, committer: &Committer, run: &Run) -> anyhow::Result<Table> {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut all: [Vec<Took>; PARTS.len()] = Default::default();
    for _ in 0..run.rounds {
        let changes = tree.batch(run.batch);
        let subtree = tree.to_commit(&changes);
        let (whole, delta) = timed(|| subtree.apply(committer));
        let subtree = tree.to_update(&changes);
        let (cached, _) = timed(|| subtree.apply(committer));
        let subtree = tree.to_commit(&changes);
        let (single, _) = timed(|| one.install(|| subtree.apply(committer)));
        let count = additions(&delta, run.bits);
        let (bare, _) = timed(|| black_box(committer.bare_additions(count, false)));
        let (nodes, _) = timed(|| black_box(hash_nodes(&delta)));
        let (leaves, _) = timed(|| black_box(hash_leaves(&delta)));
        let (sort, _) = timed(|| black_box(sorted(changes)));
        let known: Duration = [bare, nodes, leaves, sort].iter().map(|took| took.cpu).sum();
        let rest = Took { wall: Duration::ZERO, cpu: whole.cpu.saturating_sub(known) };
        for (all, took) in all.iter_mut().zip([whole, cached, single, bare, nodes, leaves, sort, rest]) {
            all.push(took);
        }
    }
    let parts = all.map(|all| medians(&all));
    let whole = parts[0];
    let mut table = Table::new(["part", "wall", "CPU", "of the batch's CPU"]);
    for (name, took) in PARTS.iter().zip(parts) {
        let wall = if took.wall.is_zero() { String::new() } else { time(took.wall) };
        let share = took.cpu.as_secs_f64() / whole.cpu.as_secs_f64();
        table.row([(*name).to_owned(), wall, time(took.cpu), format!("{:.0} %", share * 100.0)]);
    }
    let idle = 1.0 - whole.cpu.as_secs_f64() / (whole.wall.as_secs_f64() * cores()? as f64);
    table.row(["cores idle, or taken by others, meanwhile".into(), format!("{:.0} %", idle * 100.0)]);
    Ok(table)
}

fn hash_nodes(delta: &Delta) -> Vec<SlotScalar> {
    let rows = delta.nodes.iter().filter_map(|node| node.new);
    rows.map(|row| SlotScalar::node(&row.commitment.encode())).collect()
}

fn hash_leaves(delta: &Delta) -> Vec<SlotScalar> {
    let leaves = delta.leaves.iter().flat_map(|leaf| [leaf.old, leaf.new].map(|value| (leaf.path, value)));
    leaves.filter_map(|(path, value)| Some(SlotScalar::leaf(&path, &value?))).collect()
}

fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_unstable_by_key(|change| change.path);
    changes
}
