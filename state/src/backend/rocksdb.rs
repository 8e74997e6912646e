//! Rows on disk in RocksDB: the only file that names it.
//!
//! Trusts the file system to keep what it was told to sync, and nothing else of it: blocks and log records carry
//! checksums that every read verifies. One database, a column family for each column, one write-ahead log over all of
//! them, which is what makes a batch atomic. The family `default`, which RocksDB insists on, stays empty.
//! Life-cycle: [`Rocks::open`] → snapshots and commits → drop; a snapshot keeps the database, and so its lock, alive.
//!
//! What the settings are for:
//! - *Log*. Recycled files have their blocks allocated already, so a sync writes data and no inode. RocksDB silently
//!   gives recycling up under other recovery modes and with a log TTL, hence point-in-time recovery: opening replays
//!   whole batches until the first record that is torn or not its own, and drops the rest. A log that rots *at rest*
//!   looks the same as one torn by a crash; tables that are ahead of the log are noticed, and refuse to open.
//! - *Log size*. A family that is written little pins old log files, so their sum is bounded; this bounds the replay at
//!   opening too.
//! - *Memtables* of 64 MB: with larger ones the skip list falls out of the processor's cache (512 MB: half as much CPU a
//!   row again). All families together flush at `memtables_bytes`.
//! - *Compression*. LZ4 where rows are still moving, ZSTD at the bottom where nine tenths of them rest, at its first
//!   level. `node` rows are
//!   curve points, which do not shrink: none. Values of `big` go to blob files, so that compaction moves a pointer and
//!   not a megabyte; LZ4, because the largest are code that is compressed already.
//! - *Filters*, ten bits a key, on `leaf`, `big`, `node` and `block`, where single keys are asked for, many of them
//!   absent (inserts, proofs of absence, hashes from strangers). Bloom, not ribbon: two fifths more memory for a
//!   quarter of the CPU when tables are built, and CPU is what commits are short of. The other columns are read by ranges.
//! - *Cache*. Blocks, indexes and filters of all columns share `block_cache_bytes`, so memory stays bounded however
//!   large the store; indexes and filters are split into small parts, so that a miss costs 4 KB and not half a
//!   megabyte. (That takes 1.3 µs of a point read of 5; whole ones, 3 bytes a row, collapse once they outgrow the cache.)
//! - *Files*. At most `open_files_max` at a time: sockets want descriptors too.

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, BoundColumnFamily, Cache, ColumnFamilyDescriptor, DB,
    DBCompressionType as Compression, DBRecoveryMode, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, IteratorMode, Options,
    ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteOptions,
};

use super::{Backend, BackendError, Batch, Bounds, Column, Durability, Op, Page, Rows, Snapshot, assert_ascending};

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
}

impl Default for RocksConfig {
    /// 256 MiB of cache, 256 MiB of memtables, 512 files, a thread for each core but from 2 to 8.
    fn default() -> RocksConfig {
        let cores = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8) as u16);
        RocksConfig {
            block_cache_bytes: 256 << 20,
            memtables_bytes: 256 << 20,
            open_files_max: 512,
            background_jobs: cores,
        }
    }
}

/// A store in RocksDB.
pub struct Rocks {
    store: Arc<Store>,
    poisoned: AtomicBool,
}

impl Rocks {
    /// Opens the store in the directory `path`, or makes a new one, its parent directories included.
    ///
    /// Refuses what is not ours ([`BackendError::Foreign`]) before it writes a byte there, what another handle or
    /// process has open ([`BackendError::Locked`]), and files that are missing or fail their checksums
    /// ([`BackendError::Damaged`]).
    pub fn open(path: &Path, config: &RocksConfig) -> Result<Rocks, BackendError> {
        fs::create_dir_all(path).map_err(|error| no_directory("create", path, error))?;
        check_ours(path)?;
        let cache = Cache::new_hyper_clock_cache(config.block_cache_bytes, 0);
        let columns = Column::ALL.map(|c| ColumnFamilyDescriptor::new(c.name(), column_options(c, config, &cache)));
        let db = DB::open_cf_descriptors(&store_options(config), path, columns)
            .map_err(|error| refusal("open", path, error))?;
        let store = Arc::new(Store { db, path: path.to_path_buf() });
        Ok(Rocks { store, poisoned: AtomicBool::new(false) })
    }

