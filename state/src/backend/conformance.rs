//! What every backend must do, through the door: the contracts of `Backend` and `Snapshot`, one check each; beside it
//! a comparison with a model.
//!
//! A new backend adds one test that calls [`conforms`], and one that calls [`matches_model`].

mod model;

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{
    Backend, BackendError, Batch, Bounds, Column, Compacted, Durability, Memory, Rocks, RocksConfig, Rows, Snapshot,
    Writes,
    conformance::model::matches_model,
    faulty::{Fault, Faulty, io_error, no_space},
    prefix_end,
};

type Fresh<'a> = &'a dyn Fn() -> Arc<dyn Backend>;

/// Holds every backend that `fresh` makes to the contracts.
pub(crate) fn conforms(fresh: Fresh<'_>) {
    an_empty_store_answers(fresh);
    snapshots_stand_still(fresh);
    a_batch_is_all_or_nothing_over_all_columns(fresh);
    columns_are_apart(fresh);
    later_changes_win(fresh);
    delete_range_spares_what_comes_later(fresh);
    empty_and_binary_rows_are_rows(fresh);
    get_many_keeps_the_order(fresh);
    get_many_refuses_disorder(fresh);
    ranges_keep_to_their_bounds(fresh);
    ranges_keep_to_their_limits(fresh);
    empty_batches_are_welcome(fresh);
    big_values_come_back(fresh);
    stats_tell_the_columns_apart(fresh);
    compacting_changes_no_row(fresh);
    a_failed_commit_poisons(fresh);
    readers_never_see_half_a_batch(fresh);
}

/// Holds a backend that survives its handle to what it was told: `open` opens the same store each time.
pub(crate) fn keeps_everything(open: Fresh<'_>) {
    for round in 0..4u8 {
        let backend = open();
        let snapshot = backend.snapshot().unwrap();
        for before in 0..round {
            for column in Column::ALL {
                assert_eq!(snapshot.get(column, &[before]).unwrap().as_deref(), Some(&[before, 1][..]));
                assert_eq!(snapshot.get(column, &[before, 0]).unwrap(), None, "deleted in round {before}");
            }
        }
        let durability = if round % 2 == 0 { Durability::Synced } else { Durability::Buffered };
        let mut batch = Batch::new();
        for column in Column::ALL {
            batch.put(column, &[round], &[round, 1]);
            batch.put(column, &[round, 0], b"doomed");
        }
        backend.commit(batch, durability).unwrap();
        let mut batch = Batch::new();
        for column in Column::ALL {
            batch.delete_range(column, &[round, 0], &[round, 1]);
        }
        backend.commit(batch, durability).unwrap();
    }
}

fn an_empty_store_answers(fresh: Fresh<'_>) {
    let now = fresh().snapshot().unwrap();
    for column in Column::ALL {
        assert_eq!(now.get_many(column, &[]).unwrap(), vec![]);
        assert_eq!(now.get(column, b"").unwrap(), None);
        assert_eq!(now.range(column, &Bounds::all(), 10, 10).unwrap(), Rows::default());
    }
}

