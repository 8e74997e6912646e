//! Checking a whole state against itself: the tree is rebuilt from its leaves and compared, row by row.
//!
//! Everything is read once, a page at a time, and nothing but a page and a segment of the tree is in memory
//! ([`rustorium_verkle::tree::Bulk`]): some 50 MB whatever the state's size.

use rustorium_verkle::tree::Bulk;
use rustorium_verkle::{Committer, Leaf, NodePath, NodeRow, StateRoot};

use crate::backend::{Bounds, Column};
use crate::block::BlockHash;
use crate::error::ReadError;
use crate::schema::{LeafRow, decode_leaf, decode_node, node_path, number_key};
use crate::view::View;

/// Findings that a report lists; more are counted only.
pub const FINDINGS_MAX: usize = 64;
/// Rows read at a time.
const PAGE_ROWS: usize = 8192;
/// Bytes read at a time.
const PAGE_BYTES: usize = 16 << 20;

/// A key and a value of the backend.
type Row = (Vec<u8>, Vec<u8>);

/// What a check has seen.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Report {
    /// Leaves in the tree.
    pub leaves: u64,
    /// Inner nodes in the tree.
    pub nodes: u64,
    /// What is wrong, the first [`FINDINGS_MAX`] of it.
    pub findings: Vec<String>,
    /// How much is wrong.
    pub findings_total: u64,
}

impl Report {
    /// Whether everything agrees.
    pub fn is_sound(&self) -> bool {
        self.findings_total == 0
    }

    fn find(&mut self, what: impl Into<String>) {
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what.into());
        }
    }
}

/// Rebuilds the view's tree from its leaves; compares root, nodes, big values and the index of keys. Looks for rows that
/// belong to nothing, and follows the headers from block 0 to the view's own.
pub fn check(view: &View, committer: &Committer) -> Result<Report, ReadError> {
    let mut report = Report::default();
    let mut bulk = Bulk::new(committer);
    let (mut bigs, mut nodes_known) = (0u64, 0u64);
    for_each_page(view, Column::Leaf, |rows| {
        report.leaves += rows.len() as u64;
        let leaves = check_leaves(view, rows, &mut bigs, &mut report)?;
        match bulk.push(&leaves) {
            Ok(nodes) => nodes_known += check_nodes(view, &nodes, &mut report)?,
            Err(out_of_order) => report.find(out_of_order.to_string()),
        }
        Ok(())
    })?;
    let nodes = bulk.finish();
    let (_, root) = nodes.last().expect("the root is always there");
    let (expected, got) = (view.header().state_root, StateRoot::of(&root.commitment.encode()));
    if expected != got {
        report.find(format!("the header says state root {expected}, the leaves give {got}"));
    }
    nodes_known += check_nodes(view, &nodes, &mut report)?;
    report.nodes = count(view, Column::Node)?;
    if report.nodes != nodes_known {
        find_orphans(view, &mut report)?;
    }
    for (column, wanted) in [(Column::Index, report.leaves), (Column::Big, bigs)] {
        let found = count(view, column)?;
        if found != wanted {
            report.find(format!("column {}: {found} rows, expected {wanted}", column.name()));
        }
    }
    check_strays(view, &mut report)?;
    check_chain(view, &mut report)?;
    Ok(report)
}

/// Judges rows of the leaf column by themselves, and their keys' rows in the index; returns the leaves of those that
/// decode. Counts the big ones.
fn check_leaves(view: &View, rows: &[Row], bigs: &mut u64, report: &mut Report) -> Result<Vec<Leaf>, ReadError> {
    let mut leaves = Vec::with_capacity(rows.len());
    let mut keys = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let (path, row) = match decode_leaf(key, value) {
            Ok(found) => found,
            Err(what) => {
                report.find(what);
                continue;
            }
        };
        if row.is_misplaced() {
            report.find(format!("leaf {path}: its value is in the wrong column for its size"));
        }
        if matches!(row, LeafRow::Big { .. }) {
            *bigs += 1;
            if let Err(error) = view.value(row.key()) {
                report.find(error.to_string());
            }
        }
        keys.push((view.generation().index_key(row.key()), path));
        leaves.push(Leaf { path, value_hash: row.value_hash() });
    }
    // Another key has another path, so that no key is there twice.
    keys.sort_unstable();
    let (keys, paths): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let found = view.snapshot().get_many(Column::Index, &keys)?;
    for (path, _) in paths.iter().zip(&found).filter(|(_, row)| row.is_none()) {
        report.find(format!("leaf {path}: its key is not in the index"));
    }
    Ok(leaves)
}

