//! What a witness costs: `cargo bench -p rustorium-verkle --bench witness [-- KEYS]`.
//!
//! A tree of KEYS (1 000 000 unless told) random keys in memory. Witnesses of random keys that are there: bytes, the time to
//! make them (rows in memory, `Subtree::prove`), the time to judge them from their bytes (`Witness::decode` and `verify`), and
//! beside them, in the same run, one bare pairing check, below which no such witness can be judged. Then many
//! witnesses of one key judged together. Wall time is a median, CPU time that of all threads; seeds are fixed.

#[path = "shared/measure.rs"]
mod measure;

use std::hint::black_box;
use std::time::{Duration, Instant};

use measure::{Clocks, Random};
use rustorium_verkle::curve::pairings_agree;
use rustorium_verkle::tree::Nodes;
use rustorium_verkle::witness::{Case, verify_many};
use rustorium_verkle::{
    Change, Claim, Committer, Descent, KeyPath, Point, Subtree, ValueHash, WindowBits, Witness, setup,
};

fn main() {
    let keys = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000usize);
    let committer = Committer::new(WindowBits::new(10).unwrap());
    committer.prepare();
    let mut random = Random(0x5eed);
    let mut known: Vec<Claim> = Vec::with_capacity(keys);
    let mut nodes = Nodes::default();
    let started = Instant::now();
    while known.len() < keys {
        let batch: Vec<Claim> = (0..50_000.min(keys - known.len())).map(|_| leaf(&mut random)).collect();
        nodes.apply(batch.iter().map(|leaf| Change { path: leaf.path, value: leaf.value }), &committer);
        known.extend(batch);
    }
    println!("cores {}, tables of 10-bit windows", rayon::current_num_threads());
    println!("tree of {keys} keys: {:.2?}, {} inner nodes, seed 0x5eed", started.elapsed(), nodes.inner_nodes());

    let one = Point::generator();
    let pairing = measured(200, || (), |()| assert!(!black_box(pairings_agree(&one, &one, setup::tau_g2()))));
    println!("one bare pairing check: {}\n", show(&pairing));
    println!("| keys | nodes | bytes | make (CPU) | keys/s | verify (CPU) | CPU ÷ pairing check |");
    println!("|---|---|---|---|---|---|---|");
    let state_root = nodes.state_root();
    for (count, rounds) in [(1, 200), (10, 100), (100, 30), (1_000, 9), (10_000, 5)] {
        let mut asked = || {
            let mut claims: Vec<Claim> = (0..count).map(|_| known[random.next() as usize % keys]).collect();
            claims.sort_by_key(|claim| claim.path);
            claims.dedup_by_key(|claim| claim.path);
            claims
        };
        let make = measured(rounds, || load(&nodes, &asked()), |subtree| subtree.prove(Some(&committer)).unwrap());
        let claims = asked();
        let witness = load(&nodes, &claims).prove(Some(&committer)).unwrap();
        let bytes = witness.encode();
        let judge = |bytes: &[u8]| Witness::decode(bytes).unwrap().verify(&state_root, &claims).unwrap();
        let verify = measured(rounds, || (), |()| judge(&bytes));
        println!(
            "| {count} | {} | {} | {} | {:.0} | {} | {:.2} |",
            witness.nodes.len() + 1,
            bytes.len(),
            show(&make),
            claims.len() as f64 / make.0.as_secs_f64(),
            show(&verify),
            verify.1.as_secs_f64() / pairing.1.as_secs_f64()
        );
    }

    println!("\n| witnesses of one key each | verify_many (CPU) | CPU each ÷ pairing check |");
    println!("|---|---|---|");
    for (count, rounds) in [(10, 50), (100, 20), (1_000, 5)] {
        let claims: Vec<[Claim; 1]> = (0..count).map(|_| [known[random.next() as usize % keys]]).collect();
        let made = |claims: &[Claim; 1]| load(&nodes, claims).prove(Some(&committer)).unwrap();
        let witnesses: Vec<Witness> = claims.iter().map(made).collect();
        let pairs = witnesses.iter().zip(&claims);
        let cases: Vec<Case<'_>> = pairs.map(|(witness, claims)| Case { state_root, witness, claims }).collect();
        let verify = measured(rounds, || (), |()| assert!(verify_many(&cases, &[7; 32]).iter().all(Result::is_ok)));
        let each = verify.1.as_secs_f64() / count as f64 / pairing.1.as_secs_f64();
        println!("| {count} | {} | {each:.2} |", show(&verify));
    }
}

fn leaf(random: &mut Random) -> Claim {
    Claim { path: KeyPath(random.hash()), value: Some(ValueHash(random.hash())) }
}

/// The walk to the keys, with all rows that their proof needs.
fn load(nodes: &Nodes, claims: &[Claim]) -> Subtree {
    let mut descent = Descent::prove(claims.iter().map(|claim| claim.path));
    while !descent.wanted().is_empty() {
        let answers = descent.wanted().iter().map(|want| nodes.supply(want)).collect();
        descent.supply(answers).unwrap();
    }
    descent.finish()
}

/// Median wall time and mean CPU time (the clock of a thread moves on only now and then) of `run`, after `ready`, which is
/// not counted.
fn measured<T, R>(rounds: usize, mut ready: impl FnMut() -> T, run: impl Fn(T) -> R) -> (Duration, Duration) {
    run(ready());
    let inputs: Vec<T> = (0..rounds).map(|_| ready()).collect();
    let all = Clocks::now();
    let timed = |input| {
        let started = Instant::now();
        black_box(run(input));
        started.elapsed()
    };
    let mut times: Vec<Duration> = inputs.into_iter().map(timed).collect();
    let (_, cpu) = all.elapsed();
    times.sort();
    (times[rounds / 2], cpu / rounds as u32)
}

fn show((wall, cpu): &(Duration, Duration)) -> String {
    format!("{:.2} ms ({:.2})", wall.as_secs_f64() * 1e3, cpu.as_secs_f64() * 1e3)
}
