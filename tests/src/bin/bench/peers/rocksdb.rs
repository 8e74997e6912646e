//! RocksDB without any tree, and RocksDB for those peers that bring none: the settings of our own column of leaves
//! (`state/src/backend/rocksdb.rs`), synced commits.

use std::path::Path;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    Options, WriteBatch, WriteOptions,
};

use super::Peer;
use crate::machine::cores;
use crate::workload::{Key, Update};

const CACHE_BYTES: usize = 256 << 20;
const MEMTABLES_BYTES: usize = 256 << 20;
const MEMTABLE_BYTES: usize = 64 << 20;
const LOG_BYTES_MAX: u64 = 512 << 20;
const LOG_FILES_RECYCLED: usize = 4;
const OPEN_FILES_MAX: i32 = 512;
const FILTER_BITS: f64 = 10.0;
const ZSTD_LEVEL: i32 = 1;
const ZSTD_WINDOW_BITS: i32 = -14;

/// A row for each key.
struct Rows(DB);

pub(super) fn open(folder: &Path) -> anyhow::Result<Box<dyn Peer>> {
    Ok(Box::new(Rows(database(folder, &["rows"])?)))
}

impl Peer for Rows {
    fn commit(&mut self, block: Vec<Update>) -> anyhow::Result<()> {
        let family = family(&self.0, "rows");
        let mut batch = WriteBatch::default();
        for (key, value) in &block {
            batch.put_cf(&family, key, value);
        }
        write(&self.0, batch)
    }

    fn read(&mut self, key: &Key) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.0.get_cf(&family(&self.0, "rows"), key)?)
    }

    fn prove(&mut self, _: &Key) -> anyhow::Result<Vec<u8>> {
        anyhow::bail!("nothing to prove with")
    }

    fn verify(&mut self, _: &[u8], _: &Key, _: &[u8]) -> anyhow::Result<()> {
        anyhow::bail!("nothing to verify")
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A database with these column families besides `default`.
pub(super) fn database(folder: &Path, families: &[&str]) -> anyhow::Result<DB> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(cores()?.clamp(2, 8) as i32);
    options.set_db_write_buffer_size(MEMTABLES_BYTES);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_recycle_log_file_num(LOG_FILES_RECYCLED);
    options.set_max_total_wal_size(LOG_BYTES_MAX);
    options.set_bytes_per_sync(1 << 20);
    options.set_avoid_unnecessary_blocking_io(true);
    let cache = Cache::new_hyper_clock_cache(CACHE_BYTES, 0);
    let families = ["default"].iter().chain(families);
    let families = families.map(|name| ColumnFamilyDescriptor::new(*name, family_options(&cache)));
    Ok(DB::open_cf_descriptors(&options, folder, families)?)
}

fn family_options(cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_target_file_size_base(64 << 20);
    options.set_max_write_buffer_number(3);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_bottommost_compression_options(ZSTD_WINDOW_BITS, ZSTD_LEVEL, 0, 0, true);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_block_size(4 << 10);
    table.set_bloom_filter(FILTER_BITS, false);
    table.set_partition_filters(true);
    table.set_optimize_filters_for_memory(true);
    options.set_block_based_table_factory(&table);
    options
}

pub(super) fn family<'a>(db: &'a DB, name: &str) -> std::sync::Arc<rocksdb::BoundColumnFamily<'a>> {
    db.cf_handle(name).expect("it was opened with this family")
}

/// Writes a batch; it is durable when this returns.
pub(super) fn write(db: &DB, batch: WriteBatch) -> anyhow::Result<()> {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    Ok(db.write_opt(batch, &options)?)
}
