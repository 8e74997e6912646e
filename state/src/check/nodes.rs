//! The rows of nodes beside the nodes that the leaves call for.
//!
//! Whoever builds a tree from its leaves finishes the nodes of each depth in ascending order, which is the order of their
//! rows: one cursor a depth, and what a cursor passes over belongs to no node.

use rustorium_verkle::{NodePath, NodeRow};

use crate::backend::{Bounds, Column, Snapshot};
use crate::error::ReadError;
use crate::schema::{Generation, decode_node};

use super::rows::Cursor;
use super::{Cure, Finding, Mends, Report};

/// Rows of one depth that are read at a time.
const PAGE_ROWS: usize = 2048;

/// The rows of a generation's nodes.
pub(super) struct NodeRows<'a> {
    generation: Generation,
    /// By depth.
    levels: Vec<Cursor<'a>>,
    /// What lies before and behind the depths that there are.
    outside: [Cursor<'a>; 2],
}

impl<'a> NodeRows<'a> {
    pub(super) fn new(snapshot: &'a dyn Snapshot, generation: Generation) -> Self {
        let cursor = |bounds| Cursor::new(snapshot, Column::Node, bounds, PAGE_ROWS);
        let depths = rustorium_verkle::key::DEPTH_MAX as u8;
        let level = |depth| cursor(Bounds::prefix(&[generation.0, depth]));
        let Bounds { start, end } = generation.all();
        let before = Bounds { start, end: Some(vec![generation.0, 0]) };
        let behind = Bounds { start: vec![generation.0, depths + 1], end };
        Self { generation, levels: (0..=depths).map(level).collect(), outside: [cursor(before), cursor(behind)] }
    }

    /// The row of a node, which stands behind those asked for before; why it is none, where it is none.
    pub(super) fn take(
        &mut self,
        path: &NodePath,
        mends: &mut Mends,
        report: &mut Report,
    ) -> Result<Result<NodeRow, String>, ReadError> {
        let key = self.generation.node_key(path);
        let found = self.levels[path.depth()].seek(&key, |(key, _)| orphan(&key, mends, report))?;
        Ok(match found {
            Some(found) => decode_node(&key, &found).map(|(_, row)| row),
            // The root of an empty tree may be written or not.
            None if *path == NodePath::ROOT => Ok(NodeRow::EMPTY),
            None => Err("missing".to_owned()),
        })
    }

    /// Names the rows that are left.
    pub(super) fn finish(self, mends: &mut Mends, report: &mut Report) -> Result<(), ReadError> {
        for mut cursor in self.levels.into_iter().chain(self.outside) {
            while let Some((key, _)) = cursor.next()? {
                orphan(&key, mends, report);
            }
        }
        Ok(())
    }
}

/// How a finding names a node.
pub(super) fn name(path: &NodePath) -> String {
    if *path == NodePath::ROOT { "the root node".to_owned() } else { format!("node {path}") }
}

fn orphan(key: &[u8], mends: &mut Mends, report: &mut Report) {
    let row = crate::schema::node_path(key).map(|path| name(&path));
    let row = row.unwrap_or_else(|_| Finding::of_key(Column::Node, key, "", Cure::Mend).row);
    report.find(Finding::new(Column::Node, row, "belongs to no two leaves", Cure::Mend));
    mends.delete(Column::Node, key);
}
