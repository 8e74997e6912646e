//! The rows that a block changes: what its layer holds, what the journal keeps, and what is written in the end.

use parity_scale_codec::Encode;
use rustorium_verkle::tree::{LeafDelta, NodeDelta};
use rustorium_verkle::{Delta, NodePath, NodeRow, ValueHash};

use crate::apply::Applied;
use crate::backend::{Batch, Column};
use crate::block::{Changes, Header};
use crate::parallel;
use crate::schema::{Generation, HeaderRow, LeafRow, header_key, meta, number_key};
use crate::undo::Kept;

/// The rows that put an applied block into the columns.
pub(crate) fn rows(generation: Generation, applied: &Applied) -> Batch {
    // A leaf's row and its key's in the listing, a node's row.
    let (leaves, nodes) = (applied.delta.leaves.len(), applied.delta.nodes.len());
    let bytes = 2 * applied.changes.bytes() as usize + 64 * leaves + (NodeRow::BYTES + 8) * nodes;
    let mut batch = Batch::with_capacity(2 * leaves + nodes + 8, bytes + 512);
    put_tree(&mut batch, generation, &applied.changes, &applied.delta);
    put_header(&mut batch, &applied.header, applied.content);
    batch
}

/// The rows of leaves and nodes that a delta changes; rows of one column in the order of their keys, which a store takes
/// in at half the cost.
pub(crate) fn put_tree(batch: &mut Batch, generation: Generation, changes: &Changes, delta: &Delta) {
    let mut nodes = Batch::with_capacity(delta.nodes.len(), (NodeRow::BYTES + 8) * delta.nodes.len());
    parallel::join(
        delta.nodes.len(),
        || put_leaves(batch, generation, changes, &delta.leaves),
        || put_node_deltas(&mut nodes, generation, delta),
    );
    batch.append(&nodes);
}

/// The rows of nodes that change or vanish.
fn put_node_deltas(batch: &mut Batch, generation: Generation, delta: &Delta) {
    // The order of the column is that of depths, then of paths.
    let depth_max = delta.nodes.iter().map(|node| node.path.depth()).max().unwrap_or(0);
    let mut levels: Vec<Vec<&NodeDelta>> = vec![Vec::new(); depth_max + 1];
    for node in &delta.nodes {
        levels[node.path.depth()].push(node);
    }
    for node in levels.into_iter().flatten() {
        let key = generation.node_key(&node.path);
        match node.new {
            Some(row) => batch.put(Column::Node, &key, &row.encode()),
            None => batch.delete(Column::Node, &key),
        }
    }
}

/// The leaves with their big values, and the listing.
fn put_leaves(batch: &mut Batch, generation: Generation, changes: &Changes, leaves: &[LeafDelta]) {
    let mut index: Vec<(&[u8], bool)> = Vec::new();
    let mut entries = changes.iter();
    for leaf in leaves {
        let entry = entries.find(|entry| entry.path == leaf.path).expect("every changed leaf is a change of the block");
        let key = generation.leaf_key(&leaf.path);
        if leaf.old.is_some() != leaf.new.is_some() {
            index.push((&entry.key, leaf.new.is_some()));
        }
        // Whether the old value was big is not known here, and a delete of nothing costs a third of a microsecond.
        if leaf.old.is_some() && entry.value.as_ref().is_none_or(|value| LeafRow::is_inline(value)) {
            batch.delete(Column::Big, &key);
        }
        match (&entry.value, entry.value_hash) {
            (Some(value), Some(value_hash)) => put_leaf(batch, &key, &entry.key, value, value_hash),
            _ => batch.delete(Column::Leaf, &key),
        }
    }
    index.sort_unstable();
    for (key, is_present) in index {
        match is_present {
            true => batch.put(Column::Index, &generation.index_key(key), &[]),
            false => batch.delete(Column::Index, &generation.index_key(key)),
        }
    }
}

/// A pair's row in the leaf column, under this row key, and that of its value if it is big.
pub(crate) fn put_leaf(batch: &mut Batch, row_key: &[u8], key: &[u8], value: &[u8], value_hash: ValueHash) {
    let row = match LeafRow::is_inline(value) {
        true => LeafRow::Inline { key, value },
        false => {
            batch.put(Column::Big, row_key, value);
            LeafRow::Big { key, bytes: value.len() as u64, value_hash: value_hash.0 }
        }
    };
    batch.put(Column::Leaf, row_key, &row.encode());
}

/// The rows of new nodes of a whole tree. The root of the empty tree has none.
pub(crate) fn put_nodes(batch: &mut Batch, generation: Generation, nodes: &[(NodePath, NodeRow)]) {
    let nodes = nodes.iter().filter(|(_, row)| *row != NodeRow::EMPTY);
    let mut rows: Vec<_> = nodes.map(|(path, row)| (generation.node_key(path), row.encode())).collect();
    rows.sort_unstable();
    rows.iter().for_each(|(key, row)| batch.put(Column::Node, key, row));
}

/// The rows by which a block is found.
fn put_header(batch: &mut Batch, header: &Header, content: [u8; 32]) {
    batch.put(Column::Block, &header_key(&header.hash), &HeaderRow::new(header, content).encode());
    batch.put(Column::Block, &number_key(header.number), &header.hash.0);
}

/// The rows of a block that a store begins with: head, final, the base, and where history starts.
pub(crate) fn put_first(batch: &mut Batch, header: &Header, content: [u8; 32]) {
    put_header(batch, header, content);
    for name in [meta::HEAD, meta::FINAL, meta::BASE] {
        batch.put(Column::Meta, name, &header.hash.0);
    }
    batch.put(Column::Meta, meta::UNDO, &Kept { oldest: header.number, newest: header.number }.encode());
}
