//! A whole tree in memory: what the tests walk, and enough for a genesis or a light tool. It keeps hashes of values,
//! not values.

use std::collections::BTreeMap;

use super::{Change, Damage, Delta, Descent, Supply, Want};
use crate::commit::Committer;
use crate::curve::PointBytes;
use crate::key::{KeyPath, NodePath, StateRoot, ValueHash};
use crate::node::{Leaf, NodeRow, Slot};
use crate::update::UpdateWitness;
use crate::witness::Witness;

/// Nodes and leaves by their paths. The default is the empty tree.
#[derive(Clone, Default, Debug)]
pub struct Nodes {
    pub(super) nodes: BTreeMap<NodePath, NodeRow>,
    pub(super) leaves: BTreeMap<KeyPath, ValueHash>,
}

impl Nodes {
    /// Applies a batch of changes; the last change of a key wins.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>, committer: &Committer) -> Delta {
        let mut descent = Descent::update(changes);
        self.load(&mut descent).expect("a tree that only this type has written is whole");
        let delta = descent.finish().apply(committer);
        for leaf in &delta.leaves {
            match leaf.new {
                Some(value_hash) => self.leaves.insert(leaf.path, value_hash),
                None => self.leaves.remove(&leaf.path),
            };
        }
        for node in &delta.nodes {
            match node.new {
                Some(row) => self.nodes.insert(node.path, row),
                None => self.nodes.remove(&node.path),
            };
        }
        delta
    }

    /// The witness for these keys; made without tables.
    pub fn prove(&self, keys: &[KeyPath]) -> Result<Witness, Damage> {
        let mut descent = Descent::prove(keys.iter().copied());
        self.load(&mut descent)?;
        descent.finish().prove(None)
    }

    /// The update witness for what a block reads and changes; made without tables. The last change of a key wins.
    pub fn prove_update(&self, reads: &[KeyPath], changes: &[Change]) -> Result<UpdateWitness, Damage> {
        let mut descent = Descent::prove_update(reads.iter().copied(), changes.iter().copied());
        self.load(&mut descent)?;
        descent.finish().prove_update(None)
    }

    /// `c48` of the root commitment.
    pub fn root(&self) -> PointBytes {
        self.nodes.get(&NodePath::ROOT).map_or(PointBytes::INFINITY, |row| row.commitment.encode())
    }

    /// The state root.
    pub fn state_root(&self) -> StateRoot {
        StateRoot::of(&self.root())
    }

    /// How many leaves there are.
    pub fn leaves(&self) -> usize {
        self.leaves.len()
    }

    /// How many inner nodes there are, the root included.
    pub fn inner_nodes(&self) -> usize {
        self.nodes.len().max(1)
    }

    /// Every inner node and its row, in the spec's order of paths.
    pub fn rows(&self) -> impl Iterator<Item = (&NodePath, &NodeRow)> {
        self.nodes.iter()
    }

    /// The slots of a node that are not empty, ascending, as [`crate::node::check`] takes them; none of an unknown node.
    pub fn slots(&self, node: &NodePath) -> Vec<(u8, Slot)> {
        let Some(row) = self.nodes.get(node) else { return Vec::new() };
        let slot = |slot: u8| match row.inner.contains(slot) {
            true => self.nodes.get(&node.child(slot)).map(|child| (slot, Slot::Inner(child.commitment))),
            false => self.leaves_below(node, slot, slot).next().map(|leaf| (slot, Slot::Leaf(leaf))),
        };
        (0..=255).filter_map(slot).collect()
    }

    fn load(&self, descent: &mut Descent) -> Result<(), Damage> {
        while !descent.wanted().is_empty() {
            let answers = descent.wanted().iter().map(|want| self.supply(want)).collect();
            descent.supply(answers)?;
        }
        Ok(())
    }

    /// The answer to a want of a [`Descent`].
    pub fn supply(&self, want: &Want) -> Supply {
        match want {
            Want::Node { node, .. } => Supply::Node(self.nodes.get(node).copied()),
            Want::Slot { node, slot, .. } => Supply::Slot(self.leaves_below(node, *slot, *slot).next()),
            Want::Rest { node, slots } => {
                let runs = slots.runs();
                let leaves = runs.iter().flat_map(|(first, last)| self.leaves_below(node, *first, *last));
                Supply::Rest(leaves.take(2).collect())
            }
            Want::Row { node, .. } => {
                let slots = self.slots(node);
                Supply::Row(slots.iter().map(|(slot, content)| (*slot, content.scalar())).collect())
            }
        }
    }

    /// The leaves below the slots `first..=last` of a node, ascending.
    fn leaves_below(&self, node: &NodePath, first: u8, last: u8) -> impl Iterator<Item = Leaf> + '_ {
        let bound = |slot: u8, fill: u8| {
            let mut path = [fill; 32];
            path[..node.depth()].copy_from_slice(node.as_bytes());
            path[node.depth()] = slot;
            KeyPath(path)
        };
        let range = self.leaves.range(bound(first, 0)..=bound(last, 0xff));
        range.map(|(path, value_hash)| Leaf { path: *path, value_hash: *value_hash })
    }
}
