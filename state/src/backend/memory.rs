//! Rows in memory: for tests and for embedding a node that keeps nothing.
//!
//! Each column is a persistent ordered map, so a snapshot is a pointer, and a commit copies only the paths that it
//! changes, however many snapshots are alive. All is lost with the last handle: [`Durability`] makes no difference here.
//! Never fails, so it is never poisoned. Not meant to be fast or small.

use std::{
    ops::{Bound, ControlFlow},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rpds::RedBlackTreeMapSync;

use super::{
    Backend, BackendError, Batch, Bounds, Column, ColumnStats, Compacted, Durability, Op, Page, Rows, Snapshot, Stats,
    assert_ascending,
};

/// A store in memory.
#[derive(Default)]
pub struct Memory {
    now: ArcSwap<Columns>,
    /// One commit at a time; readers do not take it.
    writing: Mutex<()>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Memory {
        Memory::default()
    }
}

impl Backend for Memory {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        Ok(self.now.load_full())
    }

    fn commit(&self, batch: Batch, _: Durability) -> Result<(), BackendError> {
        // Nothing is published before all of it is built, so a panic in between leaves no trace to be afraid of.
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Columns::clone(&self.now.load());
        for op in batch.ops() {
            next.apply(op);
        }
        self.now.store(Arc::new(next));
        Ok(())
    }

    /// Rows are counted, and `memory_bytes` is that of keys and values alone; there are no files.
    fn stats(&self) -> Stats {
        let now = self.now.load();
        let column =
            |map: &Map| ColumnStats { rows: map.rows.size() as u64, memory_bytes: map.bytes, ..Default::default() };
        Stats { columns: now.0.each_ref().map(column), ..Stats::default() }
    }

    /// Rows rest where they are.
    fn compact(&self, _: Column, proceed: &mut dyn FnMut(Compacted) -> ControlFlow<()>) -> Result<(), BackendError> {
        let _ = proceed(Compacted { slices: 0, slices_total: 0 });
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Columns([Map; Column::ALL.len()]);

#[derive(Clone, Default)]
struct Map {
    rows: RedBlackTreeMapSync<Vec<u8>, Vec<u8>>,
    /// Of all keys and values.
    bytes: u64,
}

impl Map {
    fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.remove(key);
        self.bytes += (key.len() + value.len()) as u64;
        self.rows.insert_mut(key.to_vec(), value.to_vec());
    }

    fn remove(&mut self, key: &[u8]) {
        let Some(value) = self.rows.get(key) else { return };
        self.bytes -= (key.len() + value.len()) as u64;
        self.rows.remove_mut(key);
    }
}

impl Columns {
    fn apply(&mut self, op: Op<'_>) {
        match op {
            Op::Put { column, key, value } => self.0[column as usize].insert(key, value),
            Op::Delete { column, key } => self.0[column as usize].remove(key),
            Op::DeleteRange { column, start, end } => {
                let map = &mut self.0[column as usize];
                let within = (Bound::Included(start), Bound::Excluded(end));
                let gone: Vec<Vec<u8>> = map.rows.range::<[u8], _>(within).map(|(key, _)| key.clone()).collect();
                for key in gone {
                    map.remove(&key);
                }
            }
        }
    }
}

impl Snapshot for Columns {
    fn get_many(&self, column: Column, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        assert_ascending(keys);
        let map = &self.0[column as usize].rows;
        Ok(keys.iter().map(|key| map.get(key).cloned()).collect())
    }

    fn range(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, BackendError> {
        let mut page = Page::new(rows_max, bytes_max);
        if !bounds.is_empty() {
            let start = Bound::Included(bounds.start.as_slice());
            let end = bounds.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            for (key, value) in self.0[column as usize].rows.range::<[u8], _>((start, end)) {
                if !page.push(key, value) {
                    break;
                }
            }
        }
        Ok(page.found)
    }
}
