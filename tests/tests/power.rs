//! Power fails under a backend: what it then holds is the first so many commits, those synced among them.
//!
//! `RUSTORIUM_SEED` chooses other cases, and is printed.

use std::path::Path;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rustorium_state::backend::{
    Backend, BackendError, Batch, Bounds, Column, Durability, Memory, Rocks, RocksConfig, Snapshot,
};
use rustorium_tests::power::redb::{Disk, Redb};
use rustorium_tests::power::{PowerLoss, log};

fn seed() -> u64 {
    let seed = std::env::var("RUSTORIUM_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("RUSTORIUM_SEED={seed}");
    seed
}

/// The `n`th commit puts a row in two columns and deletes that of ten commits before in the first.
fn commit(n: u32, bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(Column::Leaf, &n.to_be_bytes(), &value(n, bytes));
    batch.put(Column::Node, &n.to_be_bytes(), b"");
    if let Some(old) = n.checked_sub(10) {
        batch.delete(Column::Leaf, &old.to_be_bytes());
    }
    batch
}

fn value(n: u32, bytes: usize) -> Vec<u8> {
    let mut value = vec![0; bytes];
    StdRng::seed_from_u64(n.into()).fill_bytes(&mut value);
    value
}

/// How many of the commits 0, 1, … a store holds; they must be the first ones, and entire.
fn held(rows: &dyn Snapshot) -> u32 {
    let numbers = |column| -> Vec<u32> {
        let found = rows.range(column, &Bounds::all(), usize::MAX, usize::MAX).unwrap();
        if column == Column::Leaf {
            for (key, bytes) in &found.rows {
                let n = u32::from_be_bytes(key[..].try_into().unwrap());
                assert!(*bytes == value(n, bytes.len()), "row {n} is not what was committed");
            }
        }
        found.rows.iter().map(|(key, _)| u32::from_be_bytes(key[..].try_into().unwrap())).collect()
    };
    let held = numbers(Column::Node).len() as u32;
    assert!(numbers(Column::Node).into_iter().eq(0..held), "not the first commits");
    assert!(numbers(Column::Leaf).into_iter().eq(held.saturating_sub(10)..held), "half a commit");
    held
}

#[test]
fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut backend, mut n, mut lost, mut kept) = (PowerLoss::new(), 0, 0, 0);
    for round in 0..200 {
        backend.fail_at(rng.random_range(1..20));
        let mut safe = n;
        loop {
            let durability = if rng.random_range(0..4) == 0 { Durability::Synced } else { Durability::Buffered };
            if backend.commit(commit(n, 20), durability).is_err() {
                break;
            }
            n += 1;
            assert_eq!(held(&*backend.snapshot().unwrap()), n);
            if durability == Durability::Synced {
                safe = n;
            }
        }
        assert!(backend.is_off() && backend.stats().is_poisoned);
        let refused = backend.commit(commit(n, 20), Durability::Synced);
        assert!(matches!(refused, Err(BackendError::Poisoned { .. })));
        let (again, crash) = backend.crash(rng.next_u64());
        let found = held(&*again.snapshot().unwrap());
        assert!((safe..=n + 1).contains(&found), "round {round}: {safe} synced, {n} acknowledged, {found} found");
        assert_eq!(found as usize, safe as usize + crash.kept);
        assert!(
            backend.snapshot().is_err() && backend.commit(Batch::new(), Durability::Synced).is_err(),
            "a dead handle"
        );
        lost += crash.unsynced - crash.kept;
        kept += crash.kept;
        (backend, n) = (again, found);
    }
    assert!(lost > 100 && kept > 100, "{lost} lost, {kept} kept");
}

#[test]
fn while_the_power_is_on_it_is_memory() {
    let mut rng = StdRng::seed_from_u64(seed());
    let (backend, memory) = (PowerLoss::default(), Memory::new());
    for _ in 0..300 {
        let mut batch = Batch::new();
        for _ in 0..rng.random_range(0..10) {
            let column = Column::ALL[rng.random_range(0..10)];
            let [a, b] = std::array::from_fn(|_| vec![rng.random_range(0..8); rng.random_range(0..3)]);
            match rng.random_range(0..4) {
                0 => batch.delete(column, &a),
                1 => batch.delete_range(column, &a, &b),
                _ => batch.put(column, &a, &b),
            }
        }
        let durability = if rng.random() { Durability::Synced } else { Durability::Buffered };
        backend.commit(batch.clone(), durability).unwrap();
        memory.commit(batch, durability).unwrap();
        let [one, other]: [Arc<dyn Snapshot>; 2] = [backend.snapshot().unwrap(), memory.snapshot().unwrap()];
        for column in Column::ALL {
            let all = |at: &dyn Snapshot| at.range(column, &Bounds::all(), usize::MAX, usize::MAX).unwrap();
            assert_eq!(all(&*one), all(&*other));
        }
        assert_eq!(backend.stats(), memory.stats());
    }
    // All was synced but what came last.
    backend.commit(Batch::new(), Durability::Synced).unwrap();
    let (again, crash) = backend.crash(0);
    assert_eq!((crash.unsynced, again.stats()), (0, memory.stats()));
}

