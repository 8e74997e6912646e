//! What is RocksDB's alone: opening, damage, locks, the settings as they took effect, and death by `kill -9`.

mod pressure;
mod upkeep;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use super::{super::conformance::small, *};

#[test]
fn settings_take_effect() {
    let dir = tempfile::tempdir().unwrap();
    drop(Rocks::open(dir.path(), &RocksConfig::default()).unwrap());
    // RocksDB writes down the options as it uses them, after those that it gave up.
    let file = newest(dir.path(), "OPTIONS-");
    let text = fs::read_to_string(file).unwrap();
    let (store, columns) = text.split_once("[CFOptions").unwrap();
    for line in [
        "recycle_log_file_num=4",
        "wal_recovery_mode=kPointInTimeRecovery",
        "WAL_ttl_seconds=0",
        "WAL_size_limit_MB=0",
        "max_total_wal_size=536870912",
        "paranoid_checks=true",
        "max_open_files=512",
        "db_write_buffer_size=268435456",
        "avoid_unnecessary_blocking_io=true",
    ] {
        assert!(store.lines().any(|l| l.trim() == line), "{line} is not in effect");
    }
    let of = |column: Column| -> &str {
        let mark = format!(" \"{}\"]", column.name());
        columns.split_once(&mark).unwrap().1.split("[CFOptions").next().unwrap()
    };
    for (column, line) in [
        (Column::Leaf, "compression=kLZ4Compression"),
        (Column::Leaf, "bottommost_compression=kZSTD"),
        (Column::Leaf, "write_buffer_size=67108864"),
        (Column::Leaf, "filter_policy=bloomfilter"),
        (Column::Leaf, "cache_index_and_filter_blocks=true"),
        (Column::Leaf, "partition_filters=true"),
        (Column::Leaf, "index_type=kTwoLevelIndexSearch"),
        (Column::Node, "compression=kNoCompression"),
        (Column::Node, "filter_policy=bloomfilter"),
        (Column::Index, "filter_policy=nullptr"),
        (Column::Big, "enable_blob_files=true"),
        (Column::Big, "blob_compression_type=kLZ4Compression"),
        (Column::Leaf, "enable_blob_files=false"),
        (Column::Leaf, "max_write_buffer_number=3"),
        (Column::Leaf, "level0_file_num_compaction_trigger=4"),
        (Column::Leaf, "level0_slowdown_writes_trigger=20"),
        (Column::Leaf, "level0_stop_writes_trigger=36"),
        (Column::Leaf, "soft_pending_compaction_bytes_limit=68719476736"),
        (Column::Leaf, "hard_pending_compaction_bytes_limit=274877906944"),
        (Column::Fork, "write_buffer_size=67108864"),
        (Column::Fork, "compression=kNoCompression"),
        (Column::Fork, "bottommost_compression=kNoCompression"),
        (Column::Fork, "filter_policy=nullptr"),
    ] {
        let options = of(column);
        assert!(options.lines().any(|l| l.trim() == line), "{}: {line} is not in effect:{options}", column.name());
    }
}

#[test]
fn log_files_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let rocks = Rocks::open(dir.path(), &small()).unwrap();
    for n in 0..40u32 {
        rocks.commit(row(Column::Leaf, &n.to_be_bytes(), &noise(n, 1 << 19)), Durability::Synced).unwrap();
    }
    let log = fs::read_to_string(dir.path().join("LOG")).unwrap();
    assert!(log.contains("reusing log"));
    drop(rocks);
    let now = Rocks::open(dir.path(), &small()).unwrap().snapshot().unwrap();
    for n in 0..40u32 {
        assert!(now.get(Column::Leaf, &n.to_be_bytes()).unwrap() == Some(noise(n, 1 << 19)));
    }
}

