//! Rows on disk in RocksDB: this file and the folder beside it are the only ones that name it.
//!
//! Trusts the file system to keep what it was told to sync, and nothing else of it: blocks and log records carry
//! checksums that every read verifies. One database, a column family for each column, one write-ahead log over all of
//! them, which is what makes a batch atomic. The family `default`, which RocksDB insists on, stays empty.
//! Life-cycle: [`Rocks::open`] → snapshots and commits → drop; a snapshot keeps the database, and so its lock, alive.

mod room;
mod salvage;
mod settings;
#[cfg(test)]
mod tests;
mod upkeep;

use std::{
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use rocksdb::{
    BoundColumnFamily, Cache, ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, IteratorMode, Options,
    ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteOptions,
};

use self::room::{Probe, Room};
use self::settings::{column_options, store_options};
use super::{
    Backend, BackendError, Batch, Bounds, Column, Compacted, Durability, Op, Page, Rows, Snapshot, Stats, Writes,
    assert_ascending,
};
use crate::metrics::{COMMIT_SECONDS, WRITE_STALL_SECONDS};

pub use self::salvage::{Lost, Salvaged};

/// What a store may use of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksConfig {
    /// Memory for blocks, indexes and filters read from disk.
    pub block_cache_bytes: usize,
    /// Memory for rows not yet in a table, over all columns; what is being flushed may come on top for a moment.
    pub memtables_bytes: usize,
    /// Table and blob files held open at a time.
    pub open_files_max: u16,
    /// Threads that flush and compact.
    pub background_jobs: u16,
    /// What flushing and compacting write at most; when there is little to do, RocksDB keeps itself well below.
    pub background_bytes_per_s: u32,
    /// Commits are refused with [`BackendError::Full`] when less would be left on the disk; 0 never asks.
    pub disk_reserve_bytes: u64,
}

impl Default for RocksConfig {
    /// 256 MiB of cache, 256 MiB of memtables, 512 files, a thread for each core but from 2 to 8, 1 GiB a second written in
    /// the background, 512 MiB left on the disk.
    fn default() -> RocksConfig {
        let cores = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8) as u16);
        RocksConfig {
            block_cache_bytes: 256 << 20,
            memtables_bytes: 256 << 20,
            open_files_max: 512,
            background_jobs: cores,
            background_bytes_per_s: 1 << 30,
            disk_reserve_bytes: 512 << 20,
        }
    }
}

/// A store in RocksDB.
pub struct Rocks {
    store: Arc<Store>,
    room: Room,
    poisoned: AtomicBool,
    delayed_total: AtomicU64,
    busy_total: AtomicU64,
    full_total: AtomicU64,
}

impl Rocks {
    /// Opens the store in the directory `path`, or makes a new one, its parent directories included.
    ///
    /// Refuses what is not ours ([`BackendError::Foreign`]) before it writes a byte there, what another handle or
    /// process has open ([`BackendError::Locked`]), and files that are missing or fail their checksums
    /// ([`BackendError::Damaged`]).
    pub fn open(path: &Path, config: &RocksConfig) -> Result<Rocks, BackendError> {
        Rocks::open_with(path, config, Box::new(room::ask))
    }

    fn open_with(path: &Path, config: &RocksConfig, probe: Box<Probe>) -> Result<Rocks, BackendError> {
        fs::create_dir_all(path).map_err(|error| no_directory("create", path, error))?;
        check_ours(path)?;
        let cache = Cache::new_hyper_clock_cache(config.block_cache_bytes, 0);
        let columns = Column::ALL.map(|c| ColumnFamilyDescriptor::new(c.name(), column_options(c, config, &cache)));
        let db = DB::open_cf_descriptors(&store_options(config), path, columns)
            .map_err(|error| refusal("open", path, error))?;
        let store = Arc::new(Store { db, cache, path: path.to_path_buf() });
        Ok(Rocks {
            store,
            room: Room::new(config.disk_reserve_bytes, probe),
            poisoned: AtomicBool::new(false),
            delayed_total: AtomicU64::new(0),
            busy_total: AtomicU64::new(0),
            full_total: AtomicU64::new(0),
        })
    }

    /// The directory of the store.
    pub fn path(&self) -> &Path {
        &self.store.path
    }

