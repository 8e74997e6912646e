//! Rows in memory: for tests and for embedding a node that keeps nothing.
//!
//! Each column is a persistent ordered map, so a snapshot is a pointer, and a commit copies only the paths that it
//! changes, however many snapshots are alive. All is lost with the last handle: [`Durability`] makes no difference here.
//! Never fails, so it is never poisoned. Not meant to be fast or small.

use std::{
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rpds::RedBlackTreeMapSync;

use super::{Backend, BackendError, Batch, Bounds, Column, Durability, Op, Page, Rows, Snapshot, assert_ascending};

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
}

#[derive(Clone, Default)]
struct Columns([RedBlackTreeMapSync<Vec<u8>, Vec<u8>>; Column::ALL.len()]);

impl Columns {
    fn apply(&mut self, op: Op<'_>) {
        match op {
            Op::Put { column, key, value } => self.0[column as usize].insert_mut(key.to_vec(), value.to_vec()),
            Op::Delete { column, key } => {
                self.0[column as usize].remove_mut(key);
            }
            Op::DeleteRange { column, start, end } => {
                let map = &mut self.0[column as usize];
                let gone: Vec<Vec<u8>> = map
                    .range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)))
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in gone {
                    map.remove_mut(&key);
                }
            }
        }
    }
}

impl Snapshot for Columns {
    fn get_many(&self, column: Column, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        assert_ascending(keys);
        let map = &self.0[column as usize];
        Ok(keys.iter().map(|key| map.get(key).cloned()).collect())
    }

    fn range(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, BackendError> {
        let mut page = Page::new(rows_max, bytes_max);
        if !bounds.is_empty() {
            let start = Bound::Included(bounds.start.as_slice());
            let end = bounds.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            for (key, value) in self.0[column as usize].range::<[u8], _>((start, end)) {
                if !page.push(key, value) {
                    break;
                }
            }
        }
        Ok(page.found)
    }
}