#[test]
fn a_foreign_store_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let cases: [(&str, &[&str], &str); 3] = [
        ("other columns", &["cats", "dogs"], "cats, dogs"),
        ("one column too many", &["leaf", "cats"], "cats"),
        ("rows in default", &[], "default"),
    ];
    for (name, columns, named) in cases {
        let path = dir.path().join(name);
        let db = DB::open_cf(&options, &path, columns).unwrap();
        db.put(b"k", b"v").unwrap();
        drop(db);
        let before = listing(&path);
        match Rocks::open(&path, &small()).map(drop) {
            Err(BackendError::Foreign { path: at, what }) => {
                assert_eq!(at, path);
                assert!(what.contains(named), "{what}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(listing(&path), before, "{name}");
    }
}

#[test]
fn a_store_that_was_half_made_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    for (name, columns) in [("none", &[][..]), ("some", &["leaf", "big"][..])] {
        let path = dir.path().join(name);
        drop(DB::open_cf(&options, &path, columns).unwrap());
        let rocks = Rocks::open(&path, &small()).unwrap();
        rocks.commit(row(Column::Meta, b"k", b"v"), Durability::Synced).unwrap();
    }
}

#[test]
fn a_second_handle_is_locked_out() {
    let dir = tempfile::tempdir().unwrap();
    let rocks = Rocks::open(dir.path(), &small()).unwrap();
    let locked = |outcome: Result<Rocks, BackendError>| match outcome.map(drop) {
        Err(BackendError::Locked { path, .. }) => assert_eq!(path, dir.path()),
        other => panic!("{other:?}"),
    };
    locked(Rocks::open(dir.path(), &small()));
    // A snapshot holds on to the store.
    let now = rocks.snapshot().unwrap();
    drop(rocks);
    locked(Rocks::open(dir.path(), &small()));
    drop(now);
    drop(Rocks::open(dir.path(), &small()).unwrap());

    let (mut child, mut acknowledged) = writing_child(dir.path());
    acknowledged.next().unwrap().unwrap();
    locked(Rocks::open(dir.path(), &small()));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(Rocks::open(dir.path(), &small()).unwrap());
}

#[test]
fn what_was_acknowledged_survives_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = 0;
    for round in 1..=5 {
        let (mut child, acknowledged) = writing_child(dir.path());
        let mut last = 0;
        for line in acknowledged.take(100 * round) {
            last = line.unwrap().parse().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let now = Rocks::open(dir.path(), &small()).unwrap().snapshot().unwrap();
        let numbers = |column| -> Vec<u32> {
            let found = now.range(column, &Bounds::all(), usize::MAX, usize::MAX).unwrap();
            found.rows.iter().map(|(key, _)| u32::from_be_bytes(key.as_slice().try_into().unwrap())).collect()
        };
        let leaves = numbers(Column::Leaf);
        assert!(last > kept && leaves.len() as u32 >= last, "{last} acknowledged, {} found", leaves.len());
        assert!(leaves.iter().copied().eq(1..=leaves.len() as u32), "the commits found are the first ones");
        assert_eq!(leaves, numbers(Column::Node), "a commit is found in both columns");
        kept = leaves.len() as u32;
    }
}

/// Not a test of its own: what [`writing_child`] runs.
#[test]
#[ignore = "started by other tests"]
fn child_that_writes() {
    let Some(path) = std::env::var_os(CHILD_PATH) else { return };
    let rocks = Rocks::open(Path::new(&path), &small()).unwrap();
    let found = rocks.snapshot().unwrap().range(Column::Leaf, &Bounds::all(), usize::MAX, usize::MAX).unwrap();
    for n in found.rows.len() as u32 + 1.. {
        let mut batch = row(Column::Leaf, &n.to_be_bytes(), &noise(n, 4000));
        batch.put(Column::Node, &n.to_be_bytes(), b"");
        rocks.commit(batch, if n % 10 == 0 { Durability::Synced } else { Durability::Buffered }).unwrap();
        println!("\n{n}");
    }
}

#[test]
fn damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let path = dir.path().join(name);
        let rocks = Rocks::open(&path, &small()).unwrap();
        for n in 0..1000u32 {
            rocks.commit(row(Column::Leaf, &n.to_be_bytes(), &noise(n, 100)), Durability::Buffered).unwrap();
        }
        rocks.settle();
        path
    };
    let named = |outcome: Result<(), BackendError>, at: &Path| match outcome {
        Err(BackendError::Damaged { path, .. }) => assert_eq!(path, at),
        other => panic!("{other:?}"),
    };

    let path = make("a flipped bit");
    let table = newest_table(&path);
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&table, bytes).unwrap();
    let read = |path: &Path| -> Result<(), BackendError> {
        let now = Rocks::open(path, &small())?.snapshot()?;
        now.range(Column::Leaf, &Bounds::all(), usize::MAX, usize::MAX).map(drop)
    };
    named(read(&path), &path);
    let point_reads = || -> Result<(), BackendError> {
        let now = Rocks::open(&path, &small())?.snapshot()?;
        let keys: Vec<Vec<u8>> = (0..1000u32).map(|n| n.to_be_bytes().to_vec()).collect();
        now.get_many(Column::Leaf, &keys).map(drop)
    };
    named(point_reads(), &path);

    let path = make("a table that is gone");
    fs::remove_file(newest_table(&path)).unwrap();
    named(read(&path), &path);

    let path = make("no CURRENT");
    fs::remove_file(path.join("CURRENT")).unwrap();
    named(read(&path), &path);
    assert!(newest_table(&path).exists());

    let path = make("a manifest that is noise");
    fs::write(newest(&path, "MANIFEST-"), noise(1, 500)).unwrap();
    named(read(&path), &path);
}

