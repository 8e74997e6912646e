//! Names of things in the tree, and the hashes that make them (spec §1, §3, §4).
//!
//! A raw key becomes a [`KeyPath`], a value a [`ValueHash`], and what a slot holds becomes a [`SlotScalar`]. Every
//! context string of the tree's hashes stands in this file or in `transcript.rs`, nowhere else.

use std::fmt;
use std::sync::OnceLock;

use blake3::hazmat::{self, ContextKey, HasherExt};

use crate::curve::PointBytes;

static KEY_CONTEXT: Context = Context::new("rustorium.v1 key");
static LEAF_CONTEXT: Context = Context::new("rustorium.v1 leaf");
static NODE_CONTEXT: Context = Context::new("rustorium.v1 node");
static ROOT_CONTEXT: Context = Context::new("rustorium.v1 root");

/// Levels of the tree: a leaf hangs in a node of depth 0 to 31.
pub const DEPTH_MAX: usize = 31;

/// `B3(context, ·)` of spec §1, the context's own hash made once.
struct Context {
    name: &'static str,
    key: OnceLock<ContextKey>,
}

impl Context {
    const fn new(name: &'static str) -> Self {
        Self { name, key: OnceLock::new() }
    }

    fn hash(&self, data: &[u8]) -> [u8; 32] {
        let key = self.key.get_or_init(|| hazmat::hash_derive_key_context(self.name));
        *blake3::Hasher::new_from_context_key(key).update(data).finalize().as_bytes()
    }
}

macro_rules! hex_debug {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, self.as_ref())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, self.as_ref())
            }
        }
    )*};
}

/// `0x` and two digits a byte.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("0x")?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Where a key lives: `path(key) = B3("rustorium.v1 key", key)`, spec §3. Byte `d` picks the child at depth `d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(pub [u8; 32]);

impl KeyPath {
    /// The path of a raw key of any length.
    pub fn of(key: &[u8]) -> Self {
        Self(KEY_CONTEXT.hash(key))
    }

    /// The node of depth `depth` on the way to this key.
    ///
    /// # Panics
    /// If `depth` is above [`DEPTH_MAX`].
    pub fn node(&self, depth: usize) -> NodePath {
        NodePath::new(&self.0[..depth])
    }

    /// The slot this key takes in its node of depth `depth` (0 to 31).
    pub fn slot(&self, depth: usize) -> u8 {
        self.0[depth]
    }
}

/// Plain BLAKE3 of a value (what `b3sum` prints), spec §3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueHash(pub [u8; 32]);

impl ValueHash {
    /// The hash of a value of any length; an empty value is a value.
    pub fn of(value: &[u8]) -> Self {
        Self(*blake3::hash(value).as_bytes())
    }
}

/// What a block header carries: `B3("rustorium.v1 root", c48(C_root))`, spec §4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateRoot(pub [u8; 32]);

impl StateRoot {
    /// The state root of the tree whose root node has this commitment.
    pub fn of(root: &PointBytes) -> Self {
        Self(ROOT_CONTEXT.hash(&root.0))
    }
}

impl AsRef<[u8]> for KeyPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for ValueHash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for StateRoot {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for NodePath {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

hex_debug!(KeyPath, ValueHash, StateRoot, NodePath);

/// The path of an inner node: 0 bytes (the root) to [`DEPTH_MAX`] bytes. Ordered as the spec orders nodes:
/// lexicographically, a prefix before what it prefixes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodePath {
    // Bytes from `len` on are zero, so that equality and hashing may look at all of them.
    bytes: [u8; DEPTH_MAX],
    len: u8,
}

impl NodePath {
    /// The root of the tree.
    pub const ROOT: Self = Self { bytes: [0; DEPTH_MAX], len: 0 };

    /// A node from the bytes that lead to it.
    ///
    /// # Panics
    /// If there are more than [`DEPTH_MAX`] bytes; foreign bytes go through [`NodePath::parse`].
    pub fn new(bytes: &[u8]) -> Self {
        Self::parse(bytes).expect("a node path has at most 31 bytes")
    }

    /// A node from foreign bytes; `None` when there are more than [`DEPTH_MAX`].
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut path = Self::ROOT;
        path.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        path.len = bytes.len() as u8;
        Some(path)
    }

