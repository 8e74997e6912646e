//! Answers what a [`Descent`] wants from one snapshot, a level at a time, each level by batched reads.
//!
//! Rows of slot scalars (the expensive part of a proof: hundreds of hashes a node) are cached by node and commitment, so
//! that they are right for every block in which the node looks so, and nothing ever has to be flushed.
//! Bounds: a level reads at most one node and one leaf for each key asked for, and 256 slots for each node proved.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rustorium_verkle::{Descent, Leaf, NodePath, NodeRow, PointBytes, SlotScalar, SlotSet, Supply, Want};

use crate::backend::{Bounds, Column, Snapshot};
use crate::error::ReadError;
use crate::schema::{Generation, LeafRow, decode_leaf, decode_node};

/// Slots of a node, and so the most leaves or children that one row can have.
const SLOTS_MAX: usize = 256;
/// Bytes of leaf rows that one range read of a node may bring; a row's value has at most 4 KiB.
const LEAVES_BYTES_MAX: usize = SLOTS_MAX * 8192;

/// Rows that are held in memory at once while a level is read.
const PAGE_KEYS: usize = 1024;

type Row = Arc<[(u8, SlotScalar)]>;

/// Rows of slot scalars, by node and commitment; bounded in bytes.
pub(crate) struct RowCache(Cache<(NodePath, PointBytes), Row, RowBytes>);

#[derive(Clone)]
struct RowBytes;

impl Weighter<(NodePath, PointBytes), Row> for RowBytes {
    fn weight(&self, _key: &(NodePath, PointBytes), row: &Row) -> u64 {
        (size_of::<(NodePath, PointBytes)>() + size_of_val::<[(u8, SlotScalar)]>(row)) as u64
    }
}

impl RowCache {
    /// A cache of at most about `bytes_max` bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        // A full row takes 10 KiB, a bottom node's some hundred bytes.
        let rows_estimate = (bytes_max / 1024).max(16) as usize;
        Self(Cache::with_weighter(rows_estimate, bytes_max, RowBytes))
    }

    /// Forgets everything: a row of it has turned out to be wrong.
    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}

/// One snapshot, read as a tree.
pub(crate) struct Walk<'a> {
    pub(crate) snapshot: &'a dyn Snapshot,
    pub(crate) generation: Generation,
    /// Where proofs keep their rows; an update needs none.
    pub(crate) rows: &'a RowCache,
}

