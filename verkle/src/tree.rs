//! The tree's shape: walking to keys, applying changes, and finding what a proof must show (spec §4).
//!
//! The tree itself lives elsewhere. A [`Descent`] asks for what it needs, one level at a time, so that a store answers
//! with one batched read; what it has been given is a [`Subtree`], which either applies the changes ([`Subtree::apply`])
//! or proves the keys ([`Subtree::prove`]).
//!
//! ```text
//! Descent::update(changes) ─ wanted ▸ supply ─ … ─ finish ▸ Subtree ─ apply ▸ Delta
//! Descent::prove(keys)     ─ wanted ▸ supply ─ … ─ finish ▸ Subtree ─ prove ▸ Witness
//! ```
//!
//! What the store supplies is trusted to be what it wrote, but not to be whole: a missing node or a leaf in the wrong
//! place is [`Damage`], which names the node, and never a panic. A row that was altered in place is another matter: a
//! commitment by difference cannot see that its old side is wrong, so that the new root is as wrong as the old rows were.
//! Whoever owns the store compares [`Subtree::root`] with the root he knows, and judges what he hands out: a witness from
//! altered rows does not verify. Work and memory are bounded by the keys asked for times the depth of their walks.

mod apply;
mod bulk;
mod memory;
mod prove;
#[cfg(test)]
mod tests;
mod whole;

use std::ops::Range;
use std::sync::Arc;

pub use apply::{Delta, LeafDelta, NodeDelta};
pub use bulk::{Bulk, OutOfOrder};
pub use memory::Nodes;
pub use whole::WholeNode;

use crate::curve::{Point, PointBytes};
use crate::key::{DEPTH_MAX, KeyPath, NodePath, SlotScalar, ValueHash};
use crate::node::{Leaf, NodeRow, SlotSet};

/// A change of one key: a new value, or its deletion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// The key's path.
    pub path: KeyPath,
    /// The new value's hash; `None` deletes.
    pub value: Option<ValueHash>,
}

impl Change {
    /// Sets a key to a value.
    pub fn put(key: &[u8], value: &[u8]) -> Self {
        Self { path: KeyPath::of(key), value: Some(ValueHash::of(value)) }
    }

    /// Deletes a key; deleting what is not there changes nothing.
    pub fn delete(key: &[u8]) -> Self {
        Self { path: KeyPath::of(key), value: None }
    }
}

/// Something that a descent needs to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// The row of this node. Answer: [`Supply::Node`], where `None` is right for the root of an empty tree only; or
    /// [`Supply::Whole`], and then nothing else is asked of the node.
    Node {
        /// The node.
        node: NodePath,
        /// Its commitment, where the node above it was supplied whole.
        commitment: Option<Point>,
    },
    /// The leaf below this slot, which holds no inner node, so that there is at most one. Answer: [`Supply::Slot`].
    Slot {
        /// The node.
        node: NodePath,
        /// Its slot.
        slot: u8,
        /// A key whose walk ends here: most likely the leaf's own.
        key: KeyPath,
    },
    /// Any two leaves in these slots, which hold no inner nodes; fewer when there are fewer. Answer: [`Supply::Rest`].
    Rest {
        /// The node.
        node: NodePath,
        /// The slots to look in.
        slots: SlotSet,
    },
    /// All slots of this node that are not empty, as scalars. Answer: [`Supply::Row`].
    Row {
        /// The node.
        node: NodePath,
        /// Its row, as supplied before.
        row: NodeRow,
    },
}

/// The answer to a [`Want`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Supply {
    /// To [`Want::Node`].
    Node(Option<NodeRow>),
    /// To [`Want::Node`] as well.
    Whole(Arc<WholeNode>),
    /// To [`Want::Slot`].
    Slot(Option<Leaf>),
    /// To [`Want::Rest`].
    Rest(Vec<Leaf>),
    /// To [`Want::Row`]: ascending by slot.
    Row(Vec<(u8, SlotScalar)>),
}

