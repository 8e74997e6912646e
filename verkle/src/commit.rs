//! Commitments by difference: the hot path of the product.
//!
//! A node's commitment is `C = Σ_i slot_i · L_i` (spec §4), so a block that changes some slots changes it by
//!
//! ```text
//! C' = C + Σ_changed (new_i − old_i) · L_i
//! ```
//!
//! and what did not change costs nothing. The caller hands in one level of the tree at a time, deepest first, because a
//! node's slot scalar is the hash of its child's new commitment. A difference is a *signed integer* of at most 248 bits,
//! not a number modulo `r`: with tables of windows of `w` bits it takes at most `248/w + 1` additions and no doubling
//! (see [`crate::curve::table`]). One inversion brings a whole level to affine form.
//!
//! Memory: the tables (13 MB at 4 bits, 109 MB at 8), built by the first commit and by nothing else.

use std::ops::Range;
use std::sync::OnceLock;

use crate::curve::table::Table;
use crate::curve::{Point, Sum};
use crate::key::SlotScalar;
use crate::{parallel, setup};

/// Differences that one piece of parallel work sums up.
const PIECE_DELTAS: usize = 32;

/// Width of the windows of a [`Committer`]'s tables, in bits: more memory, fewer additions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowBits(u8);

impl WindowBits {
    /// 13 MB of tables, ready in a tenth of a second: for tests and for one-off commands.
    pub const SMALL: Self = Self(4);
    /// 109 MB of tables: for a node.
    pub const DEFAULT: Self = Self(8);

    /// `None` outside 2 to 12 bits.
    pub fn new(bits: u8) -> Option<Self> {
        (2..=12).contains(&bits).then_some(Self(bits))
    }
}

/// One slot of a node, before and after.
#[derive(Clone, Copy, Debug)]
pub struct SlotDelta {
    /// Which slot.
    pub slot: u8,
    /// Its scalar before.
    pub old: SlotScalar,
    /// Its scalar after.
    pub new: SlotScalar,
}

/// A node whose commitment is wanted: what it was and what changes.
#[derive(Clone, Debug)]
pub struct NodeDeltas {
    /// The commitment before; infinity for a new node.
    pub base: Point,
    /// The slots that change, each once.
    pub deltas: Vec<SlotDelta>,
}

/// Turns differences of slots into new commitments. Shared by all threads; holds the fixed-base tables.
pub struct Committer {
    window: WindowBits,
    table: OnceLock<Table>,
}

impl Committer {
    /// A committer whose tables are built when they are first needed.
    pub const fn new(window: WindowBits) -> Self {
        Self { window, table: OnceLock::new() }
    }

    /// Builds the tables now, so that the first block does not wait for them.
    pub fn prepare(&self) {
        self.table();
    }

    /// Bytes of tables in memory; 0 before the first commit.
    pub fn table_bytes(&self) -> usize {
        self.table.get().map_or(0, Table::bytes)
    }

    /// The new commitment of each node, in the order given. The nodes are independent of each other.
    pub fn commit(&self, nodes: &[NodeDeltas]) -> Vec<Point> {
        if nodes.is_empty() {
            return Vec::new();
        }
        let table = self.table();
        let pieces: Vec<(usize, Range<usize>)> = nodes
            .iter()
            .enumerate()
            .flat_map(|(index, node)| {
                let starts = (0..node.deltas.len()).step_by(PIECE_DELTAS);
                starts.map(move |start| (index, start..node.deltas.len().min(start + PIECE_DELTAS)))
            })
            .collect();
        let partial = parallel::map(&pieces, |(index, range)| {
            let mut sum = Sum::ZERO;
            for delta in &nodes[*index].deltas[range.clone()] {
                table.accumulate(&mut sum, delta.slot, &delta.new, &delta.old);
            }
            sum
        });
        // C' = C + Σ (new_i − old_i)·L_i
        let mut sums: Vec<Sum> = nodes.iter().map(|node| Sum::from(node.base)).collect();
        for ((index, _), part) in pieces.iter().zip(partial) {
            sums[*index] += part;
        }
        Sum::to_points(&sums)
    }

    fn table(&self) -> &Table {
        self.table.get_or_init(|| Table::new(setup::lagrange(), self.window.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{PointBytes, Scalar, msm};

    #[test]
    fn committing_by_difference_agrees_with_committing_anew() {
        let committer = Committer::new(WindowBits::SMALL);
        assert_eq!(committer.table_bytes(), 0);
        let scalar = |i: usize| SlotScalar::node(&PointBytes([i as u8; 48]));
        let all: Vec<SlotDelta> =
            (0..=255u8).map(|slot| SlotDelta { slot, old: SlotScalar::EMPTY, new: scalar(slot as usize) }).collect();
        let naive = |scalars: &[Scalar]| msm(setup::lagrange(), scalars);
        let whole: Vec<Scalar> = all.iter().map(|delta| Scalar::from(&delta.new)).collect();
        let built = committer.commit(&[NodeDeltas { base: Point::INFINITY, deltas: all.clone() }]);
        assert_eq!(built, [naive(&whole)]);
        assert!(committer.table_bytes() > 0);

        // Emptying every slot leads back to infinity; changing one moves the commitment as a rebuild would.
        let undone = all.iter().map(|d| SlotDelta { slot: d.slot, old: d.new, new: d.old }).collect();
        let one = SlotDelta { slot: 7, old: scalar(7), new: scalar(99) };
        let mut changed = whole;
        changed[7] = Scalar::from(&scalar(99));
        let nodes = [
            NodeDeltas { base: built[0], deltas: undone },
            NodeDeltas { base: built[0], deltas: vec![one] },
            NodeDeltas { base: built[0], deltas: vec![] },
        ];
        assert_eq!(committer.commit(&nodes), [Point::INFINITY, naive(&changed), built[0]]);
    }
}