    /// Refuses what could not be written at once, or would leave too little room: nothing has been written then. Whether
    /// RocksDB will take its time.
    fn admit(&self, batch: &Batch) -> Result<bool, BackendError> {
        if batch.is_empty() {
            return Ok(false);
        }
        let writes = self.store.writes_again();
        match writes {
            Writes::Flowing => {}
            Writes::Delayed { .. } => {
                self.delayed_total.fetch_add(1, Ordering::Relaxed);
            }
            Writes::Stopped => {
                self.busy_total.fetch_add(1, Ordering::Relaxed);
                return Err(BackendError::Busy { path: self.store.path.clone(), retry_ms: RETRY_MS });
            }
        }
        self.room.take(&self.store.path, write_bytes(batch) as u64).inspect_err(|_| {
            self.full_total.fetch_add(1, Ordering::Relaxed);
        })?;
        Ok(writes != Writes::Flowing)
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), rocksdb::Error> {
        let store = &self.store;
        let sync = durability == Durability::Synced;
        if batch.is_empty() {
            return if sync { store.db.flush_wal(true) } else { Ok(()) };
        }
        let families = Column::ALL.map(|column| store.family(column));
        let mut write = WriteBatch::with_capacity_bytes(write_bytes(batch));
        for op in batch.ops() {
            match op {
                Op::Put { column, key, value } => write.put_cf(&families[column as usize], key, value),
                Op::Delete { column, key } => write.delete_cf(&families[column as usize], key),
                Op::DeleteRange { column, start, end } => {
                    write.delete_range_cf(&families[column as usize], start, end);
                }
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        store.db.write_opt(write, &options)
    }
}

impl Backend for Rocks {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        Ok(Arc::new(Moment::new(Arc::clone(&self.store), |store| store.db.snapshot())))
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(BackendError::Poisoned { path: self.store.path.clone() });
        }
        let begun = Instant::now();
        let is_delayed = self.admit(&batch)?;
        self.write(&batch, durability).map_err(|error| {
            self.poisoned.store(true, Ordering::Release);
            refusal("commit to", &self.store.path, error)
        })?;
        metrics::histogram!(COMMIT_SECONDS, "durability" => durability.name()).record(begun.elapsed());
        if is_delayed {
            metrics::histogram!(WRITE_STALL_SECONDS).record(begun.elapsed());
        }
        Ok(())
    }

    fn stats(&self) -> Stats {
        Stats {
            delayed_total: self.delayed_total.load(Ordering::Relaxed),
            busy_total: self.busy_total.load(Ordering::Relaxed),
            full_total: self.full_total.load(Ordering::Relaxed),
            free_bytes: self.room.free_bytes(&self.store.path),
            is_poisoned: self.poisoned.load(Ordering::Acquire),
            ..self.store.stats()
        }
    }

    fn compact(
        &self,
        column: Column,
        proceed: &mut dyn FnMut(Compacted) -> ControlFlow<()>,
    ) -> Result<(), BackendError> {
        self.store.compact(column, proceed)
    }
}

/// When a commit that RocksDB would have kept waiting may be tried again: a flush or a small compaction later.
const RETRY_MS: u64 = 200;

/// The size of a batch in RocksDB's terms, about: beside each row, a tag, the family and lengths.
fn write_bytes(batch: &Batch) -> usize {
    const ROW_OVERHEAD_BYTES: usize = 12;
    batch.bytes() + ROW_OVERHEAD_BYTES * batch.len()
}

/// The open database. RocksDB's snapshots borrow it, so it is shared between the handle and the snapshots.
struct Store {
    db: DB,
    cache: Cache,
    path: PathBuf,
}

impl Store {
    fn family(&self, column: Column) -> Arc<BoundColumnFamily<'_>> {
        self.db.cf_handle(column.name()).expect("every column was opened, and none is ever dropped")
    }
}

type Pinned<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell::self_cell!(
    /// A snapshot together with the database that it borrows: the snapshot is released first.
    struct Moment {
        owner: Arc<Store>,
        #[covariant]
        dependent: Pinned,
    }
);

impl Moment {
    fn read_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(self.borrow_dependent());
        options
    }
}

impl Snapshot for Moment {
    fn get_many(&self, column: Column, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        assert_ascending(keys);
        let store = self.borrow_owner();
        let (family, options) = (store.family(column), self.read_options());
        let found = match keys {
            [] => Ok(Vec::new()),
            [key] => store.db.get_cf_opt(&family, key, &options).map(|value| vec![value]),
            // Sorted input: RocksDB relies on the order, which `assert_ascending` has checked.
            keys => (store.db.batched_multi_get_cf_opt(&family, keys, true, &options).into_iter())
                .map(|found| Ok(found?.map(|value| value.to_vec())))
                .collect(),
        };
        found.map_err(|error| refusal("read", &store.path, error))
    }

