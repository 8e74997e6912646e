//! A node with everything in its slots, for whoever keeps nodes in memory.
//!
//! A descent that is supplied whole nodes ([`Supply::Whole`]) asks for nothing below them but the inner nodes on its way,
//! and names the commitment of each. A block applied to whole nodes gives whole nodes ([`Delta::whole`]), so that a cache
//! of them stays warm without reading.
//!
//! [`Supply::Whole`]: super::Supply::Whole
//! [`Delta::whole`]: super::Delta::whole

use super::Damage;
use crate::curve::Point;
use crate::key::{DEPTH_MAX, NodePath, SlotScalar};
use crate::node::{Leaf, NodeRow, Slot, SlotSet};

/// A node's row and the contents and scalars of all its slots. It never changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WholeNode {
    path: NodePath,
    row: NodeRow,
    /// The slots that hold leaves.
    filled: SlotSet,
    /// What is in them, ascending by slot.
    leaves: Box<[(Leaf, SlotScalar)]>,
    /// What is in the slots of [`NodeRow::inner`], ascending by slot.
    children: Box<[(Point, SlotScalar)]>,
}

impl WholeNode {
    /// The node at `path` with this row, these leaves in slots without inner nodes (ascending), and these commitments of
    /// its inner nodes (ascending by slot). Whether all this is what the commitment says is for [`crate::node::check`].
    pub fn new(path: NodePath, row: NodeRow, leaves: &[Leaf], children: &[Point]) -> Result<Self, Damage> {
        let damage = |what| Err(Damage { node: path, what });
        if children.len() != row.inner.len() {
            return damage("its inner nodes are not those that it names");
        }
        if path.depth() == DEPTH_MAX && !children.is_empty() {
            return damage("a node of the deepest level holds an inner node");
        }
        let mut filled = SlotSet::EMPTY;
        for leaf in leaves {
            if !path.covers(&leaf.path) {
                return damage("a leaf that belongs elsewhere");
            }
            let slot = leaf.path.slot(path.depth());
            let is_in_order = filled.len() == filled.rank(slot as usize) && !filled.contains(slot);
            if !is_in_order || row.inner.contains(slot) {
                return damage("two leaves in one slot");
            }
            filled.insert(slot);
        }
        let leaves = leaves.iter().map(|leaf| (*leaf, leaf.scalar())).collect();
        let children = children.iter().map(|point| (*point, SlotScalar::node(&point.encode()))).collect();
        Ok(Self { path, row, filled, leaves, children })
    }

    /// The root of the empty tree.
    pub fn empty() -> Self {
        let (leaves, children) = (Box::default(), Box::default());
        Self { path: NodePath::ROOT, row: NodeRow::EMPTY, filled: SlotSet::EMPTY, leaves, children }
    }

    /// Where the node is.
    pub fn path(&self) -> &NodePath {
        &self.path
    }

    /// Its row.
    pub fn row(&self) -> &NodeRow {
        &self.row
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.leaves) + size_of_val(&*self.children)
    }

    /// The leaves in its slots, ascending.
    pub fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.leaves.iter().map(|(leaf, _)| leaf)
    }

    /// The leaf in this slot.
    pub fn leaf(&self, slot: u8) -> Option<&Leaf> {
        self.leaf_at(slot).map(|(leaf, _)| leaf)
    }

    /// The commitment of the inner node in this slot.
    pub fn child(&self, slot: u8) -> Option<&Point> {
        self.child_at(slot).map(|(commitment, _)| commitment)
    }

    /// The scalar of this slot.
    pub fn scalar(&self, slot: u8) -> SlotScalar {
        let leaf = || self.leaf_at(slot).map(|(_, scalar)| *scalar);
        self.child_at(slot).map(|(_, scalar)| *scalar).or_else(leaf).unwrap_or(SlotScalar::EMPTY)
    }

    /// The slots that are not empty and their scalars, ascending.
    pub fn scalars(&self) -> Vec<(u8, SlotScalar)> {
        let children = self.row.inner.iter().zip(self.children.iter().map(|(_, scalar)| *scalar));
        let leaves = self.filled.iter().zip(self.leaves.iter().map(|(_, scalar)| *scalar));
        let mut scalars: Vec<(u8, SlotScalar)> = children.chain(leaves).collect();
        scalars.sort_unstable_by_key(|(slot, _)| *slot);
        scalars
    }

    /// The node at `path` with the row `row` that comes of `before` (`None`: of an empty one) when these slots change,
    /// ascending.
    pub(super) fn after(
        before: Option<&Self>,
        path: NodePath,
        row: NodeRow,
        changes: impl Iterator<Item = (u8, Slot, SlotScalar)> + Clone,
    ) -> Self {
        let mut filled = before.map_or(SlotSet::EMPTY, |node| node.filled);
        for (slot, content, _) in changes.clone() {
            match content {
                Slot::Leaf(_) => filled.insert(slot),
                Slot::Empty | Slot::Inner(_) => filled.remove(slot),
            }
        }
        // Not a byte more than needed, since these live long.
        let mut leaves = Merge::new(before.map(|node| (node.filled, &*node.leaves)), filled.len());
        let mut children = Merge::new(before.map(|node| (node.row.inner, &*node.children)), row.inner.len());
        for (slot, content, scalar) in changes {
            leaves.skip(slot);
            children.skip(slot);
            match content {
                Slot::Empty => {}
                Slot::Leaf(leaf) => leaves.new.push((leaf, scalar)),
                Slot::Inner(commitment) => children.new.push((commitment, scalar)),
            }
        }
        Self { path, row, filled, leaves: leaves.finish(), children: children.finish() }
    }

    fn leaf_at(&self, slot: u8) -> Option<&(Leaf, SlotScalar)> {
        self.filled.contains(slot).then(|| &self.leaves[self.filled.rank(slot as usize)])
    }

    fn child_at(&self, slot: u8) -> Option<&(Point, SlotScalar)> {
        self.row.inner.contains(slot).then(|| &self.children[self.row.inner.rank(slot as usize)])
    }
}

/// The contents of a node's slots of one kind, some of which are exchanged.
struct Merge<'a, T> {
    slots: SlotSet,
    old: &'a [T],
    /// How many of the old have been taken or left out.
    passed: usize,
    new: Vec<T>,
}

impl<'a, T: Copy> Merge<'a, T> {
    fn new(old: Option<(SlotSet, &'a [T])>, len: usize) -> Self {
        let (slots, old) = old.unwrap_or((SlotSet::EMPTY, &[]));
        Self { slots, old, passed: 0, new: Vec::with_capacity(len) }
    }

    /// Takes the old ones up to this slot, and leaves out what it holds.
    fn skip(&mut self, slot: u8) {
        let here = self.slots.rank(slot as usize);
        self.new.extend_from_slice(&self.old[self.passed..here]);
        self.passed = here + self.slots.contains(slot) as usize;
    }

    fn finish(mut self) -> Box<[T]> {
        self.new.extend_from_slice(&self.old[self.passed..]);
        self.new.into()
    }
}
