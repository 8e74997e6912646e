//! What proofs cost in arithmetic: made from nodes that are at hand and judged from their bytes, in memory.
//!
//! The keys are those of the block that was applied last, half of them new. Beside the time to judge stands, from the same
//! run, one bare pairing check, below which no witness can be judged.

use std::hint::black_box;

use rustorium_verkle::curve::pairings_agree;
use rustorium_verkle::witness::{Case, verify_many};
use rustorium_verkle::{Change, Claim, Committer, KeyPath, Point, StateRoot, Witness, setup};

use crate::machine::{Took, medians, timed};
use crate::memory::Tree;
use crate::table::{Table, digits, thousands, time};

/// Witnesses of so many keys, and times that each is made and judged.
const COUNTS: [(usize, usize); 5] = [(1, 101), (10, 51), (100, 15), (1000, 7), (10_000, 5)];
/// Times that the bare pairing check is made.
const PAIRINGS: usize = 101;
/// So many witnesses of one key are judged together, and how often.
const TOGETHER: [(usize, usize); 2] = [(10, 21), (100, 9)];

/// The tables.
pub(crate) struct Proofs {
    one_by_one: Table,
    together: Table,
    pairing: Took,
}

impl Proofs {
    /// Applies a block of so many keys and proves them.
    pub(crate) fn measure(tree: &mut Tree, committer: &Committer, keys: usize) -> anyhow::Result<Self> {
        let block = tree.batch(keys);
        let root = tree.apply(&block, committer).state_root();
        let one = Point::generator();
        let check = || timed(|| black_box(pairings_agree(&one, &one, setup::tau_g2()))).0;
        let pairing = medians(&(0..PAIRINGS).map(|_| check()).collect::<Vec<_>>());
        let mut one_by_one =
            Table::new(["keys", "bytes", "made", "CPU", "keys/s", "judged", "CPU", "÷ pairing check", "keys/s"]);
        for (count, rounds) in COUNTS {
            one_by_one.row(row(tree, committer, &root, &block, (count.min(keys), rounds), &pairing)?);
        }
        let mut together = Table::new(["witnesses of one key", "judged", "CPU", "each ÷ pairing check"]);
        for (count, rounds) in TOGETHER {
            together.row(row_together(tree, committer, &root, &block[..count], rounds, &pairing)?);
        }
        Ok(Self { one_by_one, together, pairing })
    }

    pub(crate) fn print(&self) {
        self.one_by_one.print("Proofs in memory, of keys of the block that was applied last");
        println!("One bare pairing check: {}.", time(self.pairing.cpu));
        self.together.print("Witnesses judged together");
    }
}

fn row(
    tree: &Tree,
    committer: &Committer,
    root: &StateRoot,
    block: &[Change],
    (count, rounds): (usize, usize),
    pairing: &Took,
) -> anyhow::Result<[String; 9]> {
    let (mut making, mut judging, mut bytes) = (Vec::new(), Vec::new(), 0);
    for part in block.chunks_exact(count).cycle().take(rounds) {
        let (took, witness) = made(tree, committer, part);
        making.push(took);
        let encoded = witness?.encode();
        bytes = encoded.len();
        let claims: Vec<Claim> = part.iter().map(claim).collect();
        let (took, verdict) = timed(|| Witness::decode(&encoded)?.verify(root, &claims));
        verdict?;
        judging.push(took);
    }
    let rate = |took: &Took| digits(count as f64 / took.wall.as_secs_f64());
    let (making, judging) = (medians(&making), medians(&judging));
    Ok([
        thousands(count as u64),
        thousands(bytes as u64),
        time(making.wall),
        time(making.cpu),
        rate(&making),
        time(judging.wall),
        time(judging.cpu),
        digits(judging.cpu.as_secs_f64() / pairing.cpu.as_secs_f64()),
        rate(&judging),
    ])
}

fn row_together(
    tree: &Tree,
    committer: &Committer,
    root: &StateRoot,
    changes: &[Change],
    rounds: usize,
    pairing: &Took,
) -> anyhow::Result<[String; 4]> {
    let witnesses: Vec<Witness> =
        changes.iter().map(|change| made(tree, committer, &[*change]).1).collect::<anyhow::Result<_>>()?;
    let claims: Vec<[Claim; 1]> = changes.iter().map(|change| [claim(change)]).collect();
    let pairs = witnesses.iter().zip(&claims);
    let cases: Vec<Case<'_>> = pairs.map(|(witness, claims)| Case { state_root: *root, witness, claims }).collect();
    let mut all = Vec::new();
    for _ in 0..rounds {
        let (took, verdicts) = timed(|| verify_many(&cases, &[7; 32]));
        verdicts.into_iter().collect::<Result<Vec<()>, _>>()?;
        all.push(took);
    }
    let took = medians(&all);
    let each = took.cpu.as_secs_f64() / changes.len() as f64;
    Ok([thousands(changes.len() as u64), time(took.wall), time(took.cpu), digits(each / pairing.cpu.as_secs_f64())])
}

/// The witness of some keys, made from what was loaded before.
fn made(tree: &Tree, committer: &Committer, changes: &[Change]) -> (Took, anyhow::Result<Witness>) {
    let keys: Vec<KeyPath> = changes.iter().map(|change| change.path).collect();
    let subtree = tree.to_prove(&keys);
    let (took, witness) = timed(|| subtree.prove(Some(committer)));
    (took, witness.map_err(Into::into))
}

fn claim(change: &Change) -> Claim {
    Claim { path: change.path, value: change.value }
}
