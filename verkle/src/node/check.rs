//! Nodes that prove themselves (spec §7): a node's content against a commitment that is trusted, one alone or many at once.

use super::Slot;
use crate::curve::{Point, Scalar, msm};
use crate::key::{KeyPath, NodePath, SlotScalar};
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
pub fn check_many(nodes: &[Content<'_>], seed: &[u8; 32]) -> Result<(), BadNode> {
    // What is wrong in form has no meaning as a sum, and must not hide an earlier node's wrong sum.
    let malformed = nodes
        .iter()
        .enumerate()
        .find_map(|(index, content)| check_form(&content.node, content.slots).err().map(|error| (index, error)));
    let well_formed = &nodes[..malformed.as_ref().map_or(nodes.len(), |(index, _)| *index)];
    let scalars = parallel::map(well_formed, |content| -> Vec<(u8, SlotScalar)> {
        content.slots.iter().map(|(slot, content)| (*slot, content.scalar())).collect()
    });
    if let Some(bad) = first_bad_sum(well_formed, &scalars, seed) {
        return Err(BadNode::Commitment { node: bad });
    }
    malformed.map_or(Ok(()), |(_, error)| Err(error))
}

const BATCH_CHECK_CONTEXT: &str = "rustorium.v1 node batch check";

/// The first node whose slots do not give its commitment.
fn first_bad_sum(nodes: &[Content<'_>], scalars: &[Vec<(u8, SlotScalar)>], seed: &[u8; 32]) -> Option<NodePath> {
    if nodes.is_empty() || sums_agree(nodes, scalars, seed) {
        return None;
    }
    if let [content] = nodes {
        return Some(content.node);
    }
    let half = nodes.len() / 2;
    first_bad_sum(&nodes[..half], &scalars[..half], seed)
        .or_else(|| first_bad_sum(&nodes[half..], &scalars[half..], seed))
}

/// `Σ_k w_k·C_k = Σ_i (Σ_k w_k·slot_{k,i})·L_i`.
fn sums_agree(nodes: &[Content<'_>], scalars: &[Vec<(u8, SlotScalar)>], seed: &[u8; 32]) -> bool {
    let mut hasher = blake3::Hasher::new_derive_key(BATCH_CHECK_CONTEXT);
    hasher.update(seed).update(&(nodes.len() as u64).to_le_bytes());
    for (content, scalars) in nodes.iter().zip(scalars) {
        hasher.update(&content.trusted.encode().0).update(&(scalars.len() as u64).to_le_bytes());
        for (slot, scalar) in scalars {
            hasher.update(&[*slot]).update(&scalar.to_le_bytes());
        }
    }
    let mut weights = hasher.finalize_xof();
    let mut points = Vec::with_capacity(nodes.len() + setup::lagrange().len());
    let mut factors = Vec::with_capacity(points.capacity());
    let mut by_slot = [Scalar::ZERO; 256];
    for (content, scalars) in nodes.iter().zip(scalars) {
        let mut weight = [0; 16];
        weights.fill(&mut weight);
        let weight = Scalar::from_u128(u128::from_le_bytes(weight));
        for (slot, scalar) in scalars {
            by_slot[*slot as usize] += weight * Scalar::from(scalar);
        }
        points.push(content.trusted);
        factors.push(weight);
    }
    points.extend_from_slice(setup::lagrange());
    factors.extend(by_slot.map(|sum| -sum));
    msm(&points, &factors).is_infinity()
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
    use super::*;
    use crate::key::ValueHash;
    use crate::node::Leaf;

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
}
