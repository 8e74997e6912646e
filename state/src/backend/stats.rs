//! How a store stands, in numbers: for metrics, and for whoever looks after it.

use super::Column;

/// How a store stands at one moment. The numbers are taken one after the other, so commits under way may fall between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// `columns[c as usize]` is of the column `c`.
    pub columns: [ColumnStats; Column::ALL.len()],
    /// Bytes of the write-ahead log's files, with what is allocated in advance.
    pub log_bytes: u64,
    /// Bytes of memory that blocks, indexes and filters read from disk take.
    pub cache_bytes: u64,
    /// Bytes that compaction still has to rewrite, estimated.
    pub compaction_bytes: u64,
    /// Whether commits go through as fast as the disk takes them.
    pub writes: Writes,
    /// Commits of this handle that the backend slowed down.
    pub delayed_total: u64,
    /// Commits of this handle that were refused with [`super::BackendError::Busy`].
    pub busy_total: u64,
    /// Commits of this handle that were refused with [`super::BackendError::Full`].
    pub full_total: u64,
    /// Errors that flushing and compacting met since the store was opened.
    pub background_errors: u64,
    /// Bytes that the file system has left for us; `None` where there is none, or it does not tell.
    pub free_bytes: Option<u64>,
    /// Whether a commit of this handle has failed, so that all later ones are refused.
    pub is_poisoned: bool,
}

impl Stats {
    /// The numbers of one column.
    pub fn column(&self, column: Column) -> &ColumnStats {
        &self.columns[column as usize]
    }

    /// Bytes on disk, of all columns and the log.
    pub fn disk_bytes(&self) -> u64 {
        self.columns.iter().map(|column| column.disk_bytes).sum::<u64>() + self.log_bytes
    }
}

/// The numbers of one column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnStats {
    /// Rows. A backend that would have to count them estimates: rows written twice or deleted may still be in it.
    pub rows: u64,
    /// Bytes of its files, those of deleted rows among them until compaction comes by.
    pub disk_bytes: u64,
    /// Bytes of its rows that lie in memory alone, or there and in the log.
    pub memory_bytes: u64,
    /// Files with its rows.
    pub files: u64,
}

/// How a backend takes commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// As fast as the disk takes them.
    #[default]
    Flowing,
    /// Slowed down, so that flushing and compacting keep up.
    Delayed {
        /// What is let through.
        bytes_per_s: u64,
    },
    /// Not at all for now: [`super::BackendError::Busy`].
    Stopped,
}

/// How far [`super::Backend::compact`] is with a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Slices of the column that are done.
    pub slices: usize,
    /// Slices that it was cut into.
    pub slices_total: usize,
}
