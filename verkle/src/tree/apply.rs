//! Applying a block's changes to what a descent has seen.
//!
//! First the shape, deepest nodes first and without any arithmetic: which slots change, which nodes appear (two keys
//! under one slot), which vanish (a delete left one leaf, so the leaf moves up). Then the commitments, one level at a
//! time, each level in one batch ([`Committer::commit`]).

use std::sync::Arc;

use super::{Change, End, Goal, Rest, Subtree, Visit, WholeNode};
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
    /// An inner node that changes.
    Edited(EditAt),
}

/// Which [`Edit`]: the shape that has it, as the shapes are counted, and its place there.
#[derive(Clone, Copy, PartialEq)]
struct EditAt {
    shape: u32,
    index: u32,
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

/// The new shape of some nodes of one depth, and of what grows below them.
struct Shape {
    number: u32,
    edits: Vec<Edit>,
    vanished: Vec<NodeDelta>,
    /// Nodes that are left with something of which it is not known what it is.
    undecided: Vec<NodePath>,
}

/// Nodes that one thread shapes at a time.
const SHAPE_VISITS: usize = 1024;

impl Subtree {
    /// The changes of [`super::Descent::update`], carried out.
    ///
    /// # Panics
    /// If the descent was made for a proof.
    pub fn apply(self, committer: &Committer) -> Delta {
        self.try_apply(committer).expect("a store tells everything that a collapse depends on")
    }

