//! A generation that is written beside the live one: pairs in the order of their paths, and the tree that they make.
//!
//! Until a row of the column `meta` names it, nothing reads it, and [`clear_others`] takes it away. Committed page by page,
//! not synced; [`Staging::finish`] is. Memory: a page of rows, and what [`Bulk`] keeps.

use rustorium_verkle::tree::Bulk;
use rustorium_verkle::{Committer, Leaf, StateRoot};

use crate::backend::{Backend, BackendError, Batch, Bounds, Column, Durability, Snapshot, commit_patiently};
use crate::check::PAGE_BYTES;
use crate::finalize::{put_leaf, put_nodes};
use crate::schema::{Generation, meta};

/// The columns whose keys a generation leads.
pub(crate) const COLUMNS: [Column; 4] = [Column::Leaf, Column::Big, Column::Node, Column::Index];

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

/// The generation that an import is at, which it goes on with when it was broken off: its row begins with it.
pub(crate) fn imported(snapshot: &dyn Snapshot) -> Result<Option<Generation>, BackendError> {
    let row = snapshot.get(Column::Meta, meta::IMPORT)?;
    Ok(row.and_then(|row| row.first().copied()).map(Generation))
}

/// The first key in a column of each generation but these.
pub(crate) fn others(
    snapshot: &dyn Snapshot,
    column: Column,
    but: &[Option<Generation>],
) -> Result<Vec<Vec<u8>>, BackendError> {
    let mut found = Vec::new();
    let mut rest = Bounds::all();
    while let Some((key, _)) = snapshot.range(column, &rest, 1, 0)?.rows.pop() {
        // A key without any generation comes before all others.
        let generation = key.first().copied().map(Generation);
        let next = generation.map_or(Some(0), |generation| generation.0.checked_add(1));
        let is_other = generation.is_none() || !but.contains(&generation);
        found.extend(is_other.then_some(key));
        let Some(next) = next else { break };
        rest = Bounds { start: vec![next], end: None };
    }
    Ok(found)
}

/// Takes away the rows of all generations but these.
pub(crate) fn clear_others(
    backend: &dyn Backend,
    live: Generation,
    kept: Option<Generation>,
) -> Result<(), BackendError> {
    let snapshot = backend.snapshot()?;
    let mut batch = Batch::new();
    for column in COLUMNS {
        for key in others(&*snapshot, column, &[Some(live), kept])? {
            if let Some(end) = key.first().and_then(|generation| generation.checked_add(1)) {
                batch.delete_range(column, &key, &[end]);
            }
        }
    }
    match batch.is_empty() {
        true => Ok(()),
        false => commit_patiently(backend, batch, Durability::Synced),
    }
}
