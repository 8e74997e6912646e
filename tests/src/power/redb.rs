//! Power loss under redb: a disk in memory that keeps writes apart which were not synced, sector by sector, and at a crash
//! keeps a seeded subset of them, in no order. Over it a backend with a table for each column.
//!
//! Where [`super::PowerLoss`] loses whole commits, this one tears them: the store itself has to bring back a whole one.

use std::collections::BTreeSet;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTableMetadata as _, StorageBackend, TableDefinition,
    TableError,
};
use rustorium_state::backend::{
    Backend, BackendError, Batch, Bounds, Column, ColumnStats, Compacted, Durability, Op, Rows, Snapshot, Stats,
};

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// A disk in memory whose power may fail. Clones are the same disk; those of before a crash are dead.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    platter: Arc<Mutex<Platter>>,
    start: u64,
}

#[derive(Debug, Default)]
struct Platter {
    /// What is there for good.
    synced: Vec<u8>,
    /// What is read.
    now: Vec<u8>,
    /// Sectors that were written since the last sync.
    dirty: BTreeSet<usize>,
    start: u64,
    is_off: bool,
    writes: u64,
    fail_at: Option<u64>,
}

impl Disk {
    /// Lets the power fail at the `write`th write or sync from now, counted from 1.
    pub fn fail_at(&self, write: u64) {
        let mut platter = self.platter();
        platter.fail_at = Some(platter.writes + write);
    }

    /// The power fails, unless it has, and comes back: of the sectors that were not synced, any may be written.
    pub fn crash(&self, seed: u64) -> Disk {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut platter = self.platter();
        let Platter { synced, now, dirty, .. } = &mut *platter;
        // The length is the file system's, which keeps the old or the new; what is written beyond it is nowhere.
        if rng.random() {
            synced.resize(now.len(), 0);
        }
        let kept = f64::from(rng.random_range(0..=4u8)) / 4.0;
        for sector in std::mem::take(dirty) {
            let (start, end) = (sector * SECTOR_BYTES, ((sector + 1) * SECTOR_BYTES).min(now.len()).min(synced.len()));
            if start < end && rng.random_bool(kept) {
                synced[start..end].copy_from_slice(&now[start..end]);
            }
        }
        *now = synced.clone();
        platter.start += 1;
        (platter.is_off, platter.writes, platter.fail_at) = (false, 0, None);
        Disk { platter: self.platter.clone(), start: platter.start }
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.platter();
        if platter.is_off || platter.start != self.start { Err(no_power()) } else { Ok(platter) }
    }

    /// The platter, and whether the power fails in the middle of this write.
    fn writing(&self) -> io::Result<(MutexGuard<'_, Platter>, bool)> {
        let mut platter = self.running()?;
        platter.writes += 1;
        let fails = platter.fail_at == Some(platter.writes);
        platter.is_off = fails;
        Ok((platter, fails))
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power failed")
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.running()?.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.running()?;
        let start = offset as usize;
        let found = platter.now.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.running()?.now.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut platter, fails) = self.writing()?;
        if fails {
            return Err(no_power());
        }
        platter.dirty.clear();
        platter.synced = platter.now.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut platter, fails) = self.writing()?;
        let (start, end) = (offset as usize, offset as usize + data.len());
        platter.now.get_mut(start..end).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        platter.dirty.extend(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        if fails { Err(no_power()) } else { Ok(()) }
    }
}

/// A backend over redb, no more of one than the crash tests need.
pub struct Redb {
    db: Database,
    poisoned: AtomicBool,
}

type Opened = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn table(column: Column) -> Table {
    TableDefinition::new(column.name())
}

impl Redb {
    /// Opens what is on the disk, or makes a new store; damage that redb finds is an error.
    pub fn open(disk: Disk) -> Result<Redb, BackendError> {
        let db = Database::builder().create_with_backend(disk).map_err(|error| refusal("open", error))?;
        Ok(Redb { db, poisoned: AtomicBool::new(false) })
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), redb::Error> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(match durability {
            Durability::Synced => redb::Durability::Immediate,
            Durability::Buffered => redb::Durability::None,
        })?;
        for op in batch.ops() {
            match op {
                Op::Put { column, key, value } => drop(transaction.open_table(table(column))?.insert(key, value)?),
                Op::Delete { column, key } => drop(transaction.open_table(table(column))?.remove(key)?),
                Op::DeleteRange { column, start, end } => {
                    transaction.open_table(table(column))?.retain_in::<&[u8], _>(start..end, |_, _| false)?;
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Backend for Redb {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        Ok(Arc::new(Moment(self.db.begin_read().map_err(|error| refusal("read", error))?)))
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(BackendError::Poisoned { path: PATH.into() });
        }
        self.write(&batch, durability).map_err(|error| {
            self.poisoned.store(true, Ordering::Release);
            refusal("commit to", error)
        })
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats { is_poisoned: self.poisoned.load(Ordering::Acquire), ..Stats::default() };
        let Ok(now) = self.db.begin_read() else { return stats };
        for column in Column::ALL {
            let Ok(rows) = now.open_table(table(column)) else { continue };
            let disk_bytes = rows.stats().map_or(0, |table| table.stored_bytes() + table.metadata_bytes());
            stats.columns[column as usize] =
                ColumnStats { rows: rows.len().unwrap_or(0), disk_bytes, ..ColumnStats::default() };
        }
        stats
    }

    fn compact(&self, _: Column, proceed: &mut dyn FnMut(Compacted) -> ControlFlow<()>) -> Result<(), BackendError> {
        let _ = proceed(Compacted { slices: 0, slices_total: 0 });
        Ok(())
    }
}

struct Moment(ReadTransaction);

impl Moment {
    fn rows_of(&self, column: Column) -> Result<Option<Opened>, redb::Error> {
        match self.0.open_table(table(column)) {
            Ok(rows) => Ok(Some(rows)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn values(&self, column: Column, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, redb::Error> {
        let Some(rows) = self.rows_of(column)? else { return Ok(vec![None; keys.len()]) };
        keys.iter().map(|key| Ok(rows.get(key.as_slice())?.map(|value| value.value().to_vec()))).collect()
    }

    fn page(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, redb::Error> {
        let mut page = Rows::default();
        let Some(rows) = self.rows_of(column)?.filter(|_| !bounds.is_empty()) else { return Ok(page) };
        let end = bounds.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut bytes = 0;
        for row in rows.range::<&[u8]>((Bound::Included(bounds.start.as_slice()), end))? {
            let (key, value) = row?;
            bytes += key.value().len() + value.value().len();
            if !page.rows.is_empty() && (page.rows.len() >= rows_max || bytes > bytes_max) {
                page.more = true;
                break;
            }
            page.rows.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(page)
    }
}

impl Snapshot for Moment {
    fn get_many(&self, column: Column, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        assert!(keys.is_sorted_by(|a, b| a < b), "get_many takes strictly ascending keys");
        self.values(column, keys).map_err(|error| refusal("read", error))
    }

    fn range(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, BackendError> {
        self.page(column, bounds, rows_max, bytes_max).map_err(|error| refusal("read", error))
    }
}

const PATH: &str = "redb on a disk without power";

fn refusal(operation: &'static str, error: impl Into<redb::Error>) -> BackendError {
    let (path, error) = (PATH.into(), error.into());
    let what = error.to_string();
    match error {
        redb::Error::Corrupted(_) => BackendError::Damaged { operation, path, what },
        _ => BackendError::Io { operation, path, what },
    }
}
