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
//! not a number modulo `r`, so that with digits `d_k` of `w` bits in `[−2^(w−1), 2^(w−1)]`
//!
//! ```text
//! (new − old) · L_i = Σ_k d_k · 2^(wk) · L_i
//! ```
//!
//! is at most `248/w + 1` entries of a table and no doubling ([`crate::curve::table`]).
//!
//! Order of work, for all differences of a level (*terms*), by the fastest kernel that the machine has:
//!
//! 1. Terms are sorted by slot, so that the entries which are read together lie together, and cut into chunks that fit in
//!    a core's cache; each thread takes chunks.
//! 2. A chunk goes through the windows in rounds: one addition a term and round, all of them *batch-affine*, so that they
//!    share one field inversion and each costs five multiplications and a squaring (`curve/batch.rs` has the formulas).
//!    The entries of the next round are asked for meanwhile. Within a term no addition is exceptional.
//! 3. A node's terms and its old commitment are added up pair by pair, all nodes together. Here points may be equal,
//!    opposite or infinite, which an attacker can arrange; such a chunk costs a few times as much.
//!
//! Fewer than some 200 terms a thread do without inversions until the end (`curve/ifma/few.rs`).
//!
//! Cost: of a batch of 10 000 random keys on a tree of 1 000 000, 1.95 terms a key (one at the leaf's node, one at its
//! parent, the rest shared), each of 25 additions with windows of 10 bits, and one more to add it to its node: 50
//! additions a key. Memory: the tables, built by the first commit and by nothing else (see there for their sizes), and a
//! megabyte for each thread that is at work.

use std::ops::Range;
use std::sync::OnceLock;

use crate::curve::table::{Table, Term};
use crate::curve::{Kernel, Point, Scalar, Sum};
use crate::domain::WIDTH;
use crate::key::SlotScalar;
use crate::setup;

/// Differences of one node that are summed up by one thread; a node with more is cut.
const PIECE_DELTAS: usize = 128;

/// Width of the windows of a [`Committer`]'s tables, in bits: more memory, fewer additions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowBits(u8);

impl WindowBits {
    /// 13 MB of tables, ready in a tenth of a second: for tests and for one-off commands.
    pub const SMALL: Self = Self(4);
    /// 436 MB of tables (327 MB without IFMA), ready in a second: for a node.
    pub const DEFAULT: Self = Self(10);

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
    kernel: OnceLock<Kernel>,
    table: OnceLock<Table>,
}

impl Committer {
    /// A committer whose tables are built when they are first needed, with the fastest kernel of the machine.
    pub const fn new(window: WindowBits) -> Self {
        Self { window, kernel: OnceLock::new(), table: OnceLock::new() }
    }

    /// The same, with one of [`Kernel::available`].
    pub fn with_kernel(window: WindowBits, kernel: Kernel) -> Self {
        Self { window, kernel: OnceLock::from(kernel), table: OnceLock::new() }
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
        let term = |delta: &SlotDelta| Term::new(delta.slot, &delta.old, &delta.new);
        let terms: Vec<Term> = nodes.iter().flat_map(|node| node.deltas.iter().map(term)).collect();
        // A node is one group of terms with its old commitment for a base; a node with many terms is several, of which
        // the first has the base.
        let mut groups: Vec<(Point, &[Term])> = Vec::with_capacity(nodes.len());
        let mut pieces: Vec<Range<usize>> = Vec::with_capacity(nodes.len());
        let mut rest = terms.as_slice();
        for node in nodes {
            let (own, others) = rest.split_at(node.deltas.len());
            rest = others;
            let first = groups.len();
            groups.push((node.base, &own[..own.len().min(PIECE_DELTAS)]));
            let more = own.chunks(PIECE_DELTAS).skip(1).map(|piece| (Point::INFINITY, piece));
            groups.extend(more);
            pieces.push(first..groups.len());
        }
        // C' = C + Σ (new_i − old_i)·L_i
        let sums = self.table().sums(&groups);
        if groups.len() == nodes.len() {
            return sums;
        }
        let whole = pieces.into_iter().map(|piece| {
            let [first, more @ ..] = &sums[piece] else { unreachable!("every node has a piece") };
            more.iter().fold(Sum::from(*first), |mut sum, point| {
                sum += *point;
                sum
            })
        });
        Sum::to_points(&whole.collect::<Vec<_>>())
    }

    /// `Σ_i values_i · L_i`: the commitment to the polynomial with these values on the domain.
    pub fn commit_to(&self, values: &[Scalar; WIDTH]) -> Point {
        let term = |(slot, value): (usize, &Scalar)| Term::of_scalar(slot as u8, value);
        let terms: Vec<Term> = values.iter().enumerate().map(term).collect();
        let pieces: Vec<(Point, &[Term])> = terms.chunks(PIECE_DELTAS).map(|piece| (Point::INFINITY, piece)).collect();
        let mut sum = Sum::ZERO;
        for point in self.table().sums(&pieces) {
            sum += point;
        }
        sum.to_point()
    }

    /// Carries out this many bare additions on all threads: the formulas alone, by the same kernel, on points that stay in
    /// the cache or, `cold`, on points from all over the table. The floor that benchmarks hold [`Committer::commit`]
    /// against; the sum is of no use but that nothing is optimised away.
    pub fn bare_additions(&self, additions: usize, cold: bool) -> u64 {
        let share = additions.div_ceil(crate::parallel::threads());
        let shares = vec![share; crate::parallel::threads()];
        let work = |share: &usize| self.table().bare_additions(*share, cold);
        crate::parallel::map(&shares, work).iter().fold(0, |a, b| a ^ b)
    }

    fn table(&self) -> &Table {
        self.table.get_or_init(|| {
            let fastest = || Kernel::available()[0];
            Table::new(setup::lagrange(), self.window.0, *self.kernel.get_or_init(fastest))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{PointBytes, naive_msm};

    #[test]
    fn committing_by_difference_agrees_with_committing_anew() {
        let committer = Committer::new(WindowBits::SMALL);
        assert_eq!(committer.table_bytes(), 0);
        let scalar = |i: usize| SlotScalar::node(&PointBytes([i as u8; 48]));
        let all: Vec<SlotDelta> =
            (0..=255u8).map(|slot| SlotDelta { slot, old: SlotScalar::EMPTY, new: scalar(slot as usize) }).collect();
        let naive = |scalars: &[Scalar]| naive_msm(setup::lagrange(), scalars);
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

        // Scalars that fill the field, and its edges.
        let mut values = [Scalar::ZERO; WIDTH];
        let mut value = Scalar::from_u128(3).pow(1 << 40);
        for place in values.iter_mut().skip(5) {
            value = value * value + Scalar::ONE;
            *place = value;
        }
        let half = Scalar::from_u128(2).inverse().unwrap();
        values[..5].copy_from_slice(&[Scalar::ZERO, Scalar::ONE, -Scalar::ONE, half, -half]);
        for kernel in Kernel::available() {
            for bits in [4, 7, 10] {
                let committer = Committer::with_kernel(WindowBits::new(bits).unwrap(), kernel);
                assert_eq!(committer.commit_to(&values), naive(&values), "{kernel:?}, windows of {bits} bits");
                assert_eq!(committer.commit_to(&[Scalar::ZERO; WIDTH]), Point::INFINITY);
            }
        }
    }
}