/// What was supplied cannot be part of a tree: the store is damaged at or below this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the tree is damaged at node {node}: {what}")]
pub struct Damage {
    /// Where.
    pub node: NodePath,
    /// What is wrong.
    pub what: &'static str,
}

/// Why the walk is made.
enum Goal {
    /// Changes, ascending by path, each path once.
    Update(Vec<Change>),
    /// Keys, ascending by path, each once.
    Prove(Vec<KeyPath>),
}

impl Goal {
    fn path(&self, index: usize) -> KeyPath {
        match self {
            Self::Update(changes) => changes[index].path,
            Self::Prove(keys) => keys[index],
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Update(changes) => changes.len(),
            Self::Prove(keys) => keys.len(),
        }
    }
}

/// A node that the walk passes through.
struct Visit {
    path: NodePath,
    row: NodeRow,
    /// All of it, if it was supplied so.
    whole: Option<Arc<WholeNode>>,
    /// Slots in which keys' walks end, ascending.
    ends: Vec<End>,
    /// Slots through which walks go on: the slot and the index of the visit below, ascending.
    inner: Vec<(u8, usize)>,
    /// Leaves in untouched slots, where a collapse depends on them.
    rest: Option<Vec<Leaf>>,
    /// All slots as scalars, where a proof needs them.
    slots: Vec<(u8, SlotScalar)>,
}

/// A slot in which the walks of some keys end.
struct End {
    slot: u8,
    /// Which of the goal's keys.
    keys: Range<usize>,
    leaf: Option<Leaf>,
}

/// Who gets the answer to a want.
enum Target {
    Visit(Entry),
    End { visit: usize, end: usize },
    Rest { visit: usize },
    Row { visit: usize },
}

/// A node that is to be entered.
struct Entry {
    parent: Option<(usize, u8)>,
    path: NodePath,
    commitment: Option<Point>,
    /// Which of the goal's keys pass through it.
    keys: Range<usize>,
}

/// A walk to a set of keys, which asks for what it has not seen.
pub struct Descent {
    goal: Goal,
    /// Parents before children.
    visits: Vec<Visit>,
    wanted: Vec<Want>,
    targets: Vec<Target>,
    /// Whether the question of collapses has been asked.
    weighed: bool,
    /// Whether something supplied was refused.
    damaged: bool,
}

impl Descent {
    /// A walk to the keys that a block changes. The last change of a key wins.
    pub fn update(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut changes: Vec<Change> = changes.into_iter().collect();
        // The sort is stable: among changes of one path the last stays last, and is the one kept.
        changes.sort_by_key(|change| change.path);
        changes.reverse();
        changes.dedup_by_key(|change| change.path);
        changes.reverse();
        Self::start(Goal::Update(changes))
    }

    /// A walk to the keys that a witness is to prove; a key named twice is proved once.
    pub fn prove(keys: impl IntoIterator<Item = KeyPath>) -> Self {
        let mut keys: Vec<KeyPath> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        Self::start(Goal::Prove(keys))
    }

    fn start(goal: Goal) -> Self {
        let keys = 0..goal.len();
        let mut descent =
            Self { goal, visits: Vec::new(), wanted: Vec::new(), targets: Vec::new(), weighed: false, damaged: false };
        descent.want_node(Entry { parent: None, path: NodePath::ROOT, commitment: None, keys });
        descent
    }

    fn want_node(&mut self, entry: Entry) {
        self.want(Want::Node { node: entry.path, commitment: entry.commitment }, Target::Visit(entry));
    }

    fn want(&mut self, want: Want, target: Target) {
        self.wanted.push(want);
        self.targets.push(target);
    }

    /// What to supply next, all of it together; empty when the walk is complete.
    pub fn wanted(&self) -> &[Want] {
        &self.wanted
    }

    /// Takes one answer to each want, in their order.
    ///
    /// # Panics
    /// If the answers do not match the wants in number and kind.
    pub fn supply(&mut self, answers: Vec<Supply>) -> Result<(), Damage> {
        self.take(answers).inspect_err(|_| self.damaged = true)
    }

