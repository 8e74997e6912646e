//! Saving what reads: a damaged store is copied, row by row, into a new one.
//!
//! The damaged store is opened for reading alone, and nothing in its directory changes. Every row that an intact block
//! holds is copied, the rows of the log among them; where a block or a file cannot be read, the copy goes on behind it
//! and the keys between are named. What is lost or stale by that is for the rooms above to say: they know what rows mean.
//!
//! Without the files that say which tables there are (CURRENT, the manifest), rows old and new cannot be told apart, so
//! nothing is salvaged: such a store must be synced anew.

use std::{fs, ops::ControlFlow, path::Path};

use rocksdb::{Cache, ColumnFamilyDescriptor, DB, DBRawIterator, ReadOptions};

use super::{
    BackendError, Batch, Column, Durability, Rocks, RocksConfig, Store, check_ours, column_options, no_directory,
    refusal, store_options,
};
use crate::backend::commit_patiently;

/// Rows are written down when so many bytes of them have come together.
const BATCH_BYTES: usize = 4 << 20;
/// Ranges of lost keys that are named; further ones are counted.
const LOST_MAX: usize = 1000;

/// What [`Rocks::salvage`] has copied so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Rows copied: `rows[c as usize]` of the column `c`.
    pub rows: [u64; Column::ALL.len()],
    /// Ranges of keys that could not be read, in order, the first thousand of them.
    pub lost: Vec<Lost>,
    /// All such ranges.
    pub lost_total: u64,
}

/// Keys whose rows could not be read: there may have been any number of them, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Of which column.
    pub column: Column,
    /// The last key before them that was read; `None` when they begin the column.
    pub after: Option<Vec<u8>>,
    /// The first key behind them that was read; `None` when they end the column.
    pub before: Option<Vec<u8>>,
    /// The backend's own words.
    pub what: String,
}

impl Rocks {
    /// Copies every row of the store in `from` that reads into a new store in `to`, which must not exist or be empty, and
    /// syncs it. `proceed` is told how far it is about every 4 MiB; when it breaks off, `to` is left incomplete and `None`
    /// returned.
    ///
    /// [`BackendError::Damaged`] when nothing can be salvaged: the files are gone that name the others. No one may have
    /// `from` open.
    pub fn salvage(
        from: &Path,
        to: &Path,
        config: &RocksConfig,
        proceed: &mut dyn FnMut(&Salvaged) -> ControlFlow<()>,
    ) -> Result<Option<Salvaged>, BackendError> {
        check_empty(to)?;
        let source = open_for_reading(from, config)?;
        let target = Rocks::open(to, config)?;
        let mut copy = Copy { target, batch: Batch::new(), done: Salvaged::default(), open_end: None, proceed };
        for column in Column::ALL {
            if copy.column(&source, column)?.is_break() {
                return Ok(None);
            }
        }
        commit_patiently(&copy.target, copy.batch, Durability::Synced)?;
        Ok(Some(copy.done))
    }
}

fn open_for_reading(path: &Path, config: &RocksConfig) -> Result<Store, BackendError> {
    let opened = check_ours(path).and_then(|()| {
        let cache = Cache::new_hyper_clock_cache(config.block_cache_bytes, 0);
        let columns = Column::ALL.map(|c| ColumnFamilyDescriptor::new(c.name(), column_options(c, config, &cache)));
        let mut options = store_options(config);
        // A table that is gone is noticed when it is read.
        options.set_paranoid_checks(false);
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        let db = DB::open_cf_descriptors_read_only(&options, path, columns, false);
        let db = db.map_err(|error| refusal("open", path, error))?;
        Ok(Store { db, cache, path: path.to_path_buf() })
    });
    opened.map_err(|error| match error {
        BackendError::Damaged { path, what, .. } => {
            let what = format!("{what}; nothing can be copied from it: move it away and sync anew");
            BackendError::Damaged { operation: "salvage", path, what }
        }
        other => other,
    })
}

fn check_empty(path: &Path) -> Result<(), BackendError> {
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(BackendError::Foreign { path: path.to_path_buf(), what: "the directory is not empty".to_owned() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(no_directory("examine", path, error)),
    }
}

struct Copy<'a> {
    target: Rocks,
    batch: Batch,
    done: Salvaged,
    /// The damage that was met last, until a row behind it is found.
    open_end: Option<Lost>,
    proceed: &'a mut dyn FnMut(&Salvaged) -> ControlFlow<()>,
}

