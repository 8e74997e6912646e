//! A store is damaged where its leaves prove what should be, and a process that mends it is killed at fail points.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};
use rustorium_state::backend::{Backend as _, Batch, Bounds, Column, Durability, Rocks};

use crate::counts::Counts;
use crate::engine::{Chain, rocks_config};
use crate::killing;
use crate::mortal::{FailPoint, Mortal, Purpose};

/// So many rows that the tree is written anew.
const MANY_ROWS: u32 = 70_000;
/// Processes that are killed before one may end its work.
const LIVES_MAX: u32 = 3;

/// Damages the store, has its mending broken off, and mends it.
pub fn harm_and_mend(
    chain: &Chain,
    pairs: u32,
    store: &Path,
    rng: &mut StdRng,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    harm(store, rng)?;
    for _ in 0..rng.random_range(1..=LIVES_MAX) {
        let some = [Purpose::Slice, Purpose::Switch, Purpose::Base];
        let purpose = some[rng.next_u32() as usize % some.len()];
        let nth = if purpose == Purpose::Slice { rng.random_range(1..4) } else { 1 };
        let fail_point = FailPoint { purpose, nth, is_after: rng.random() };
        let words = ["--mends", "--blocks", &chain.seed.to_string(), "--pairs", &pairs.to_string()];
        if killing::dies(&words, fail_point, store)? {
            counts.one(format!("mending killed {} {}", fail_point.when(), purpose.name()));
        }
    }
    counts.one("stores damaged and mended");
    mend(chain, Mortal::new(Rocks::open(store, &rocks_config())?, None))
}

/// Mends a store, all of it.
pub fn mend(chain: &Chain, backend: Mortal) -> anyhow::Result<()> {
    let repair = chain.examine(Arc::new(backend))?.repair([7; 32], &mut |_| ())?;
    ensure!(repair.left.is_sound(), "left after {:?}: {:?}", repair.done, repair.left);
    Ok(())
}

/// Takes nodes and keys of the listing away, alters some, or puts keys there that nothing has.
fn harm(store: &Path, rng: &mut StdRng) -> anyhow::Result<()> {
    let rocks = Rocks::open(store, &rocks_config())?;
    let snapshot = rocks.snapshot()?;
    let mut batch = Batch::new();
    let share = if rng.random() { 0.02 } else { 0.6 };
    let mut generation = 0;
    for column in [Column::Node, Column::Index] {
        for (key, mut value) in snapshot.range(column, &Bounds::all(), usize::MAX, usize::MAX)?.rows {
            generation = *key.first().context("a key of a tree's row")?;
            match rng.random_bool(share).then(|| value.last_mut().filter(|_| rng.random())) {
                Some(Some(byte)) => {
                    *byte ^= 1;
                    batch.put(column, &key, &value);
                }
                Some(None) => batch.delete(column, &key),
                None => {}
            }
        }
    }
    if rng.random_bool(0.5) {
        for stray in 0..MANY_ROWS {
            batch.put(Column::Index, &[&[generation, 0xee], &stray.to_be_bytes()[..]].concat(), &[]);
        }
    }
    Ok(rocks.commit(batch, Durability::Synced)?)
}
