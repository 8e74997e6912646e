//! RocksDB's settings, and what each is for.
//!
//! - *Log*. Recycled files have their blocks allocated already, so a sync writes data and no inode. RocksDB silently
//!   gives recycling up under other recovery modes and with a log TTL, hence point-in-time recovery: opening replays
//!   whole batches until the first record that is torn or not its own, and drops the rest. A log that rots *at rest*
//!   looks the same as one torn by a crash; tables that are ahead of the log are noticed, and refuse to open.
//!   The first logs after an opening are appended: RocksDB takes none over from an earlier run, and gives one back only
//!   when every family's rows in it have reached tables, which the size below forces after 512 MB. What it preallocates
//!   for a new log are extents that were never written, so each sync there commits metadata as well, a second flush of
//!   the disk. Where a flush is cheap that hardly shows: 500 synced commits of 300 bytes take 0.163 ms each on the first
//!   log and 0.160 ms on a recycled one (medians, ext4 on a virtual disk; the ignored test `small_commits_measured`).
//!   Filling logs at opening would spare it; it is not worth the writing.
//! - *Log size*. A family that is written little pins old log files, so their sum is bounded; this bounds the replay at
//!   opening too.
//! - *Memtables* of 64 MB: with larger ones the skip list falls out of the processor's cache (512 MB: half as much CPU a
//!   row again). All families together flush at `memtables_bytes`.
//! - *Stalls*. Commits wait when flushes and compactions do not keep up; what is put off is bounded so: three memtables a
//!   family, of which two may be waiting for their flush; 20 files in the first level slow commits down, 36 stop them;
//!   so do 64 and 256 GiB of compaction that is due. A stopped commit waits for a second and is then refused. Flushing and compacting
//!   write at most `background_bytes_per_s` together, flushes first, and as little as keeps pace, so that a sync of the
//!   log does not queue behind a burst.
//! - *The journal*, `fork`, and what a front has acknowledged, in `aux`. A row may have megabytes and is deleted a few
//!   dozen blocks later, or a block later. The memtable is as large as any, so that row and deletion mostly meet there, and a flush writes neither; what reaches a table is not compressed
//!   and has no filter.
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

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType as Compression, DBRecoveryMode, Options,
};

use super::{Column, RocksConfig};

pub(super) fn store_options(config: &RocksConfig) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_max_open_files(i32::from(config.open_files_max));
    options.set_max_background_jobs(i32::from(config.background_jobs));
    options.set_db_write_buffer_size(config.memtables_bytes);
    options.set_auto_tuned_ratelimiter(i64::from(config.background_bytes_per_s), REFILLED_EVERY_US, FAIRNESS);

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
/// Memtables of a family: one that is written and those that wait for their flush.
const MEMTABLES_MAX: i32 = 3;
/// Files in the first level that are merged into the next, that slow commits down, and that stop them.
const FIRST_LEVEL_FILES: [i32; 3] = [4, 20, 36];
/// Bytes of due compaction that slow commits down, and that stop them.
const DUE_BYTES: [usize; 2] = [64 << 30, 256 << 30];
const REFILLED_EVERY_US: i64 = 100_000;
/// One request in so many is served though others are before it.
const FAIRNESS: i32 = 10;
const MEMTABLE_BYTES: usize = 64 << 20;
/// For the columns that see a few rows a block.
const SMALL_MEMTABLE_BYTES: usize = 8 << 20;
const FILTER_BITS: f64 = 10.0;
const ZSTD_LEVEL: i32 = 1;
/// The library's own window: by the level and the size of what is compressed.
const ZSTD_WINDOW_BITS: i32 = -14;

pub(super) fn column_options(column: Column, config: &RocksConfig, cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_target_file_size_base(64 << 20);
    options.set_max_write_buffer_number(MEMTABLES_MAX);
    let [merged, slow, stopped] = FIRST_LEVEL_FILES;
    options.set_level_zero_file_num_compaction_trigger(merged);
    options.set_level_zero_slowdown_writes_trigger(slow);
    options.set_level_zero_stop_writes_trigger(stopped);
    let [slow, stopped] = DUE_BYTES;
    options.set_soft_pending_compaction_bytes_limit(slow);
    options.set_hard_pending_compaction_bytes_limit(stopped);
    let memtable_bytes = match column {
        Column::Leaf | Column::Big | Column::Node | Column::Index => MEMTABLE_BYTES,
        Column::Undo | Column::UndoAt | Column::Fork | Column::Aux => MEMTABLE_BYTES,
        Column::Block | Column::Meta => SMALL_MEMTABLE_BYTES,
    };
    options.set_write_buffer_size(memtable_bytes.min(config.memtables_bytes));
    let (upper, bottom) = match column {
        Column::Node | Column::Fork | Column::Aux | Column::Meta => (Compression::None, Compression::None),
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