    fn take(&mut self, answers: Vec<Supply>) -> Result<(), Damage> {
        let targets = std::mem::take(&mut self.targets);
        self.wanted.clear();
        assert_eq!(answers.len(), targets.len(), "one answer a want");
        for (target, answer) in targets.into_iter().zip(answers) {
            match (target, answer) {
                (Target::Visit(entry), Supply::Node(row)) => {
                    let row = match row {
                        Some(row) => row,
                        None if entry.path == NodePath::ROOT => NodeRow::EMPTY,
                        None => return Err(Damage { node: entry.path, what: "the node is missing" }),
                    };
                    self.visit(entry, row, None)?;
                }
                (Target::Visit(entry), Supply::Whole(node)) => self.visit(entry, *node.row(), Some(node))?,
                (Target::End { visit, end }, Supply::Slot(leaf)) => {
                    let Visit { path, ends, .. } = &mut self.visits[visit];
                    let end = &mut ends[end];
                    check_place(path, end.slot, leaf.as_ref())?;
                    end.leaf = leaf;
                }
                (Target::Rest { visit }, Supply::Rest(leaves)) => {
                    let visit = &mut self.visits[visit];
                    for leaf in &leaves {
                        check_place(&visit.path, leaf.path.slot(visit.path.depth()), Some(leaf))?;
                    }
                    visit.rest = Some(leaves);
                }
                (Target::Row { visit }, Supply::Row(slots)) => self.visits[visit].slots = slots,
                _ => panic!("an answer of another kind than its want"),
            }
        }
        if self.wanted.is_empty() && !self.weighed {
            self.weighed = true;
            self.weigh();
        }
        Ok(())
    }

    /// What has been seen.
    ///
    /// # Panics
    /// If something is still wanted, or what was supplied has been refused.
    pub fn finish(self) -> Subtree {
        assert!(!self.damaged, "the descent met damage");
        assert!(self.wanted.is_empty(), "the descent still wants something");
        Subtree { goal: self.goal, visits: self.visits }
    }

    /// Enters a node: walks that end here want their slot's leaf, the others the next node.
    fn visit(&mut self, entry: Entry, row: NodeRow, whole: Option<Arc<WholeNode>>) -> Result<(), Damage> {
        let Entry { parent, path, commitment, keys } = entry;
        check_row(&path, &row, commitment.as_ref())?;
        assert!(whole.as_ref().is_none_or(|whole| *whole.path() == path), "a whole node of another place");
        let index = self.visits.len();
        let (mut ends, mut slots) = (Vec::new(), Vec::new());
        let mut from = keys.start;
        while from < keys.end {
            let key = self.goal.path(from);
            let slot = key.slot(path.depth());
            let to = (from..keys.end).find(|&i| self.goal.path(i).slot(path.depth()) != slot).unwrap_or(keys.end);
            if row.inner.contains(slot) {
                let commitment = whole.as_ref().and_then(|whole| whole.child(slot)).copied();
                self.want_node(Entry {
                    parent: Some((index, slot)),
                    path: path.child(slot),
                    commitment,
                    keys: from..to,
                });
            } else {
                let leaf = whole.as_ref().and_then(|whole| whole.leaf(slot)).copied();
                if whole.is_none() {
                    let target = Target::End { visit: index, end: ends.len() };
                    self.want(Want::Slot { node: path, slot, key }, target);
                }
                ends.push(End { slot, keys: from..to, leaf });
            }
            from = to;
        }
        match (&self.goal, &whole) {
            (Goal::Update(_), _) => {}
            (Goal::Prove(_), Some(whole)) => slots = whole.scalars(),
            (Goal::Prove(_), None) => self.want(Want::Row { node: path, row }, Target::Row { visit: index }),
        }
        self.visits.push(Visit { path, row, whole, ends, inner: Vec::new(), rest: None, slots });
        if let Some((parent, slot)) = parent {
            self.visits[parent].inner.push((slot, index));
        }
        Ok(())
    }

