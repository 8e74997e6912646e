//! A log that is recycled, commits that are refused, and a journal that stays in memory.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use super::*;

/// Log files that have other numbers and yet are those of before.
#[test]
fn a_new_log_takes_over_an_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let rocks = Rocks::open(dir.path(), &small()).unwrap();
    let (mut inodes, mut names) = (BTreeSet::new(), BTreeSet::new());
    for n in 0..100 {
        rocks.commit(row(Column::Leaf, &[n], &noise(u32::from(n), 1 << 18)), Durability::Synced).unwrap();
        for (log, _) in listing(dir.path()).into_iter().filter(|(file, _)| file.extension().is_some_and(|x| x == "log"))
        {
            inodes.insert(fs::metadata(&log).unwrap().ino());
            names.insert(log);
        }
    }
    assert!(names.len() >= 6 && inodes.len() <= names.len() / 2, "{} logs, {} files", names.len(), inodes.len());
    // What an older use left behind the end of a log is not of the log.
    drop(rocks);
    let now = Rocks::open(dir.path(), &small()).unwrap().snapshot().unwrap();
    assert_eq!(now.range(Column::Leaf, &Bounds::all(), usize::MAX, usize::MAX).unwrap().rows.len(), 100);
}

#[test]
fn a_full_disk_is_refused_until_it_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let (free, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let probe = {
        let (free, asked) = (free.clone(), asked.clone());
        move |_: &Path| {
            asked.fetch_add(1, Ordering::Relaxed);
            Ok(free.load(Ordering::Relaxed))
        }
    };
    let config = RocksConfig { disk_reserve_bytes: 100 << 20, ..small() };
    let rocks = Rocks::open_with(dir.path(), &config, Box::new(probe)).unwrap();
    let commit = |n: u32| rocks.commit(numbered(n), Durability::Synced);

    free.store(101 << 20, Ordering::Relaxed);
    commit(0).unwrap();
    free.store(100 << 20, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(110));
    for _ in 0..3 {
        match commit(1) {
            Err(BackendError::Full { path, free_bytes, wanted_bytes }) => {
                assert_eq!((&*path, free_bytes), (dir.path(), 100 << 20));
                assert!(wanted_bytes > (100 << 20) + (1 << 17), "{wanted_bytes}");
            }
            other => panic!("{other:?}"),
        }
    }
    rocks.commit(Batch::new(), Durability::Synced).unwrap();
    let now = rocks.snapshot().unwrap();
    assert!(now.get(Column::Leaf, &0u32.to_be_bytes()).unwrap().is_some(), "reads go on");
    assert_eq!(now.get(Column::Leaf, &1u32.to_be_bytes()).unwrap(), None, "nothing was written");
    let stats = rocks.stats();
    assert_eq!((stats.full_total, stats.is_poisoned, stats.free_bytes), (3, false, Some(100 << 20)));

    // Asked anew at each commit while it is tight, so there is no waiting.
    free.store(u64::MAX, Ordering::Relaxed);
    commit(1).unwrap();
    let before = asked.load(Ordering::Relaxed);
    let start = Instant::now();
    for n in 2..10 {
        commit(n).unwrap();
    }
    let times = asked.load(Ordering::Relaxed) - before;
    assert!(times <= 1 + start.elapsed().as_millis() as u64 / 100, "asked {times} times");
    for n in 10..160 {
        commit(n).unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) - before >= 2, "asked after so many bytes");
}

