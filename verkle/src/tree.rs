//! The tree's shape: walking to keys, applying changes, and finding what a proof must show (spec §4).
//!
//! The tree itself lives elsewhere. A [`Descent`] asks for what it needs, one level at a time, so that a store answers
//! with one batched read; what it has been given is a [`Subtree`], which either applies the changes ([`Subtree::apply`])
//! or proves the keys ([`Subtree::prove`], [`Subtree::prove_update`]).
//!
//! ```text
//! Descent::update(changes)              ─ wanted ▸ supply ─ … ─ finish ▸ Subtree ─ apply ▸ Delta
//! Descent::prove(keys)                  ─ wanted ▸ supply ─ … ─ finish ▸ Subtree ─ prove ▸ Witness
//! Descent::prove_update(reads, changes) ─ wanted ▸ supply ─ … ─ finish ▸ Subtree ─ prove_update ▸ UpdateWitness
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
mod shown;
#[cfg(test)]
mod tests;
mod weigh;
mod whole;

use std::ops::Range;
use std::sync::Arc;

pub use apply::{Delta, LeafDelta, NodeDelta};
pub use bulk::{Bulk, OutOfOrder};
pub use memory::Nodes;
pub(crate) use shown::Sight;
pub use whole::WholeNode;

use crate::curve::{Point, PointBytes};
use crate::key::{DEPTH_MAX, KeyPath, NodePath, SlotScalar, ValueHash};
use crate::node::{Leaf, NodeRow, SlotSet};
use crate::update::Companion;

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
    /// Keys, ascending by path, each once; and what is to change of them, in the same order, if the root after is to be
    /// proved, too.
    Prove { keys: Vec<KeyPath>, changes: Vec<Change> },
}

impl Goal {
    fn path(&self, index: usize) -> KeyPath {
        match self {
            Self::Update(changes) => changes[index].path,
            Self::Prove { keys, .. } => keys[index],
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Update(changes) => changes.len(),
            Self::Prove { keys, .. } => keys.len(),
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
    /// What there is in the slots that no walk uses, where a collapse depends on it.
    rest: Rest,
    /// All slots as scalars, where a proof needs them.
    slots: Vec<(u8, SlotScalar)>,
}

/// What there is in slots that no walk uses.
enum Rest {
    /// Enough, or nothing that matters: the node does not collapse.
    Enough,
    /// These leaves, if they are fewer than two, and no inner node.
    Leaves(Vec<Leaf>),
    /// Something; what it is has not been shown.
    Unknown,
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
    Companion { visit: usize, slot: u8 },
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
    /// What a proof of an update shows besides the walks, and of which visit.
    companions: Vec<(usize, Companion)>,
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
        Self::start(Goal::Update(ascending(changes)))
    }

    /// A walk to the keys that a witness is to prove; a key named twice is proved once.
    pub fn prove(keys: impl IntoIterator<Item = KeyPath>) -> Self {
        Self::prove_update(keys, [])
    }

    /// A walk to the keys that a block reads or changes, which an update witness is to prove together with the root after
    /// the block. The last change of a key wins.
    pub fn prove_update(reads: impl IntoIterator<Item = KeyPath>, changes: impl IntoIterator<Item = Change>) -> Self {
        let changes = ascending(changes);
        let mut keys: Vec<KeyPath> = reads.into_iter().chain(changes.iter().map(|change| change.path)).collect();
        keys.sort_unstable();
        keys.dedup();
        Self::start(Goal::Prove { keys, changes })
    }

    fn start(goal: Goal) -> Self {
        let keys = 0..goal.len();
        let mut descent = Self {
            goal,
            visits: Vec::new(),
            companions: Vec::new(),
            wanted: Vec::new(),
            targets: Vec::new(),
            weighed: false,
            damaged: false,
        };
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
                    visit.rest = Rest::Leaves(leaves);
                }
                (Target::Row { visit }, Supply::Row(slots)) => self.visits[visit].slots = slots,
                (Target::Companion { visit, slot }, answer) => {
                    let content = self.companion(self.visits[visit].path, slot, answer)?;
                    self.accompany(visit, slot, content);
                }
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
        Subtree { goal: self.goal, visits: self.visits, companions: self.companions }
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
            (Goal::Prove { .. }, Some(whole)) => slots = whole.scalars(),
            (Goal::Prove { .. }, None) => self.want(Want::Row { node: path, row }, Target::Row { visit: index }),
        }
        self.visits.push(Visit { path, row, whole, ends, inner: Vec::new(), rest: Rest::Enough, slots });
        if let Some((parent, slot)) = parent {
            self.visits[parent].inner.push((slot, index));
        }
        Ok(())
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

/// Changes by path; the last of a path is the one kept.
fn ascending(changes: impl IntoIterator<Item = Change>) -> Vec<Change> {
    let mut changes: Vec<Change> = changes.into_iter().collect();
    // The sort is stable: among changes of one path the last stays last.
    changes.sort_by_key(|change| change.path);
    changes.reverse();
    changes.dedup_by_key(|change| change.path);
    changes.reverse();
    changes
}

/// The part of a tree that a descent has seen, or that an update witness shows.
pub struct Subtree {
    goal: Goal,
    visits: Vec<Visit>,
    companions: Vec<(usize, Companion)>,
}

impl Subtree {
    /// `c48` of the root commitment that was supplied.
    pub fn root(&self) -> PointBytes {
        self.visits[0].row.commitment.encode()
    }
}
