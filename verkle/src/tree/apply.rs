//! Applying a block's changes to what a descent has seen.
//!
//! First the shape, deepest nodes first and without any arithmetic: which slots change, which nodes appear (two keys
//! under one slot), which vanish (a delete left one leaf, so the leaf moves up). Then the commitments, one level at a
//! time, each level in one batch ([`Committer::commit`]).

use std::sync::Arc;

use super::{Change, End, Goal, Subtree, Visit, WholeNode};
use crate::commit::{Committer, NodeDeltas, SlotDelta};
use crate::curve::Point;
use crate::key::{KeyPath, NodePath, SlotScalar, StateRoot, ValueHash};
use crate::node::{Leaf, NodeRow, Slot, SlotSet};

/// Old and new of everything that a block changes. Undo, forks, diffs and rollback derive from it.
#[derive(Clone, Debug)]
pub struct Delta {
    /// The root commitment after.
    pub root: Point,
    /// The leaves that change, ascending by path; a put of the same value is no change.
    pub leaves: Vec<LeafDelta>,
    /// The inner nodes that change, appear or vanish, ascending by path.
    pub nodes: Vec<NodeDelta>,
    /// The nodes that changed or appeared, as they are now: those of which the descent saw the whole. None when it was not
    /// supplied the root whole.
    pub whole: Vec<Arc<WholeNode>>,
}

impl Delta {
    /// The state root after.
    pub fn state_root(&self) -> StateRoot {
        StateRoot::of(&self.root.encode())
    }
}

/// One leaf, before and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafDelta {
    /// The key's path.
    pub path: KeyPath,
    /// The value's hash before; `None` when the key was absent.
    pub old: Option<ValueHash>,
    /// The value's hash after; `None` when the key is absent.
    pub new: Option<ValueHash>,
}

/// One inner node, before and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeDelta {
    /// The node.
    pub path: NodePath,
    /// Its row before; `None` when there was no such node.
    pub old: Option<NodeRow>,
    /// Its row after; `None` when it vanishes.
    pub new: Option<NodeRow>,
}

/// What a slot holds, before its commitments are known.
#[derive(Clone, Copy, PartialEq)]
enum Content {
    Empty,
    Leaf(Leaf),
    /// An inner node as the store has it.
    Stored(Point),
    /// An inner node that changes: an index into [`Shape::edits`].
    Edited(usize),
}

/// A node that is to be committed anew.
struct Edit {
    path: NodePath,
    old: Option<NodeRow>,
    /// All of it as it was, if that is known.
    whole: Option<Arc<WholeNode>>,
    inner: SlotSet,
    /// Slots that change: before and after, each slot once, ascending.
    slots: Vec<(u8, Content, Content)>,
}

/// The tree's new shape.
#[derive(Default)]
struct Shape {
    edits: Vec<Edit>,
    vanished: Vec<NodeDelta>,
}

impl Subtree {
    /// The changes of [`super::Descent::update`], carried out.
    ///
    /// # Panics
    /// If the descent was made for a proof.
    pub fn apply(self, committer: &Committer) -> Delta {
        let Goal::Update(changes) = &self.goal else { panic!("this subtree was loaded for a proof") };
        let mut shape = Shape::default();
        // Of each visit: what its parent's slot holds afterwards; `None` when nothing below changed.
        let mut outcomes: Vec<Option<Content>> = vec![None; self.visits.len()];
        for (index, visit) in self.visits.iter().enumerate().rev() {
            outcomes[index] = shape.settle(visit, changes, &self.visits, &outcomes);
        }
        let root = self.visits[0].row;
        let mut nodes = shape.vanished;
        let (changed, whole) = commit_levels(shape.edits, self.visits[0].whole.is_some(), committer);
        nodes.extend(changed);
        nodes.sort_unstable_by_key(|node| node.path);
        let root = match nodes.first() {
            Some(NodeDelta { path: NodePath::ROOT, new: Some(row), .. }) => row.commitment,
            _ => root.commitment,
        };
        Delta { root, leaves: leaf_deltas(&self.visits, changes), nodes, whole }
    }
}

impl Shape {
    /// The node's new content: `None` when nothing below it changes.
    fn settle(
        &mut self,
        visit: &Visit,
        changes: &[Change],
        visits: &[Visit],
        outcomes: &[Option<Content>],
    ) -> Option<Content> {
        let mut inner = visit.row.inner;
        let mut slots = Vec::new();
        // What the slots that walks pass through hold now, besides inner nodes that did not change.
        let mut left = Vec::new();
        for (slot, child) in &visit.inner {
            let Some(new) = outcomes[*child] else { continue };
            if !matches!(new, Content::Edited(_)) {
                inner.remove(*slot);
            }
            slots.push((*slot, Content::Stored(visits[*child].row.commitment), new));
            left.push(new);
        }
        for end in &visit.ends {
            let old = end.leaf.map_or(Content::Empty, Content::Leaf);
            let new = self.grow(visit.path, end.slot, &end.after(changes));
            if matches!(new, Content::Edited(_)) {
                inner.insert(end.slot);
            }
            if new != old {
                slots.push((end.slot, old, new));
            }
            left.push(new);
        }
        if slots.is_empty() {
            return None;
        }
        // A node other than the root with one leaf below it is replaced by the leaf, with none by nothing.
        if let Some(rest) = visit.rest.as_ref().filter(|_| inner.is_empty()) {
            let leaves: Vec<Content> = left
                .into_iter()
                .filter(|content| *content != Content::Empty)
                .chain(rest.iter().copied().map(Content::Leaf))
                .collect();
            if leaves.len() < 2 {
                self.vanished.push(NodeDelta { path: visit.path, old: Some(visit.row), new: None });
                return Some(leaves.first().copied().unwrap_or(Content::Empty));
            }
        }
        slots.sort_unstable_by_key(|(slot, ..)| *slot);
        let whole = visit.whole.clone();
        Some(self.edit(Edit { path: visit.path, old: Some(visit.row), whole, inner, slots }))
    }