#[test]
fn a_commit_that_fails_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("db"), dir.path().join("away"));
    let rocks = Rocks::open(&path, &small()).unwrap();
    // The next file that RocksDB makes has no directory to lie in.
    fs::rename(&path, &away).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        assert!(acknowledged < 1000, "nothing fails");
        match rocks.commit(numbered(acknowledged), Durability::Synced) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(!matches!(error, BackendError::Poisoned { .. }), "{error}");
    assert_eq!(error.path(), path);
    for batch in [numbered(acknowledged), Batch::new()] {
        assert_eq!(rocks.commit(batch, Durability::Synced), Err(BackendError::Poisoned { path: path.clone() }));
    }
    let now = rocks.snapshot().unwrap();
    assert!(now.get(Column::Leaf, &0u32.to_be_bytes()).unwrap().is_some(), "reads go on");
    drop((now, rocks));

    let now = Rocks::open(&away, &small()).unwrap().snapshot().unwrap();
    for n in 0..acknowledged {
        assert!(now.get(Column::Leaf, &n.to_be_bytes()).unwrap() == Some(noise(n, 1 << 17)), "{n}");
    }
}

/// `RUSTORIUM_SMALL_DISK` names a directory on a file system of some 20 MB.
#[test]
#[ignore = "needs a small file system"]
fn a_full_disk_is_named() {
    let disk = std::env::var_os("RUSTORIUM_SMALL_DISK").expect("RUSTORIUM_SMALL_DISK");
    let dir = tempfile::tempdir_in(disk).unwrap();
    let rocks = Rocks::open(dir.path(), &small()).unwrap();
    let mut n = 0;
    let error = loop {
        match rocks.commit(numbered(n), Durability::Synced) {
            Ok(()) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BackendError::NoSpace { .. }), "{error}");
    let now = rocks.snapshot().unwrap();
    for n in 0..n {
        assert!(now.get(Column::Leaf, &n.to_be_bytes()).unwrap() == Some(noise(n, 1 << 17)), "{n}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Rocks::open(&file.join("db"), &small()).map(drop).unwrap_err();
    assert!(matches!(error, BackendError::Io { .. }), "{error}");
    assert!(error.to_string().contains("cannot create"), "{error}");
    assert!(error.to_string().contains(&*file.to_string_lossy()), "{error}");
}

impl Rocks {
    /// Moves all rows into tables, and the tables to the bottom.
    pub(crate) fn settle(&self) {
        for column in Column::ALL {
            let family = self.store.family(column);
            self.store.db.flush_cf(&family).unwrap();
            self.store.db.compact_range_cf(&family, None::<&[u8]>, None::<&[u8]>);
        }
    }
}

const CHILD_PATH: &str = "RUSTORIUM_TEST_CHILD_PATH";

/// A process that commits rows 1, 2, … until it is killed, and tells of each that was acknowledged.
fn writing_child(path: &Path) -> (Child, impl Iterator<Item = io::Result<String>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "backend::rocksdb::tests::child_that_writes", "--ignored", "--nocapture"])
        .env(CHILD_PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let numbers = lines.filter(|line| line.as_ref().map_or(true, |line| line.parse::<u32>().is_ok()));
    (child, numbers)
}

fn row(column: Column, key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(column, key, value);
    batch
}

fn numbered(n: u32) -> Batch {
    row(Column::Leaf, &n.to_be_bytes(), &noise(n, 1 << 17))
}

/// Bytes that do not compress.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn listing(path: &Path) -> Vec<(PathBuf, u64)> {
    let mut files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.path(), entry.metadata().unwrap().len()))
        .collect();
    files.sort();
    files
}

fn newest(path: &Path, prefix: &str) -> PathBuf {
    let named = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().starts_with(prefix);
    listing(path).into_iter().map(|(file, _)| file).rfind(named).unwrap()
}

fn newest_table(path: &Path) -> PathBuf {
    let table = |file: &PathBuf| file.extension().is_some_and(|ext| ext == "sst");
    listing(path).into_iter().map(|(file, _)| file).rfind(table).unwrap()
}