fn snapshots_stand_still(fresh: Fresh<'_>) {
    let backend = fresh();
    let before = backend.snapshot().unwrap();
    put(&*backend, Column::Leaf, &[(b"a", b"1"), (b"b", b"1")]);
    let middle = backend.snapshot().unwrap();
    put(&*backend, Column::Leaf, &[(b"a", b"2"), (b"c", b"2")]);
    let mut batch = Batch::new();
    batch.delete_range(Column::Leaf, b"b", b"c");
    backend.commit(batch, Durability::Buffered).unwrap();

    assert_eq!(all(&*before, Column::Leaf), rows(&[]));
    assert_eq!(all(&*middle, Column::Leaf), rows(&[(b"a", b"1"), (b"b", b"1")]));
    assert_eq!(middle.get(Column::Leaf, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(middle.get(Column::Leaf, b"c").unwrap(), None);
    assert_eq!(all(&*backend.snapshot().unwrap(), Column::Leaf), rows(&[(b"a", b"2"), (b"c", b"2")]));
    // A snapshot outlives its backend.
    drop(backend);
    assert_eq!(all(&*middle, Column::Leaf), rows(&[(b"a", b"1"), (b"b", b"1")]));
}

fn a_batch_is_all_or_nothing_over_all_columns(fresh: Fresh<'_>) {
    let mut batch = Batch::new();
    for column in Column::ALL {
        batch.put(column, b"k", column.name().as_bytes());
    }
    for written in [false, true] {
        let inner = fresh();
        let backend = Faulty::new(Arc::clone(&inner), Some(Fault { commit: 1, written, error: io_error() }));
        backend.commit(batch.clone(), Durability::Synced).unwrap_err();
        let now = inner.snapshot().unwrap();
        for column in Column::ALL {
            let expected = written.then(|| column.name().as_bytes().to_vec());
            assert_eq!(now.get(column, b"k").unwrap(), expected);
        }
    }
}

fn columns_are_apart(fresh: Fresh<'_>) {
    let backend = fresh();
    put(&*backend, Column::Undo, &[(b"k", b"undo")]);
    put(&*backend, Column::UndoAt, &[(b"k", b"undo_at")]);
    let mut batch = Batch::new();
    batch.delete_range(Column::Undo, b"", b"\xff");
    backend.commit(batch, Durability::Buffered).unwrap();
    let now = backend.snapshot().unwrap();
    assert_eq!(now.get(Column::Undo, b"k").unwrap(), None);
    assert_eq!(now.get(Column::UndoAt, b"k").unwrap().as_deref(), Some(&b"undo_at"[..]));
    assert_eq!(now.get(Column::Meta, b"k").unwrap(), None);
}

fn later_changes_win(fresh: Fresh<'_>) {
    let backend = fresh();
    let mut batch = Batch::new();
    batch.put(Column::Leaf, b"a", b"1");
    batch.put(Column::Leaf, b"a", b"2");
    batch.put(Column::Leaf, b"b", b"1");
    batch.delete(Column::Leaf, b"b");
    batch.delete(Column::Leaf, b"c");
    batch.put(Column::Leaf, b"c", b"1");
    batch.delete(Column::Leaf, b"never there");
    let mut later = Batch::new();
    later.put(Column::Leaf, b"c", b"2");
    later.put(Column::Node, b"d", b"1");
    batch.append(&later);
    assert_eq!((batch.len(), batch.bytes()), (9, 25));
    backend.commit(batch, Durability::Synced).unwrap();
    let now = backend.snapshot().unwrap();
    assert_eq!(all(&*now, Column::Leaf), rows(&[(b"a", b"2"), (b"c", b"2")]));
    assert_eq!(all(&*now, Column::Node), rows(&[(b"d", b"1")]));
}

fn delete_range_spares_what_comes_later(fresh: Fresh<'_>) {
    let backend = fresh();
    put(&*backend, Column::Leaf, &[(b"", b"0"), (b"a", b"0"), (b"b", b"0"), (b"b\0", b"0"), (b"c", b"0")]);
    let mut batch = Batch::new();
    batch.put(Column::Leaf, b"aa", b"1");
    batch.delete_range(Column::Leaf, b"a", b"b\0");
    batch.put(Column::Leaf, b"b", b"2");
    batch.delete_range(Column::Leaf, b"z", b"a");
    batch.delete_range(Column::Leaf, b"c", b"c");
    backend.commit(batch, Durability::Buffered).unwrap();
    let expected = rows(&[(b"", b"0"), (b"b", b"2"), (b"b\0", b"0"), (b"c", b"0")]);
    assert_eq!(all(&*backend.snapshot().unwrap(), Column::Leaf), expected);

    let mut batch = Batch::new();
    batch.delete_range(Column::Leaf, b"", b"\xff");
    backend.commit(batch, Durability::Buffered).unwrap();
    let now = backend.snapshot().unwrap();
    assert_eq!(all(&*now, Column::Leaf), rows(&[]));
    assert_eq!(now.get_many(Column::Leaf, &[vec![], b"b".to_vec()]).unwrap(), vec![None, None]);
}

fn empty_and_binary_rows_are_rows(fresh: Fresh<'_>) {
    let backend = fresh();
    let mut keys: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    keys.extend([vec![], vec![0, 0], vec![0xff; 300], b"\0key\0".to_vec()]);
    keys.sort();
    let mut batch = Batch::new();
    for key in &keys {
        batch.put(Column::Index, key, b"");
        batch.put(Column::Leaf, key, &[key.as_slice(), b"\0\xff"].concat());
    }
    backend.commit(batch, Durability::Buffered).unwrap();
    let now = backend.snapshot().unwrap();
    assert_eq!(now.get_many(Column::Index, &keys).unwrap(), vec![Some(vec![]); keys.len()]);
    assert_eq!(now.get(Column::Index, b"").unwrap(), Some(vec![]));
    let listed: Vec<Vec<u8>> = all(&*now, Column::Index).into_iter().map(|(key, _)| key).collect();
    assert_eq!(listed, keys);
    for (key, value) in all(&*now, Column::Leaf) {
        assert_eq!(value, [key.as_slice(), b"\0\xff"].concat());
    }
}

fn get_many_keeps_the_order(fresh: Fresh<'_>) {
    let backend = fresh();
    let key = |n: u32| n.to_be_bytes().to_vec();
    let mut batch = Batch::new();
    for n in (0..5000).step_by(3) {
        batch.put(Column::Node, &key(n), &n.to_le_bytes());
    }
    backend.commit(batch, Durability::Buffered).unwrap();
    let now = backend.snapshot().unwrap();
    let found = now.get_many(Column::Node, &(0..5000).map(key).collect::<Vec<_>>()).unwrap();
    for (n, value) in (0..5000u32).zip(found) {
        assert_eq!(value, (n % 3 == 0).then(|| n.to_le_bytes().to_vec()), "{n}");
    }
}

fn get_many_refuses_disorder(fresh: Fresh<'_>) {
    let now = fresh().snapshot().unwrap();
    for keys in [[b"b".to_vec(), b"a".to_vec()], [b"a".to_vec(), b"a".to_vec()]] {
        catch_unwind(AssertUnwindSafe(|| now.get_many(Column::Leaf, &keys))).expect_err("keys out of order");
    }
}

fn ranges_keep_to_their_bounds(fresh: Fresh<'_>) {
    let backend = fresh();
    put(&*backend, Column::Index, &[(b"a", b""), (b"ab", b""), (b"ab\xff", b""), (b"b", b""), (b"\xff\xff", b"")]);
    let now = backend.snapshot().unwrap();
    let keys = |bounds: Bounds| -> Vec<Vec<u8>> {
        let found = now.range(Column::Index, &bounds, 100, 1000).unwrap();
        assert!(!found.more);
        found.rows.into_iter().map(|(key, _)| key).collect()
    };
    let part = |start: &[u8], end: &[u8]| Bounds { start: start.to_vec(), end: Some(end.to_vec()) };
    assert_eq!(keys(part(b"a", b"b")), [&b"a"[..], b"ab", b"ab\xff"]);
    assert_eq!(keys(part(b"a\0", b"b\0")), [&b"ab"[..], b"ab\xff", b"b"]);
    assert_eq!(keys(part(b"c", b"d")), [b""; 0]);
    assert_eq!(keys(part(b"b", b"b")), [b""; 0]);
    assert_eq!(keys(part(b"b", b"a")), [b""; 0]);
    assert_eq!(keys(part(b"", b"")), [b""; 0]);
    assert_eq!(keys(Bounds { start: b"b".to_vec(), end: None }), [&b"b"[..], b"\xff\xff"]);
    assert_eq!(keys(Bounds::prefix(b"ab")), [&b"ab"[..], b"ab\xff"]);
    assert_eq!(keys(Bounds::prefix(b"\xff")), [b"\xff\xff"]);
    assert_eq!(keys(Bounds::prefix(b"")).len(), 5);
    let each = [part(b"", b"a"), part(b"a", b"ab"), part(b"ab\0", b"ac"), part(b"b\0", b"c"), Bounds::prefix(b"\xff")];
    for rows_max in [1, 2] {
        let one_by_one = each.clone().map(|bounds| now.range(Column::Index, &bounds, rows_max, 100).unwrap());
        assert_eq!(now.ranges(Column::Index, &each, rows_max, 100).unwrap(), one_by_one);
    }
    let empty = [part(b"a", b"a"), part(b"ab", b"a"), Bounds::prefix(b"b")];
    let found = now.ranges(Column::Index, &empty, 9, 100).unwrap();
    assert_eq!(found.iter().map(|found| found.rows.len()).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(now.ranges(Column::Index, &[], 1, 100).unwrap(), []);
    assert_eq!(keys(Bounds::prefix(b"a").after(b"a")), [&b"ab"[..], b"ab\xff"]);
    assert_eq!(keys(Bounds::prefix(b"ab").after(b"")), [&b"ab"[..], b"ab\xff"], "before the range");
}

fn ranges_keep_to_their_limits(fresh: Fresh<'_>) {
    let backend = fresh();
    put(&*backend, Column::Leaf, &[(b"a", b"111"), (b"b", b"22"), (b"c", b""), (b"d", b"4444")]);
    let now = backend.snapshot().unwrap();
    let page = |start: &[u8], rows_max, bytes_max| {
        let found = now.range(Column::Leaf, &Bounds { start: start.to_vec(), end: None }, rows_max, bytes_max).unwrap();
        (found.rows.len(), found.more)
    };
    assert_eq!(page(b"", 4, usize::MAX), (4, false), "a limit that is just met ends nothing");
    assert_eq!(page(b"", 3, usize::MAX), (3, true));
    assert_eq!(page(b"", usize::MAX, 13), (4, false));
    assert_eq!(page(b"", usize::MAX, 12), (3, true));
    assert_eq!(page(b"", usize::MAX, 7), (2, true));
    assert_eq!(page(b"", usize::MAX, 6), (1, true));
    assert_eq!(page(b"", usize::MAX, 1), (1, true), "the first row is returned however big it is");
    assert_eq!(page(b"", 0, 0), (1, true));
    assert_eq!(page(b"d", 0, 0), (1, false));
    assert_eq!(page(b"e", 0, 0), (0, false));

    // Paging by single rows meets every row once.
    let (mut bounds, mut met) = (Bounds::all(), Vec::new());
    loop {
        let found = now.range(Column::Leaf, &bounds, 1, 0).unwrap();
        met.extend(found.rows);
        if !found.more {
            break;
        }
        bounds = bounds.after(&met[met.len() - 1].0);
    }
    assert_eq!(met, all(&*now, Column::Leaf));
}

fn empty_batches_are_welcome(fresh: Fresh<'_>) {
    let backend = fresh();
    put(&*backend, Column::Leaf, &[(b"a", b"1")]);
    for durability in [Durability::Buffered, Durability::Synced] {
        backend.commit(Batch::new(), durability).unwrap();
    }
    assert_eq!(all(&*backend.snapshot().unwrap(), Column::Leaf), rows(&[(b"a", b"1")]));
}

fn big_values_come_back(fresh: Fresh<'_>) {
    let backend = fresh();
    let value: Vec<u8> = (0..16u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut batch = Batch::new();
    batch.put(Column::Big, b"code", &value);
    batch.put(Column::Big, b"small", b"s");
    backend.commit(batch, Durability::Synced).unwrap();
    let now = backend.snapshot().unwrap();
    assert!(now.get(Column::Big, b"code").unwrap() == Some(value));
    let first = now.range(Column::Big, &Bounds::all(), 10, 10).unwrap();
    assert_eq!((first.rows.len(), first.more), (1, true));
}

fn stats_tell_the_columns_apart(fresh: Fresh<'_>) {
    let backend = fresh();
    assert!(backend.stats().columns.iter().all(|column| column.rows == 0));
    put(&*backend, Column::Node, &[(b"a", &[7; 1000]), (b"b", &[8; 1000])]);
    put(&*backend, Column::Aux, &[(b"a", b"1")]);
    let stats = backend.stats();
    for column in Column::ALL {
        let rows = match column {
            Column::Node => 2,
            Column::Aux => 1,
            _ => 0,
        };
        assert_eq!(stats.column(column).rows, rows, "{column:?}");
    }
    let node = stats.column(Column::Node);
    assert!(node.memory_bytes + node.disk_bytes >= 2002, "{node:?}");
    assert_eq!((stats.writes, stats.is_poisoned), (Writes::Flowing, false));
    assert_eq!((stats.delayed_total, stats.busy_total, stats.full_total, stats.background_errors), (0, 0, 0, 0));
}

fn compacting_changes_no_row(fresh: Fresh<'_>) {
    let backend = fresh();
    let keys: Vec<[u8; 2]> = (0..2000u16).map(u16::to_be_bytes).collect();
    for round in 0..3u8 {
        let mut batch = Batch::new();
        for (n, key) in keys.iter().enumerate() {
            match (n + usize::from(round)) % 3 {
                0 => batch.delete(Column::Leaf, key),
                _ => batch.put(Column::Leaf, key, &[round; 100]),
            }
        }
        backend.commit(batch, Durability::Buffered).unwrap();
    }
    let before = backend.snapshot().unwrap();
    let expected = all(&*before, Column::Leaf);
    let mut told = Vec::new();
    let compact =
        |proceed: &mut dyn FnMut(Compacted) -> ControlFlow<()>| backend.compact(Column::Leaf, proceed).unwrap();
    compact(&mut |compacted| {
        told.push(compacted);
        ControlFlow::Continue(())
    });
    let total = told[0].slices_total;
    assert!(told.iter().all(|compacted| compacted.slices_total == total));
    assert!(told.iter().map(|compacted| compacted.slices).eq(0..=total), "{told:?}");
    compact(&mut |_| ControlFlow::Break(()));
    assert_eq!(all(&*before, Column::Leaf), expected);
    assert_eq!(all(&*backend.snapshot().unwrap(), Column::Leaf), expected);
}

fn a_failed_commit_poisons(fresh: Fresh<'_>) {
    for (written, error) in [(false, no_space()), (true, io_error())] {
        let inner = fresh();
        let backend = Faulty::new(Arc::clone(&inner), Some(Fault { commit: 2, written, error: error.clone() }));
        put(&backend, Column::Leaf, &[(b"a", b"1")]);
        let batch = |value: &[u8]| {
            let mut batch = Batch::new();
            batch.put(Column::Leaf, b"a", value);
            batch
        };
        assert_eq!(backend.commit(batch(b"2"), Durability::Synced), Err(error));
        for _ in 0..2 {
            let refused = backend.commit(batch(b"3"), Durability::Synced);
            assert!(matches!(refused, Err(BackendError::Poisoned { .. })), "{refused:?}");
            assert!(backend.stats().is_poisoned);
        }
        let expected: &[u8] = if written { b"2" } else { b"1" };
        assert_eq!(backend.snapshot().unwrap().get(Column::Leaf, b"a").unwrap().as_deref(), Some(expected));
        // The store itself is sound.
        Faulty::new(inner, None).commit(batch(b"4"), Durability::Synced).unwrap();
    }
}

fn readers_never_see_half_a_batch(fresh: Fresh<'_>) {
    const COMMITS: u32 = 200;
    let backend = fresh();
    let (done, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let keys: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n]).collect();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let now = backend.snapshot().unwrap();
                    let leaves = now.get_many(Column::Leaf, &keys).unwrap();
                    let nodes = now.range(Column::Node, &Bounds::all(), 100, 10_000).unwrap();
                    let nodes = nodes.rows.into_iter().map(|(_, value)| Some(value));
                    let mut versions: Vec<Option<Vec<u8>>> = leaves.into_iter().chain(nodes).collect();
                    versions.dedup();
                    assert_eq!(versions.len(), 1, "rows of several commits in one snapshot");
                    let version = versions[0].as_deref().map_or(0, |v| u32::from_be_bytes(v.try_into().unwrap()));
                    assert!(version >= last, "a later snapshot shows an earlier commit");
                    last = version;
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for version in 1..=COMMITS {
            let mut batch = Batch::new();
            for key in &keys {
                batch.put(Column::Leaf, key, &version.to_be_bytes());
                batch.put(Column::Node, key, &version.to_be_bytes());
            }
            backend.commit(batch, Durability::Buffered).unwrap();
            let now = backend.snapshot().unwrap().get(Column::Leaf, &keys[0]).unwrap();
            assert_eq!(now, Some(version.to_be_bytes().to_vec()), "a commit that returned is visible");
        }
        while looks.load(Ordering::Relaxed) < 20 {
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn memory_conforms() {
    conforms(&|| Arc::new(Memory::new()));
}

#[test]
fn rocks_conforms() {
    let dirs = Dirs::new();
    conforms(&|| Arc::new(dirs.rocks()));
}

#[test]
fn a_faultless_faulty_conforms() {
    let dirs = Dirs::new();
    conforms(&|| Arc::new(Faulty::new(Arc::new(dirs.rocks()), None)));
}

#[test]
fn rocks_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    keeps_everything(&|| Arc::new(Rocks::open(dir.path(), &small()).unwrap()));
}

#[test]
fn memory_matches_model() {
    matches_model(256, &|| (Memory::new(), |_: &Memory| ()));
}

#[test]
fn rocks_matches_model() {
    let dirs = Dirs::new();
    matches_model(48, &|| (dirs.rocks(), Rocks::settle));
}

#[test]
fn prefixes_end() {
    for (prefix, end) in [
        (&b""[..], None),
        (b"\xff\xff", None),
        (b"\0", Some(&b"\x01"[..])),
        (b"a\xff", Some(b"b")),
        (b"a\xff\x00", Some(b"a\xff\x01")),
    ] {
        assert_eq!(prefix_end(prefix).as_deref(), end);
    }
}

#[test]
fn column_names_are_frozen() {
    let names = ["leaf", "big", "node", "index", "undo", "undo_at", "block", "fork", "aux", "meta"];
    assert_eq!(Column::ALL.map(Column::name), names);
    assert!(Column::ALL.iter().enumerate().all(|(place, column)| *column as usize == place));
}

fn put(backend: &dyn Backend, column: Column, rows: &[(&[u8], &[u8])]) {
    let mut batch = Batch::new();
    for (key, value) in rows {
        batch.put(column, key, value);
    }
    backend.commit(batch, Durability::Buffered).unwrap();
}

fn all(snapshot: &dyn Snapshot, column: Column) -> Vec<(Vec<u8>, Vec<u8>)> {
    let found = snapshot.range(column, &Bounds::all(), usize::MAX, usize::MAX).unwrap();
    assert!(!found.more);
    found.rows
}

fn rows(rows: &[(&[u8], &[u8])]) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Little memory, so that many stores fit and rows reach tables early.
pub(crate) fn small() -> RocksConfig {
    RocksConfig {
        block_cache_bytes: 4 << 20,
        memtables_bytes: 4 << 20,
        open_files_max: 64,
        background_jobs: 2,
        disk_reserve_bytes: 0,
        ..RocksConfig::default()
    }
}

/// A place for one new store after another.
struct Dirs {
    root: tempfile::TempDir,
    made: AtomicUsize,
}

impl Dirs {
    fn new() -> Dirs {
        Dirs { root: tempfile::tempdir().unwrap(), made: AtomicUsize::new(0) }
    }

    fn rocks(&self) -> Rocks {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        Rocks::open(&self.root.path().join(made.to_string()), &small()).unwrap()
    }
}
