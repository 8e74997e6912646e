//! The columns as they were after an earlier block: a snapshot like any other, over the one that has them now.
//!
//! Reads cost what they cost now, and for each row that changed since, one look into `undo_at` and one into `undo`. A key
//! that changed in many blocks is jumped over, not read through. Of the column `node` it answers single rows and the
//! children of one node; of `big`, single rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use parity_scale_codec::{DecodeAll, Encode};
use rustorium_verkle::tree::Bulk;
use rustorium_verkle::{Committer, KeyPath, Leaf, NodePath, NodeRow};

use super::{
    DEPTH_KEPT, Entry, KEY, LEAF, OldNode, Place, at, big_key, chunk_key, decode_chunk, escape, key_of, leaf_id,
    node_id, split_at,
};
use crate::backend::{BackendError, Bounds, Column, Page, Rows, Snapshot, assert_ascending};
use crate::check::Row;
use crate::error::ReadError;
use crate::schema::{Generation, LeafRow, decode_leaf, decode_node, node_path};

/// Rows that are resolved together.
const PAGE_ROWS: usize = 256;
/// Leaves below a node that has no inner nodes.
const SLOTS_MAX: usize = 256;
/// Rows that are passed over because they are younger than the block, before a listing gives up.
const YOUNGER_MAX: usize = 1 << 18;

/// A snapshot as it was after block `number`.
pub(crate) struct Past {
    pub(crate) base: Arc<dyn Snapshot>,
    pub(crate) generation: Generation,
    pub(crate) committer: Arc<Committer>,
    pub(crate) number: u64,
    /// The last block with undo rows.
    pub(crate) newest: u64,
}

/// A row that changed since: its id, the first block that changed it, and where the old one is.
pub(super) struct Change {
    pub(super) id: Vec<u8>,
    pub(super) number: u64,
    pub(super) place: Place,
}

/// A row of the answer: as it is now, or to be fetched.
enum Found {
    Now(Vec<u8>),
    Then(Change),
}

impl Past {
    /// For each id the first change after the block. Ids ascend.
    fn changes(&self, ids: &[Vec<u8>]) -> Result<Vec<Option<Change>>, ReadError> {
        let bounds: Vec<Bounds> = ids.iter().map(|id| self.after(id)).collect();
        let found = self.base.ranges(Column::UndoAt, &bounds, 1, 0)?;
        let change = |found: Rows| found.rows.first().map(|(key, value)| change(key, value)).transpose();
        found.into_iter().map(change).collect()
    }

    /// Where the changes of an id after the block are.
    fn after(&self, id: &[u8]) -> Bounds {
        Bounds { start: at(id, self.number.saturating_add(1)), end: Some(at(id, self.newest.saturating_add(1))) }
    }

    /// The entries that these places lead to, in their order.
    fn entries(&self, changes: &[&Change]) -> Result<Vec<Option<Entry>>, ReadError> {
        let mut chunks: BTreeMap<Vec<u8>, Vec<Entry>> = BTreeMap::new();
        for change in changes {
            if let Place::Chunk { chunk, .. } = change.place {
                chunks.insert(chunk_key(change.number, chunk), Vec::new());
            }
        }
        let keys: Vec<Vec<u8>> = chunks.keys().cloned().collect();
        for (entries, value) in chunks.values_mut().zip(self.base.get_many(Column::Undo, &keys)?) {
            *entries = decode_chunk(&value.ok_or_else(|| ReadError::damaged("an undo chunk is missing"))?)?;
        }
        let entry = |change: &&Change| {
            let Place::Chunk { chunk, index } = change.place else { return Ok(None) };
            let entry = chunks[&chunk_key(change.number, chunk)].get(index as usize).cloned();
            entry.map(Some).ok_or_else(|| ReadError::damaged("an undo chunk is short"))
        };
        changes.iter().map(entry).collect()
    }