#[test]
fn a_crash_from_another_thread_cuts_between_commits() {
    let seed = seed();
    for round in 0..50 {
        let backend = PowerLoss::new();
        let (acknowledged, again) = std::thread::scope(|threads| {
            let writer = threads.spawn(|| {
                (0..).take_while(|n| backend.commit(commit(*n, 20), Durability::Synced).is_ok()).count() as u32
            });
            while held(&*backend.snapshot().unwrap()) < round {
                std::thread::yield_now();
            }
            let again = backend.crash(seed + u64::from(round)).0;
            (writer.join().unwrap(), again)
        });
        assert_eq!(held(&*again.snapshot().unwrap()), acknowledged);
    }
}

/// Sectors are lost in any order, and yet the store comes back whole.
#[test]
fn redb_comes_back_from_torn_writes() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut disk = Disk::default();
    let (mut n, mut lost) = (0, 0);
    for round in 0..150 {
        let backend = match Redb::open(disk.clone()) {
            Ok(backend) => backend,
            Err(error) => panic!("RUSTORIUM_SEED={seed}, round {round}: {error}"),
        };
        let found = held(&*backend.snapshot().unwrap());
        assert_eq!(found, n, "opening changes nothing");
        disk.fail_at(rng.random_range(1..60));
        let mut safe = n;
        loop {
            let durability = if rng.random_range(0..3) == 0 { Durability::Synced } else { Durability::Buffered };
            if backend.commit(commit(n, rng.random_range(0..6000)), durability).is_err() {
                break;
            }
            n += 1;
            if durability == Durability::Synced {
                safe = n;
            }
        }
        assert!(matches!(backend.commit(Batch::new(), Durability::Synced), Err(BackendError::Poisoned { .. })));
        drop(backend);
        disk = disk.crash(rng.next_u64());
        let found = held(&*Redb::open(disk.clone()).unwrap().snapshot().unwrap());
        assert!(
            (safe..=n + 1).contains(&found),
            "RUSTORIUM_SEED={seed}, round {round}: {safe} synced, {n} acknowledged, {found} found"
        );
        lost += (n + 1) - found;
        n = found;
    }
    println!("{n} commits, {lost} lost in 150 crashes");
    assert!(n > 150 && lost > 50);
}

/// Little memory, so that logs change and are recycled.
fn config() -> RocksConfig {
    RocksConfig {
        block_cache_bytes: 4 << 20,
        memtables_bytes: 2 << 20,
        disk_reserve_bytes: 0,
        ..RocksConfig::default()
    }
}

fn rocks(dir: &Path) -> Rocks {
    Rocks::open(dir, &config()).unwrap()
}

/// A live store is copied, the log of the copy cut, and the copy opened.
#[test]
fn a_log_that_was_cut_opens_at_a_prefix() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let (live, away) = (dir.path().join("live"), dir.path().join("copy"));
    let backend = rocks(&live);
    let (mut synced, mut lost, mut logs) = ((0, log::Place { log: 0, bytes: 0 }), 0, std::collections::BTreeSet::new());
    let mut n = 0;
    for round in 0..60 {
        for _ in 0..rng.random_range(1..30) {
            let durability = if rng.random_range(0..8) == 0 { Durability::Synced } else { Durability::Buffered };
            // Some over several blocks of the log, some many to a block.
            let bytes = if rng.random() { rng.random_range(0..200) } else { rng.random_range(0..100_000) };
            backend.commit(commit(n, bytes), durability).unwrap();
            n += 1;
            if durability == Durability::Synced {
                synced = (n, log::end(&live).unwrap());
                logs.insert(synced.1.log);
            }
        }
        log::copy(&live, &away).unwrap();
        let cut = log::cut(&away, synced.1, &mut rng).unwrap();
        let copy = rocks(&away);
        let found = held(&*copy.snapshot().unwrap());
        assert!(
            (synced.0..=n).contains(&found),
            "RUSTORIUM_SEED={seed}, round {round}: {} synced, {n} written, {found} found after {cut:?}",
            synced.0
        );
        lost += n - found;
        // It can be written, and opened again: nothing of the lost comes back.
        copy.commit(commit(found, 100), Durability::Synced).unwrap();
        drop(copy);
        assert_eq!(held(&*rocks(&away).snapshot().unwrap()), found + 1);
    }
    println!("{n} commits in {} logs, {lost} lost in 60 cuts", logs.len());
    assert!(lost > 60, "cuts lose something: {lost}");
    assert!(logs.len() > 8, "logs are recycled: {logs:?}");
}
