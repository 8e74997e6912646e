//! What whole trees cost: `cargo bench -p rustorium-verkle --bench whole [-- LEAVES]`.
//!
//! A tree of LEAVES (1 000 000 unless told) random paths and value hashes, in memory: built in one pass from its sorted
//! leaves (`tree::Bulk`), then every node of it checked against its commitment (spec §7, `node::check_many`), some
//! thousands of nodes at a time. Beside the build stands its floor, the bare curve additions of its multiplications by the
//! same kernel. Hashing of leaves and nodes is in build and check, hashing of keys and values in neither. The median of
//! three; seeds are fixed.

#[path = "shared/measure.rs"]
mod measure;

use std::collections::HashMap;
use std::time::Duration;

use measure::{Clocks, Random};
use rustorium_verkle::curve::Kernel;
use rustorium_verkle::node::{self, Content};
use rustorium_verkle::tree::Bulk;
use rustorium_verkle::{Committer, KeyPath, Leaf, NodePath, Point, Slot, ValueHash, WindowBits};

/// Leaves handed to the build at a time.
const PUSH_LEAVES: usize = 16_384;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let count = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1_000_000usize);
    let mut random = Random(0x5eed);
    let mut leaves: Vec<Leaf> =
        (0..count).map(|_| Leaf { path: KeyPath(random.hash()), value_hash: ValueHash(random.hash()) }).collect();
    leaves.sort_unstable_by_key(|leaf| leaf.path);
    println!(
        "{count} leaves, seed 0x5eed, cores {}, kernel {}\n",
        rayon::current_num_threads(),
        Kernel::available()[0].name()
    );
    println!("| what | wall | leaves/s | CPU | leaves/s and core |");
    println!("|---|---|---|---|---|");

    let mut rows = HashMap::new();
    for bits in [8, 10] {
        let committer = Committer::new(WindowBits::new(bits).unwrap());
        committer.prepare();
        report(&format!("bulk build, windows of {bits} bits"), count, || {
            rows.clear();
            let mut bulk = Bulk::new(&committer);
            let mut finished = Vec::new();
            for leaves in leaves.chunks(PUSH_LEAVES) {
                finished.append(&mut bulk.push(leaves).unwrap());
            }
            finished.append(&mut bulk.finish());
            rows.extend(finished.into_iter().map(|(path, row)| (path, row.commitment)));
        });
        // A multiplication for each leaf and each node below the root.
        let additions = (count + rows.len() - 1) * (248 / bits as usize + 1);
        report("the bare additions of that", count, || {
            std::hint::black_box(committer.bare_additions(additions, false));
        });
    }

    let mut contents = Vec::new();
    fill(NodePath::ROOT, &leaves, &rows, &mut contents);
    let nodes: Vec<Content<'_>> =
        contents.iter().map(|(node, slots)| Content { node: *node, trusted: rows[node], slots }).collect();
    for chunk in [512, 4_096, 32_768] {
        report(&format!("§7 check, {chunk} nodes at a time"), count, || {
            for nodes in nodes.chunks(chunk) {
                node::check_many(nodes, &random.hash()).expect("the tree is sound");
            }
        });
    }
    println!("\n{} inner nodes", nodes.len());
}

/// The slots of the node at `path` with these leaves below it, and of all nodes under it.
fn fill(
    path: NodePath,
    leaves: &[Leaf],
    rows: &HashMap<NodePath, Point>,
    contents: &mut Vec<(NodePath, Vec<(u8, Slot)>)>,
) {
    let depth = path.depth();
    let mut slots = Vec::new();
    for group in leaves.chunk_by(|a, b| a.path.slot(depth) == b.path.slot(depth)) {
        let slot = group[0].path.slot(depth);
        slots.push(match group {
            [leaf] => (slot, Slot::Leaf(*leaf)),
            _ => {
                fill(path.child(slot), group, rows, contents);
                (slot, Slot::Inner(rows[&path.child(slot)]))
            }
        });
    }
    contents.push((path, slots));
}

/// One line of the table: the median of three runs.
fn report(what: &str, leaves: usize, mut run: impl FnMut()) {
    let mut times: Vec<(Duration, Duration)> = (0..3)
        .map(|_| {
            let started = Clocks::now();
            run();
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let (wall, _) = times[1];
    times.sort_unstable_by_key(|(_, cpu)| *cpu);
    let (_, cpu) = times[1];
    let rate = |time: Duration| leaves as f64 / time.as_secs_f64();
    println!("| {what} | {wall:.2?} | {:.0} | {cpu:.2?} | {:.0} |", rate(wall), rate(cpu));
}
