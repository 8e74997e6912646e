//! What final blocks overwrote, so that states of the past can be read, and gone back to.
//!
//! | column | key | value |
//! |---|---|---|
//! | undo | number BE ‖ 0 ‖ chunk BE | entries of what block `number` overwrote: leaves by path, then nodes ([`Entry`]) |
//! | undo | number BE ‖ 1 ‖ path | the big value that it overwrote |
//! | undo_at | `l` ‖ path ‖ number BE | where the old leaf is ([`Place`]) |
//! | undo_at | `n` ‖ depth ‖ path ‖ number BE | where the old node is |
//! | undo_at | `i` ‖ key ‖ number BE | nothing: the block deleted the key. In the key a 0 is `00 ff`; `00 01` ends it |
//!
//! So a row as it was at block `n` is what the first row of `undo_at` with a number above `n` leads to, else it is the one
//! in the columns. A block's rows are written before the columns change, and the row `undo` of the column `meta`
//! ([`Kept`]) says of which blocks they are whole: whatever lies outside is read by nobody and swept in time.
//!
//! Of nodes those are kept that cannot be had cheaply from the leaves below them: the nodes down to
//! [`DEPTH_KEPT`], which are needed by the hundred to open the one above, and deeper ones with inner nodes below them. A
//! deeper one that has nothing but leaves is computed again. Where a block makes such a node one that is kept, its place
//! says so ([`Place::Computed`]): thus a node's first place after a block tells how the node was at that block, and
//! without one it is either as it is now or was small.

mod back;
mod made;
mod past;
mod prune;

use parity_scale_codec::{Decode, DecodeAll, Encode, Input};
use rustorium_verkle::{KeyPath, NodePath, NodeRow, Point, PointBytes, SlotSet};

pub(crate) use back::{for_each_entry, step};
pub(crate) use made::of_block;
pub(crate) use past::Past;
pub(crate) use prune::{PAUSE, Pins, Pruner};

use crate::backend::{BackendError, Bounds, Column, Snapshot};
use crate::error::ReadError;
use crate::schema::{LeafRow, meta};

/// Nodes down to this depth are kept, whatever is below them. Opening a node takes the commitments of all inner nodes in
/// its slots; in a tree of up to some tens of millions of keys those at this depth are about 256 each.
const DEPTH_KEPT: usize = 2;

/// The blocks whose undo rows are whole: those after `oldest` up to `newest`. The states from `oldest` on can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Kept {
    pub(crate) oldest: u64,
    /// At least the block whose tree is in the columns; more after a crash while later ones were put there.
    pub(crate) newest: u64,
}

impl Kept {
    pub(crate) fn read(snapshot: &dyn Snapshot) -> Result<Option<Self>, ReadError> {
        let Some(row) = snapshot.get(Column::Meta, meta::UNDO)? else { return Ok(None) };
        let kept = Self::decode_all(&mut &row[..]).ok().filter(|kept| kept.oldest <= kept.newest);
        kept.map(Some).ok_or_else(|| ReadError::damaged("the row `undo`"))
    }
}

/// What a snapshot of the past names as the place of its damage.
pub(crate) const PLACE: &str = "the history";

/// Whether the damage is of undo rows, not of files.
pub(crate) fn is_ours(error: &BackendError) -> bool {
    error.path() == std::path::Path::new(PLACE)
}

/// Whether no undo rows are there, of any block: only then may a history start.
pub(crate) fn is_empty(snapshot: &dyn Snapshot) -> Result<bool, BackendError> {
    let has = |column| Ok::<bool, BackendError>(!snapshot.range(column, &Bounds::all(), 1, 0)?.rows.is_empty());
    Ok(!has(Column::Undo)? && !has(Column::UndoAt)?)
}

/// Where something that a block overwrote is to be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum Place {
    /// There was nothing.
    #[codec(index = 0)]
    Nowhere,
    /// It is to be computed from the leaves.
    #[codec(index = 1)]
    Computed,
    /// An entry of this chunk of the block.
    #[codec(index = 2)]
    Chunk {
        #[codec(compact)]
        chunk: u32,
        #[codec(compact)]
        index: u32,
    },
}