impl Walk<'_> {
    /// Supplies the descent until it wants nothing more.
    pub(crate) fn load(&self, descent: &mut Descent) -> Result<(), ReadError> {
        while !descent.wanted().is_empty() {
            let answers = self.answers(descent.wanted())?;
            descent.supply(answers)?;
        }
        Ok(())
    }

    /// The row of the root; that of the empty tree where none is written.
    pub(crate) fn root(&self) -> Result<NodeRow, ReadError> {
        let key = self.generation.node_key(&NodePath::ROOT);
        match self.snapshot.get(Column::Node, &key)? {
            Some(value) => Ok(decode_node(&key, &value).map_err(ReadError::damaged)?.1),
            None => Ok(NodeRow::EMPTY),
        }
    }

    fn answers(&self, wanted: &[Want]) -> Result<Vec<Supply>, ReadError> {
        let mut answers: Vec<Option<Supply>> = vec![None; wanted.len()];
        self.nodes(wanted, &mut answers)?;
        self.slots(wanted, &mut answers)?;
        for (want, answer) in wanted.iter().zip(&mut answers) {
            match want {
                Want::Rest { node, slots } => *answer = Some(Supply::Rest(self.leaves(node, slots, 2)?)),
                Want::Row { node, row } => *answer = Some(Supply::Row(self.row(node, row)?.to_vec())),
                Want::Node { .. } | Want::Slot { .. } => {}
            }
        }
        Ok(answers.into_iter().map(|answer| answer.expect("every kind of want is answered")).collect())
    }

    fn nodes(&self, wanted: &[Want], answers: &mut [Option<Supply>]) -> Result<(), ReadError> {
        let key = |want: &Want| match want {
            Want::Node { node, .. } => Some(self.generation.node_key(node)),
            _ => None,
        };
        self.for_each_value(Column::Node, wanted, key, |index, key, value| {
            let row = value.map(|value| decode_node(key, &value).map_err(ReadError::damaged)).transpose()?;
            answers[index] = Some(Supply::Node(row.map(|(_, row)| row)));
            Ok(())
        })
    }

    /// First the keys' own leaves by point reads, then whatever else is in the slots of keys that are not there.
    fn slots(&self, wanted: &[Want], answers: &mut [Option<Supply>]) -> Result<(), ReadError> {
        let key = |want: &Want| match want {
            Want::Slot { key, .. } => Some(self.generation.leaf_key(key)),
            _ => None,
        };
        let leaf = |key: &[u8], value: &[u8]| decode_leaf(key, value).map(|(_, row)| row.leaf());
        let mut others = Vec::new();
        self.for_each_value(Column::Leaf, wanted, key, |index, key, value| {
            match value {
                Some(value) => {
                    answers[index] = Some(Supply::Slot(Some(leaf(key, &value).map_err(ReadError::damaged)?)))
                }
                None => others.push(index),
            }
            Ok(())
        })?;
        // The keys came in their order, and so do the slots that they fall into.
        for page in others.chunks(PAGE_KEYS) {
            let bounds = |index: &usize| match &wanted[*index] {
                Want::Slot { node, slot, .. } => self.generation.leaf_bounds(node, *slot, *slot),
                _ => unreachable!("only slots have a key here"),
            };
            let bounds: Vec<Bounds> = page.iter().map(bounds).collect();
            for (index, row) in page.iter().zip(self.snapshot.first_of_each(Column::Leaf, &bounds)?) {
                let found = row.map(|(key, value)| leaf(&key, &value)).transpose().map_err(ReadError::damaged)?;
                answers[*index] = Some(Supply::Slot(found));
            }
        }
        Ok(())
    }

    /// Reads the rows of those wants that have a key, in the order of the keys, a page at a time.
    fn for_each_value(
        &self,
        column: Column,
        wanted: &[Want],
        key: impl Fn(&Want) -> Option<Vec<u8>>,
        mut each: impl FnMut(usize, &[u8], Option<Vec<u8>>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let with_key = wanted.iter().enumerate().filter_map(|(index, want)| Some((key(want)?, index)));
        let mut asked: Vec<(Vec<u8>, usize)> = with_key.collect();
        asked.sort_unstable();
        let (keys, indices): (Vec<Vec<u8>>, Vec<usize>) = asked.into_iter().unzip();
        for (keys, indices) in keys.chunks(PAGE_KEYS).zip(indices.chunks(PAGE_KEYS)) {
            let values = self.snapshot.get_many(column, keys)?;
            for ((index, key), value) in indices.iter().zip(keys).zip(values) {
                each(*index, key, value)?;
            }
        }
        Ok(())
    }

    fn leaf_rows(&self, bounds: &Bounds, rows_max: usize) -> Result<Vec<LeafRow>, ReadError> {
        let found = self.snapshot.range(Column::Leaf, bounds, rows_max, LEAVES_BYTES_MAX)?;
        let rows = found.rows.iter().map(|(key, value)| decode_leaf(key, value).map(|(_, row)| row));
        rows.collect::<Result<_, _>>().map_err(ReadError::damaged)
    }

    /// At most `leaves_max` leaves of these slots, which hold no inner nodes; ascending.
    fn leaves(&self, node: &NodePath, slots: &SlotSet, leaves_max: usize) -> Result<Vec<Leaf>, ReadError> {
        let mut leaves = Vec::new();
        for (first, last) in slots.runs() {
            if leaves.len() == leaves_max {
                break;
            }
            let bounds = self.generation.leaf_bounds(node, first, last);
            let rows = self.leaf_rows(&bounds, leaves_max - leaves.len())?;
            leaves.extend(rows.iter().map(LeafRow::leaf));
        }
        Ok(leaves)
    }

    /// All slots of a node as scalars: from the cache, or from its leaves and its children's commitments.
    fn row(&self, node: &NodePath, row: &NodeRow) -> Result<Row, ReadError> {
        let cache_key = (*node, row.commitment.encode());
        if let Some(cached) = self.rows.0.get(&cache_key) {
            return Ok(cached);
        }
        let mut slots: Vec<(u8, SlotScalar)> = Vec::new();
        for leaf in self.leaves(node, &row.inner.complement(), SLOTS_MAX)? {
            slots.push((leaf.path.slot(node.depth()), leaf.scalar()));
        }
        if !row.inner.is_empty() {
            let found =
                self.snapshot.range(Column::Node, &self.generation.child_bounds(node), SLOTS_MAX, usize::MAX)?;
            let mut children = SlotSet::EMPTY;
            for (key, value) in &found.rows {
                let (child, child_row) = decode_node(key, value).map_err(ReadError::damaged)?;
                let slot = child.parent().map(|(_, slot)| slot).expect("a child has a parent");
                children.insert(slot);
                slots.push((slot, SlotScalar::node(&child_row.commitment.encode())));
            }
            if children != row.inner {
                return Err(ReadError::damaged(format!("node {node}: its children are not those that it names")));
            }
        }
        slots.sort_unstable_by_key(|(slot, _)| *slot);
        if slots.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(ReadError::damaged(format!("node {node}: two leaves in one slot")));
        }
        let slots: Row = slots.into();
        self.rows.0.insert(cache_key, slots.clone());
        Ok(slots)
    }
}
