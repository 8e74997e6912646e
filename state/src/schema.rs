//! What the rows look like: keys and values of each column, and nothing else (ARCHITECTURE, "Rows").
//!
//! | column | key | value |
//! |---|---|---|
//! | leaf | gen ‖ path | SCALE [`LeafRow`] |
//! | big | gen ‖ path | the value |
//! | node | gen ‖ depth ‖ path | [`NodeRow`]: 96 bytes of commitment, 32 of bitmap |
//! | index | gen ‖ key | nothing |
//! | block | `h` ‖ hash, `n` ‖ number BE | SCALE [`HeaderRow`]; hash |
//! | fork | number BE ‖ hash | a block that is not in the other columns yet (`journal.rs`) |
//! | aux | `p` ‖ sequence BE | changes that are acknowledged and in no block (`storage/log.rs`) |
//! | undo, undo_at | | what final blocks overwrote (`undo.rs`) |
//! | meta | a name | format, chain, live generation; the hashes of head, final and base; the blocks that can be undone |
//!
//! The first five columns are those of one block, `base`. What was acknowledged since lies in `fork`. While final blocks
//! are being written, rows of theirs may be in the columns already; their journal rows stay until all are.
//! Format 1 had no journal: head, final and base are one; format 2 had no history and no rows in `aux`: a version that knows
//! no newer one would leave such rows out of the blocks that follow.

use parity_scale_codec::{Decode, DecodeAll, Encode};
use rustorium_verkle::{KeyPath, Leaf, NodePath, NodeRow, StateRoot, ValueHash};

use crate::backend::Bounds;
use crate::block::{BlockHash, Header};

/// The format that this version writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 3;
/// What the format row begins with, so that a foreign store is told from a newer one.
const FORMAT_MAGIC: &[u8] = b"rustorium state ";
/// Values over this many bytes live in their own column, so that opening a node does not read a neighbour's 1 MB.
pub(crate) const INLINE_BYTES_MAX: usize = 4096;

pub(crate) mod meta {
    pub(crate) const FORMAT: &[u8] = b"format";
    pub(crate) const CHAIN: &[u8] = b"chain";
    pub(crate) const LIVE: &[u8] = b"live";
    pub(crate) const HEAD: &[u8] = b"head";
    pub(crate) const FINAL: &[u8] = b"final";
    pub(crate) const BASE: &[u8] = b"base";
    pub(crate) const UNDO: &[u8] = b"undo";
    /// The number of a block that was imported: what was before it is known by its genesis alone.
    pub(crate) const FIRST: &[u8] = b"first";
    /// How far an import is.
    pub(crate) const IMPORT: &[u8] = b"import";
}

/// Which copy of the tree a row belongs to: staging, import and rebuild write another than the live one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Generation(pub(crate) u8);

impl Generation {
    pub(crate) fn leaf_key(self, path: &KeyPath) -> [u8; 33] {
        let mut key = [self.0; 33];
        key[1..].copy_from_slice(&path.0);
        key
    }

    /// `gen ‖ depth ‖ path`: the children of a node are neighbours.
    pub(crate) fn node_key(self, node: &NodePath) -> Vec<u8> {
        [&[self.0, node.depth() as u8], node.as_bytes()].concat()
    }

    pub(crate) fn index_key(self, key: &[u8]) -> Vec<u8> {
        [&[self.0], key].concat()
    }

    /// The leaves below the slots `first..=last` of a node.
    pub(crate) fn leaf_bounds(self, node: &NodePath, first: u8, last: u8) -> Bounds {
        let prefix = |slot: u8| [&[self.0], node.as_bytes(), &[slot]].concat();
        Bounds { start: prefix(first), end: Bounds::prefix(&prefix(last)).end }
    }

    /// The rows of a node's children.
    pub(crate) fn child_bounds(self, node: &NodePath) -> Bounds {
        Bounds::prefix(&[&[self.0, node.depth() as u8 + 1], node.as_bytes()].concat())
    }

    /// The one that is written beside this one.
    pub(crate) fn next(self) -> Self {
        // Generations end before 255.
        Self((self.0 + 1) % u8::MAX)
    }

