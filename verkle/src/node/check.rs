//! Nodes that prove themselves (spec §7): a node's content against a commitment that is trusted, one alone or many at once.

use std::sync::OnceLock;

use super::Slot;
use crate::curve::{Point, Scalar, Sum, msm, weighted_sum};
use crate::domain::WIDTH;
use crate::key::{KeyPath, NodePath};
use crate::{parallel, setup};

/// Why a node's content is not what its commitment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadNode {
    /// The slots are not strictly ascending.
    #[error("node {node}: slot {slot} is out of order")]
    Order {
        /// The node.
        node: NodePath,
        /// The slot that came too late.
        slot: u8,
    },
    /// A leaf that belongs elsewhere.
    #[error("node {node}: the leaf {path} does not belong in slot {slot}")]
    Misplaced {
        /// The node.
        node: NodePath,
        /// The slot that holds the leaf.
        slot: u8,
        /// The leaf's path.
        path: KeyPath,
    },
    /// An inner node that is the point at infinity, or that hangs below the deepest level.
    #[error("node {node}: slot {slot} cannot hold this inner node")]
    Inner {
        /// The node.
        node: NodePath,
        /// The slot.
        slot: u8,
    },
    /// A node other than the root with fewer than two leaves below it.
    #[error("node {node} has fewer than two leaves below it")]
    Sparse {
        /// The node.
        node: NodePath,
    },
    /// The slots are well formed, and not those of this commitment.
    #[error("node {node}: its slots do not give its commitment")]
    Commitment {
        /// The node.
        node: NodePath,
    },
}

/// A node on its own: what is said to be in it, and the commitment that is trusted.
#[derive(Clone, Debug)]
pub struct Content<'a> {
    /// Where the node is.
    pub node: NodePath,
    /// Its commitment.
    pub trusted: Point,
    /// Its slots that are not empty, strictly ascending.
    pub slots: &'a [(u8, Slot)],
}

/// Checks a node's content against its trusted commitment (spec §7). `slots` lists the slots that are not empty,
/// strictly ascending.
pub fn check(node: &NodePath, trusted: &Point, slots: &[(u8, Slot)]) -> Result<(), BadNode> {
    check_form(node, slots)?;
    let bases: Vec<Point> = slots.iter().map(|(slot, _)| setup::lagrange()[*slot as usize]).collect();
    let scalars: Vec<Scalar> = slots.iter().map(|(_, content)| Scalar::from(&content.scalar())).collect();
    if msm(&bases, &scalars) == *trusted { Ok(()) } else { Err(BadNode::Commitment { node: *node }) }
}

/// Checks many nodes at once (spec §7); the first bad one in the order given is the error.
///
/// With weights `w_k` of 128 bits, drawn from an XOF over everything that is checked and the caller's `seed`, which
/// whoever made the nodes must not know: `Σ_k w_k·C_k = Σ_i (Σ_k w_k·slot_{k,i})·L_i`. If it fails, the halves are
/// checked with weights of their own, down to the culprit: an additional check a level for each bad node, so that only
/// the first is looked for.
///
/// The commitments' cofactor parts are not seen: each commitment must be in the subgroup, or bound by a hash to a parent
/// that is checked in the same breath.
///
/// Cost: a hash and a product of integers for each slot, about a dozen curve additions for each node, and some thousands
/// more for the call, so that 4096 nodes at a time are near the best. Memory: about 40 bytes a slot and 500 a node beside
/// what is handed in.
pub fn check_many(nodes: &[Content<'_>], seed: &[u8; 32]) -> Result<(), BadNode> {
    // What is wrong in form has no meaning as a sum, and must not hide an earlier node's wrong sum.
    let malformed = nodes
        .iter()
        .enumerate()
        .find_map(|(index, content)| check_form(&content.node, content.slots).err().map(|error| (index, error)));
    let well_formed = &nodes[..malformed.as_ref().map_or(nodes.len(), |(index, _)| *index)];
    let absorbed = parallel::map(&well_formed.chunks(PIECE_NODES).collect::<Vec<_>>(), |piece| absorb(piece));
    let absorbed = absorbed.concat();
    let mut rest = absorbed.as_slice();
    let equations: Vec<Equation<'_>> = well_formed
        .iter()
        .map(|content| {
            let (own, others) = rest.split_at(ABSORBED_HEAD + ABSORBED_SLOT * content.slots.len());
            rest = others;
            Equation { commitment: content.trusted, absorbed: own }
        })
        .collect();
    if let Some(bad) = first_bad_sum(&equations, &absorbed, seed) {
        return Err(BadNode::Commitment { node: well_formed[bad].node });
    }
    malformed.map_or(Ok(()), |(_, error)| Err(error))
}

const BATCH_CHECK_CONTEXT: &str = "rustorium.v1 node batch check";
/// Nodes whose slots are hashed by one thread in a row.
const PIECE_NODES: usize = 32;
/// Bytes of a weight: 128 bits.
const WEIGHT_BYTES: usize = 16;

/// That a node of these slots has this commitment.
struct Equation<'a> {
    commitment: Point,
    /// As the weights' XOF takes it: see [`absorb`].
    absorbed: &'a [u8],
}

