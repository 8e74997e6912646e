//! Blocks above the final one, each by what it lays over its parent: the nodes that it writes are proved by their slots,
//! its leaves must have their keys and values beside them. What it does not write is its parent's.

use rustorium_verkle::node::{Content, check_many};
use rustorium_verkle::{NodePath, Point, Slot, SlotSet, ValueHash};

use crate::backend::{Column, Snapshot};
use crate::error::ReadError;
use crate::layer::Run;
use crate::schema::{Generation, LeafRow, decode_leaf, decode_node};

/// What is in a node's slots, those that are not empty, ascending.
type Slots = Vec<(u8, Slot)>;

/// Slots of a node.
const SLOTS_MAX: usize = 256;

/// What is wrong with a block's rows, read through `snapshot`, which has them over its parent's.
pub(crate) fn check_layer(
    snapshot: &dyn Snapshot,
    generation: Generation,
    run: &Run,
    seed: &[u8; 32],
) -> Result<Option<String>, ReadError> {
    for (key, value) in run.rows(Column::Leaf) {
        let Some(value) = value else { continue };
        if let Some(what) = check_leaf(snapshot, generation, key, value)? {
            return Ok(Some(what));
        }
    }
    let mut nodes: Vec<(NodePath, Point, Slots)> = Vec::new();
    for (key, value) in run.rows(Column::Node) {
        let Some(value) = value else { continue };
        let (path, row) = match decode_node(key, value) {
            Ok(found) => found,
            Err(what) => return Ok(Some(what)),
        };
        match slots(snapshot, generation, &path)? {
            Ok(slots) => nodes.push((path, row.commitment, slots)),
            Err(what) => return Ok(Some(what)),
        }
    }
    let contents: Vec<Content<'_>> =
        nodes.iter().map(|(node, trusted, slots)| Content { node: *node, trusted: *trusted, slots }).collect();
    Ok(check_many(&contents, seed).err().map(|bad| bad.to_string()))
}

fn check_leaf(
    snapshot: &dyn Snapshot,
    generation: Generation,
    key: &[u8],
    value: &[u8],
) -> Result<Option<String>, ReadError> {
    let (path, row) = match decode_leaf(key, value) {
        Ok(found) => found,
        Err(what) => return Ok(Some(what)),
    };
    if snapshot.get(Column::Index, &generation.index_key(row.key()))?.is_none() {
        return Ok(Some(format!("leaf {path}: its key is missing in the index")));
    }
    if let LeafRow::Big { value_hash, .. } = row {
        let value = snapshot.get(Column::Big, key)?;
        if value.is_none_or(|value| ValueHash::of(&value).0 != value_hash) {
            return Ok(Some(format!("leaf {path}: its value is missing, or another")));
        }
    }
    Ok(None)
}

/// What is in a node's slots.
fn slots(snapshot: &dyn Snapshot, generation: Generation, path: &NodePath) -> Result<Result<Slots, String>, ReadError> {
    let key = generation.node_key(path);
    let row = snapshot.get(Column::Node, &key)?.expect("a row of the layer itself");
    let inner = match decode_node(&key, &row) {
        Ok((_, row)) => row.inner,
        Err(what) => return Ok(Err(what)),
    };
    let (mut slots, mut children) = (Vec::new(), SlotSet::EMPTY);
    for (first, last) in inner.complement().runs() {
        let found = snapshot.range(Column::Leaf, &generation.leaf_bounds(path, first, last), SLOTS_MAX, usize::MAX)?;
        for (key, value) in &found.rows {
            match decode_leaf(key, value) {
                Ok((leaf, row)) => slots.push((leaf.slot(path.depth()), Slot::Leaf(row.leaf()))),
                Err(what) => return Ok(Err(what)),
            }
        }
    }
    if !inner.is_empty() {
        let found = snapshot.range(Column::Node, &generation.child_bounds(path), SLOTS_MAX + 1, usize::MAX)?;
        for (key, value) in &found.rows {
            match decode_node(key, value) {
                Ok((child, row)) => {
                    let (_, slot) = child.parent().expect("a child has a parent");
                    children.insert(slot);
                    slots.push((slot, Slot::Inner(row.commitment)));
                }
                Err(what) => return Ok(Err(what)),
            }
        }
    }
    if children != inner {
        return Ok(Err(format!("node {path}: its inner nodes are not those that it names")));
    }
    slots.sort_by_key(|(slot, _)| *slot);
    Ok(Ok(slots))
}
