//! Witnesses from a store on disk, as a node makes them: `View::witness`, which verifies each one before it hands it out.
//!
//! *Cold* is a store just opened: its own caches are empty, the operating system's page cache is not. *Warm* are its rows,
//! from a witness of the same keys and one more, so that the witness itself is new. *Again* is the same witness asked of
//! the same block once more.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustorium_state::{Change, View};
use rustorium_verkle::{Claim, Committer, StateRoot, Witness};

use crate::Choices;
use crate::machine::{Took, median, peak_bytes, timed};
use crate::store::{Store, committer};
use crate::table::{Table, digits, megabytes, thousands, time};
use crate::workload::{Key, Scale, Update, Workload};

/// Witnesses of so many keys, and times that each is made.
const COUNTS: [(usize, u64); 4] = [(1, 9), (10, 9), (100, 9), (1000, 5)];

pub(crate) fn measure(choices: &Choices, scale: &Scale) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("rustorium-bench-").tempdir_in(&choices.folder)?;
    let place = Place { path: folder.path(), committer: committer() };
    let workload = Workload::new(choices.seed, *scale);
    let store = place.open()?;
    let (took, done) = timed(|| workload.load().try_for_each(|block| apply(&store, block)));
    done?;
    println!("\n{} keys loaded into RocksDB in {}.", thousands(scale.keys as u64), time(took.wall));
    store.close();

    let mut table = Table::new(["keys", "bytes", "made cold", "warm", "again", "verified", "its CPU"]);
    for (count, repeats) in COUNTS {
        let made: anyhow::Result<Vec<Made>> = (0..if choices.quick { 3 } else { repeats })
            .map(|number| {
                let keys = workload.loaded(&format!("witness {count}"), number, count + 1);
                let store = place.open()?;
                let made = cold_and_warm(&store.reader.head(), &keys);
                store.close();
                made
            })
            .collect();
        table.row(row(&thousands(count as u64), &made?));
    }
    let (first, made) = block(&place, &workload)?;
    table.row(row(&format!("{}, its block just applied", thousands(scale.updates as u64)), &[made]));
    table.print(&format!("Witnesses from RocksDB, {} keys", thousands(scale.keys as u64)));
    println!("To make one is to verify it once, too. The first block after opening took {}.", time(first.wall));
    println!("Peak memory of this part: {}.", megabytes(peak_bytes()?));
    Ok(())
}

/// Where the store is, and what its openings share.
struct Place<'a> {
    path: &'a Path,
    committer: Arc<Committer>,
}

impl Place<'_> {
    fn open(&self) -> anyhow::Result<Store> {
        Store::open(self.path, self.committer.clone())
    }
}

/// How it went with one set of keys.
struct Made {
    bytes: usize,
    cold: Option<Took>,
    warm: Took,
    again: Took,
    verified: Took,
}

/// The witness of all keys but the last, with all and then its own rows met before.
fn cold_and_warm(view: &View, keys: &[Key]) -> anyhow::Result<Made> {
    let all: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
    let (cold, first) = timed(|| view.witness(&all, u64::MAX));
    first?;
    let made = warm(view, &all[..keys.len() - 1])?;
    Ok(Made { cold: Some(cold), ..made })
}

fn warm(view: &View, keys: &[Vec<u8>]) -> anyhow::Result<Made> {
    let (warm, proof) = timed(|| view.witness(keys, u64::MAX));
    let proof = proof?;
    let (again, same) = timed(|| view.witness(keys, u64::MAX));
    anyhow::ensure!(same?.witness == proof.witness, "another witness of the same keys");
    let (verified, verdict) = timed(|| verify(&proof.witness, &view.header().state_root, &proof.claims));
    verdict?;
    Ok(Made { bytes: proof.witness.len(), cold: None, warm, again, verified })
}

/// How long the first block after opening takes, and the witness of all keys of the second, right after it: its rows are
/// as warm as the commit leaves them.
fn block(place: &Place<'_>, workload: &Workload) -> anyhow::Result<(Took, Made)> {
    let store = place.open()?;
    let mut blocks = workload.blocks();
    let (first, second) = (blocks.next().context("a block")?, blocks.next().context("another")?);
    let (took, done) = timed(|| apply(&store, first));
    done?;
    let keys: Vec<Vec<u8>> = second.iter().map(|(key, _)| key.to_vec()).collect();
    apply(&store, second)?;
    let made = warm(&store.reader.head(), &keys)?;
    store.close();
    Ok((took, made))
}

fn apply(store: &Store, block: Vec<Update>) -> anyhow::Result<()> {
    let changes: Vec<Change> = block.into_iter().map(|(key, value)| (key.to_vec(), Some(value))).collect();
    store.apply(changes).map(drop)
}

fn verify(witness: &[u8], root: &StateRoot, claims: &[(Vec<u8>, Option<Vec<u8>>)]) -> anyhow::Result<()> {
    let claim = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
        value.as_ref().map_or(Claim::absent(key), |value| Claim::value(key, value))
    };
    let claims: Vec<Claim> = claims.iter().map(claim).collect();
    Witness::decode(witness)?.verify(root, &claims).context("a witness of our own")
}

fn row(what: &str, made: &[Made]) -> Vec<String> {
    let wall = |of: fn(&Made) -> Took| median(made.iter().map(|made| of(made).wall));
    let cold: Option<Vec<Duration>> = made.iter().map(|made| Some(made.cold?.wall)).collect();
    vec![
        what.to_owned(),
        digits(median(made.iter().map(|made| made.bytes as f64))),
        cold.map_or(String::new(), |cold| time(median(cold))),
        time(wall(|made| made.warm)),
        time(wall(|made| made.again)),
        time(wall(|made| made.verified)),
        time(median(made.iter().map(|made| made.verified.cpu))),
    ]
}
