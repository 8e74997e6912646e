//! What a block costs in arithmetic: `cargo bench -p rustorium-verkle --bench commit [-- KEYS] [KERNEL]`.
//!
//! A tree of KEYS (1 000 000 unless told) random keys in memory, nothing durable, nothing proved. Batches change random
//! keys of it, half of them old and half new. Timed are the walk over what was loaded, hashing and all commitments
//! (`Subtree::apply`), and beside them, in the same run, the floor: the bare additions that the batch needs, by the same
//! kernel. Median of several batches; seeds are fixed.

#[path = "shared/measure.rs"]
mod measure;

use std::time::{Duration, Instant};

use measure::{Clocks, Random};
use rustorium_verkle::curve::Kernel;
use rustorium_verkle::tree::Nodes;
use rustorium_verkle::{Change, Committer, Descent, KeyPath, ValueHash, WindowBits};

fn main() {
    let keys = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000usize);
    println!("cores {}, kernels {:?}", rayon::current_num_threads(), Kernel::available());
    let committer = Committer::new(WindowBits::new(10).unwrap());
    let started = Instant::now();
    committer.prepare();
    println!("tables of 10-bit windows: {:.2?}, {} MB", started.elapsed(), committer.table_bytes() >> 20);

    let mut random = Random(0x5eed);
    let mut known = Vec::with_capacity(keys);
    let mut nodes = Nodes::default();
    let started = Instant::now();
    while known.len() < keys {
        let batch: Vec<Change> = (0..50_000.min(keys - known.len())).map(|_| random.new_key(&mut known)).collect();
        nodes.apply(batch, &committer);
    }
    println!("tree of {keys} keys: {:.2?}, {} inner nodes, seed 0x5eed", started.elapsed(), nodes.inner_nodes());

    println!(
        "\n| kernel | window | batch | apply, median | keys/s | CPU | additions | floor | its CPU | floor ÷ ours, CPU |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |kernel: &Kernel| {
        let is_named = |kernel: &Kernel| words.iter().any(|word| word == kernel.name());
        is_named(kernel) || !Kernel::available().iter().any(is_named)
    };
    for kernel in Kernel::available().into_iter().filter(is_asked) {
        for bits in if kernel == Kernel::available()[0] { vec![8, 10] } else { vec![8] } {
            let committer = Committer::with_kernel(WindowBits::new(bits).unwrap(), kernel);
            committer.prepare();
            for (batch, rounds) in [(1, 200), (16, 100), (100, 50), (1_000, 20), (10_000, 9), (100_000, 3)] {
                let mut times = Vec::new();
                let mut deltas = 0;
                for _ in 0..rounds {
                    let changes = random.batch(&known, batch);
                    let mut descent = Descent::update(changes);
                    while !descent.wanted().is_empty() {
                        let answers = descent.wanted().iter().map(|want| nodes.supply(want)).collect();
                        descent.supply(answers).unwrap();
                    }
                    let subtree = descent.finish();
                    let started = Clocks::now();
                    let delta = subtree.apply(&committer);
                    times.push(started.elapsed());
                    deltas = delta.leaves.len() + delta.nodes.len() - 1;
                }
                times.sort();
                let (time, _) = times[rounds / 2];
                times.sort_by_key(|(_, cpu)| *cpu);
                let (_, cpu) = times[rounds / 2];
                let additions = deltas * (248 / bits as usize + 1);
                let mut floors: Vec<(Duration, Duration)> = (0..3)
                    .map(|_| {
                        let started = Clocks::now();
                        std::hint::black_box(committer.bare_additions(additions, false));
                        started.elapsed()
                    })
                    .collect();
                floors.sort();
                let (floor, floor_cpu) = floors[1];
                let rate = batch as f64 / time.as_secs_f64();
                let share = floor_cpu.as_secs_f64() / cpu.as_secs_f64();
                let name = kernel.name();
                let [time, cpu, floor, floor_cpu] = [time, cpu, floor, floor_cpu].map(show);
                println!(
                    "| {name} | {bits} | {batch} | {time} | {rate:.0} | {cpu} | {additions} | {floor} | {floor_cpu} | {share:.2} |"
                );
            }
        }
    }
}

fn show(time: Duration) -> String {
    if time < Duration::from_millis(1) {
        format!("{:.0} µs", time.as_secs_f64() * 1e6)
    } else {
        format!("{:.2} ms", time.as_secs_f64() * 1e3)
    }
}

/// What the batches are drawn from.
impl Random {
    fn new_key(&mut self, known: &mut Vec<KeyPath>) -> Change {
        let path = KeyPath(self.hash());
        known.push(path);
        Change { path, value: Some(ValueHash(self.hash())) }
    }

    /// Half old keys, half new.
    fn batch(&mut self, known: &[KeyPath], count: usize) -> Vec<Change> {
        let change = |i: usize| {
            let path =
                if i.is_multiple_of(2) { known[self.next() as usize % known.len()] } else { KeyPath(self.hash()) };
            Change { path, value: Some(ValueHash(self.hash())) }
        };
        (0..count).map(change).collect()
    }
}
