//! A generation that is written beside the live one: pairs in the order of their paths, and the tree that they make.
//!
//! Until a row of the column `meta` names it, nothing reads it, and [`clear_others`] takes it away. Committed page by page,
//! not synced; [`Staging::finish`] is. Memory: a page of rows, and what [`Bulk`] keeps.

use rustorium_verkle::tree::Bulk;
use rustorium_verkle::{Committer, Leaf, StateRoot};

use crate::backend::{Backend, BackendError, Batch, Column, Durability, commit_patiently};
use crate::check::PAGE_BYTES;
use crate::finalize::{put_leaf, put_nodes};
use crate::schema::Generation;

/// The columns whose keys a generation leads.
const COLUMNS: [Column; 4] = [Column::Leaf, Column::Big, Column::Node, Column::Index];

/// A generation in the making.
pub(crate) struct Staging<'a> {
    backend: &'a dyn Backend,
    to: Generation,
    bulk: Bulk<'a>,
    batch: Batch,
    leaves: Vec<Leaf>,
    keys: Vec<Vec<u8>>,
}

impl<'a> Staging<'a> {
    /// Nothing yet.
    pub(crate) fn new(backend: &'a dyn Backend, to: Generation, committer: &'a Committer) -> Self {
        let (batch, leaves, keys) = (Batch::new(), Vec::new(), Vec::new());
        Self { backend, to, bulk: Bulk::new(committer), batch, leaves, keys }
    }

    /// The next pair.
    pub(crate) fn put(&mut self, leaf: Leaf, key: &[u8], value: &[u8]) -> Result<(), BackendError> {
        put_leaf(&mut self.batch, &self.to.leaf_key(&leaf.path), key, value, leaf.value_hash);
        self.note(leaf, key)
    }

    /// The next pair, whose value is lost: its row says which it was.
    pub(crate) fn put_lost(&mut self, leaf: Leaf, key: &[u8], row: &[u8]) -> Result<(), BackendError> {
        self.batch.put(Column::Leaf, &self.to.leaf_key(&leaf.path), row);
        self.note(leaf, key)
    }

    /// The next leaf, whose rows are there already, with those of the nodes that it finishes.
    pub(crate) fn pass(&mut self, leaf: Leaf) {
        self.leaves.push(leaf);
    }

    /// Forgets what was passed, but for the tree.
    pub(crate) fn passed(&mut self) {
        self.bulk.push(&std::mem::take(&mut self.leaves)).expect("leaves come in the order of their paths");
    }

    fn note(&mut self, leaf: Leaf, key: &[u8]) -> Result<(), BackendError> {
        self.leaves.push(leaf);
        self.keys.push(self.to.index_key(key));
        match self.batch.bytes() > PAGE_BYTES {
            true => commit_patiently(self.backend, std::mem::take(&mut self.batch), Durability::Buffered),
            false => Ok(()),
        }
    }

    /// Commits what has come, with `also`.
    ///
    /// # Panics
    /// If a pair came out of order.
    pub(crate) fn commit(&mut self, also: &Batch) -> Result<(), BackendError> {
        self.keys.sort_unstable();
        self.keys.drain(..).for_each(|key| self.batch.put(Column::Index, &key, &[]));
        let nodes = self.bulk.push(&self.leaves).expect("leaves come in the order of their paths");
        self.leaves.clear();
        put_nodes(&mut self.batch, self.to, &nodes);
        self.batch.append(also);
        commit_patiently(self.backend, std::mem::take(&mut self.batch), Durability::Buffered)
    }

    /// Commits the rest, synced; the root of it all.
    pub(crate) fn finish(mut self) -> Result<StateRoot, BackendError> {
        self.commit(&Batch::new())?;
        let nodes = self.bulk.finish();
        let root = nodes.last().expect("the root is always there").1.commitment;
        let mut batch = Batch::new();
        put_nodes(&mut batch, self.to, &nodes);
        commit_patiently(self.backend, batch, Durability::Synced)?;
        Ok(StateRoot::of(&root.encode()))
    }
}

/// Takes away the rows of all generations but one.
pub(crate) fn clear_others(backend: &dyn Backend, live: Generation) -> Result<(), BackendError> {
    let snapshot = backend.snapshot()?;
    let mut batch = Batch::new();
    for column in COLUMNS {
        for generation in (0..u8::MAX).map(Generation).filter(|generation| *generation != live) {
            let bounds = generation.all();
            if !snapshot.range(column, &bounds, 1, 0)?.rows.is_empty() {
                batch.delete_range(column, &bounds.start, &bounds.end.expect("generations end before 255"));
            }
        }
    }
    match batch.is_empty() {
        true => Ok(()),
        false => commit_patiently(backend, batch, Durability::Synced),
    }
}
