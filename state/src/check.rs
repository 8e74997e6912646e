//! Checking a whole state against itself: the tree is rebuilt from its leaves and compared, row by row.
//!
//! Reads everything once and keeps the rebuilt nodes and the leaves' hashes in memory (about 200 bytes a leaf).

use std::collections::BTreeMap;

use rustorium_verkle::tree::Nodes;
use rustorium_verkle::{Change, Committer, NodePath, NodeRow};

use crate::backend::{Bounds, Column};
use crate::block::BlockHash;
use crate::error::ReadError;
use crate::schema::{LeafRow, decode_leaf, decode_node, number_key};
use crate::view::View;

/// Findings that a report lists; more are counted only.
pub const FINDINGS_MAX: usize = 64;
/// Rows read at a time.
const PAGE_ROWS: usize = 8192;
/// Bytes read at a time.
const PAGE_BYTES: usize = 16 << 20;

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
    let mut rebuilt = Nodes::default();
    let (mut keys, mut bigs) = (0u64, 0u64);
    for_each_page(view, Column::Leaf, |rows| {
        let mut changes = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            match decode_leaf(key, value) {
                Ok((path, row)) => {
                    if row.is_misplaced() {
                        report.find(format!("leaf {path}: its value is in the wrong column for its size"));
                    }
                    if matches!(row, LeafRow::Big { .. }) {
                        bigs += 1;
                        if let Err(error) = view.value(row.key()) {
                            report.find(error.to_string());
                        }
                    }
                    let index = view.snapshot().get(Column::Index, &view.generation().index_key(row.key()))?;
                    if index.is_none() {
                        report.find(format!("leaf {path}: its key is not in the index"));
                    }
                    changes.push(Change { path, value: Some(row.value_hash()) });
                }
                Err(what) => report.find(what),
            }
        }
        keys += rows.len() as u64;
        rebuilt.apply(changes, committer);
        Ok(())
    })?;
    report.leaves = keys;
    if rebuilt.state_root() != view.header().state_root {
        let (expected, got) = (view.header().state_root, rebuilt.state_root());
        report.find(format!("the header says state root {expected}, the leaves give {got}"));
    }
    let mut expected: BTreeMap<NodePath, NodeRow> = rebuilt.rows().map(|(path, row)| (*path, *row)).collect();
    for_each_page(view, Column::Node, |rows| {
        for (key, value) in rows {
            report.nodes += 1;
            match decode_node(key, value) {
                Ok((path, row)) => match expected.remove(&path) {
                    Some(right) if right == row => {}
                    Some(_) => report.find(format!("node {path}: not what its leaves give")),
                    // The root of an empty tree may be written or not.
                    None if path == NodePath::ROOT && row == NodeRow::EMPTY => {}
                    None => report.find(format!("node {path}: an orphan")),
                },
                Err(what) => report.find(what),
            }
        }
        Ok(())
    })?;
    for path in expected.keys() {
        report.find(format!("node {path}: missing"));
    }
    for (column, wanted) in [(Column::Index, keys), (Column::Big, bigs)] {
        let mut found = 0;
        for_each_page(view, column, |rows| {
            found += rows.len() as u64;
            Ok(())
        })?;
        if found != wanted {
            report.find(format!("column {}: {found} rows, expected {wanted}", column.name()));
        }
    }
    check_strays(view, &mut report)?;
    check_chain(view, &mut report)?;
    Ok(report)
}

/// Rows where format 1 has none: of another generation, or in a column that is not used yet.
fn check_strays(view: &View, report: &mut Report) -> Result<(), ReadError> {
    let unused = [Column::Undo, Column::UndoAt, Column::Fork, Column::Aux].map(|column| (column, Bounds::all()));
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
    mut page: impl FnMut(&[(Vec<u8>, Vec<u8>)]) -> Result<(), ReadError>,
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
