//! Reads one snapshot as a tree: answers what a [`Descent`] wants, a level at a time, from the cache and, where that does
//! not know, by batched reads.
//!
//! Whole nodes lead from one to the next: each names its children's commitments, which is what the cache wants to know.
//! So a walk over cached nodes reads nothing. What is read goes into the cache when it is a whole node: for a proof every
//! node, for an update those that take no more reading than the answer itself.
//! Bounds: a level reads at most one node and one leaf for each key asked for, and 256 slots for each node opened.

use std::sync::Arc;

use rustorium_verkle::tree::WholeNode;
use rustorium_verkle::{Change, Descent, KeyPath, Leaf, NodePath, NodeRow, Point, SlotSet, Subtree, Supply, Want};

use crate::backend::{Bounds, Column, Rows, Snapshot};
use crate::cache::Cache;
use crate::error::ReadError;
use crate::schema::{Generation, decode_leaf, decode_node};

/// Slots of a node, and so the most leaves or children that one can have.
const SLOTS_MAX: usize = 256;
/// Bytes of leaf rows that opening a node may bring; a row's value has at most 4 KiB.
const LEAVES_BYTES_MAX: usize = SLOTS_MAX * 8192;
/// An update opens the nodes up to this depth, whatever it takes: there are few, and every block comes by.
const UPDATE_DEPTH_MAX: usize = 1;
/// Deeper ones if they have no more inner nodes, since others have too many leaves: 64 random paths make seven pairs.
const UPDATE_INNER_MAX: usize = 8;
/// And no more leaves, and bytes of their rows.
const UPDATE_LEAVES_MAX: usize = 64;
const UPDATE_BYTES_MAX: usize = 32 << 10;

/// Rows that are held in memory at once while a level is read.
const PAGE_KEYS: usize = 1024;
/// Nodes that are opened at once.
const PAGE_NODES: usize = 16;

/// One snapshot, read as a tree.
pub(crate) struct Walk<'a> {
    pub(crate) snapshot: &'a dyn Snapshot,
    pub(crate) generation: Generation,
    /// The commitment of the root.
    pub(crate) root: &'a Point,
    pub(crate) cache: &'a Cache,
}

/// What a walk is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Update,
    Proof,
}

/// A node that is to be opened: which want it answers, and its row.
struct Closed {
    want: usize,
    path: NodePath,
    row: NodeRow,
}

