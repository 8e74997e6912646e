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
use crate::domain::WIDTH;
use crate::key::{DEPTH_MAX, NodePath, SlotScalar};
use crate::node::{Leaf, NodeRow, Slot, SlotSet};

/// A node's row and the contents and scalars of all its slots. It never changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WholeNode {
    path: NodePath,
    row: NodeRow,
    /// Ascending, each in a slot of its own that holds no inner node.
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
        let mut last = None;
        for leaf in leaves {
            if !path.covers(&leaf.path) {
                return damage("a leaf that belongs elsewhere");
            }
            let slot = Some(leaf.path.slot(path.depth()));
            if last >= slot || row.inner.contains(leaf.path.slot(path.depth())) {
                return damage("two leaves in one slot");
            }
            last = slot;
        }
        let leaves = leaves.iter().map(|leaf| (*leaf, leaf.scalar())).collect();
        let children = children.iter().map(|point| (*point, SlotScalar::node(&point.encode()))).collect();
        Ok(Self { path, row, leaves, children })
    }

    /// The root of the empty tree.
    pub fn empty() -> Self {
        Self { path: NodePath::ROOT, row: NodeRow::EMPTY, leaves: Box::default(), children: Box::default() }
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
        let leaf = |(leaf, scalar): &(Leaf, SlotScalar)| (leaf.path.slot(self.path.depth()), *scalar);
        let children = self.row.inner.iter().zip(self.children.iter().map(|(_, scalar)| *scalar));
        let mut scalars: Vec<(u8, SlotScalar)> = children.chain(self.leaves.iter().map(leaf)).collect();
        scalars.sort_unstable_by_key(|(slot, _)| *slot);
        scalars
    }

    /// The node at `path` with the row `row` that comes of `before` (`None`: of an empty one) when these slots change,
    /// ascending.
    pub(super) fn after(
        before: Option<&Self>,
        path: NodePath,
        row: NodeRow,
        changes: impl IntoIterator<Item = (u8, Slot, SlotScalar)>,
    ) -> Self {
        let (old_leaves, old_children) = before.map_or((&[][..], &[][..]), |node| (&node.leaves, &node.children));
        let old_inner = before.map_or(SlotSet::EMPTY, |node| node.row.inner);
        let mut leaves = Vec::with_capacity(old_leaves.len() + 2);
        let mut children = Vec::with_capacity(row.inner.len());
        // How much of the old has been taken over.
        let (mut leaf, mut child) = (0, 0);
        let mut take_until = |slot: usize, leaves: &mut Vec<_>, children: &mut Vec<_>, skip: bool| {
            let to =
                leaf + old_leaves[leaf..].partition_point(|(old, _)| (old.path.slot(path.depth()) as usize) < slot);
            leaves.extend_from_slice(&old_leaves[leaf..to]);
            let is_here = |(old, _): &(Leaf, SlotScalar)| old.path.slot(path.depth()) as usize == slot;
            leaf = to + (skip && old_leaves.get(to).is_some_and(is_here)) as usize;
            let to = old_inner.rank(slot);
            children.extend_from_slice(&old_children[child..to]);
            child = to + (skip && old_inner.contains(slot as u8)) as usize;
        };
        for (slot, content, scalar) in changes {
            take_until(slot as usize, &mut leaves, &mut children, true);
            match content {
                Slot::Empty => {}
                Slot::Leaf(leaf) => leaves.push((leaf, scalar)),
                Slot::Inner(commitment) => children.push((commitment, scalar)),
            }
        }
        take_until(WIDTH, &mut leaves, &mut children, false);
        debug_assert_eq!(children.len(), row.inner.len());
        Self { path, row, leaves: leaves.into(), children: children.into() }
    }

    fn leaf_at(&self, slot: u8) -> Option<&(Leaf, SlotScalar)> {
        let depth = self.path.depth();
        self.leaves.binary_search_by_key(&slot, |(leaf, _)| leaf.path.slot(depth)).ok().map(|at| &self.leaves[at])
    }

    fn child_at(&self, slot: u8) -> Option<&(Point, SlotScalar)> {
        self.row.inner.contains(slot).then(|| &self.children[self.row.inner.rank(slot as usize)])
    }
}