    fn range(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, BackendError> {
        let mut page = Page::new(rows_max, bytes_max);
        if bounds.is_empty() {
            return Ok(page.found);
        }
        let store = self.borrow_owner();
        let mut options = self.read_options();
        options.set_iterate_lower_bound(bounds.start.clone());
        if let Some(end) = &bounds.end {
            options.set_iterate_upper_bound(end.clone());
        }
        let mut rows = store.db.raw_iterator_cf_opt(&store.family(column), options);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            if !page.push(key, value) {
                break;
            }
            rows.next();
        }
        // The iterator ends alike at the end of the range and at a block that it cannot read.
        rows.status().map_err(|error| refusal("read", &store.path, error))?;
        Ok(page.found)
    }

    /// One iterator for all: to make one costs several times a seek.
    fn ranges(
        &self,
        column: Column,
        bounds: &[Bounds],
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Rows>, BackendError> {
        let store = self.borrow_owner();
        let mut options = self.read_options();
        if let Some(end) = bounds.last().and_then(|bounds| bounds.end.clone()) {
            options.set_iterate_upper_bound(end);
        }
        let mut rows = store.db.raw_iterator_cf_opt(&store.family(column), options);
        let each = |bounds: &Bounds| {
            let mut page = Page::new(rows_max, bytes_max);
            let is_within = |key: &[u8]| bounds.end.as_deref().is_none_or(|end| key < end);
            rows.seek(&bounds.start);
            while let Some((key, value)) = rows.item().filter(|(key, _)| is_within(key)) {
                if !page.push(key, value) {
                    break;
                }
                rows.next();
            }
            rows.status().map_err(|error| refusal("read", &store.path, error))?;
            Ok(page.found)
        };
        bounds.iter().map(each).collect()
    }
}

/// Whether opening `path` can only touch a store of ours; reads, and writes nothing.
fn check_ours(path: &Path) -> Result<(), BackendError> {
    if !path.join("CURRENT").exists() {
        return check_not_headless(path);
    }
    let foreign = |what: String| BackendError::Foreign { path: path.to_path_buf(), what };
    let names = DB::list_cf(&Options::default(), path).map_err(|error| refusal("examine", path, error))?;
    let ours = |name: &str| Column::ALL.iter().any(|column| column.name() == name);
    let others: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| *name != DEFAULT_COLUMN_FAMILY_NAME && !ours(name)).collect();
    if !others.is_empty() {
        return Err(foreign(format!("a RocksDB with the columns {}", others.join(", "))));
    }
    // A crash while a store is made leaves some columns out, which opening mends; but a database of somebody who uses
    // `default` alone looks the same, up to its rows.
    let whole = Column::ALL.iter().all(|column| names.iter().any(|name| name == column.name()));
    if !whole && default_has_rows(path)? {
        return Err(foreign("a RocksDB with rows in the column default".to_owned()));
    }
    Ok(())
}

/// Tables or logs without the file that names their manifest: RocksDB would take the directory for an empty one, and
/// delete them.
fn check_not_headless(path: &Path) -> Result<(), BackendError> {
    let unreadable = |error| no_directory("examine", path, error);
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let name = PathBuf::from(entry.map_err(unreadable)?.file_name());
        if name.extension().is_some_and(|ext| ["sst", "blob", "log"].iter().any(|data| ext == *data)) {
            let what = format!("the file CURRENT is missing, and yet there is {}", name.display());
            return Err(BackendError::Damaged { operation: "open", path: path.to_path_buf(), what });
        }
    }
    Ok(())
}

fn default_has_rows(path: &Path) -> Result<bool, BackendError> {
    let examined = |error| refusal("examine", path, error);
    let db = DB::open_for_read_only(&Options::default(), path, false).map_err(examined)?;
    db.iterator(IteratorMode::Start).next().transpose().map(|row| row.is_some()).map_err(examined)
}

/// What RocksDB's refusal means to us. Its C interface hands over the words of a status alone, so words it is.
fn refusal(operation: &'static str, path: &Path, error: rocksdb::Error) -> BackendError {
    let (path, kind, what) = (path.to_path_buf(), error.kind(), error.into_string());
    let says = |words: &[&str]| words.iter().any(|words| what.contains(words));
    if says(&["No space left on device", "Disk quota exceeded"]) {
        BackendError::NoSpace { operation, path, what }
    } else if says(&["While lock file", "lock hold by current process"]) {
        BackendError::Locked { path, what }
    } else if kind == ErrorKind::Corruption || says(&["No such file or directory"]) {
        // The directory exists, so a file that is not found is one that the manifest names.
        BackendError::Damaged { operation, path, what }
    } else {
        BackendError::Io { operation, path, what }
    }
}

fn no_directory(operation: &'static str, path: &Path, error: io::Error) -> BackendError {
    let (path, what) = (path.to_path_buf(), error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BackendError::NoSpace { operation, path, what },
        _ => BackendError::Io { operation, path, what },
    }
}