    /// The old leaf rows of these changes, in their order.
    fn old_leaves(&self, changes: &[&Change]) -> Result<Vec<Option<LeafRow>>, ReadError> {
        let old = |(change, entry): (&&Change, Option<Entry>)| match entry {
            None => Ok(None),
            Some(Entry::Changed { old } | Entry::Gone { old }) if leaf_id(&KeyPath::of(old.key())) == change.id => {
                Ok(Some(old))
            }
            Some(_) => Err(ReadError::damaged("an undo row leads to another leaf")),
        };
        changes.iter().zip(self.entries(changes)?).map(old).collect()
    }

    fn leaf_rows(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
        let ids: Vec<Vec<u8>> = keys.iter().map(|key| [&[LEAF], &key[1..]].concat()).collect();
        let changes = self.changes(&ids)?;
        let changed: Vec<&Change> = changes.iter().flatten().collect();
        let mut olds = self.old_leaves(&changed)?.into_iter();
        let unchanged = keys.iter().zip(&changes).filter(|(_, change)| change.is_none());
        let unchanged: Vec<Vec<u8>> = unchanged.map(|(key, _)| key.clone()).collect();
        let mut now = self.base.get_many(Column::Leaf, &unchanged)?.into_iter();
        let row = |change: &Option<Change>| match change {
            Some(_) => olds.next().flatten().map(|row| row.encode()),
            None => now.next().flatten(),
        };
        Ok(changes.iter().map(row).collect())
    }

