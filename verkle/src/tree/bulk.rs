//! A whole tree from its leaves in one pass: ascending by path in, every node once out, deepest first.
//!
//! Where a leaf hangs follows from its neighbours alone (spec §4): with `a` bytes in common with the leaf before and `b`
//! with the leaf after, its node has depth `max(a, b)`. So one pass keeps the nodes on the way to the last leaf *open*
//! and closes those that the next leaf is not below; a closed node is never touched again.
//!
//! ```text
//! open    root ─ 3 ─ 3,7          slots so far, at most 32 nodes
//! closed  level 1: … 2            a segment of them is committed, deepest level first, each level in one batch,
//!         level 2: … 3,6          and handed out
//! ```
//!
//! Cost: one fixed-base multiplication for each leaf and each node below the root, and no reading of what was written.
//! Memory, whatever the number of leaves: of closed nodes at most [`SEGMENT_SLOTS`] slots and those that one more leaf
//! closes (31 · 256), of open nodes at most 32 · 256; about 300 bytes a slot while a segment is committed.

use super::NodePath;
use crate::commit::{Committer, NodeDeltas, SlotDelta};
use crate::curve::Point;
use crate::key::{DEPTH_MAX, KeyPath, SlotScalar};
use crate::node::{Leaf, NodeRow, SlotSet};
use crate::parallel;

/// Slots of closed nodes that are committed together: enough to fill the batches of every level that matters.
const SEGMENT_SLOTS: usize = 65_536;

/// A leaf came after one with a greater path, or with the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the leaf {path} is out of order")]
pub struct OutOfOrder {
    /// The leaf that came too late.
    pub path: KeyPath,
}

/// A tree that is being built. Leaves are pushed in ascending order; nodes come back as they are finished.
pub struct Bulk<'a> {
    committer: &'a Committer,
    segment_slots: usize,
    /// The last leaf pushed, which hangs nowhere yet: its place depends on the next one.
    last: Option<Leaf>,
    /// The nodes on the way to the last leaf, the root first; node `d` has depth `d`.
    open: Vec<Open>,
    /// Slots of the open nodes, the root's first.
    slots: Vec<(u8, Content)>,
    /// Closed nodes by depth.
    closed: [Level; DEPTH_MAX + 1],
    /// Slots of all closed nodes.
    closed_slots: usize,
}

struct Open {
    /// Where its slots begin in [`Bulk::slots`]; they end where those of the next open node begin.
    first: usize,
    inner: SlotSet,
}

#[derive(Clone, Copy)]
enum Content {
    Leaf(Leaf),
    /// A closed node one level below, by its place there.
    Closed(usize),
    /// A node that was committed with an earlier segment.
    Committed(SlotScalar),
}

/// The closed nodes of one depth, ascending.
#[derive(Default)]
struct Level {
    nodes: Vec<Closed>,
    /// Their slots, node after node.
    slots: Vec<(u8, Content)>,
}

struct Closed {
    path: NodePath,
    inner: SlotSet,
    /// Where its slots begin in [`Level::slots`].
    first: usize,
    /// How many there are.
    count: usize,
}

impl<'a> Bulk<'a> {
    /// The empty tree, to be filled.
    pub fn new(committer: &'a Committer) -> Self {
        Self::with_segments(committer, SEGMENT_SLOTS)
    }

    fn with_segments(committer: &'a Committer, segment_slots: usize) -> Self {
        Self {
            committer,
            segment_slots,
            last: None,
            open: vec![Open { first: 0, inner: SlotSet::EMPTY }],
            slots: Vec::new(),
            closed: std::array::from_fn(|_| Level::default()),
            closed_slots: 0,
        }
    }

    /// Takes the next leaves, each with a path above all before it, and hands out the nodes that were finished since: each
    /// after those below it. A leaf out of order is refused together with all that came in the same call.
    pub fn push(&mut self, leaves: &[Leaf]) -> Result<Vec<(NodePath, NodeRow)>, OutOfOrder> {
        let mut before = self.last.map(|leaf| leaf.path);
        for Leaf { path, .. } in leaves {
            if before.is_some_and(|before| before >= *path) {
                return Err(OutOfOrder { path: *path });
            }
            before = Some(*path);
        }
        let mut finished = Vec::new();
        for leaf in leaves {
            if let Some(last) = self.last.replace(*leaf) {
                self.hang(last, shared_bytes(&last.path, &leaf.path));
            }
            if self.closed_slots >= self.segment_slots {
                self.commit_closed(&mut finished);
            }
        }
        Ok(finished)
    }