/// Bytes of a node's head and of a slot in what the XOF absorbs.
const ABSORBED_HEAD: usize = 48 + 8;
const ABSORBED_SLOT: usize = 32;

/// Everything that is checked of some nodes, byte by byte: for each node `c48(C)`, the number of slots (u64 LE), and of each
/// slot the scalar (31 bytes LE) and the index.
fn absorb(nodes: &[Content<'_>]) -> Vec<u8> {
    let slots: usize = nodes.iter().map(|content| content.slots.len()).sum();
    let mut bytes = Vec::with_capacity(ABSORBED_HEAD * nodes.len() + ABSORBED_SLOT * slots);
    for content in nodes {
        bytes.extend_from_slice(&content.trusted.encode().0);
        bytes.extend_from_slice(&(content.slots.len() as u64).to_le_bytes());
        for (slot, content) in content.slots {
            let mut scalar = content.scalar().to_le_bytes();
            scalar[31] = *slot;
            bytes.extend_from_slice(&scalar);
        }
    }
    bytes
}

/// Which of the nodes is the first whose slots do not give its commitment. `absorbed` is that of all of them.
fn first_bad_sum(equations: &[Equation<'_>], absorbed: &[u8], seed: &[u8; 32]) -> Option<usize> {
    if equations.is_empty() || sums_agree(equations, absorbed, seed) {
        return None;
    }
    if equations.len() == 1 {
        return Some(0);
    }
    let half = equations.len() / 2;
    let (left, right) = equations.split_at(half);
    let (of_left, of_right) = absorbed.split_at(left.iter().map(|equation| equation.absorbed.len()).sum());
    first_bad_sum(left, of_left, seed).or_else(|| first_bad_sum(right, of_right, seed).map(|bad| half + bad))
}

/// `Σ_k w_k·C_k − Σ_i (Σ_k w_k·slot_{k,i})·L_i = O`.
fn sums_agree(equations: &[Equation<'_>], absorbed: &[u8], seed: &[u8; 32]) -> bool {
    let mut hasher = blake3::Hasher::new_derive_key(BATCH_CHECK_CONTEXT);
    hasher.update(seed).update(&(equations.len() as u64).to_le_bytes()).update(absorbed);
    let mut weights = vec![0; WEIGHT_BYTES * equations.len()];
    hasher.finalize_xof().fill(&mut weights);
    let mut weights: Vec<u128> =
        weights.chunks_exact(WEIGHT_BYTES).map(|bytes| u128::from_le_bytes(bytes.try_into().expect("16"))).collect();

    let share = equations.len().div_ceil(parallel::threads());
    let shares: Vec<(&[Equation<'_>], &[u128])> = equations.chunks(share).zip(weights.chunks(share)).collect();
    let sums = parallel::map(&shares, |(equations, weights)| slot_sums(equations, weights));
    let mut points: Vec<Point> = equations.iter().map(|equation| equation.commitment).collect();
    points.extend_from_slice(lagrange_halves());
    // −s = low + 2^128·high: scalars of the field as weights of their own for two points.
    let mut high = Vec::with_capacity(WIDTH);
    for slot in 0..WIDTH {
        let sum = sums.iter().fold(Scalar::ZERO, |sum, share| sum + share[slot].reduce());
        let bytes = (-sum).to_le_bytes();
        let half = |at: usize| u128::from_le_bytes(bytes[at..at + 16].try_into().expect("sixteen bytes"));
        weights.push(half(0));
        high.push(half(16));
    }
    weights.append(&mut high);
    weighted_sum(&points, &weights).is_infinity()
}

/// `L_0 … L_255`, then `2^128·L_0 … 2^128·L_255`.
fn lagrange_halves() -> &'static [Point] {
    static HALVES: OnceLock<Vec<Point>> = OnceLock::new();
    HALVES.get_or_init(|| {
        let shifted = parallel::map(setup::lagrange(), |point| {
            let mut sum = Sum::from(*point);
            for _ in 0..128 {
                sum = sum.double();
            }
            sum
        });
        [setup::lagrange(), &Sum::to_points(&shifted)].concat()
    })
}

/// `Σ_k w_k·slot_{k,i}` for each slot `i`.
fn slot_sums(equations: &[Equation<'_>], weights: &[u128]) -> Vec<WideSum> {
    let mut sums = vec![WideSum::ZERO; WIDTH];
    for (equation, weight) in equations.iter().zip(weights) {
        for slot in equation.absorbed[ABSORBED_HEAD..].chunks_exact(ABSORBED_SLOT) {
            let limb = |i: usize| u64::from_le_bytes(slot[8 * i..8 * i + 8].try_into().expect("eight bytes"));
            // The top byte is the slot's index.
            let scalar = [limb(0), limb(1), limb(2), limb(3) & (u64::MAX >> 8)];
            sums[slot[31] as usize].add_product(*weight, &scalar);
        }
    }
    sums
}

/// A sum of products of 128 and 248 bits as an integer, to be reduced modulo `r` once: 448 bits hold `2^72` of them.
#[derive(Clone, Copy)]
struct WideSum([u64; 7]);

impl WideSum {
    const ZERO: Self = Self([0; 7]);

    #[inline]
    fn add_product(&mut self, weight: u128, scalar: &[u64; 4]) {
        for (i, weight) in [weight as u64, (weight >> 64) as u64].into_iter().enumerate() {
            let mut carry = 0;
            for (j, limb) in scalar.iter().enumerate() {
                // At most (2^64 − 1)² + 2·(2^64 − 1) = 2^128 − 1.
                let sum = self.0[i + j] as u128 + weight as u128 * *limb as u128 + carry as u128;
                (self.0[i + j], carry) = (sum as u64, (sum >> 64) as u64);
            }
            for limb in &mut self.0[i + 4..] {
                let (sum, over) = limb.overflowing_add(carry);
                (*limb, carry) = (sum, over as u64);
            }
        }
    }

    fn reduce(&self) -> Scalar {
        let mut bytes = [0; 64];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        Scalar::from_wide(&bytes)
    }
}

/// What can be judged of a node's content without its commitment.
fn check_form(node: &NodePath, slots: &[(u8, Slot)]) -> Result<(), BadNode> {
    let node = *node;
    for (index, (slot, content)) in slots.iter().enumerate() {
        let slot = *slot;
        if index > 0 && slots[index - 1].0 >= slot {
            return Err(BadNode::Order { node, slot });
        }
        match content {
            Slot::Empty => {}
            Slot::Leaf(leaf) if node.covers(&leaf.path) && leaf.path.slot(node.depth()) == slot => {}
            Slot::Leaf(leaf) => return Err(BadNode::Misplaced { node, slot, path: leaf.path }),
            Slot::Inner(point) if !point.is_infinity() && node.depth() < crate::key::DEPTH_MAX => {}
            Slot::Inner(_) => return Err(BadNode::Inner { node, slot }),
        }
    }
    // An inner node counts for two: it has at least two leaves below itself.
    let weight = |content: &Slot| match content {
        Slot::Empty => 0,
        Slot::Leaf(_) => 1,
        Slot::Inner(_) => 2,
    };
    if node != NodePath::ROOT && slots.iter().map(|(_, content)| weight(content)).sum::<usize>() < 2 {
        return Err(BadNode::Sparse { node });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::commit::{Committer, WindowBits};
    use crate::key::ValueHash;
    use crate::node::Leaf;
    use crate::tree::{Change, Nodes};

    fn leaf(first: u8, second: u8) -> Leaf {
        let mut path = [7; 32];
        path[..2].copy_from_slice(&[first, second]);
        Leaf { path: KeyPath(path), value_hash: ValueHash([second; 32]) }
    }

    fn commitment(slots: &[(u8, Slot)]) -> Point {
        let scalars: Vec<Scalar> = slots.iter().map(|(_, content)| Scalar::from(&content.scalar())).collect();
        let bases: Vec<Point> = slots.iter().map(|(slot, _)| setup::lagrange()[*slot as usize]).collect();
        msm(&bases, &scalars)
    }

    #[test]
    fn a_node_is_judged_by_its_content() {
        let node = NodePath::new(&[3]);
        let good = [(4, Slot::Leaf(leaf(3, 4))), (9, Slot::Inner(Point::generator()))];
        let trusted = commitment(&good);
        assert_eq!(check(&node, &trusted, &good), Ok(()));
        assert_eq!(check(&node, &Point::generator(), &good), Err(BadNode::Commitment { node }));

        let judged = |slots: &[(u8, Slot)]| check(&node, &commitment(slots), slots).unwrap_err();
        assert_eq!(judged(&[good[1], good[0]]), BadNode::Order { node, slot: 4 });
        assert_eq!(judged(&[good[0], good[0]]), BadNode::Order { node, slot: 4 });
        assert_eq!(judged(&[(9, Slot::Inner(Point::INFINITY))]), BadNode::Inner { node, slot: 9 });
        assert_eq!(judged(&[good[0]]), BadNode::Sparse { node });
        let stray = leaf(3, 5);
        assert_eq!(judged(&[(4, Slot::Leaf(stray))]), BadNode::Misplaced { node, slot: 4, path: stray.path });
        let foreign = leaf(2, 4);
        assert_eq!(judged(&[(4, Slot::Leaf(foreign))]), BadNode::Misplaced { node, slot: 4, path: foreign.path });
        let deepest = NodePath::new(&[0; 31]);
        let inner = [(0, Slot::Inner(Point::generator()))];
        assert_eq!(check(&deepest, &commitment(&inner), &inner), Err(BadNode::Inner { node: deepest, slot: 0 }));
        // The root alone may be sparse.
        let single = [(3, Slot::Leaf(leaf(3, 4)))];
        assert_eq!(check(&NodePath::ROOT, &commitment(&single), &single), Ok(()));
        assert_eq!(check(&NodePath::ROOT, &Point::INFINITY, &[]), Ok(()));
    }

    #[test]
    fn the_first_bad_node_of_many_is_found() {
        let contents: Vec<Vec<(u8, Slot)>> = (0..37u8)
            .map(|i| {
                vec![
                    (4, Slot::Leaf(leaf(i, 4))),
                    (9 + i, Slot::Leaf(leaf(i, 9 + i))),
                    (200, Slot::Inner(Point::generator())),
                ]
            })
            .collect();
        let nodes = || -> Vec<Content<'_>> {
            contents
                .iter()
                .enumerate()
                .map(|(i, slots)| Content { node: NodePath::new(&[i as u8]), trusted: commitment(slots), slots })
                .collect()
        };
        let seed = [7; 32];
        assert_eq!(check_many(&[], &seed), Ok(()));
        assert_eq!(check_many(&nodes(), &seed), Ok(()));
        let bad = |i: u8| BadNode::Commitment { node: NodePath::new(&[i]) };
        for wrong in [0, 1, 18, 36] {
            let mut nodes = nodes();
            nodes[wrong].trusted = nodes[(wrong + 1) % 37].trusted;
            assert_eq!(check_many(&nodes, &seed), Err(bad(wrong as u8)));
        }
        // Two errors that cancel each other without weights, and one of form behind a wrong sum.
        let mut swapped = nodes();
        (swapped[5].trusted, swapped[30].trusted) = (swapped[30].trusted, swapped[5].trusted);
        assert_eq!(check_many(&swapped, &seed), Err(bad(5)));
        let mut mixed = nodes();
        mixed[20].slots = &mixed[20].slots[..1];
        assert_eq!(check_many(&mixed, &seed), Err(BadNode::Sparse { node: NodePath::new(&[20]) }));
        mixed[3].trusted = Point::generator();
        assert_eq!(check_many(&mixed, &seed), Err(bad(3)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn many_are_judged_as_each_alone(
            seed in any::<[u8; 32]>(),
            keys in 1..600u32,
            wrong in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8), 0..3),
        ) {
            static COMMITTER: Committer = Committer::new(WindowBits::SMALL);
            let mut tree = Nodes::default();
            tree.apply((0..keys).map(|i| Change::put(&i.to_le_bytes(), &seed)), &COMMITTER);
            let mut nodes: Vec<_> =
                tree.rows().map(|(path, row)| (*path, row.commitment, tree.slots(path))).collect();
            for (index, what) in wrong {
                let other = nodes[index.index(nodes.len())].1;
                let (_, trusted, slots) = index.get_mut(&mut nodes);
                match what {
                    0 => *trusted = Sum::from(other).double().to_point(),
                    1 => *trusted = Point::INFINITY,
                    2 => drop(slots.pop()),
                    _ => slots.iter_mut().for_each(|(_, content)| {
                        if let Slot::Leaf(leaf) = content {
                            leaf.value_hash.0[31] ^= 1;
                        }
                    }),
                }
            }
            let contents: Vec<Content<'_>> =
                nodes.iter().map(|(node, trusted, slots)| Content { node: *node, trusted: *trusted, slots }).collect();
            let alone = contents.iter().try_for_each(|content| check(&content.node, &content.trusted, content.slots));
            prop_assert_eq!(check_many(&contents, &seed), alone);
        }
    }
}
