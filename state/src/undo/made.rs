//! The undo rows of a block: from its parent's view and the rows that it writes.

use std::collections::BTreeSet;

use parity_scale_codec::Encode;
use rustorium_verkle::{KeyPath, NodePath, NodeRow};

use super::{DEPTH_KEPT, Entry, OldNode, Place, at, big_key, chunk_key, key_id, leaf_id, node_id};
use crate::backend::{Batch, Column};
use crate::error::ReadError;
use crate::layer::Run;
use crate::schema::{LeafRow, decode_leaf, decode_node, node_path};
use crate::view::View;

/// A chunk ends with the entry that makes it so many bytes.
const CHUNK_BYTES: usize = 4096;

/// What a block with these rows overwrites in its parent's state.
pub(crate) fn of_block(parent: &View, number: u64, rows: &Run) -> Result<Batch, ReadError> {
    let mut made = Made { number, batch: Batch::new(), chunk: Vec::new(), chunk_index: 0, entries: 0 };
    made.leaves(parent, rows)?;
    made.nodes(parent, rows)?;
    made.end_chunk();
    Ok(made.batch)
}

struct Made {
    number: u64,
    batch: Batch,
    /// Entries of the chunk that is being filled.
    chunk: Vec<u8>,
    chunk_index: u32,
    entries: u32,
}

impl Made {
    fn leaves(&mut self, parent: &View, rows: &Run) -> Result<(), ReadError> {
        let (keys, new): (Vec<Vec<u8>>, Vec<Option<&[u8]>>) =
            rows.rows(Column::Leaf).map(|(key, value)| (key.to_vec(), value)).unzip();
        let olds = parent.snapshot().get_many(Column::Leaf, &keys)?;
        let mut gone = Vec::new();
        for ((key, old), new) in keys.iter().zip(olds).zip(new) {
            let (path, row) = match (&old, new) {
                (Some(old), _) => decode_leaf(key, old),
                (None, Some(new)) => decode_leaf(key, new),
                (None, None) => continue,
            }
            .map_err(ReadError::damaged)?;
            if old.is_none() {
                self.push(&Entry::New { key: row.key().to_vec() });
                self.place(&leaf_id(&path), Place::Nowhere);
                continue;
            }
            if let LeafRow::Big { .. } = row {
                self.big(parent, key, &path)?;
            }
            let entry = match new {
                Some(_) => Entry::Changed { old: row },
                None => {
                    gone.push(key_id(row.key()));
                    Entry::Gone { old: row }
                }
            };
            let place = self.push(&entry);
            self.place(&leaf_id(&path), place);
        }
        gone.sort_unstable();
        gone.iter().for_each(|id| self.batch.put(Column::UndoAt, &at(id, self.number), &[]));
        Ok(())
    }

    fn big(&mut self, parent: &View, row_key: &[u8], path: &KeyPath) -> Result<(), ReadError> {
        let value = parent.snapshot().get(Column::Big, row_key)?;
        let value = value.ok_or_else(|| ReadError::damaged(format!("the value of leaf {path} is missing")))?;
        self.batch.put(Column::Undo, &big_key(self.number, path), &value);
        Ok(())
    }

    fn nodes(&mut self, parent: &View, rows: &Run) -> Result<(), ReadError> {
        let generation = parent.generation();
        // A deeper node that had an inner node and has none now lost it in this block.
        let mut worth: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut grown: BTreeSet<Vec<u8>> = BTreeSet::new();
        for (key, new) in rows.rows(Column::Node) {
            let path = node_path(key).map_err(ReadError::damaged)?;
            if path.depth() <= DEPTH_KEPT {
                worth.insert(key.to_vec());
                continue;
            }
            match new {
                Some(new) if !decode_node(key, new).map_err(ReadError::damaged)?.1.inner.is_empty() => {
                    worth.insert(key.to_vec());
                    grown.insert(key.to_vec());
                }
                Some(_) => {}
                None => {
                    let parent = path.parent().expect("a deep node has a parent").0;
                    if parent.depth() > DEPTH_KEPT {
                        worth.insert(generation.node_key(&parent));
                    }
                }
            }
        }
        let keys: Vec<Vec<u8>> = worth.into_iter().collect();
        let olds = parent.snapshot().get_many(Column::Node, &keys)?;
        for (key, old) in keys.iter().zip(olds) {
            let old = old.map(|old| decode_node(key, &old)).transpose().map_err(ReadError::damaged)?;
            let path = node_path(key).map_err(ReadError::damaged)?;
            self.node(&path, old.map(|(_, row)| row), grown.contains(key));
        }
        Ok(())
    }

    /// Keeps a node, or how it is to be had.
    fn node(&mut self, path: &NodePath, old: Option<NodeRow>, has_inner_now: bool) {
        let is_deep = path.depth() > DEPTH_KEPT;
        let kept = old.filter(|row| !is_deep || !row.inner.is_empty());
        let place = match kept {
            None if is_deep && !has_inner_now => return,
            None if is_deep => Some(Place::Computed),
            None => Some(Place::Nowhere),
            Some(_) => None,
        };
        let old = kept.as_ref().map(OldNode::new);
        let found = self.push(&Entry::Node { path: path.as_bytes().to_vec(), old });
        self.place(&node_id(path), place.unwrap_or(found));
    }

    fn place(&mut self, id: &[u8], place: Place) {
        self.batch.put(Column::UndoAt, &at(id, self.number), &place.encode());
    }

    fn push(&mut self, entry: &Entry) -> Place {
        let place = Place::Chunk { chunk: self.chunk_index, index: self.entries };
        entry.encode_to(&mut self.chunk);
        self.entries += 1;
        if self.chunk.len() >= CHUNK_BYTES {
            self.end_chunk();
        }
        place
    }

    fn end_chunk(&mut self) {
        if self.entries > 0 {
            self.batch.put(Column::Undo, &chunk_key(self.number, self.chunk_index), &self.chunk);
            self.chunk.clear();
            self.chunk_index += 1;
            self.entries = 0;
        }
    }
}