    /// The nodes that were not finished before; the last of them is the root, also of the empty tree.
    pub fn finish(mut self) -> Vec<(NodePath, NodeRow)> {
        if let Some(last) = self.last {
            self.hang(last, 0);
        }
        self.close(NodePath::ROOT);
        let mut finished = Vec::new();
        self.commit_closed(&mut finished);
        finished
    }

    /// Puts a leaf into its node, and closes the nodes that do not have the next leaf below them, too. `shared` bytes of
    /// its path are the next one's.
    fn hang(&mut self, leaf: Leaf, shared: usize) {
        // Two leaves with `shared` bytes in common have nodes of all depths up to that on their way.
        while self.open.len() <= shared {
            self.open.push(Open { first: self.slots.len(), inner: SlotSet::EMPTY });
        }
        let depth = self.open.len() - 1;
        self.slots.push((leaf.path.slot(depth), Content::Leaf(leaf)));
        for depth in (shared + 1..=depth).rev() {
            let node = self.close(leaf.path.node(depth));
            let slot = leaf.path.slot(depth - 1);
            self.open[depth - 1].inner.insert(slot);
            self.slots.push((slot, node));
        }
    }

    /// Closes the deepest open node.
    fn close(&mut self, path: NodePath) -> Content {
        let Open { first, inner } = self.open.pop().expect("the root is open to the end");
        let level = &mut self.closed[path.depth()];
        let count = self.slots.len() - first;
        level.nodes.push(Closed { path, inner, first: level.slots.len(), count });
        level.slots.extend(self.slots.drain(first..));
        self.closed_slots += count;
        Content::Closed(level.nodes.len() - 1)
    }

    /// Commits the closed nodes, deepest level first: a node's slot scalars need its children's commitments.
    fn commit_closed(&mut self, finished: &mut Vec<(NodePath, NodeRow)>) {
        // Of the nodes one level below, what they count for.
        let mut below: Vec<SlotScalar> = Vec::new();
        for depth in (0..=DEPTH_MAX).rev() {
            let Level { nodes, slots } = std::mem::take(&mut self.closed[depth]);
            let batch = parallel::map(&nodes, |node| {
                let slots = &slots[node.first..node.first + node.count];
                let delta = |(slot, content): &(u8, Content)| SlotDelta {
                    slot: *slot,
                    old: SlotScalar::EMPTY,
                    new: content.scalar(&below),
                };
                NodeDeltas { base: Point::INFINITY, deltas: slots.iter().map(delta).collect() }
            });
            // An open node goes on without the level below, which is cleared.
            if let Some(Open { first, .. }) = self.open.get(depth) {
                let end = self.open.get(depth + 1).map_or(self.slots.len(), |next| next.first);
                for (_, content) in self.slots[*first..end].iter_mut() {
                    if let Content::Closed(node) = content {
                        *content = Content::Committed(below[*node]);
                    }
                }
            }
            let commitments = self.committer.commit(&batch);
            below = parallel::map(&commitments, |commitment| SlotScalar::node(&commitment.encode()));
            let rows = nodes.iter().zip(commitments);
            finished.extend(rows.map(|(node, commitment)| (node.path, NodeRow { commitment, inner: node.inner })));
        }
        self.closed_slots = 0;
    }
}

impl Content {
    fn scalar(&self, below: &[SlotScalar]) -> SlotScalar {
        match self {
            Self::Leaf(leaf) => leaf.scalar(),
            Self::Closed(node) => below[*node],
            Self::Committed(scalar) => *scalar,
        }
    }
}