    fn big_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let path = key.get(1..).and_then(|path| path.try_into().ok()).map(KeyPath);
        let path = path.ok_or_else(|| ReadError::damaged("a key of big"))?;
        let Some(change) = self.changes(&[leaf_id(&path)])?.pop().flatten() else {
            return Ok(self.base.get(Column::Big, key)?);
        };
        match self.old_leaves(&[&change])?.pop().flatten() {
            Some(LeafRow::Big { .. }) => Ok(self.base.get(Column::Undo, &big_key(change.number, &path))?),
            _ => Ok(None),
        }
    }

    /// The rows of these nodes, which ascend as their keys do.
    fn nodes(&self, paths: &[NodePath]) -> Result<Vec<Option<NodeRow>>, ReadError> {
        let changes = self.changes(&paths.iter().map(node_id).collect::<Vec<_>>())?;
        let kept: Vec<&Change> =
            changes.iter().flatten().filter(|change| matches!(change.place, Place::Chunk { .. })).collect();
        let olds: Vec<OldNode> = (kept.iter().zip(self.entries(&kept)?))
            .map(|(change, entry)| match entry {
                Some(Entry::Node { path, old: Some(old) })
                    if NodePath::parse(&path).is_some_and(|path| node_id(&path) == change.id) =>
                {
                    Ok(old)
                }
                _ => Err(ReadError::damaged("an undo row leads to another node")),
            })
            .collect::<Result<_, _>>()?;
        let mut olds = OldNode::rows(&olds)?.into_iter();
        let unchanged = paths.iter().zip(&changes).filter(|(_, change)| change.is_none());
        let keys: Vec<Vec<u8>> = unchanged.map(|(path, _)| self.generation.node_key(path)).collect();
        let mut now = keys.iter().zip(self.base.get_many(Column::Node, &keys)?);
        let mut rows = Vec::with_capacity(paths.len());
        let mut computed = Vec::new();
        for (index, (path, change)) in paths.iter().zip(&changes).enumerate() {
            rows.push(match change.as_ref().map(|change| change.place) {
                Some(Place::Nowhere) => None,
                Some(Place::Chunk { .. }) => olds.next(),
                Some(Place::Computed) => {
                    computed.push(index);
                    None
                }
                None => {
                    let (key, row) = now.next().expect("a row for each key");
                    let row = row.map(|row| decode_node(key, &row)).transpose().map_err(ReadError::damaged)?;
                    let row = row.map(|(_, row)| row);
                    let is_kept = path.depth() <= DEPTH_KEPT || row.is_some_and(|row| !row.inner.is_empty());
                    if !is_kept && self.is_changed_below(path)? {
                        computed.push(index);
                    }
                    row
                }
            });
        }
        let wanted: Vec<NodePath> = computed.iter().map(|index| paths[*index]).collect();
        for (index, row) in computed.into_iter().zip(self.compute(&wanted)?) {
            rows[index] = row;
        }
        Ok(rows)
    }

    /// Whether a leaf below this node has changed since.
    fn is_changed_below(&self, path: &NodePath) -> Result<bool, ReadError> {
        Ok(Changes::new(self, Bounds::prefix(&[&[LEAF], path.as_bytes()].concat())).peek()?.is_some())
    }

    /// Nodes that have nothing but leaves, from these.
    fn compute(&self, paths: &[NodePath]) -> Result<Vec<Option<NodeRow>>, ReadError> {
        let mut bulk = Bulk::new(&self.committer);
        let mut built = BTreeMap::new();
        let too_many = || ReadError::damaged("a node that is to be computed has more than leaves below it");
        for path in paths {
            let bounds = self.generation.leaf_bounds(path, 0, 0xff);
            let found = self.rows(Column::Leaf, &bounds, SLOTS_MAX, usize::MAX)?;
            if found.more {
                return Err(too_many());
            }
            let leaf = |(key, value): &(Vec<u8>, Vec<u8>)| decode_leaf(key, value).map(|(_, row)| row.leaf());
            let leaves = found.rows.iter().map(leaf).collect::<Result<Vec<Leaf>, _>>().map_err(ReadError::damaged)?;
            // A lone leaf hangs higher.
            if leaves.len() > 1 {
                built.extend(bulk.push(&leaves).map_err(|error| ReadError::damaged(error.to_string()))?);
            }
        }
        built.extend(bulk.finish());
        let row = |path: &NodePath| match built.get(path) {
            Some(row) if !row.inner.is_empty() => Err(too_many()),
            row => Ok(row.copied()),
        };
        paths.iter().map(row).collect()
    }

    /// The children of the node that these bounds are about.
    fn children(&self, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, ReadError> {
        let parent = bounds.start.get(2..).and_then(NodePath::parse);
        let parent = parent.filter(|parent| self.generation.child_bounds(parent) == *bounds);
        let parent = parent.expect("node rows of the past are read a node's children at a time");
        let Some(row) = self.nodes(&[parent])?.pop().flatten() else { return Ok(Rows::default()) };
        let children: Vec<NodePath> = row.inner.iter().map(|slot| parent.child(slot)).collect();
        let mut page = Page::new(rows_max, bytes_max);
        for (child, row) in children.iter().zip(self.nodes(&children)?) {
            if let Some(row) = row
                && !page.push(&self.generation.node_key(child), &row.encode())
            {
                break;
            }
        }
        Ok(page.finish())
    }

    /// The first leaves or keys within bounds, as they were.
    fn rows(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, ReadError> {
        let mut page = Page::new(rows_max, bytes_max);
        let mut merge = Merge {
            changes: Changes::new(self, self.ids(column, bounds)),
            column,
            generation: self.generation,
            now: Now { snapshot: &*self.base, column, rest: Some(bounds.clone()), page: Vec::new().into_iter() },
            first: None,
        };
        let mut passed = 0;
        loop {
            let mut found = Vec::new();
            while found.len() < PAGE_ROWS
                && let Some(row) = merge.next()?
            {
                found.push(row);
            }
            if found.is_empty() {
                return Ok(page.finish());
            }
            let count = found.len();
            let rows = match column {
                Column::Leaf => self.then_leaves(found)?,
                _ => self.then_keys(found)?,
            };
            passed += count - rows.len();
            if passed > YOUNGER_MAX {
                let (max, got) = (YOUNGER_MAX as u64, passed as u64);
                return Err(BackendError::TooMuch { what: "youngerRows", max, got }.into());
            }
            for (key, value) in rows {
                if !page.push(&key, &value) {
                    return Ok(page.finish());
                }
            }
        }
    }

    /// What ids the rows within these bounds have.
    fn ids(&self, column: Column, bounds: &Bounds) -> Bounds {
        let kind = if column == Column::Leaf { LEAF } else { KEY };
        let id = |key: &[u8]| {
            let mut id = vec![kind];
            match column {
                Column::Leaf => id.extend(&key[1..]),
                _ => escape(&mut id, &key[1..]),
            }
            id
        };
        let is_ours = |key: &Vec<u8>| key.first() == Some(&self.generation.0);
        Bounds {
            start: id(&bounds.start),
            end: Some(bounds.end.as_ref().filter(|end| is_ours(end)).map_or(vec![kind + 1], |end| id(end))),
        }
    }

    fn then_leaves(&self, found: Vec<(Vec<u8>, Found)>) -> Result<Vec<Row>, ReadError> {
        let changes = found.iter().filter_map(|(_, found)| match found {
            Found::Then(change) => Some(change),
            Found::Now(_) => None,
        });
        let mut olds = self.old_leaves(&changes.collect::<Vec<_>>())?.into_iter();
        let row = |(key, found)| match found {
            Found::Now(value) => Some((key, value)),
            Found::Then(_) => olds.next().flatten().map(|row| (key, row.encode())),
        };
        Ok(found.into_iter().filter_map(row).collect())
    }

    /// Of keys that are there now or were deleted since, those that were there.
    fn then_keys(&self, found: Vec<(Vec<u8>, Found)>) -> Result<Vec<Row>, ReadError> {
        let mut ids: Vec<(Vec<u8>, usize)> =
            found.iter().enumerate().map(|(index, (key, _))| (leaf_id(&KeyPath::of(&key[1..])), index)).collect();
        ids.sort_unstable();
        let (ids, indices): (Vec<Vec<u8>>, Vec<usize>) = ids.into_iter().unzip();
        let mut was_there = vec![false; found.len()];
        for (index, change) in indices.into_iter().zip(self.changes(&ids)?) {
            was_there[index] = match change {
                Some(change) => change.place != Place::Nowhere,
                None => matches!(found[index].1, Found::Now(_)),
            };
        }
        let kept = found.into_iter().zip(was_there).filter(|(_, was_there)| *was_there);
        Ok(kept.map(|((key, _), _)| (key, Vec::new())).collect())
    }
}

impl Snapshot for Past {
    fn get_many(&self, column: Column, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        assert_ascending(keys);
        match column {
            Column::Leaf => self.leaf_rows(keys),
            Column::Big => keys.iter().map(|key| self.big_row(key)).collect(),
            Column::Node => {
                let paths: Result<Vec<NodePath>, _> = keys.iter().map(|key| node_path(key)).collect();
                paths.map_err(ReadError::damaged).and_then(|paths| {
                    let rows = self.nodes(&paths)?;
                    Ok(rows.into_iter().map(|row| row.map(|row| row.encode().to_vec())).collect())
                })
            }
            _ => return self.base.get_many(column, keys),
        }
        .map_err(ReadError::into_backend)
    }

    fn range(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, BackendError> {
        match column {
            Column::Leaf | Column::Index => self.rows(column, bounds, rows_max, bytes_max),
            Column::Node => self.children(bounds, rows_max, bytes_max),
            _ => return self.base.range(column, bounds, rows_max, bytes_max),
        }
        .map_err(ReadError::into_backend)
    }
}

/// The ids within bounds that changed after the block, each with its first change.
pub(super) struct Changes<'a> {
    past: &'a Past,
    rest: Option<Bounds>,
    page: std::iter::Peekable<std::vec::IntoIter<Change>>,
}

impl<'a> Changes<'a> {
    pub(super) fn new(past: &'a Past, bounds: Bounds) -> Self {
        Self { past, rest: Some(bounds), page: Vec::new().into_iter().peekable() }
    }

    pub(super) fn peek(&mut self) -> Result<Option<&Change>, ReadError> {
        while self.page.peek().is_none()
            && let Some(bounds) = self.rest.take()
        {
            self.fill(bounds)?;
        }
        Ok(self.page.peek())
    }

    fn next(&mut self) -> Result<Option<Change>, ReadError> {
        self.peek()?;
        Ok(self.page.next())
    }

    fn fill(&mut self, bounds: Bounds) -> Result<(), ReadError> {
        let Past { number: then, newest, .. } = *self.past;
        let found = self.past.base.range(Column::UndoAt, &bounds, PAGE_ROWS, usize::MAX)?;
        let mut page: Vec<Change> = Vec::new();
        for (key, value) in &found.rows {
            let (id, number) = split_at(key)?;
            if number > then && number <= newest && page.last().is_none_or(|last| last.id != id) {
                page.push(change(key, value)?);
            }
        }
        if let Some((key, _)) = found.rows.last().filter(|_| found.more) {
            // The last id may have many more changes, of which none counts, or the first after the block.
            let (id, number) = split_at(key)?;
            let next =
                if number <= then { at(id, then.saturating_add(1)) } else { [at(id, u64::MAX), vec![0]].concat() };
            self.rest = Some(Bounds { start: next, end: bounds.end }).filter(|bounds| !bounds.is_empty());
        }
        self.page = page.into_iter().peekable();
        Ok(())
    }
}

fn change(key: &[u8], value: &[u8]) -> Result<Change, ReadError> {
    let (id, number) = split_at(key)?;
    // Places of keys hold nothing.
    let place = if id.first() == Some(&KEY) { Ok(Place::Nowhere) } else { Place::decode_all(&mut &value[..]) };
    let place = place.map_err(|error| ReadError::damaged(format!("a row of undo_at: {error}")))?;
    Ok(Change { id: id.to_vec(), number, place })
}

/// Rows as they are now, a page at a time.
struct Now<'a> {
    snapshot: &'a dyn Snapshot,
    column: Column,
    rest: Option<Bounds>,
    page: std::vec::IntoIter<Row>,
}