    /// All rows of this generation, in any column whose keys it leads.
    pub(crate) fn all(self) -> Bounds {
        Bounds::prefix(&[self.0])
    }
}

/// A pair as the leaf column has it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum LeafRow<Bytes = Vec<u8>> {
    #[codec(index = 0)]
    Inline { key: Bytes, value: Bytes },
    #[codec(index = 1)]
    Big { key: Bytes, bytes: u64, value_hash: [u8; 32] },
}

impl LeafRow {
    /// Whether a value of this size is kept in the row itself.
    pub(crate) fn is_inline(value: &[u8]) -> bool {
        value.len() <= INLINE_BYTES_MAX
    }

    /// Whether the value is of a size that is kept elsewhere.
    pub(crate) fn is_misplaced(&self) -> bool {
        matches!(self, Self::Inline { .. }) != (self.value_bytes() <= INLINE_BYTES_MAX as u64)
    }

    pub(crate) fn key(&self) -> &[u8] {
        let (Self::Inline { key, .. } | Self::Big { key, .. }) = self;
        key
    }

    pub(crate) fn value_bytes(&self) -> u64 {
        match self {
            Self::Inline { value, .. } => value.len() as u64,
            Self::Big { bytes, .. } => *bytes,
        }
    }

    pub(crate) fn value_hash(&self) -> ValueHash {
        match self {
            Self::Inline { value, .. } => ValueHash::of(value),
            Self::Big { value_hash, .. } => ValueHash(*value_hash),
        }
    }

    pub(crate) fn leaf(&self) -> Leaf {
        Leaf { path: KeyPath::of(self.key()), value_hash: self.value_hash() }
    }

    /// Decodes the row of `path`; the key inside must be that of the path.
    pub(crate) fn decode_at(path: &KeyPath, bytes: &[u8]) -> Result<Self, String> {
        let row = Self::decode_all(&mut &bytes[..]).map_err(|error| format!("leaf {path}: {error}"))?;
        match KeyPath::of(row.key()) == *path {
            true => Ok(row),
            false => Err(format!("leaf {path}: the row holds another key")),
        }
    }
}

/// Decodes a row of the leaf column and its key.
pub(crate) fn decode_leaf(key: &[u8], bytes: &[u8]) -> Result<(KeyPath, LeafRow), String> {
    let path = key.get(1..).and_then(|path| Some(KeyPath(path.try_into().ok()?)));
    let path = path.ok_or_else(|| format!("a leaf key of {} bytes, expected 33", key.len()))?;
    Ok((path, LeafRow::decode_at(&path, bytes)?))
}

/// Decodes a row of the node column and its key.
pub(crate) fn decode_node(key: &[u8], bytes: &[u8]) -> Result<(NodePath, NodeRow), String> {
    let path = node_path(key)?;
    let row = NodeRow::decode(bytes).map_err(|error| format!("node {path}: {error}"))?;
    Ok((path, row))
}

/// The path that a key of the node column leads to.
pub(crate) fn node_path(key: &[u8]) -> Result<NodePath, String> {
    let path = key.get(2..).and_then(NodePath::parse).filter(|path| path.depth() == key[1] as usize);
    path.ok_or_else(|| "a node key whose depth is not that of its path".to_owned())
}

/// A header as the block column has it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct HeaderRow {
    pub(crate) number: u64,
    pub(crate) parent_hash: BlockHash,
    pub(crate) state_root: [u8; 32],
    pub(crate) timestamp_ms: Option<u64>,
    /// Tells the same block from another under its hash.
    pub(crate) content: [u8; 32],
}

impl HeaderRow {
    pub(crate) fn new(header: &Header, content: [u8; 32]) -> Self {
        let Header { number, parent_hash, state_root, timestamp_ms, .. } = header.clone();
        Self { number, parent_hash, state_root: state_root.0, timestamp_ms, content }
    }