/// How many bytes two different paths have in common at their beginning: 31 at most.
fn shared_bytes(a: &KeyPath, b: &KeyPath) -> usize {
    a.0.iter().zip(&b.0).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::tests::rebuild;
    use super::*;
    use crate::commit::WindowBits;
    use crate::key::ValueHash;
    use crate::tree::{Change, Nodes};

    static COMMITTER: Committer = Committer::new(WindowBits::SMALL);

    fn leaves(paths: impl IntoIterator<Item = [u8; 32]>) -> Vec<Leaf> {
        let leaf = |path| Leaf { path: KeyPath(path), value_hash: ValueHash(*blake3::hash(&path).as_bytes()) };
        let mut leaves: Vec<Leaf> = paths.into_iter().map(leaf).collect();
        leaves.sort_by_key(|leaf| leaf.path);
        leaves.dedup();
        leaves
    }

    /// The rows of a tree built in segments of so many slots, pushed so many leaves a time.
    fn built(leaves: &[Leaf], segment_slots: usize, push: usize) -> Vec<(NodePath, NodeRow)> {
        let mut bulk = Bulk::with_segments(&COMMITTER, segment_slots);
        let mut rows = Vec::new();
        for leaves in leaves.chunks(push) {
            rows.extend(bulk.push(leaves).unwrap());
            assert!(bulk.closed_slots < segment_slots, "more is kept than a segment");
            assert!(bulk.slots.len() <= 32 * 256 && bulk.open.len() <= 32);
            assert!(bulk.slots.capacity() <= 2 * 32 * 256);
        }
        rows.extend(bulk.finish());
        rows
    }

    fn assert_agrees(leaves: &[Leaf], segment_slots: usize, push: usize) {
        let rows = built(leaves, segment_slots, push);
        // Children before parents, each node once, the root last.
        assert_eq!(rows.last().unwrap().0, NodePath::ROOT);
        let mut seen = BTreeMap::new();
        for (path, row) in &rows {
            assert!(row.inner.iter().all(|slot| seen.contains_key(&path.child(slot))), "{path} before its children");
            assert_eq!(seen.insert(*path, *row), None, "{path} twice");
        }
        let mut expected = BTreeMap::new();
        rebuild(NodePath::ROOT, leaves, &mut expected);
        assert_eq!(seen, expected);
    }

    /// Paths that share any number of leading bytes with others, up to 31.
    fn path() -> impl Strategy<Value = [u8; 32]> {
        let byte = prop_oneof![6 => Just(0u8), 1 => Just(1u8), 1 => Just(255u8)];
        (prop::collection::vec(byte, 32), any::<bool>(), any::<[u8; 32]>())
            .prop_map(|(alike, random, path)| if random { path } else { alike.try_into().expect("32 bytes") })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_set_of_leaves_gives_its_tree(
            paths in prop::collection::vec(path(), 0..60),
            segment_slots in 1..80usize,
            push in 1..70usize,
        ) {
            assert_agrees(&leaves(paths), segment_slots, push);
        }

        #[test]
        fn leaves_out_of_order_are_named_and_change_nothing(
            paths in prop::collection::vec(path(), 1..6),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        ) {
            let sorted = leaves(paths);
            let pushed: Vec<Leaf> = order.iter().map(|index| sorted[index.index(sorted.len())]).collect();
            let late = pushed.windows(2).find(|pair| pair[0].path >= pair[1].path).map(|pair| pair[1].path);
            let mut bulk = Bulk::with_segments(&COMMITTER, 1);
            match bulk.push(&pushed) {
                Ok(_) => prop_assert_eq!(late, None),
                Err(OutOfOrder { path }) => {
                    prop_assert_eq!(Some(path), late);
                    let mut rows = bulk.push(&sorted).unwrap();
                    // What is in stays in, and is refused a second time.
                    let last = sorted[sorted.len() - 1];
                    prop_assert_eq!(bulk.push(&[last]), Err(OutOfOrder { path: last.path }));
                    rows.extend(bulk.finish());
                    prop_assert_eq!(rows, built(&sorted, 1, usize::MAX));
                }
            }
        }
    }

    #[test]
    fn every_depth_of_sharing_is_shaped() {
        // For each count of shared bytes a pair that shares just so many, beside a lone leaf.
        let pair = |shared: usize, last: u8| {
            let mut path = [shared as u8 + 1; 32];
            path[shared] = 200 + last;
            path
        };
        for segment_slots in [1, 2, 7, SEGMENT_SLOTS] {
            for shared in 0..32 {
                assert_agrees(&leaves([pair(shared, 0), pair(shared, 1), [0; 32]]), segment_slots, 1);
            }
            let all = (0..32).flat_map(|shared| [pair(shared, 0), pair(shared, 1)]);
            assert_agrees(&leaves(all), segment_slots, 5);
        }
        assert_agrees(&[], 1, 1);
        assert_agrees(&leaves([[7; 32]]), 1, 1);
        let full: Vec<[u8; 32]> =
            (0..=255).map(|last| [[9; 31].as_slice(), &[last]].concat().try_into().unwrap()).collect();
        assert_agrees(&leaves(full), 1, 300);
    }

    #[test]
    fn a_tree_of_thousands_is_that_of_its_updates_and_kept_in_bounds() {
        let leaves = leaves((0..20_000u32).map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()));
        let mut nodes = Nodes::default();
        nodes.apply(leaves.iter().map(|leaf| Change { path: leaf.path, value: Some(leaf.value_hash) }), &COMMITTER);
        let expected: BTreeMap<NodePath, NodeRow> = nodes.rows().map(|(path, row)| (*path, *row)).collect();
        for (segment_slots, push) in [(1_000, 333), (SEGMENT_SLOTS, 20_000)] {
            let rows = built(&leaves, segment_slots, push);
            assert_eq!(rows.into_iter().collect::<BTreeMap<_, _>>(), expected);
        }
    }
}
