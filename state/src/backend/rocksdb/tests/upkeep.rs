//! Statistics, compaction and salvage, beside damage of every kind.

use super::*;

/// 60 000 rows of the leaf column in tables, some of every other column, and one row in the log alone.
fn filled(path: &Path) -> Rocks {
    let rocks = Rocks::open(path, &small()).unwrap();
    for n in 0..600u32 {
        let mut batch = Batch::new();
        for m in 0..100u32 {
            batch.put(Column::Leaf, &leaf_key(n * 100 + m), &noise(n * 100 + m, 64));
        }
        batch.put(Column::Index, format!("a listing by a rather long raw key {n}").as_bytes(), b"");
        batch.put(Column::Big, &n.to_be_bytes(), &noise(n, 5000));
        rocks.commit(batch, Durability::Buffered).unwrap();
    }
    rocks.settle();
    rocks.commit(row(Column::Meta, b"head", b"in the log"), Durability::Synced).unwrap();
    rocks
}

fn leaf_key(n: u32) -> Vec<u8> {
    [&[0][..], blake3::hash(&n.to_le_bytes()).as_bytes()].concat()
}

#[test]
fn stats_see_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let rocks = filled(dir.path());
    let stats = rocks.stats();
    let leaf = stats.column(Column::Leaf);
    assert!((59_000..=61_000).contains(&leaf.rows), "{leaf:?}");
    assert!(leaf.files > 0 && leaf.disk_bytes > 60_000 * 64, "{leaf:?}");
    assert!(stats.column(Column::Big).disk_bytes > 600 * 5000, "blob files count");
    assert!(stats.column(Column::Meta).memory_bytes > 0);
    let is_counted = |file: &Path| file.extension().is_some_and(|ext| ["sst", "blob", "log"].iter().any(|x| ext == *x));
    let on_disk =
        || listing(dir.path()).iter().filter(|(file, _)| is_counted(file)).map(|(_, bytes)| bytes).sum::<u64>();
    // Files that compaction has replaced are deleted in the background.
    let agrees = || (0..100).any(|_| rocks.stats().disk_bytes() == on_disk() || sleep());
    assert!(agrees(), "{} and {}", rocks.stats().disk_bytes(), on_disk());
}

fn sleep() -> bool {
    std::thread::sleep(std::time::Duration::from_millis(50));
    false
}

#[test]
fn what_an_intact_store_holds_is_salvaged_entire() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("new/to"));
    drop(filled(&from));
    let mut told = 0;
    let salvaged = Rocks::salvage(&from, &to, &small(), &mut |_| {
        told += 1;
        ControlFlow::Continue(())
    });
    let salvaged = salvaged.unwrap().unwrap();
    assert!(told > 0);
    assert_eq!((salvaged.lost_total, salvaged.rows[Column::Leaf as usize]), (0, 60_000));
    let [old, new] = [&from, &to].map(|path| Rocks::open(path, &small()).unwrap().snapshot().unwrap());
    for column in Column::ALL {
        let all = |at: &Arc<dyn Snapshot>| at.range(column, &Bounds::all(), usize::MAX, usize::MAX).unwrap();
        assert!(all(&old) == all(&new), "{column:?}");
    }
    drop((old, new));

    let refused = Rocks::salvage(&from, &to, &small(), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(&refused, BackendError::Foreign { path, .. } if *path == to), "{refused}");
    let away = dir.path().join("away");
    assert_eq!(Rocks::salvage(&from, &away, &small(), &mut |_| ControlFlow::Break(())), Ok(None));
}

