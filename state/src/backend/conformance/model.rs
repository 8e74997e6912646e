//! A backend beside ordered maps, over random histories of commits, snapshots, ranges and compactions.

use std::collections::BTreeMap;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};

use super::super::{Backend, Batch, Bounds, Column, Durability, Rows};

/// Compares a backend with ordered maps over random histories; a failure prints the seed, which `RUSTORIUM_SEED` takes.
pub(crate) fn matches_model<B: Backend>(cases: u32, fresh: &dyn Fn() -> (B, fn(&B))) {
    let seed = std::env::var("RUSTORIUM_SEED").map_or_else(|_| rand_seed(), |seed| seed.parse().expect("a number"));
    let config = Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    let outcome = TestRunner::new(config).run(&vec(step(), 1..24), |steps| {
        let (backend, settle) = fresh();
        let (mut model, mut kept) = (Model::new(), Vec::new());
        for step in steps {
            match step {
                Step::Commit(changes) => {
                    backend.commit(batch_of(&changes), Durability::Buffered).unwrap();
                    changes.into_iter().for_each(|change| apply(&mut model, change));
                }
                Step::Keep => kept.push((backend.snapshot().unwrap(), model.clone())),
                Step::Settle => settle(&backend),
                Step::Range(column, bounds, rows_max, bytes_max) => {
                    let found = backend.snapshot().unwrap().range(column, &bounds, rows_max, bytes_max).unwrap();
                    prop_assert_eq!(found, expected_range(&model, column, &bounds, rows_max, bytes_max));
                }
            }
        }
        kept.push((backend.snapshot().unwrap(), model));
        for (snapshot, model) in kept {
            for column in Column::ALL {
                let expected = expected_range(&model, column, &Bounds::all(), usize::MAX, usize::MAX);
                prop_assert_eq!(snapshot.range(column, &Bounds::all(), usize::MAX, usize::MAX).unwrap(), expected);
                let keys = every_key();
                let expected: Vec<_> = keys.iter().map(|key| model.get(&(column, key.clone())).cloned()).collect();
                prop_assert_eq!(snapshot.get_many(column, &keys).unwrap(), expected);
            }
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("RUSTORIUM_SEED={seed}: {failure}");
    }
}

/// One change in the model's terms.
#[derive(Clone, Debug)]
enum Change {
    Put(Column, Vec<u8>, Vec<u8>),
    Delete(Column, Vec<u8>),
    DeleteRange(Column, Vec<u8>, Vec<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>),
    /// Takes a snapshot, to be looked at again in the end.
    Keep,
    /// Moves the rows to where they rest: flushes and compacts.
    Settle,
    Range(Column, Bounds, usize, usize),
}

type Model = BTreeMap<(Column, Vec<u8>), Vec<u8>>;

fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec(change(), 0..40).prop_map(Step::Commit),
        2 => Just(Step::Keep),
        1 => Just(Step::Settle),
        3 => (column(), key(), proptest::option::of(key()), 0..8usize, 0..200usize)
            .prop_map(|(column, start, end, rows, bytes)| Step::Range(column, Bounds { start, end }, rows, bytes)),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (column(), key(), value()).prop_map(|(column, key, value)| Change::Put(column, key, value)),
        2 => (column(), key()).prop_map(|(column, key)| Change::Delete(column, key)),
        1 => (column(), key(), key()).prop_map(|(column, start, end)| Change::DeleteRange(column, start, end)),
    ]
}

/// Few columns, one with blobs and one without compression, so that changes meet.
fn column() -> impl Strategy<Value = Column> {
    prop::sample::select(vec![Column::Leaf, Column::Big, Column::Node])
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(vec![0u8, 1, 0x80, 0xff]), 0..=KEY_BYTES_MAX)
}

const KEY_BYTES_MAX: usize = 3;

/// Every key that [`key`] makes, in order.
fn every_key() -> Vec<Vec<u8>> {
    let mut keys = vec![vec![]];
    let mut last = keys.clone();
    for _ in 0..KEY_BYTES_MAX {
        last = last.iter().flat_map(|key| [0u8, 1, 0x80, 0xff].map(|byte| [&key[..], &[byte]].concat())).collect();
        keys.extend_from_slice(&last);
    }
    keys.sort();
    keys
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..12), 1 => (any::<u8>(), 1000..6000usize).prop_map(|(byte, n)| vec![byte; n])]
}

fn batch_of(changes: &[Change]) -> Batch {
    let mut batch = Batch::with_capacity(changes.len(), 0);
    for change in changes {
        match change {
            Change::Put(column, key, value) => batch.put(*column, key, value),
            Change::Delete(column, key) => batch.delete(*column, key),
            Change::DeleteRange(column, start, end) => batch.delete_range(*column, start, end),
        }
    }
    batch
}

fn apply(model: &mut Model, change: Change) {
    match change {
        Change::Put(column, key, value) => {
            model.insert((column, key), value);
        }
        Change::Delete(column, key) => {
            model.remove(&(column, key));
        }
        Change::DeleteRange(column, start, end) => {
            model.retain(|(at, key), _| *at != column || *key < start || *key >= end);
        }
    }
}

fn expected_range(model: &Model, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Rows {
    let within = |key: &Vec<u8>| *key >= bounds.start && bounds.end.as_ref().is_none_or(|end| key < end);
    let mut found = Rows::default();
    let mut bytes = 0;
    for ((_, key), value) in model.iter().filter(|((at, key), _)| *at == column && within(key)) {
        bytes += key.len() + value.len();
        if !found.rows.is_empty() && (found.rows.len() >= rows_max || bytes > bytes_max) {
            found.more = true;
            break;
        }
        found.rows.push((key.clone(), value.clone()));
    }
    found
}