impl Copy<'_> {
    fn column(&mut self, source: &Store, column: Column) -> Result<ControlFlow<()>, BackendError> {
        let mut last: Option<Vec<u8>> = None;
        let mut start = Some(Vec::new());
        while let Some(from) = start {
            let mut rows = rows_from(source, column, &from);
            if let Some(lost) = rows.key().and_then(|_| self.open_end.take()) {
                self.lose(Lost { before: rows.key().map(<[u8]>::to_vec), ..lost });
            }
            while let Some((key, value)) = rows.item() {
                last = Some(key.to_vec());
                self.batch.put(column, key, value);
                self.done.rows[column as usize] += 1;
                if self.batch.bytes() >= BATCH_BYTES && self.write()?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                rows.next();
            }
            start = rows.status().err().and_then(|error| {
                let (after, what) = (last.clone(), error.into_string());
                self.open_end.get_or_insert(Lost { column, after, before: None, what });
                behind(last.as_deref(), &|key| rows_from(source, column, key).status().is_ok())
            });
        }
        if let Some(lost) = self.open_end.take() {
            self.lose(lost);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn write(&mut self) -> Result<ControlFlow<()>, BackendError> {
        let batch = std::mem::take(&mut self.batch);
        commit_patiently(&self.target, batch, Durability::Buffered)?;
        Ok((self.proceed)(&self.done))
    }

    fn lose(&mut self, lost: Lost) {
        self.done.lost_total += 1;
        if self.done.lost.len() < LOST_MAX {
            self.done.lost.push(lost);
        }
    }
}

/// The rows from `key` on. Made anew for every seek: an iterator that has failed often may fail where nothing is wrong.
fn rows_from<'a>(source: &'a Store, column: Column, key: &[u8]) -> DBRawIterator<'a> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    let mut rows = source.db.raw_iterator_cf_opt(&source.family(column), options);
    rows.seek(key);
    rows
}

/// The key behind `last` from which on rows read again, as near as it can be told; `None` when there is none.
///
/// Where a damaged block ends no one tells, but a seek into it fails and a seek behind it does not. So steps of growing
/// width are tried, the last digit first, and then the step that was wide enough is narrowed down, digit by digit. That
/// takes some hundred seeks. Rows between two damaged blocks near to each other may be passed over: they are within the
/// range that is named as lost.
fn behind(last: Option<&[u8]>, reads: &dyn Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let padded = [last.unwrap_or(&[]), &[0; PAD_BYTES]].concat();
    let step = |prefix: &[u8], digit: u8| [prefix, &[digit]].concat();
    let wide = |place: usize| Some(step(&padded[..place], padded[place].checked_add(1)?)).filter(|key| reads(key));
    let (place, mut good) = (0..padded.len()).rev().find_map(|place| Some((place, wide(place)?)))?;

    let mut prefix = padded[..=place].to_vec();
    let (mut is_tight, mut is_first) = (true, true);
    for digit in &padded[place + 1..] {
        let floor = if is_tight { *digit } else { 0 };
        let found = match floor.checked_add(1) {
            None => None,
            // Wide as this step is, a second damaged block may lie in it: one by one.
            Some(start) if std::mem::take(&mut is_first) => (start..=0xff).find(|digit| reads(&step(&prefix, *digit))),
            Some(start) => least(start, |digit| reads(&step(&prefix, digit))),
        };
        good = found.map_or(good, |digit| step(&prefix, digit));
        let bad = found.map_or(0xff, |digit| digit - 1);
        is_tight &= bad == floor;
        prefix.push(bad);
    }
    Some(good)
}

/// Digits that are tried behind those of the last key.
const PAD_BYTES: usize = 33;

/// The least number from `start` that is good, when all above a good one are.
fn least(start: u8, mut is_good: impl FnMut(u8) -> bool) -> Option<u8> {
    let (mut low, mut high) = (usize::from(start), 0x100);
    while low < high {
        let middle = (low + high) / 2;
        if is_good(middle as u8) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    (low < 0x100).then_some(low as u8)
}