    /// The same, or the node of which it has not been shown whether it collapses.
    ///
    /// # Panics
    /// If the descent was made for a proof.
    pub(crate) fn try_apply(self, committer: &Committer) -> Result<Delta, NodePath> {
        let Goal::Update(changes) = &self.goal else { panic!("this subtree was loaded for a proof") };
        let mut shapes: Vec<Shape> = Vec::new();
        // Of each visit: what its parent's slot holds afterwards; `None` when nothing below changed.
        let mut outcomes: Vec<Option<Content>> = vec![None; self.visits.len()];
        let mut above = self.visits.len();
        // Visits stand level by level, the root first.
        for level in self.visits.chunk_by(|a, b| a.path.depth() == b.path.depth()).rev() {
            above -= level.len();
            let parts = level.chunks(SHAPE_VISITS).zip(shapes.len() as u32..).collect::<Vec<_>>();
            let shape = |(visits, number): &(&[Visit], u32)| {
                let edits = Vec::with_capacity(visits.len());
                let mut shape = Shape { number: *number, edits, vanished: Vec::new(), undecided: Vec::new() };
                let settle = |visit| shape.settle(visit, changes, &self.visits, &outcomes);
                (visits.iter().map(settle).collect::<Vec<_>>(), shape)
            };
            let shaped = match parts.as_slice() {
                [one] => vec![shape(one)],
                _ => crate::parallel::map(&parts, shape),
            };
            let mut place = above;
            for (settled, shape) in shaped {
                outcomes[place..place + settled.len()].copy_from_slice(&settled);
                place += settled.len();
                shapes.push(shape);
            }
        }
        if let Some(node) = shapes.iter().flat_map(|shape| &shape.undecided).next() {
            return Err(*node);
        }
        let root = self.visits[0].row;
        let mut nodes: Vec<NodeDelta> = shapes.iter_mut().flat_map(|shape| shape.vanished.drain(..)).collect();
        let edits: Vec<Vec<Edit>> = shapes.into_iter().map(|shape| shape.edits).collect();
        let (changed, whole) = commit_levels(&edits, self.visits[0].whole.is_some(), committer);
        nodes.extend(changed);
        let visits = &self.visits;
        let (nodes, leaves) = crate::parallel::join_light(
            nodes.len(),
            || {
                drop(edits);
                ascending(&nodes)
            },
            || leaf_deltas(visits, changes),
        );
        let root = match nodes.first() {
            Some(NodeDelta { path: NodePath::ROOT, new: Some(row), .. }) => row.commitment,
            _ => root.commitment,
        };
        Ok(Delta { root, leaves, nodes, whole })
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
        let mut slots = Vec::with_capacity(visit.inner.len() + visit.ends.len());
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
            let new = match end.after_one(changes) {
                Some(leaf) => leaf.map_or(Content::Empty, Content::Leaf),
                None => self.grow(visit.path, end.slot, &end.after(changes)),
            };
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
        let gone = |(_, old, new): &(u8, Content, Content)| match new {
            Content::Empty => true,
            Content::Leaf(_) => matches!(old, Content::Stored(_)),
            Content::Stored(_) | Content::Edited(_) => false,
        };
        if inner.is_empty() && slots.iter().any(gone) {
            left.retain(|content| *content != Content::Empty);
            match &visit.rest {
                Rest::Enough => {}
                Rest::Leaves(rest) => {
                    left.extend(rest.iter().copied().map(Content::Leaf));
                    if left.len() < 2 {
                        self.vanished.push(NodeDelta { path: visit.path, old: Some(visit.row), new: None });
                        return Some(left.first().copied().unwrap_or(Content::Empty));
                    }
                }
                Rest::Unknown if left.is_empty() => {
                    self.undecided.push(visit.path);
                    return Some(Content::Empty);
                }
                Rest::Unknown => {}
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
        Content::Edited(EditAt { shape: self.number, index: self.edits.len() as u32 - 1 })
    }
}

/// What commitments and scalars edits come to.
struct Results<T>(Vec<Vec<T>>);

impl<T: Copy> Results<T> {
    fn new(edits: &[Vec<Edit>], none: T) -> Self {
        Self(edits.iter().map(|edits| vec![none; edits.len()]).collect())
    }

    fn at(&self, at: EditAt) -> T {
        self.0[at.shape as usize][at.index as usize]
    }

    fn set(&mut self, at: EditAt, result: T) {
        self.0[at.shape as usize][at.index as usize] = result;
    }
}

/// Commits the edited nodes, deepest level first: a node's slot scalars need its children's new commitments. Of those
/// that are known as a whole the new whole comes, too, if they are to be kept.
fn commit_levels(edits: &[Vec<Edit>], keep: bool, committer: &Committer) -> (Vec<NodeDelta>, Vec<Arc<WholeNode>>) {
    let edit = |at: EditAt| &edits[at.shape as usize][at.index as usize];
    let depth_max = edits.iter().flatten().map(|edit| edit.path.depth()).max().unwrap_or(0);
    let mut levels: Vec<Vec<EditAt>> = vec![Vec::new(); depth_max + 1];
    for (shape, edits) in (0..).zip(edits) {
        for (index, edit) in (0..).zip(edits) {
            levels[edit.path.depth()].push(EditAt { shape, index });
        }
    }
    let mut commitments = Results::new(edits, Point::INFINITY);
    let mut scalars = Results::new(edits, SlotScalar::EMPTY);
    let (mut nodes, mut kept) = (Vec::with_capacity(edits.iter().map(Vec::len).sum()), Vec::new());
    for level in levels.iter().rev() {
        let scalar = |content: &Content| match content {
            Content::Empty => SlotScalar::EMPTY,
            Content::Leaf(leaf) => leaf.scalar(),
            Content::Stored(commitment) => SlotScalar::node(&commitment.encode()),
            Content::Edited(at) => scalars.at(*at),
        };
        let batch = crate::parallel::map_light(level, |at| {
            let edit = edit(*at);
            let delta = |(slot, old, new): &(u8, Content, Content)| {
                let known = edit.whole.as_ref().map(|whole| whole.scalar(*slot));
                SlotDelta { slot: *slot, old: known.unwrap_or_else(|| scalar(old)), new: scalar(new) }
            };
            let base = edit.old.map_or(Point::INFINITY, |row| row.commitment);
            NodeDeltas { base, deltas: edit.slots.iter().map(delta).collect() }
        });
        let points = committer.commit(&batch);
        let changed: Vec<_> = level.iter().zip(&points).zip(&batch).collect();
        let results = crate::parallel::map_light(&changed, |((at, point), deltas)| {
            let edit = edit(**at);
            let whole = keep.then(|| edit.whole_after(**point, &deltas.deltas, &commitments)).flatten();
            (SlotScalar::node(&point.encode()), whole)
        });
        for ((&at, point), (scalar, whole)) in level.iter().zip(points).zip(results) {
            commitments.set(at, point);
            scalars.set(at, scalar);
            kept.extend(whole);
            let Edit { path, old, inner, .. } = *edit(at);
            nodes.push(NodeDelta { path, old, new: Some(NodeRow { commitment: point, inner }) });
        }
    }
    (nodes, kept)
}

/// The same deltas by path. They come in long runs that ascend already, which the stable sort is quick with.
fn ascending(nodes: &[NodeDelta]) -> Vec<NodeDelta> {
    let mut order: Vec<(NodePath, u32)> = nodes.iter().map(|node| node.path).zip(0..).collect();
    order.sort();
    order.into_iter().map(|(_, index)| nodes[index as usize]).collect()
}

impl Edit {
    /// The node after, if its whole is known. `deltas` are those of its slots, `commitments` those of all edits below.
    fn whole_after(
        &self,
        commitment: Point,
        deltas: &[SlotDelta],
        commitments: &Results<Point>,
    ) -> Option<Arc<WholeNode>> {
        if self.old.is_some() && self.whole.is_none() {
            return None;
        }
        let content = |(slot, _, new): &(u8, Content, Content)| match new {
            Content::Empty => (*slot, Slot::Empty),
            Content::Leaf(leaf) => (*slot, Slot::Leaf(*leaf)),
            Content::Stored(commitment) => (*slot, Slot::Inner(*commitment)),
            Content::Edited(at) => (*slot, Slot::Inner(commitments.at(*at))),
        };
        let changes = self.slots.iter().map(content).zip(deltas).map(|((slot, now), delta)| (slot, now, delta.new));
        let row = NodeRow { commitment, inner: self.inner };
        Some(Arc::new(WholeNode::after(self.whole.as_deref(), self.path, row, changes)))
    }
}

fn leaf_deltas(visits: &[Visit], changes: &[Change]) -> Vec<LeafDelta> {
    let mut old: Vec<Option<ValueHash>> = vec![None; changes.len()];
    for End { keys, leaf, .. } in visits.iter().flat_map(|visit| &visit.ends) {
        let Some(leaf) = leaf else { continue };
        if let Ok(own) = changes[keys.clone()].binary_search_by_key(&leaf.path, |change| change.path) {
            old[keys.start + own] = Some(leaf.value_hash);
        }
    }
    let delta = |(change, old): (&Change, Option<ValueHash>)| LeafDelta { path: change.path, old, new: change.value };
    changes.iter().zip(old).map(delta).filter(|leaf| leaf.old != leaf.new).collect()
}