/// Compares nodes as the leaves give them with their rows; returns how many of them have one.
fn check_nodes(view: &View, nodes: &[(NodePath, NodeRow)], report: &mut Report) -> Result<u64, ReadError> {
    let mut known = 0;
    let mut nodes: Vec<_> = nodes.iter().map(|(path, row)| (view.generation().node_key(path), path, row)).collect();
    nodes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for nodes in nodes.chunks(PAGE_ROWS) {
        let keys: Vec<Vec<u8>> = nodes.iter().map(|(key, ..)| key.clone()).collect();
        let rows = view.snapshot().get_many(Column::Node, &keys)?;
        for ((key, path, expected), row) in nodes.iter().zip(rows) {
            known += row.is_some() as u64;
            match row.map(|row| decode_node(key, &row)) {
                Some(Ok((_, row))) if row == **expected => {}
                Some(Ok(_)) => report.find(format!("node {path}: not what its leaves give")),
                Some(Err(what)) => report.find(what),
                // The root of an empty tree may be written or not.
                None if **expected == NodeRow::EMPTY => {}
                None => report.find(format!("node {path}: missing")),
            }
        }
    }
    Ok(known)
}

/// Names the rows of the node column that are none of the tree's: all but the root and those with two leaves below them.
fn find_orphans(view: &View, report: &mut Report) -> Result<(), ReadError> {
    for_each_page(view, Column::Node, |rows| {
        for (key, _) in rows {
            let path = match node_path(key) {
                Ok(path) => path,
                Err(what) => {
                    report.find(what);
                    continue;
                }
            };
            let below = view.generation().leaf_bounds(&path, 0, 0xff);
            if path != NodePath::ROOT && view.snapshot().range(Column::Leaf, &below, 2, usize::MAX)?.rows.len() < 2 {
                report.find(format!("node {path}: an orphan"));
            }
        }
        Ok(())
    })
}

/// How many rows the view's generation has in a column.
fn count(view: &View, column: Column) -> Result<u64, ReadError> {
    let mut count = 0;
    for_each_page(view, column, |rows| {
        count += rows.len() as u64;
        Ok(())
    })?;
    Ok(count)
}

/// Rows where format 1 has none: of another generation, or in a column that is not used yet.
fn check_strays(view: &View, report: &mut Report) -> Result<(), ReadError> {
    let unused = [Column::Undo, Column::UndoAt, Column::Aux].map(|column| (column, Bounds::all()));
    let Bounds { start, end } = view.generation().all();
    let before = Bounds { start: vec![], end: Some(start) };
    let after = Bounds { start: end.unwrap_or_default(), end: None };
    let tree = [Column::Leaf, Column::Big, Column::Node, Column::Index];
    let others = tree.into_iter().flat_map(|column| [(column, before.clone()), (column, after.clone())]);
    for (column, bounds) in unused.into_iter().chain(others) {
        if !bounds.is_empty() && !view.snapshot().range(column, &bounds, 1, usize::MAX)?.rows.is_empty() {
            report.find(format!("column {}: rows that belong to nothing", column.name()));
        }
    }
    Ok(())
}

/// The numbers lead to headers, each the child of the one before, up to the view's own.
fn check_chain(view: &View, report: &mut Report) -> Result<(), ReadError> {
    let mut parent = BlockHash::ZERO;
    let mut bounds = Bounds { start: number_key(0), end: Bounds::prefix(b"n").end };
    let mut number = 0;
    loop {
        let found = view.snapshot().range(Column::Block, &bounds, PAGE_ROWS, PAGE_BYTES)?;
        for (key, value) in &found.rows {
            let hash = value.as_slice().try_into().map(BlockHash).unwrap_or(BlockHash::ZERO);
            let header = view.header_row(&hash)?;
            let fits = header.is_some_and(|header| header.number == number && header.parent_hash == parent);
            if !fits || *key != number_key(number) {
                report.find(format!("block {number}: its number does not lead to a child of the block before"));
                return Ok(());
            }
            (parent, number) = (hash, number + 1);
        }
        match found.rows.last() {
            Some((key, _)) if found.more => bounds = bounds.after(key),
            _ => break,
        }
    }
    if parent != view.header().hash {
        report.find(format!("the numbers end at block {parent}, not at the head"));
    }
    Ok(())
}

/// The rows of the view's generation in one column, a page at a time.
fn for_each_page(
    view: &View,
    column: Column,
    mut page: impl FnMut(&[Row]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut bounds: Bounds = view.generation().all();
    loop {
        let found = view.snapshot().range(column, &bounds, PAGE_ROWS, PAGE_BYTES)?;
        page(&found.rows)?;
        match found.rows.last() {
            Some((key, _)) if found.more => bounds = bounds.after(key),
            _ => return Ok(()),
        }
    }
}