#[test]
fn around_a_damaged_block_all_is_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    drop(filled(&from));
    let table = largest_table(&from);
    let mut bytes = fs::read(&table).unwrap();
    let places = [0, bytes.len() / 3, bytes.len() / 3 + 40_000, bytes.len() / 2];
    for place in places {
        bytes[place] ^= 1;
    }
    fs::write(&table, bytes).unwrap();
    let before = listing(&from);

    let to = dir.path().join("to");
    let salvaged = Rocks::salvage(&from, &to, &small(), &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    let tables = |path| listing(path).into_iter().filter(|(file, _)| file.extension().is_some_and(|ext| ext == "sst"));
    assert!(tables(&from).eq(before.into_iter().filter(|(file, _)| file.extension().is_some_and(|ext| ext == "sst"))));

    assert_eq!(salvaged.lost_total, places.len() as u64, "{:?}", salvaged.lost);
    let copy = Rocks::open(&to, &small()).unwrap().snapshot().unwrap();
    let mut keys: Vec<(Vec<u8>, u32)> = (0..60_000).map(|n| (leaf_key(n), n)).collect();
    keys.sort();
    let is_lost = |key: &[u8]| {
        salvaged.lost.iter().any(|lost| {
            assert_eq!(lost.column, Column::Leaf);
            assert!(lost.what.contains("checksum"), "{}", lost.what);
            lost.after.as_deref().is_none_or(|after| after < key) && lost.before.as_deref().is_none_or(|end| key < end)
        })
    };
    let mut lost = 0;
    for (key, n) in &keys {
        match copy.get(Column::Leaf, key).unwrap() {
            Some(value) => assert!(value == noise(*n, 64) && !is_lost(key)),
            None => {
                assert!(is_lost(key), "row {n} is lost and not named");
                lost += 1;
            }
        }
    }
    // A block holds some 40 rows.
    assert!((100..=250).contains(&lost), "{lost} rows lost");
    assert_eq!(copy.get(Column::Meta, b"head").unwrap().as_deref(), Some(&b"in the log"[..]));
    assert_eq!(salvaged.rows[Column::Index as usize], 600);
}

#[test]
fn around_a_table_that_is_gone_all_is_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    drop(filled(&from));
    fs::remove_file(largest_table(&from)).unwrap();
    let salvaged = Rocks::salvage(&from, &to, &small(), &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert!(salvaged.lost_total > 0);
    assert!(salvaged.lost.iter().all(|lost| lost.column == Column::Leaf));
    assert_eq!(salvaged.rows[Column::Index as usize], 600);
    assert_eq!(salvaged.rows[Column::Meta as usize], 1);
}

#[test]
fn without_a_manifest_nothing_is_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    for (name, break_it) in [
        ("no CURRENT", (|path: &Path| fs::remove_file(path.join("CURRENT")).unwrap()) as fn(&Path)),
        ("no manifest", |path| fs::remove_file(newest(path, "MANIFEST-")).unwrap()),
        ("noise", |path| fs::write(newest(path, "MANIFEST-"), noise(1, 500)).unwrap()),
    ] {
        let (from, to) = (dir.path().join(name), dir.path().join("to"));
        let rocks = Rocks::open(&from, &small()).unwrap();
        rocks.commit(row(Column::Leaf, b"k", b"v"), Durability::Synced).unwrap();
        rocks.settle();
        drop(rocks);
        break_it(&from);
        let error = Rocks::salvage(&from, &to, &small(), &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(&error, BackendError::Damaged { path, .. } if *path == from), "{name}: {error}");
        assert!(error.to_string().contains("sync anew"), "{error}");
        assert!(!to.exists(), "{name}");
    }
}

/// RocksDB stops writing for good when a compaction meets a damaged block.
#[test]
fn damage_met_by_compaction_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let rocks = filled(dir.path());
    let table = largest_table(dir.path());
    let mut bytes = fs::read(&table).unwrap();
    bytes[1000] ^= 1;
    fs::write(&table, bytes).unwrap();
    // Rows all over the column, so that its tables are merged with them.
    let mut batch = Batch::new();
    for n in 0..1000 {
        batch.put(Column::Leaf, &leaf_key(n), b"new");
    }
    rocks.commit(batch, Durability::Synced).unwrap();
    let named = |outcome: Result<(), BackendError>| match outcome {
        Err(BackendError::Damaged { path, what, .. }) => {
            assert_eq!(path, dir.path());
            assert!(what.contains("checksum"), "{what}");
        }
        other => panic!("{other:?}"),
    };
    named(rocks.compact(Column::Leaf, &mut |_| ControlFlow::Continue(())));
    assert!(rocks.stats().background_errors > 0);
    assert!(!rocks.stats().is_poisoned);
    named(rocks.commit(row(Column::Meta, b"k", b"v"), Durability::Synced));
    assert!(rocks.stats().is_poisoned);
    let now = rocks.snapshot().unwrap();
    assert_eq!(now.get(Column::Meta, b"head").unwrap().as_deref(), Some(&b"in the log"[..]), "reads go on");
}

fn largest_table(path: &Path) -> PathBuf {
    let tables = listing(path).into_iter().filter(|(file, _)| file.extension().is_some_and(|ext| ext == "sst"));
    tables.max_by_key(|(_, bytes)| *bytes).unwrap().0
}