    /// The directory of the store.
    pub fn path(&self) -> &Path {
        &self.store.path
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), rocksdb::Error> {
        let store = &self.store;
        let sync = durability == Durability::Synced;
        if batch.is_empty() {
            return if sync { store.db.flush_wal(true) } else { Ok(()) };
        }
        let families = Column::ALL.map(|column| store.family(column));
        let mut write = WriteBatch::with_capacity_bytes(batch.bytes() + ROW_OVERHEAD_BYTES * batch.len());
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
        self.write(&batch, durability).map_err(|error| {
            self.poisoned.store(true, Ordering::Release);
            refusal("commit to", &self.store.path, error)
        })
    }
}

/// The tag, family and lengths that a write batch keeps beside a row, about.
const ROW_OVERHEAD_BYTES: usize = 12;

/// The open database. RocksDB's snapshots borrow it, so it is shared between the handle and the snapshots.
struct Store {
    db: DB,
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

fn store_options(config: &RocksConfig) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_max_open_files(i32::from(config.open_files_max));
    options.set_max_background_jobs(i32::from(config.background_jobs));
    options.set_db_write_buffer_size(config.memtables_bytes);

    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_recycle_log_file_num(LOG_FILES_RECYCLED);
    options.set_max_total_wal_size(LOG_BYTES_MAX);

    // Write tables back steadily, so that a log sync does not queue behind a burst of them.
    options.set_bytes_per_sync(1 << 20);
    // Files that a reader's snapshot was the last to hold are deleted in the background, not on the reader's thread.
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_skip_stats_update_on_db_open(true);
    options.set_max_manifest_file_size(64 << 20);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(16 << 20);
    options
}

const LOG_FILES_RECYCLED: usize = 4;
const LOG_BYTES_MAX: u64 = 512 << 20;
const MEMTABLE_BYTES: usize = 64 << 20;
/// For the columns that see a few rows a block.
const SMALL_MEMTABLE_BYTES: usize = 8 << 20;
const FILTER_BITS: f64 = 10.0;
const ZSTD_LEVEL: i32 = 1;
/// The library's own window: by the level and the size of what is compressed.
const ZSTD_WINDOW_BITS: i32 = -14;

fn column_options(column: Column, config: &RocksConfig, cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_target_file_size_base(64 << 20);
    options.set_max_write_buffer_number(3);
    let memtable_bytes = match column {
        Column::Leaf | Column::Big | Column::Node | Column::Index | Column::Undo | Column::UndoAt => MEMTABLE_BYTES,
        Column::Block | Column::Fork | Column::Aux | Column::Meta => SMALL_MEMTABLE_BYTES,
    };
    options.set_write_buffer_size(memtable_bytes.min(config.memtables_bytes));
    let (upper, bottom) = match column {
        Column::Node | Column::Meta => (Compression::None, Compression::None),
        _ => (Compression::Lz4, Compression::Zstd),
    };
    options.set_compression_type(upper);
    options.set_bottommost_compression_type(bottom);
    options.set_bottommost_compression_options(ZSTD_WINDOW_BITS, ZSTD_LEVEL, 0, 0, true);
    if column == Column::Big {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(BLOB_BYTES_MIN);
        options.set_blob_compression_type(Compression::Lz4);
        options.set_enable_blob_gc(true);
        // Rewrite blob files of which half is garbage, also where compaction would not come by.
        options.set_blob_gc_force_threshold(0.5);
    }
    options.set_block_based_table_factory(&table_options(column, cache));
    options
}

/// Below it a value lies in its table row: compaction is then cheaper than a second read.
const BLOB_BYTES_MIN: u64 = 2 << 10;

fn table_options(column: Column, cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    match column {
        Column::Leaf | Column::Big | Column::Node | Column::Block => {
            // Point reads: small blocks.
            table.set_block_size(4 << 10);
            table.set_bloom_filter(FILTER_BITS, false);
            table.set_partition_filters(true);
            table.set_optimize_filters_for_memory(true);
        }
        // Ranges: blocks that compress better.
        _ => table.set_block_size(16 << 10),
    }
    table
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
