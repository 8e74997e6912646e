//! Making a block final: everything that it changes, as one batch of rows.

use parity_scale_codec::Encode;
use rustorium_verkle::{Delta, ValueHash};

use crate::apply::Applied;
use crate::backend::{Batch, Column};
use crate::block::{Changes, Header};
use crate::schema::{Generation, HeaderRow, LeafRow, header_key, meta, number_key};

/// The batch that makes an applied block the final head.
pub(crate) fn finalize(generation: Generation, applied: &Applied) -> Batch {
    let mut batch = Batch::new();
    put_tree(&mut batch, generation, &applied.changes, &applied.delta);
    put_head(&mut batch, &applied.header, applied.content);
    batch
}

/// The rows of leaves and nodes that a delta changes; rows of one column in the order of their keys where they are many.
pub(crate) fn put_tree(batch: &mut Batch, generation: Generation, changes: &Changes, delta: &Delta) {
    let mut index = Vec::new();
    for leaf in &delta.leaves {
        let entry = changes.get(&leaf.path).expect("every changed leaf is one of the block's changes");
        let key = generation.leaf_key(&leaf.path);
        let (Some(value), Some(value_hash)) = (&entry.value, entry.value_hash) else {
            batch.delete(Column::Leaf, &key);
            // Whether the old value was big is not known here, and a delete of nothing costs little.
            batch.delete(Column::Big, &key);
            index.push((&entry.key, false));
            continue;
        };
        if leaf.old.is_some() && LeafRow::is_inline(value) {
            batch.delete(Column::Big, &key);
        }
        put_leaf(batch, &key, &entry.key, value, value_hash);
        if leaf.old.is_none() {
            index.push((&entry.key, true));
        }
    }
    index.sort_unstable();
    for (key, present) in index {
        match present {
            true => batch.put(Column::Index, &generation.index_key(key), &[]),
            false => batch.delete(Column::Index, &generation.index_key(key)),
        }
    }
    let mut nodes: Vec<(Vec<u8>, _)> =
        delta.nodes.iter().map(|node| (generation.node_key(&node.path), node.new)).collect();
    nodes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (key, row) in nodes {
        match row {
            Some(row) => batch.put(Column::Node, &key, &row.encode()),
            None => batch.delete(Column::Node, &key),
        }
    }
}

/// A pair's row in the leaf column, under this row key, and that of its value if it is big.
pub(crate) fn put_leaf(batch: &mut Batch, row_key: &[u8], key: &[u8], value: &[u8], value_hash: ValueHash) {
    let row = if LeafRow::is_inline(value) {
        LeafRow::Inline { key: key.to_vec(), value: value.to_vec() }
    } else {
        batch.put(Column::Big, row_key, value);
        LeafRow::Big { key: key.to_vec(), bytes: value.len() as u64, value_hash: value_hash.0 }
    };
    batch.put(Column::Leaf, row_key, &row.encode());
}

/// The rows that make a header the head.
pub(crate) fn put_head(batch: &mut Batch, header: &Header, content: [u8; 32]) {
    batch.put(Column::Block, &header_key(&header.hash), &HeaderRow::new(header, content).encode());
    batch.put(Column::Block, &number_key(header.number), &header.hash.0);
    batch.put(Column::Meta, meta::HEAD, &header.hash.0);
}
