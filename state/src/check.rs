//! Checking a whole state against itself: the tree is rebuilt from its leaves and compared, row by row.
//!
//! Reads everything once and keeps the rebuilt nodes and the leaves' hashes in memory (about 200 bytes a leaf).

use std::collections::BTreeMap;

use rustorium_verkle::tree::Nodes;
use rustorium_verkle::{Change, Committer, NodePath, NodeRow};

use crate::backend::{Bounds, Column};
use crate::error::ReadError;
use crate::schema::{LeafRow, decode_leaf, decode_node};
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

/// Rebuilds the view's tree from its leaves; compares root, nodes, big values and the index of keys.
pub fn check(view: &View, committer: &Committer) -> Result<Report, ReadError> {
    let mut report = Report::default();
    let mut rebuilt = Nodes::default();
    let (mut keys, mut bigs) = (0u64, 0u64);
    for_each_page(view, Column::Leaf, |rows| {
        let mut changes = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            match decode_leaf(key, value) {
                Ok((path, row)) => {
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
    Ok(report)
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