/// What a block did to one leaf or node, and how it was before.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum Entry {
    /// A leaf that was not there.
    #[codec(index = 0)]
    New { key: Vec<u8> },
    /// A leaf with another value.
    #[codec(index = 1)]
    Changed { old: LeafRow },
    /// A leaf that is not there any more.
    #[codec(index = 2)]
    Gone { old: LeafRow },
    /// A node; `None` where it was not there or is to be computed.
    #[codec(index = 3)]
    Node { path: Vec<u8>, old: Option<OldNode> },
}

/// A node's row in half the bytes.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct OldNode {
    commitment: [u8; 48],
    inner: Inner,
}

/// Slots with inner nodes, one by one or as a bitmap.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
enum Inner {
    #[codec(index = 0)]
    Slots(Vec<u8>),
    #[codec(index = 1)]
    Bitmap([u8; 32]),
}

impl OldNode {
    fn new(row: &NodeRow) -> Self {
        let inner = match row.inner.len() {
            0..32 => Inner::Slots(row.inner.iter().collect()),
            _ => {
                let mut bitmap = [0; 32];
                row.inner.iter().for_each(|slot| bitmap[slot as usize / 8] |= 1 << (slot % 8));
                Inner::Bitmap(bitmap)
            }
        };
        Self { commitment: row.commitment.encode().0, inner }
    }

    fn inner(&self) -> SlotSet {
        let mut set = SlotSet::EMPTY;
        match &self.inner {
            Inner::Slots(slots) => slots.iter().for_each(|slot| set.insert(*slot)),
            Inner::Bitmap(bitmap) => {
                let is_in = |slot: &u8| bitmap[*slot as usize / 8] >> (slot % 8) & 1 == 1;
                (0..=255).filter(is_in).for_each(|slot| set.insert(slot));
            }
        }
        set
    }

    /// The rows; square roots are found many at a time.
    fn rows(nodes: &[Self]) -> Result<Vec<NodeRow>, ReadError> {
        let encodings: Vec<PointBytes> = nodes.iter().map(|node| PointBytes(node.commitment)).collect();
        let rows = nodes.iter().zip(Point::decode_many(&encodings)).map(|(node, commitment)| {
            let commitment = commitment.map_err(|error| ReadError::damaged(format!("an old node: {error}")))?;
            Ok(NodeRow { commitment, inner: node.inner() })
        });
        rows.collect()
    }
}

impl Entry {
    /// The first key bytes of its rows in `undo_at`, if it has any; the block's number comes after.
    pub(crate) fn places(&self) -> Vec<Vec<u8>> {
        let leaf = |key: &[u8]| leaf_id(&KeyPath::of(key));
        match self {
            Self::New { key } => vec![leaf(key)],
            Self::Changed { old } => vec![leaf(old.key())],
            Self::Gone { old } => vec![leaf(old.key()), key_id(old.key())],
            Self::Node { path, .. } => NodePath::parse(path).map(|path| node_id(&path)).into_iter().collect(),
        }
    }
}

/// The entries of a chunk.
pub(crate) fn decode_chunk(bytes: &[u8]) -> Result<Vec<Entry>, ReadError> {
    let input = &mut &bytes[..];
    let mut entries = Vec::new();
    while input.remaining_len().ok().flatten().is_some_and(|rest| rest > 0) {
        let entry = Entry::decode(input).map_err(|error| ReadError::damaged(format!("an undo chunk: {error}")))?;
        entries.push(entry);
    }
    Ok(entries)
}

const LEAF: u8 = b'l';
const NODE: u8 = b'n';
const KEY: u8 = b'i';

/// What leads the rows of a leaf in `undo_at`.
pub(crate) fn leaf_id(path: &KeyPath) -> Vec<u8> {
    [&[LEAF], &path.0[..]].concat()
}

fn node_id(path: &NodePath) -> Vec<u8> {
    [&[NODE, path.depth() as u8], path.as_bytes()].concat()
}

fn key_id(key: &[u8]) -> Vec<u8> {
    let mut id = vec![KEY];
    escape(&mut id, key);
    id.extend([0, 1]);
    id
}