    /// The bytes that lead from the root to this node.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// How many levels below the root this node is.
    pub fn depth(&self) -> usize {
        self.len as usize
    }

    /// The node in one of this node's slots.
    ///
    /// # Panics
    /// If this node is at [`DEPTH_MAX`] already.
    pub fn child(&self, slot: u8) -> Self {
        let mut child = *self;
        child.bytes[self.len as usize] = slot;
        child.len += 1;
        child
    }

    /// The node that holds this one, and the slot it holds it in; `None` for the root.
    pub fn parent(&self) -> Option<(Self, u8)> {
        let depth = self.depth().checked_sub(1)?;
        Some((Self::new(&self.bytes[..depth]), self.bytes[depth]))
    }

    /// Whether the key's walk passes through this node.
    pub fn covers(&self, path: &KeyPath) -> bool {
        path.0.starts_with(self.as_bytes())
    }
}

impl PartialOrd for NodePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NodePath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// What a slot counts for in its node's commitment: an integer below `2^248`, four little-endian limbs. Zero is the
/// empty slot. Every value has one form, and the difference of two fits in 249 signed bits (spec §1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SlotScalar([u64; 4]);

impl SlotScalar {
    /// The scalar of an empty slot.
    pub const EMPTY: Self = Self([0; 4]);

    /// `S("rustorium.v1 leaf", path ‖ value hash)`.
    pub fn leaf(path: &KeyPath, value_hash: &ValueHash) -> Self {
        let mut input = [0; 64];
        input[..32].copy_from_slice(&path.0);
        input[32..].copy_from_slice(&value_hash.0);
        Self::hash(&LEAF_CONTEXT, &input)
    }

    /// `S("rustorium.v1 node", c48(C))`.
    pub fn node(commitment: &PointBytes) -> Self {
        Self::hash(&NODE_CONTEXT, &commitment.0)
    }

    fn hash(context: &Context, data: &[u8]) -> Self {
        let mut bytes = context.hash(data);
        bytes[31] = 0;
        Self::from_le_bytes(&bytes)
    }

    pub(crate) fn from_le_bytes(bytes: &[u8; 32]) -> Self {
        let limb = |i: usize| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().expect("eight bytes"));
        Self([limb(0), limb(1), limb(2), limb(3)])
    }

    /// The integer as 32 little-endian bytes, the last of them zero.
    pub fn to_le_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// The integer as little-endian limbs.
    pub fn limbs(&self) -> [u64; 4] {
        self.0
    }

    /// Whether this is the scalar of an empty slot.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// `new − old` as an integer: the sign (true when negative) and the magnitude, below `2^248`.
    pub fn difference(new: &Self, old: &Self) -> (bool, [u64; 4]) {
        let negative = new.0.iter().rev().lt(old.0.iter().rev());
        let (large, small) = if negative { (old, new) } else { (new, old) };
        let mut borrow = false;
        let magnitude = std::array::from_fn(|i| {
            let (partial, under) = large.0[i].overflowing_sub(small.0[i]);
            let (limb, under_again) = partial.overflowing_sub(borrow as u64);
            borrow = under | under_again;
            limb
        });
        (negative, magnitude)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_slot_scalars_are_signed_integers() {
        let scalar = |low: u64, high: u64| SlotScalar([low, 0, 0, high]);
        assert_eq!(SlotScalar::difference(&scalar(5, 0), &scalar(3, 0)), (false, [2, 0, 0, 0]));
        assert_eq!(SlotScalar::difference(&scalar(3, 0), &scalar(5, 0)), (true, [2, 0, 0, 0]));
        assert_eq!(SlotScalar::difference(&scalar(0, 1), &scalar(1, 0)), (false, [u64::MAX, u64::MAX, u64::MAX, 0]));
        assert_eq!(SlotScalar::difference(&scalar(7, 7), &scalar(7, 7)), (false, [0; 4]));
    }

    #[test]
    fn node_paths_sort_a_prefix_before_what_it_prefixes() {
        let path = |bytes: &[u8]| NodePath::new(bytes);
        assert!(path(&[]) < path(&[0]));
        assert!(path(&[0]) < path(&[0, 0]));
        assert!(path(&[0, 9]) < path(&[1]));
        assert_eq!(path(&[3, 4]).parent(), Some((path(&[3]), 4)));
        assert_eq!(NodePath::parse(&[0; 32]), None);
    }
}