    /// The canonical content of a slot with these leaves below it (ascending): nothing, the leaf, or a new node.
    fn grow(&mut self, node: NodePath, slot: u8, leaves: &[Leaf]) -> Content {
        match leaves {
            [] => Content::Empty,
            [leaf] => Content::Leaf(*leaf),
            _ => {
                // Different paths part at the deepest level at the latest, so this ends.
                let path = node.child(slot);
                let (mut inner, mut slots) = (SlotSet::EMPTY, Vec::new());
                for group in leaves.chunk_by(|a, b| a.path.slot(path.depth()) == b.path.slot(path.depth())) {
                    let slot = group[0].path.slot(path.depth());
                    let content = self.grow(path, slot, group);
                    if matches!(content, Content::Edited(_)) {
                        inner.insert(slot);
                    }
                    slots.push((slot, Content::Empty, content));
                }
                self.edit(Edit { path, old: None, whole: None, inner, slots })
            }
        }
    }

    fn edit(&mut self, edit: Edit) -> Content {
        self.edits.push(edit);
        Content::Edited(self.edits.len() - 1)
    }
}

/// Commits the edited nodes, deepest level first: a node's slot scalars need its children's new commitments. Of those
/// that are known as a whole the new whole comes, too, if they are to be kept.
fn commit_levels(edits: Vec<Edit>, keep: bool, committer: &Committer) -> (Vec<NodeDelta>, Vec<Arc<WholeNode>>) {
    let depth_max = edits.iter().map(|edit| edit.path.depth()).max().unwrap_or(0);
    let mut levels: Vec<Vec<usize>> = vec![Vec::new(); depth_max + 1];
    for (index, edit) in edits.iter().enumerate() {
        levels[edit.path.depth()].push(index);
    }
    let mut commitments = vec![Point::INFINITY; edits.len()];
    let mut scalars = vec![SlotScalar::EMPTY; edits.len()];
    let mut kept = Vec::new();
    for level in levels.iter().rev() {
        let scalar = |content: &Content| match content {
            Content::Empty => SlotScalar::EMPTY,
            Content::Leaf(leaf) => leaf.scalar(),
            Content::Stored(commitment) => SlotScalar::node(&commitment.encode()),
            Content::Edited(edit) => scalars[*edit],
        };
        let batch = crate::parallel::map(level, |&index| {
            let edit = &edits[index];
            let delta = |(slot, old, new): &(u8, Content, Content)| {
                let known = edit.whole.as_ref().map(|whole| whole.scalar(*slot));
                SlotDelta { slot: *slot, old: known.unwrap_or_else(|| scalar(old)), new: scalar(new) }
            };
            let base = edit.old.map_or(Point::INFINITY, |row| row.commitment);
            NodeDeltas { base, deltas: edit.slots.iter().map(delta).collect() }
        });
        let points = committer.commit(&batch);
        if keep {
            let changed: Vec<_> = level.iter().zip(&points).zip(&batch).collect();
            let whole = |((index, point), deltas): &((&usize, &Point), &NodeDeltas)| {
                edits[**index].whole_after(**point, &deltas.deltas, &commitments)
            };
            kept.extend(crate::parallel::map(&changed, whole).into_iter().flatten());
        }
        let encoded = crate::parallel::map(&points, |point| SlotScalar::node(&point.encode()));
        for ((&index, point), encoded) in level.iter().zip(points).zip(encoded) {
            (commitments[index], scalars[index]) = (point, encoded);
        }
    }
    let row = |(edit, commitment): (Edit, Point)| NodeDelta {
        path: edit.path,
        old: edit.old,
        new: Some(NodeRow { commitment, inner: edit.inner }),
    };
    (edits.into_iter().zip(commitments).map(row).collect(), kept)
}

impl Edit {
    /// The node after, if its whole is known. `deltas` are those of its slots, `commitments` those of all edits below.
    fn whole_after(&self, commitment: Point, deltas: &[SlotDelta], commitments: &[Point]) -> Option<Arc<WholeNode>> {
        if self.old.is_some() && self.whole.is_none() {
            return None;
        }
        let content = |(slot, _, new): &(u8, Content, Content)| match new {
            Content::Empty => (*slot, Slot::Empty),
            Content::Leaf(leaf) => (*slot, Slot::Leaf(*leaf)),
            Content::Stored(commitment) => (*slot, Slot::Inner(*commitment)),
            Content::Edited(edit) => (*slot, Slot::Inner(commitments[*edit])),
        };
        let changes = self.slots.iter().map(content).zip(deltas).map(|((slot, now), delta)| (slot, now, delta.new));
        let row = NodeRow { commitment, inner: self.inner };
        Some(Arc::new(WholeNode::after(self.whole.as_deref(), self.path, row, changes)))
    }
}

fn leaf_deltas(visits: &[Visit], changes: &[Change]) -> Vec<LeafDelta> {
    let ends = visits.iter().flat_map(|visit| &visit.ends);
    let mut leaves: Vec<LeafDelta> = ends
        .flat_map(|End { keys, leaf, .. }| {
            changes[keys.clone()].iter().map(move |change| LeafDelta {
                path: change.path,
                old: leaf.filter(|leaf| leaf.path == change.path).map(|leaf| leaf.value_hash),
                new: change.value,
            })
        })
        .filter(|leaf| leaf.old != leaf.new)
        .collect();
    leaves.sort_unstable_by_key(|leaf| leaf.path);
    leaves
}
