//! What whole trees cost, in memory: built in one pass from their sorted leaves, and every node checked against its
//! commitment (spec §7). Hashing of leaves and nodes is in both, hashing of keys and values in neither; beside the build stand
//! the bare additions that it needs.

use std::collections::HashMap;
use std::hint::black_box;

use rustorium_tests::chain::rng;
use rustorium_verkle::node::{self, Content};
use rustorium_verkle::tree::Bulk;
use rustorium_verkle::{Committer, KeyPath, Leaf, NodePath, Point, Slot, ValueHash, WindowBits};

use crate::Choices;
use crate::commit::SCALAR_BITS;
use crate::machine::{Took, median, peak_bytes, timed};
use crate::memory::hash;
use crate::table::{Table, digits, megabytes, thousands, time};

/// Windows of the tables.
const BITS: u8 = 10;
/// Leaves handed to the build at a time.
const PUSH_LEAVES: usize = 16_384;
/// Nodes checked at a time.
const CHECK_NODES: usize = 4096;
const REPEATS: usize = 3;

/// Commitments by path.
type Commitments = HashMap<NodePath, Point>;

pub(crate) fn measure(choices: &Choices) -> anyhow::Result<()> {
    let count = if choices.quick { 200_000 } else { 1_000_000 };
    let mut rng = rng(choices.seed, "whole", 0);
    let mut leaves: Vec<Leaf> =
        (0..count).map(|_| Leaf { path: KeyPath(hash(&mut rng)), value_hash: ValueHash(hash(&mut rng)) }).collect();
    leaves.sort_unstable_by_key(|leaf| leaf.path);
    let committer = Committer::new(WindowBits::new(BITS).expect("a width that tables have"));
    committer.prepare();

    let mut table = Table::new(["what", "wall", "leaves/s", "CPU", "leaves/s and core"]);
    let mut commitments = Commitments::new();
    table.row(row("built from sorted leaves", count, || {
        commitments = build(&leaves, &committer)?;
        Ok(())
    })?);
    // A multiplication for each leaf and each node below the root.
    let additions = (count + commitments.len() - 1) * (SCALAR_BITS / usize::from(BITS) + 1);
    table.row(row("the bare additions of that", count, || {
        black_box(committer.bare_additions(additions, false));
        Ok(())
    })?);
    let mut contents = Vec::new();
    fill(NodePath::ROOT, &leaves, &commitments, &mut contents);
    let nodes: Vec<Content<'_>> =
        (contents.iter()).map(|(node, slots)| Content { node: *node, trusted: commitments[node], slots }).collect();
    table.row(row(&format!("checked, {CHECK_NODES} nodes at a time"), count, || {
        nodes.chunks(CHECK_NODES).try_for_each(|nodes| Ok(node::check_many(nodes, &hash(&mut rng))?))
    })?);
    table.print(&format!("A whole tree of {} keys in memory", thousands(count as u64)));
    println!("Peak memory of this part: {}.", megabytes(peak_bytes()?));
    Ok(())
}

fn build(leaves: &[Leaf], committer: &Committer) -> anyhow::Result<Commitments> {
    let mut bulk = Bulk::new(committer);
    let mut rows = Vec::new();
    for leaves in leaves.chunks(PUSH_LEAVES) {
        rows.append(&mut bulk.push(leaves)?);
    }
    rows.append(&mut bulk.finish());
    Ok(rows.into_iter().map(|(path, row)| (path, row.commitment)).collect())
}

/// The slots of the node at `path` with these leaves below it, and of all nodes under it.
fn fill(path: NodePath, leaves: &[Leaf], commitments: &Commitments, contents: &mut Vec<(NodePath, Vec<(u8, Slot)>)>) {
    let depth = path.depth();
    let mut slots = Vec::new();
    for group in leaves.chunk_by(|a, b| a.path.slot(depth) == b.path.slot(depth)) {
        let slot = group[0].path.slot(depth);
        slots.push(match group {
            [leaf] => (slot, Slot::Leaf(*leaf)),
            _ => {
                fill(path.child(slot), group, commitments, contents);
                (slot, Slot::Inner(commitments[&path.child(slot)]))
            }
        });
    }
    contents.push((path, slots));
}

fn row(what: &str, leaves: usize, mut act: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<String>> {
    let mut all: Vec<Took> = Vec::new();
    for _ in 0..REPEATS {
        let (took, done) = timed(&mut act);
        done?;
        all.push(took);
    }
    let (wall, cpu) = (median(all.iter().map(|took| took.wall)), median(all.iter().map(|took| took.cpu)));
    let rate = |time: std::time::Duration| digits(leaves as f64 / time.as_secs_f64());
    Ok(vec![what.to_owned(), time(wall), rate(wall), time(cpu), rate(cpu)])
}