/// Makes keys of any lengths comparable by what comes of them.
fn escape(id: &mut Vec<u8>, key: &[u8]) {
    for byte in key {
        id.push(*byte);
        if *byte == 0 {
            id.push(0xff);
        }
    }
}

/// The reverse of [`key_id`].
fn key_of(id: &[u8]) -> Option<Vec<u8>> {
    let body = id.strip_prefix(&[KEY])?.strip_suffix(&[0, 1])?;
    let mut key = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return None;
        }
    }
    Some(key)
}

/// The numbers of the blocks from `from` to `to` that changed a leaf, ascending; at most so many.
pub(crate) fn numbers(
    snapshot: &dyn Snapshot,
    path: &KeyPath,
    from: u64,
    to: u64,
    count: usize,
) -> Result<Vec<u64>, ReadError> {
    let id = leaf_id(path);
    let bounds = Bounds { start: at(&id, from), end: Some([at(&id, to), vec![0]].concat()) };
    if bounds.is_empty() {
        return Ok(Vec::new());
    }
    let found = snapshot.range(Column::UndoAt, &bounds, count, usize::MAX)?;
    found.rows.iter().map(|(key, _)| Ok(split_at(key)?.1)).collect()
}

/// A row of `undo_at`: `id ‖ number`.
pub(crate) fn at(id: &[u8], number: u64) -> Vec<u8> {
    [id, &number.to_be_bytes()].concat()
}

/// The two parts of a key of `undo_at`.
pub(crate) fn split_at(key: &[u8]) -> Result<(&[u8], u64), ReadError> {
    let (id, number) = key.split_last_chunk().ok_or_else(|| ReadError::damaged("a key of undo_at"))?;
    Ok((id, u64::from_be_bytes(*number)))
}

pub(crate) fn chunk_key(number: u64, chunk: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[0], &chunk.to_be_bytes()].concat()
}

fn big_key(number: u64, path: &KeyPath) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[1], &path.0].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every row format is frozen here: a change that moves a byte needs a new format number.
    #[test]
    fn rows_are_frozen() {
        assert_eq!(Kept { oldest: 1, newest: 2 }.encode(), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Place::Nowhere.encode(), [0]);
        assert_eq!(Place::Computed.encode(), [1]);
        assert_eq!(Place::Chunk { chunk: 3, index: 70 }.encode(), [2, 12, 0x19, 1]);
        assert_eq!(Entry::New { key: b"k".to_vec() }.encode(), [0, 4, b'k']);
        let old = LeafRow::Inline { key: b"k".to_vec(), value: b"v".to_vec() };
        assert_eq!(Entry::Changed { old: old.clone() }.encode(), [1, 0, 4, b'k', 4, b'v']);
        assert_eq!(Entry::Gone { old }.encode(), [2, 0, 4, b'k', 4, b'v']);
        assert_eq!(Entry::Node { path: vec![7], old: None }.encode(), [3, 4, 7, 0]);
        assert_eq!(at(&key_id(b"a\0b"), 1), [&b"ia\0\xffb\0\x01"[..], &[0, 0, 0, 0, 0, 0, 0, 1]].concat());
        assert_eq!(at(&node_id(&NodePath::new(&[5, 6])), 1), [b'n', 2, 5, 6, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(chunk_key(1, 2), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn keys_keep_their_order_and_come_back(a in prop::collection::vec(0u8..3, 0..6), b in prop::collection::vec(0u8..3, 0..6)) {
            prop_assert_eq!(at(&key_id(&a), 7).cmp(&at(&key_id(&b), 7)), a.cmp(&b));
            prop_assert_eq!(key_of(&key_id(&a)), Some(a));
        }

        #[test]
        fn nodes_round_trip(slots in prop::collection::btree_set(any::<u8>(), 0..256)) {
            let mut inner = SlotSet::EMPTY;
            slots.iter().for_each(|slot| inner.insert(*slot));
            let row = NodeRow { commitment: Point::generator(), inner };
            let old = OldNode::decode_all(&mut &OldNode::new(&row).encode()[..]).unwrap();
            prop_assert_eq!(OldNode::rows(&[old]).unwrap(), vec![row]);
        }
    }
}