    pub(crate) fn header(&self, hash: BlockHash) -> Header {
        let Self { number, parent_hash, timestamp_ms, .. } = *self;
        Header { number, hash, parent_hash, state_root: StateRoot(self.state_root), timestamp_ms }
    }
}

pub(crate) fn header_key(hash: &BlockHash) -> Vec<u8> {
    [b"h", &hash.0[..]].concat()
}

pub(crate) fn number_key(number: u64) -> Vec<u8> {
    [b"n", &number.to_be_bytes()[..]].concat()
}

/// Whose state a store holds.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct ChainRow {
    pub(crate) id: String,
    pub(crate) genesis_hash: BlockHash,
    /// Of the genesis pairs, so that a spec is told from another without computing its root.
    pub(crate) genesis_content: [u8; 32],
}

pub(crate) fn encode_format() -> Vec<u8> {
    [FORMAT_MAGIC, &FORMAT.to_le_bytes()].concat()
}

/// The format number; `None` when the row is not one of ours.
pub(crate) fn decode_format(bytes: &[u8]) -> Option<u32> {
    let number = bytes.strip_prefix(FORMAT_MAGIC)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row format is frozen here: a change that moves a byte needs a new format number.
    #[test]
    fn rows_are_frozen() {
        let generation = Generation(3);
        let inline = LeafRow::Inline { key: b"ab".to_vec(), value: b"c".to_vec() };
        assert_eq!(inline.encode(), [0, 8, b'a', b'b', 4, b'c']);
        let big = LeafRow::Big { key: b"ab".to_vec(), bytes: 5000, value_hash: [9; 32] };
        assert_eq!(big.encode(), [&[1, 8, b'a', b'b', 0x88, 0x13, 0, 0, 0, 0, 0, 0][..], &[9; 32]].concat());
        assert_eq!(generation.leaf_key(&KeyPath([7; 32])).to_vec(), [&[3][..], &[7; 32]].concat());
        assert_eq!(generation.node_key(&NodePath::new(&[1, 2])), [3, 2, 1, 2]);
        assert_eq!(generation.index_key(b"k"), [3, b'k']);
        assert_eq!(number_key(258), [b'n', 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(header_key(&BlockHash([1; 32]))[0], b'h');
        let header = Header {
            number: 1,
            hash: BlockHash([2; 32]),
            parent_hash: BlockHash([3; 32]),
            state_root: StateRoot([4; 32]),
            timestamp_ms: Some(5),
        };
        let row = HeaderRow::new(&header, [6; 32]);
        let bytes =
            [&[1, 0, 0, 0, 0, 0, 0, 0][..], &[3; 32], &[4; 32], &[1, 5, 0, 0, 0, 0, 0, 0, 0], &[6; 32]].concat();
        assert_eq!(row.encode(), bytes);
        assert_eq!(row.header(header.hash), header);
        assert_eq!(encode_format(), b"rustorium state \x03\0\0\0");
        assert_eq!(decode_format(&encode_format()), Some(FORMAT));
        assert_eq!(decode_format(b"something else"), None);
    }

    #[test]
    fn a_leaf_row_under_a_foreign_path_is_damage() {
        let row = LeafRow::Inline { key: b"k".to_vec(), value: b"v".to_vec() };
        assert_eq!(LeafRow::decode_at(&KeyPath::of(b"k"), &row.encode()), Ok(row.clone()));
        assert!(LeafRow::decode_at(&KeyPath::of(b"l"), &row.encode()).is_err());
        assert!(LeafRow::decode_at(&KeyPath::of(b"k"), &[row.encode(), vec![0]].concat()).is_err());
    }

    #[test]
    fn bounds_of_leaves_hold_their_slots_and_no_more() {
        let generation = Generation(0);
        let bounds = generation.leaf_bounds(&NodePath::new(&[5]), 7, 0xff);
        assert_eq!((bounds.start, bounds.end), (vec![0, 5, 7], Some(vec![0, 6])));
        let bounds = generation.leaf_bounds(&NodePath::ROOT, 0xff, 0xff);
        assert_eq!((bounds.start, bounds.end), (vec![0, 0xff], Some(vec![1])));
    }
}