impl Walk<'_> {
    /// What these changes meet.
    pub(crate) fn update(&self, changes: impl IntoIterator<Item = Change>) -> Result<Subtree, ReadError> {
        self.load(Descent::update(changes), Purpose::Update)
    }

    /// What a witness of these keys is made of.
    pub(crate) fn prove(&self, keys: impl IntoIterator<Item = KeyPath>) -> Result<Subtree, ReadError> {
        self.load(Descent::prove(keys), Purpose::Proof)
    }

    /// What an update witness of these reads and changes is made of.
    pub(crate) fn prove_update(
        &self,
        reads: impl IntoIterator<Item = KeyPath>,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<Subtree, ReadError> {
        self.load(Descent::prove_update(reads, changes), Purpose::Proof)
    }

    /// The leaf of a path, or that there is none, as far as the cached nodes tell.
    pub(crate) fn cached_leaf(&self, path: &KeyPath) -> Option<Option<Leaf>> {
        if self.root.is_infinity() {
            return Some(None);
        }
        let mut node = self.cache.node(&NodePath::ROOT, self.root)?;
        for depth in 0.. {
            let slot = path.slot(depth);
            let Some(child) = node.child(slot) else { break };
            node = self.cache.node(&path.node(depth + 1), child)?;
        }
        let slot = path.slot(node.path().depth());
        Some(node.leaf(slot).filter(|leaf| leaf.path == *path).copied())
    }

    fn load(&self, descent: Descent, purpose: Purpose) -> Result<Subtree, ReadError> {
        // A damaged row may have gone into a node that is cached, which must not outlive the row's repair.
        self.supply(descent, purpose).inspect_err(|_| self.cache.clear())
    }

    /// Supplies the descent until it wants nothing more.
    fn supply(&self, mut descent: Descent, purpose: Purpose) -> Result<Subtree, ReadError> {
        while !descent.wanted().is_empty() {
            let wanted = descent.wanted();
            let mut answers: Vec<Option<Supply>> = wanted.iter().map(|want| self.cached(want)).collect();
            if answers.iter().any(Option::is_none) {
                self.nodes(wanted, purpose, &mut answers)?;
                self.slots(wanted, &mut answers)?;
                self.rests(wanted, &mut answers)?;
            }
            let answers = answers.into_iter().map(|answer| answer.expect("every kind of want is answered")).collect();
            descent.supply(answers)?;
        }
        Ok(descent.finish())
    }

    fn cached(&self, want: &Want) -> Option<Supply> {
        let Want::Node { node, commitment } = want else { return None };
        let commitment = if *node == NodePath::ROOT { self.root } else { commitment.as_ref()? };
        match commitment.is_infinity() {
            true => (*node == NodePath::ROOT).then(|| Supply::Whole(Arc::new(WholeNode::empty()))),
            false => self.cache.node(node, commitment).map(Supply::Whole),
        }
    }

    /// Nodes that the cache did not know by what their parents say.
    fn nodes(&self, wanted: &[Want], purpose: Purpose, answers: &mut [Option<Supply>]) -> Result<(), ReadError> {
        let mut closed = Vec::new();
        let unknown = |index: usize, want: &Want| match want {
            Want::Node { node, .. } if answers[index].is_none() => Some(self.generation.node_key(node)),
            _ => None,
        };
        let unknown = with_key(wanted, unknown);
        self.for_each_value(Column::Node, unknown, |want, key, value| {
            match value {
                Some(value) => {
                    let (path, row) = decode_node(key, &value).map_err(ReadError::damaged)?;
                    match self.cache.node(&path, &row.commitment) {
                        Some(node) => answers[want] = Some(Supply::Whole(node)),
                        None => closed.push(Closed { want, path, row }),
                    }
                }
                None => answers[want] = Some(Supply::Node(None)),
            }
            Ok(())
        })?;
        let (worth, others): (Vec<Closed>, Vec<Closed>) = closed.into_iter().partition(|node| match purpose {
            Purpose::Proof => true,
            Purpose::Update => node.path.depth() <= UPDATE_DEPTH_MAX || node.row.inner.len() <= UPDATE_INNER_MAX,
        });
        for node in others {
            answers[node.want] = Some(Supply::Node(Some(node.row)));
        }
        for page in worth.chunks(PAGE_NODES) {
            for (node, whole) in page.iter().zip(self.open(page, purpose)?) {
                answers[node.want] = Some(match whole {
                    Some(whole) => {
                        self.cache.insert(whole.clone());
                        Supply::Whole(whole)
                    }
                    None => Supply::Node(Some(node.row)),
                });
            }
        }
        Ok(())
    }

    /// Reads everything in the slots of these nodes; `None` for one that has too much in it for an update.
    fn open(&self, nodes: &[Closed], purpose: Purpose) -> Result<Vec<Option<Arc<WholeNode>>>, ReadError> {
        let leaf_runs: Vec<Vec<(u8, u8)>> = nodes.iter().map(|node| node.row.inner.complement().runs()).collect();
        let leaf_bounds = |(node, runs): (&Closed, &Vec<(u8, u8)>)| -> Vec<Bounds> {
            runs.iter().map(|(first, last)| self.generation.leaf_bounds(&node.path, *first, *last)).collect()
        };
        let leaf_bounds: Vec<Bounds> = nodes.iter().zip(&leaf_runs).flat_map(leaf_bounds).collect();
        let parents = || nodes.iter().filter(|node| !node.row.inner.is_empty());
        let child_bounds: Vec<Bounds> = parents().map(|node| self.generation.child_bounds(&node.path)).collect();
        let bounded = purpose == Purpose::Update && nodes[0].path.depth() > UPDATE_DEPTH_MAX;
        let (leaves_max, bytes_max) =
            if bounded { (UPDATE_LEAVES_MAX, UPDATE_BYTES_MAX) } else { (SLOTS_MAX, LEAVES_BYTES_MAX) };
        let mut leaves = self.snapshot.ranges(Column::Leaf, &leaf_bounds, leaves_max + 1, bytes_max)?.into_iter();
        let mut children = self.snapshot.ranges(Column::Node, &child_bounds, SLOTS_MAX + 1, usize::MAX)?.into_iter();
        let opened = nodes.iter().zip(leaf_runs).map(|(node, runs)| {
            let runs: Vec<Rows> = leaves.by_ref().take(runs.len()).collect();
            let children = if node.row.inner.is_empty() { None } else { children.next() };
            let count: usize = runs.iter().map(|run| run.rows.len()).sum();
            if bounded && (count > leaves_max || runs.iter().any(|run| run.more)) {
                return Ok(None);
            }
            let whole = whole(node, &runs, &children.unwrap_or_default())?;
            Ok(Some(Arc::new(whole)))
        });
        opened.collect()
    }

    /// First the keys' own leaves by point reads, then whatever else is in the slots of keys that are not there.
    fn slots(&self, wanted: &[Want], answers: &mut [Option<Supply>]) -> Result<(), ReadError> {
        let leaf_keys = with_key(wanted, |_, want| match want {
            Want::Slot { key, .. } => Some(self.generation.leaf_key(key).to_vec()),
            _ => None,
        });
        let mut others = Vec::new();
        self.for_each_value(Column::Leaf, leaf_keys, |index, key, value| {
            match value {
                Some(value) => answers[index] = Some(Supply::Slot(Some(leaf(key, &value)?))),
                None => others.push(index),
            }
            Ok(())
        })?;
        // The keys came in their order, and so do the slots that they fall into.
        for page in others.chunks(PAGE_KEYS) {
            let bounds = |index: &usize| match &wanted[*index] {
                Want::Slot { node, slot, .. } => self.generation.leaf_bounds(node, *slot, *slot),
                _ => unreachable!("only slots have a key here"),
            };
            let bounds: Vec<Bounds> = page.iter().map(bounds).collect();
            for (index, found) in page.iter().zip(self.snapshot.ranges(Column::Leaf, &bounds, 1, 0)?) {
                let found = found.rows.first().map(|(key, value)| leaf(key, value)).transpose()?;
                answers[*index] = Some(Supply::Slot(found));
            }
        }
        Ok(())
    }

    fn rests(&self, wanted: &[Want], answers: &mut [Option<Supply>]) -> Result<(), ReadError> {
        for (want, answer) in wanted.iter().zip(answers) {
            match want {
                Want::Rest { node, slots } => *answer = Some(Supply::Rest(self.two_leaves(node, slots)?)),
                Want::Row { .. } => unreachable!("a proof is supplied with whole nodes"),
                Want::Node { .. } | Want::Slot { .. } => {}
            }
        }
        Ok(())
    }

    /// At most two leaves of these slots, which hold no inner nodes; ascending.
    fn two_leaves(&self, node: &NodePath, slots: &SlotSet) -> Result<Vec<Leaf>, ReadError> {
        let mut leaves = Vec::new();
        for (first, last) in slots.runs() {
            if leaves.len() == 2 {
                break;
            }
            let bounds = self.generation.leaf_bounds(node, first, last);
            let found = self.snapshot.range(Column::Leaf, &bounds, 2 - leaves.len(), usize::MAX)?;
            for (key, value) in &found.rows {
                leaves.push(leaf(key, value)?);
            }
        }
        Ok(leaves)
    }

    /// Reads rows by their keys, which ascend, a page at a time.
    fn for_each_value(
        &self,
        column: Column,
        (keys, indices): (Vec<Vec<u8>>, Vec<usize>),
        mut each: impl FnMut(usize, &[u8], Option<Vec<u8>>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        for (keys, indices) in keys.chunks(PAGE_KEYS).zip(indices.chunks(PAGE_KEYS)) {
            let values = self.snapshot.get_many(column, keys)?;
            for ((index, key), value) in indices.iter().zip(keys).zip(values) {
                each(*index, key, value)?;
            }
        }
        Ok(())
    }
}

/// The row of the root in a snapshot; that of the empty tree where none is written.
pub(crate) fn root(snapshot: &dyn Snapshot, generation: Generation) -> Result<NodeRow, ReadError> {
    let key = generation.node_key(&NodePath::ROOT);
    match snapshot.get(Column::Node, &key)? {
        Some(value) => Ok(decode_node(&key, &value).map_err(ReadError::damaged)?.1),
        None => Ok(NodeRow::EMPTY),
    }
}

/// Those wants that have a key: the keys, ascending, and the wants' indices.
fn with_key(wanted: &[Want], key: impl Fn(usize, &Want) -> Option<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<usize>) {
    let with_key = wanted.iter().enumerate().filter_map(|(index, want)| Some((key(index, want)?, index)));
    let mut asked: Vec<(Vec<u8>, usize)> = with_key.collect();
    asked.sort_unstable();
    asked.into_iter().unzip()
}

fn leaf(key: &[u8], value: &[u8]) -> Result<Leaf, ReadError> {
    decode_leaf(key, value).map(|(_, row)| row.leaf()).map_err(ReadError::damaged)
}

/// A node from the rows of its leaves and of its children.
fn whole(node: &Closed, leaves: &[Rows], children: &Rows) -> Result<WholeNode, ReadError> {
    let Closed { path, row, .. } = node;
    let leaves = leaves.iter().flat_map(|run| &run.rows).map(|(key, value)| leaf(key, value));
    let leaves: Vec<Leaf> = leaves.collect::<Result<_, _>>()?;
    let mut slots = SlotSet::EMPTY;
    let mut commitments = Vec::with_capacity(children.rows.len());
    for (key, value) in &children.rows {
        let (child, child_row) = decode_node(key, value).map_err(ReadError::damaged)?;
        slots.insert(child.parent().map(|(_, slot)| slot).expect("a child has a parent"));
        commitments.push(child_row.commitment);
    }
    if slots != row.inner {
        return Err(ReadError::damaged(format!("node {path}: its children are not those that it names")));
    }
    Ok(WholeNode::new(*path, *row, &leaves, &commitments)?)
}