impl Now<'_> {
    fn next(&mut self) -> Result<Option<Row>, ReadError> {
        while self.page.len() == 0
            && let Some(bounds) = self.rest.take()
        {
            let found = self.snapshot.range(self.column, &bounds, PAGE_ROWS, 4 << 20)?;
            if let Some((key, _)) = found.rows.last().filter(|_| found.more) {
                self.rest = Some(bounds.after(key)).filter(|bounds| !bounds.is_empty());
            }
            self.page = found.rows.into_iter();
        }
        Ok(self.page.next())
    }
}

/// Rows of now and changes since, in the order of the rows' keys; where there are both, the change.
struct Merge<'a> {
    changes: Changes<'a>,
    column: Column,
    generation: Generation,
    now: Now<'a>,
    /// The first row of now that is not taken yet.
    first: Option<Row>,
}

impl Merge<'_> {
    fn next(&mut self) -> Result<Option<(Vec<u8>, Found)>, ReadError> {
        if self.first.is_none() {
            self.first = self.now.next()?;
        }
        let changed = match self.changes.peek()? {
            Some(change) => {
                let key = match self.column {
                    Column::Leaf => Some(change.id[1..].to_vec()),
                    _ => key_of(&change.id),
                };
                let key = key.ok_or_else(|| ReadError::damaged("a key of undo_at"))?;
                Some([vec![self.generation.0], key].concat())
            }
            None => None,
        };
        Ok(match (self.first.take(), changed) {
            (Some((key, value)), Some(changed)) if changed > key => Some((key, Found::Now(value))),
            (Some((key, value)), None) => Some((key, Found::Now(value))),
            (first, Some(changed)) => {
                let is_there = first.as_ref().is_some_and(|(key, _)| *key == changed);
                let change = self.changes.next()?.expect("a change was peeked at");
                // A key that is there now and was deleted since was there or not: what is now says where to look.
                let found = match (self.column, first) {
                    (Column::Index, Some((_, value))) if is_there => Found::Now(value),
                    (_, first) => {
                        self.first = first.filter(|_| !is_there);
                        Found::Then(change)
                    }
                };
                Some((changed, found))
            }
            (None, None) => None,
        })
    }
}
