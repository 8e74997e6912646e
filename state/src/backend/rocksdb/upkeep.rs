//! How the store stands, and putting it in order: RocksDB's properties in our terms, and compaction by hand.

use std::{
    ffi::CStr,
    fs,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use rocksdb::{BoundColumnFamily, CompactOptions, ErrorKind, WriteBatch, WriteOptions, properties};

use super::{BackendError, Column, Compacted, Stats, Store, refusal};
use crate::backend::{ColumnStats, Writes};

/// Slices that a column is compacted in, at most: after each one, the caller is asked.
const SLICES_MAX: usize = 256;

/// How long a commit waits for writes that are stopped: a flush of a memtable mostly takes less.
const STOPPED_MAX: Duration = Duration::from_secs(1);
const LOOKED_EVERY: Duration = Duration::from_millis(5);

const BLOB_BYTES: &CStr = c"rocksdb.total-blob-file-size";
const BLOB_FILES: &CStr = c"rocksdb.num-blob-files";

impl Store {
    /// The numbers that RocksDB knows; those of the handle are left at nothing.
    pub(super) fn stats(&self) -> Stats {
        let columns = Column::ALL.map(|column| self.column_stats(&self.family(column)));
        let sum =
            |property: &CStr| Column::ALL.iter().map(|column| self.number_of(&self.family(*column), property)).sum();
        Stats {
            columns,
            log_bytes: self.log_bytes(),
            cache_bytes: self.cache.get_usage() as u64,
            compaction_bytes: sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES),
            writes: self.writes(),
            background_errors: self.number(properties::BACKGROUND_ERRORS),
            ..Stats::default()
        }
    }

    fn column_stats(&self, family: &Arc<BoundColumnFamily<'_>>) -> ColumnStats {
        let number = |property| self.number_of(family, property);
        let tables = self.db.get_column_family_metadata_cf(family);
        ColumnStats {
            rows: number(properties::ESTIMATE_NUM_KEYS),
            disk_bytes: number(properties::TOTAL_SST_FILES_SIZE) + number(BLOB_BYTES),
            memory_bytes: number(properties::CUR_SIZE_ALL_MEM_TABLES),
            files: tables.file_count as u64 + number(BLOB_FILES),
        }
    }

    /// Whether commits are held up, by any column.
    pub(super) fn writes(&self) -> Writes {
        if self.number(properties::IS_WRITE_STOPPED) != 0 {
            return Writes::Stopped;
        }
        match self.number(properties::ACTUAL_DELAYED_WRITE_RATE) {
            0 => Writes::Flowing,
            bytes_per_s => Writes::Delayed { bytes_per_s },
        }
    }

    /// [`Store::writes`], when stopped writes have been given [`STOPPED_MAX`] to go on.
    pub(super) fn writes_again(&self) -> Writes {
        let start = Instant::now();
        loop {
            match self.writes() {
                Writes::Stopped if start.elapsed() < STOPPED_MAX => std::thread::sleep(LOOKED_EVERY),
                writes => return writes,
            }
        }
    }

    fn log_bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.path) else { return 0 };
        let logs = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|ext| ext == "log"));
        logs.filter_map(|entry| entry.metadata().ok()).map(|log| log.len()).sum()
    }

    /// A property of the whole database.
    fn number(&self, property: &CStr) -> u64 {
        self.db.property_int_value(property).ok().flatten().unwrap_or(0)
    }

    fn number_of(&self, family: &Arc<BoundColumnFamily<'_>>, property: &CStr) -> u64 {
        self.db.property_int_value_cf(family, property).ok().flatten().unwrap_or(0)
    }

    /// [`super::super::Backend::compact`]: slice by slice, cut where tables begin.
    pub(super) fn compact(
        &self,
        column: Column,
        proceed: &mut dyn FnMut(Compacted) -> ControlFlow<()>,
    ) -> Result<(), BackendError> {
        let cuts = self.cuts(column)?;
        let family = self.family(column);
        let mut options = CompactOptions::default();
        // Or else the automatic ones wait, and with them, in the end, commits.
        options.set_exclusive_manual_compaction(false);
        let slices_total = cuts.len() + 1;
        let mut start = None;
        for (slices, end) in cuts.iter().map(Some).chain([None]).enumerate() {
            if proceed(Compacted { slices, slices_total }).is_break() {
                return Ok(());
            }
            self.db.compact_range_cf_opt(&family, start, end, &options);
            self.background_error()?;
            start = end;
        }
        let _ = proceed(Compacted { slices: slices_total, slices_total });
        Ok(())
    }

    /// Keys that cut a column into slices of about as many tables each.
    fn cuts(&self, column: Column) -> Result<Vec<Vec<u8>>, BackendError> {
        let files = self.db.live_files().map_err(|error| refusal("examine", &self.path, error))?;
        let of_column = files.into_iter().filter(|file| file.column_family_name == column.name());
        let mut cuts: Vec<Vec<u8>> = of_column.filter_map(|file| file.start_key).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let step = cuts.len().div_ceil(SLICES_MAX).max(1);
        Ok(cuts.into_iter().step_by(step).skip(1).collect())
    }

    /// What stopped flushing and compacting, if anything did. RocksDB tells it only to who writes, so nothing is written.
    fn background_error(&self) -> Result<(), BackendError> {
        let mut options = WriteOptions::default();
        options.set_no_slowdown(true);
        match self.db.write_opt(WriteBatch::default(), &options) {
            Err(error) if error.kind() != ErrorKind::Incomplete => Err(refusal("compact", &self.path, error)),
            _ => Ok(()),
        }
    }
}
