//! Inner nodes: what a slot holds, what a store keeps of a node (spec §4), and a node that proves itself (spec §7,
//! `node/check.rs`).

mod check;

pub use check::{BadNode, Content, check, check_many};

use crate::curve::{NotAPoint, Point};
use crate::key::{KeyPath, SlotScalar, ValueHash};

/// A key's path and the hash of its value: all that the tree knows of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Leaf {
    /// `path(key)`.
    pub path: KeyPath,
    /// `value_hash(value)`.
    pub value_hash: ValueHash,
}

impl Leaf {
    /// The leaf's slot scalar.
    pub fn scalar(&self) -> SlotScalar {
        SlotScalar::leaf(&self.path, &self.value_hash)
    }
}

/// What one slot of a node holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Nothing.
    Empty,
    /// The only leaf under this slot.
    Leaf(Leaf),
    /// An inner node with this commitment.
    Inner(Point),
}

impl Slot {
    /// What the slot counts for in its node's commitment.
    pub fn scalar(&self) -> SlotScalar {
        match self {
            Self::Empty => SlotScalar::EMPTY,
            Self::Leaf(leaf) => leaf.scalar(),
            Self::Inner(commitment) => SlotScalar::node(&commitment.encode()),
        }
    }
}

/// A set of slots of one node.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SlotSet([u64; 4]);

impl SlotSet {
    /// No slot.
    pub const EMPTY: Self = Self([0; 4]);

    /// Whether the slot is in the set.
    pub fn contains(&self, slot: u8) -> bool {
        self.0[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: u8) {
        self.0[slot as usize / 64] |= 1 << (slot % 64);
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slot: u8) {
        self.0[slot as usize / 64] &= !(1 << (slot % 64));
    }

    /// Whether there is no slot in the set.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// How many slots are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|limb| limb.count_ones() as usize).sum()
    }

    /// How many slots of the set lie below `end`, which may be 256.
    pub fn rank(&self, end: usize) -> usize {
        let below = |limb: usize| match end.saturating_sub(64 * limb) {
            bits @ 0..64 => self.0[limb] & ((1 << bits) - 1),
            _ => self.0[limb],
        };
        (0..4).map(|limb| below(limb).count_ones() as usize).sum()
    }

    /// The slots that are not in the set.
    pub fn complement(&self) -> Self {
        Self(self.0.map(|limb| !limb))
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().enumerate().flat_map(|(limb, bits)| {
            let more = |bits: &u64| Some(bits & (bits - 1)).filter(|bits| *bits != 0);
            let left = std::iter::successors(Some(*bits).filter(|bits| *bits != 0), more);
            left.map(move |bits| (64 * limb as u32 + bits.trailing_zeros()) as u8)
        })
    }

    /// The runs of neighbouring slots, ascending, each as its first and last slot.
    pub fn runs(&self) -> Vec<(u8, u8)> {
        let mut runs: Vec<(u8, u8)> = Vec::new();
        for slot in self.iter() {
            match runs.last_mut() {
                Some((_, last)) if *last as usize + 1 == slot as usize => *last = slot,
                _ => runs.push((slot, slot)),
            }
        }
        runs
    }
}

/// What a store keeps of an inner node: its commitment, and which of its slots are inner nodes. The rest follows from
/// the leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeRow {
    /// `C`.
    pub commitment: Point,
    /// The slots that hold inner nodes.
    pub inner: SlotSet,
}

impl NodeRow {
    /// Bytes of an encoded row.
    pub const BYTES: usize = 96 + 32;

    /// The root of the empty tree.
    pub const EMPTY: Self = Self { commitment: Point::INFINITY, inner: SlotSet::EMPTY };

    /// `x ‖ y ‖ bitmap`: 96 bytes as [`Point::to_affine_bytes`], then four little-endian limbs.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..96].copy_from_slice(&self.commitment.to_affine_bytes());
        for (chunk, limb) in bytes[96..].chunks_exact_mut(8).zip(self.inner.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// The reverse of [`NodeRow::encode`]; checks the length and that the commitment is on the curve.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotAPoint> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().map_err(|_| NotAPoint)?;
        let (affine, bitmap) = bytes.split_first_chunk::<96>().expect("a row begins with a point");
        let commitment = Point::from_affine_bytes(affine)?;
        let mut inner = SlotSet::EMPTY;
        for (limb, chunk) in inner.0.iter_mut().zip(bitmap.chunks_exact(8)) {
            *limb = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        }
        Ok(Self { commitment, inner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_sets_list_their_runs() {
        let mut set = SlotSet::EMPTY;
        for slot in [0, 1, 2, 63, 64, 255] {
            set.insert(slot);
        }
        assert_eq!(set.runs(), [(0, 2), (63, 64), (255, 255)]);
        assert_eq!(set.complement().runs(), [(3, 62), (65, 254)]);
        assert_eq!((set.len(), set.complement().len()), (6, 250));
        assert_eq!([0, 1, 3, 63, 64, 65, 255, 256].map(|end| set.rank(end)), [0, 1, 3, 3, 4, 5, 5, 6]);
        set.remove(1);
        assert!(!set.contains(1) && set.contains(2));
        assert_eq!(SlotSet::EMPTY.complement().runs(), [(0, 255)]);
    }

    #[test]
    fn node_rows_round_trip() {
        let mut inner = SlotSet::EMPTY;
        inner.insert(200);
        let row = NodeRow { commitment: Point::generator(), inner };
        assert_eq!(NodeRow::decode(&row.encode()), Ok(row));
        assert_eq!(NodeRow::decode(&row.encode()[..127]), Err(NotAPoint));
        assert_eq!(NodeRow::decode(&NodeRow::EMPTY.encode()), Ok(NodeRow::EMPTY));
    }
}