#[test]
fn a_commit_that_would_wait_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rocks = Rocks::open(dir.path(), &small()).unwrap();
    let leaf = rocks.store.family(Column::Leaf);
    let flushed = |n: u32| {
        rocks.commit(numbered(n), Durability::Buffered)?;
        rocks.store.db.flush_cf(&leaf).unwrap();
        Ok(())
    };
    let never_merged = ("level0_file_num_compaction_trigger", "100");
    let options = [never_merged, ("level0_slowdown_writes_trigger", "2"), ("level0_stop_writes_trigger", "4")];
    rocks.store.db.set_options_cf(&leaf, &options).unwrap();
    let mut n = 0;
    let error: BackendError = loop {
        match flushed(n) {
            Ok(()) => n += 1,
            Err(error) => break error,
        }
        assert!(n < 10, "nothing stops");
    };
    assert!(matches!(&error, BackendError::Busy { path, retry_ms: 1.. } if *path == dir.path()), "{error}");
    let stats = rocks.stats();
    assert_eq!((stats.writes, stats.busy_total, stats.is_poisoned), (Writes::Stopped, 1, false));
    assert!(stats.delayed_total > 0, "slowed down before it was stopped");
    rocks.commit(Batch::new(), Durability::Synced).unwrap();
    assert!(rocks.snapshot().unwrap().get(Column::Leaf, &0u32.to_be_bytes()).unwrap().is_some(), "reads go on");

    rocks.compact(Column::Leaf, &mut |_| ControlFlow::Continue(())).unwrap();
    rocks.commit(numbered(n), Durability::Synced).unwrap();
    assert_eq!(rocks.stats().writes, Writes::Flowing);
}

/// Rows of a megabyte, each deleted 30 blocks later.
#[test]
fn the_journal_hardly_reaches_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let config = RocksConfig { disk_reserve_bytes: 0, ..RocksConfig::default() };
    let rocks = Rocks::open(dir.path(), &config).unwrap();
    const BLOCKS: u32 = 300;
    let mut most = 0;
    for n in 0..BLOCKS {
        let mut batch = row(Column::Fork, &n.to_be_bytes(), &noise(n, 1 << 20));
        if let Some(old) = n.checked_sub(30) {
            batch.delete(Column::Fork, &old.to_be_bytes());
        }
        rocks.commit(batch, Durability::Buffered).unwrap();
        most = most.max(rocks.stats().column(Column::Fork).disk_bytes);
    }
    let fork = *rocks.stats().column(Column::Fork);
    println!("most on disk {} MiB, in memory {} MiB", most >> 20, fork.memory_bytes >> 20);
    // Of 300 MiB; those alive at a flush, of the last flushes that no compaction has merged.
    assert!(most < 160 << 20, "{most} bytes in tables");
    rocks.compact(Column::Fork, &mut |_| ControlFlow::Continue(())).unwrap();
    let rested = rocks.stats().column(Column::Fork).disk_bytes;
    assert!(rested < 32 << 20, "{rested} bytes");
}

/// What a small synced commit costs on the first logs and on recycled ones. `cargo test … small_commits -- --ignored`
#[test]
#[ignore = "measures"]
fn small_commits_measured() {
    let dir = tempfile::tempdir_in(std::env::var_os("RUSTORIUM_MEASURE_IN").unwrap_or("/tmp".into())).unwrap();
    let rocks = Rocks::open(dir.path(), &RocksConfig::default()).unwrap();
    let measure = |name: &str| {
        let mut times: Vec<f64> = (0..500u32)
            .map(|n| {
                let start = Instant::now();
                rocks.commit(row(Column::Meta, &n.to_be_bytes(), &noise(n, 300)), Durability::Synced).unwrap();
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        times.sort_by(f64::total_cmp);
        println!("{name}: median {:.3} ms, mean {mean:.3} ms, 99 % {:.3} ms", times[250], times[495]);
    };
    measure("first log");
    // Until logs are given back.
    let reuses = || fs::read_to_string(dir.path().join("LOG")).unwrap().matches("reusing log").count();
    let mut n = 0;
    while reuses() < 2 {
        for column in Column::ALL {
            rocks.commit(row(column, &[1], &noise(n, 1 << 20)), Durability::Buffered).unwrap();
        }
        n += 1;
    }
    println!("recycled after {n} × 10 MiB");
    measure("recycled log");
}
