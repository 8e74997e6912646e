//! Every node proved by what is in its slots (spec §7), some thousands at a time.
//!
//! Where a leaf hangs follows from its neighbours alone (spec §4), so one pass over the leaves finds every node with its
//! slots, children before parents: the nodes on the way to the last leaf are open, and the next leaf closes those that it
//! is not below. The commitments are those of the node rows, and nothing is computed but a random sum for each batch.

use rustorium_verkle::node::{Content, check, check_many};
use rustorium_verkle::{Leaf, NodePath, Point, Slot, SlotSet, StateRoot};

use crate::backend::Column;
use crate::error::ReadError;

use super::nodes::{NodeRows, name};
use super::tree::{Judge, for_each_page};
use super::{Cure, Finding, Means, Mends, Report, Rows};

/// Nodes that are proved together.
const BATCH_NODES: usize = 4096;

/// Proves each node, and the root against the header.
pub(super) fn prove(
    rows: Rows<'_>,
    means: &mut Means<'_>,
    judge: Option<&mut Judge<'_>>,
    report: &mut Report,
) -> Result<(), ReadError> {
    let mut proof = Proof {
        node_rows: NodeRows::new(rows.snapshot, rows.generation),
        seed: means.seed,
        last: None,
        open: vec![Open { first: 0, inner: SlotSet::EMPTY }],
        slots: Vec::new(),
        batch: Batch::default(),
        report,
    };
    for_each_page(rows, "proving the nodes by their slots", means, judge, |leaves| {
        leaves.iter().try_for_each(|leaf| proof.push(*leaf))
    })?;
    proof.finish(&rows.header.state_root)
}

/// The way to the last leaf.
struct Proof<'a> {
    node_rows: NodeRows<'a>,
    seed: [u8; 32],
    /// The last leaf, which hangs nowhere yet: its place depends on the next one.
    last: Option<Leaf>,
    /// The nodes on the way to the last leaf, the root first.
    open: Vec<Open>,
    /// Slots of the open nodes, the root's first; `None` is a node without a row.
    slots: Vec<(u8, Option<Slot>)>,
    batch: Batch,
    report: &'a mut Report,
}

struct Open {
    /// Where its slots begin.
    first: usize,
    inner: SlotSet,
}

/// Nodes that are to be proved.
#[derive(Default)]
struct Batch {
    /// Path, commitment and how many slots.
    nodes: Vec<(NodePath, Point, usize)>,
    slots: Vec<(u8, Slot)>,
}

impl Proof<'_> {
    fn push(&mut self, leaf: Leaf) -> Result<(), ReadError> {
        if let Some(last) = self.last.replace(leaf) {
            let shared = last.path.0.iter().zip(&leaf.path.0).take_while(|(a, b)| a == b).count();
            self.hang(last, shared)?;
        }
        Ok(())
    }

    /// Puts a leaf into its node, and closes the nodes that do not have the next leaf below them; `shared` bytes of its
    /// path are the next one's.
    fn hang(&mut self, leaf: Leaf, shared: usize) -> Result<(), ReadError> {
        while self.open.len() <= shared {
            self.open.push(Open { first: self.slots.len(), inner: SlotSet::EMPTY });
        }
        let depth = self.open.len() - 1;
        self.slots.push((leaf.path.slot(depth), Some(Slot::Leaf(leaf))));
        for depth in (shared + 1..=depth).rev() {
            let node = self.close(leaf.path.node(depth))?;
            let slot = leaf.path.slot(depth - 1);
            self.open[depth - 1].inner.insert(slot);
            self.slots.push((slot, node.map(Slot::Inner)));
        }
        Ok(())
    }

    /// Closes the deepest open node; its commitment, if it has a row.
    fn close(&mut self, path: NodePath) -> Result<Option<Point>, ReadError> {
        let Open { first, inner } = self.open.pop().expect("the root is open to the end");
        let slots: Option<Vec<(u8, Slot)>> =
            self.slots.drain(first..).map(|(slot, content)| Some((slot, content?))).collect();
        self.report.nodes += 1;
        // Nothing is mended by what is found here.
        let row = match self.node_rows.take(&path, &mut Mends::default(), self.report)? {
            Ok(row) => row,
            Err(what) => {
                self.find(&path, &what);
                return Ok(None);
            }
        };
        if row.inner != inner {
            self.find(&path, "its inner nodes are not those that its leaves call for");
        }
        // A node with a child without a row has no sum to be compared with.
        if let Some(slots) = slots {
            self.batch.nodes.push((path, row.commitment, slots.len()));
            self.batch.slots.extend(slots);
            if self.batch.nodes.len() >= BATCH_NODES {
                self.judge();
            }
        }
        Ok(Some(row.commitment))
    }

    fn finish(mut self, state_root: &StateRoot) -> Result<(), ReadError> {
        if let Some(last) = self.last {
            self.hang(last, 0)?;
        }
        let root = self.close(NodePath::ROOT)?;
        self.judge();
        if root.is_some_and(|root| StateRoot::of(&root.encode()) != *state_root) {
            self.find(&NodePath::ROOT, &format!("not that of state root {state_root}"));
        }
        self.node_rows.finish(&mut Mends::default(), self.report)
    }

    fn judge(&mut self) {
        let Batch { nodes, slots } = std::mem::take(&mut self.batch);
        let mut rest = slots.as_slice();
        let content = |(node, trusted, count): &(NodePath, Point, usize)| {
            let (slots, others) = rest.split_at(*count);
            rest = others;
            Content { node: *node, trusted: *trusted, slots }
        };
        let contents: Vec<Content<'_>> = nodes.iter().map(content).collect();
        if check_many(&contents, &self.seed).is_err() {
            for Content { node, trusted, slots } in &contents {
                if let Err(bad) = check(node, trusted, slots) {
                    self.find(node, &bad.to_string());
                }
            }
        }
    }

    fn find(&mut self, path: &NodePath, what: &str) {
        self.report.find(Finding::new(Column::Node, name(path), what, Cure::Mend));
    }
}