    /// Finds the nodes that deletes might leave with fewer than two leaves, and asks what else they hold.
    fn weigh(&mut self) {
        let Goal::Update(changes) = &self.goal else { return };
        // Of each visit: whether a leaf below it is deleted, and how many leaves are left for sure (2 stands for more).
        let mut weights: Vec<(bool, usize)> = vec![(false, 2); self.visits.len()];
        let mut in_doubt = Vec::new();
        for (index, visit) in self.visits.iter().enumerate().rev() {
            let (mut removed, mut least) = (false, 2 * (visit.row.inner.len() - visit.inner.len()));
            let mut touched = visit.row.inner;
            for (_, child) in &visit.inner {
                removed |= weights[*child].0;
                least += weights[*child].1;
            }
            for end in &visit.ends {
                touched.insert(end.slot);
                let deleted = |leaf: &Leaf| {
                    changes[end.keys.clone()].iter().any(|change| change.path == leaf.path && change.value.is_none())
                };
                removed |= end.leaf.as_ref().is_some_and(deleted);
                least +=
                    end.after_one(changes).map_or_else(|| end.after(changes).len(), |leaf| leaf.is_some() as usize);
            }
            if visit.path != NodePath::ROOT && removed && least < 2 {
                weights[index] = (true, least);
                in_doubt.push((index, touched.complement()));
            } else {
                weights[index] = (removed, 2);
            }
        }
        for (index, slots) in in_doubt {
            let visit = &mut self.visits[index];
            match &visit.whole {
                Some(whole) => {
                    let at = |leaf: &&Leaf| slots.contains(leaf.path.slot(visit.path.depth()));
                    visit.rest = Some(whole.leaves().filter(at).take(2).copied().collect());
                }
                None => {
                    let want = Want::Rest { node: visit.path, slots };
                    self.want(want, Target::Rest { visit: index });
                }
            }
        }
    }
}

impl End {
    /// What one change of a slot's only leaf, or of an empty slot, leaves there; `None` when it is not as simple as that.
    fn after_one(&self, changes: &[Change]) -> Option<Option<Leaf>> {
        let [change] = &changes[self.keys.clone()] else { return None };
        let is_own = self.leaf.is_none_or(|leaf| leaf.path == change.path);
        is_own.then(|| change.value.map(|value_hash| Leaf { path: change.path, value_hash }))
    }

    /// The leaves of this slot after the changes, ascending.
    fn after(&self, changes: &[Change]) -> Vec<Leaf> {
        let changes = &changes[self.keys.clone()];
        let kept = self.leaf.filter(|leaf| changes.iter().all(|change| change.path != leaf.path));
        let put = changes.iter().filter_map(|change| Some(Leaf { path: change.path, value_hash: change.value? }));
        let mut leaves: Vec<Leaf> = put.chain(kept).collect();
        leaves.sort_unstable_by_key(|leaf| leaf.path);
        leaves
    }
}

/// Refuses a row that cannot be that of the node, or not of the one that its parent names.
fn check_row(path: &NodePath, row: &NodeRow, commitment: Option<&Point>) -> Result<(), Damage> {
    let damage = |what| Err(Damage { node: *path, what });
    if *path != NodePath::ROOT && row.commitment.is_infinity() {
        return damage("an inner node has the point at infinity for its commitment");
    }
    if path.depth() == DEPTH_MAX && !row.inner.is_empty() {
        return damage("a node of the deepest level holds an inner node");
    }
    if commitment.is_some_and(|commitment| *commitment != row.commitment) {
        return damage("its commitment is not the one that its parent names");
    }
    Ok(())
}

fn check_place(node: &NodePath, slot: u8, leaf: Option<&Leaf>) -> Result<(), Damage> {
    match leaf {
        Some(leaf) if !node.covers(&leaf.path) || leaf.path.slot(node.depth()) != slot => {
            Err(Damage { node: *node, what: "a leaf that belongs elsewhere" })
        }
        _ => Ok(()),
    }
}

/// The part of a tree that a descent has seen.
pub struct Subtree {
    goal: Goal,
    visits: Vec<Visit>,
}

impl Subtree {
    /// `c48` of the root commitment that was supplied.
    pub fn root(&self) -> PointBytes {
        self.visits[0].row.commitment.encode()
    }
}
