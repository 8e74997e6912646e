//! One proof for many openings of many nodes (spec §6).
//!
//! Query `j` says: the polynomial `f_j` behind commitment `C_j` has the value `y_j` at `x_j = ω^{z_j}`. The prover folds
//! all of them, `g(X) = Σ_j ρ^j · (f_j(X) − y_j)/(X − x_j)`, and shows at a random `t` that `g` is what it says. Queries
//! with the same slot share a divisor, so they are summed before dividing: at most 256 quotients a proof, however many
//! keys.

mod prove;
mod verify;

pub use prove::{Opened, prove};
pub use verify::{Equation, Points, Weighted, hold_together};

use crate::curve::{PointBytes, Scalar, WideSum};
use crate::domain::WIDTH;
use crate::key::SlotScalar;

/// An opening of node number `node` (as the caller counts them) at slot `z`, with the value `y`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query {
    /// Index of the node in the caller's list.
    pub node: usize,
    /// The slot opened.
    pub z: u8,
    /// The slot's scalar.
    pub y: SlotScalar,
}

/// The two points of a proof, `c48(D)` and `c48(π)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Multiproof {
    /// `D = [g(τ)]`.
    pub d: PointBytes,
    /// `π = [((h(τ) − g(τ)) − y)/(τ − t)]`.
    pub pi: PointBytes,
}

/// What the openings weigh at `t`, for the prover and the verifier: `h(X) = Σ_j ρ^j/(t − x_j) · f_j(X)` and its commitment
/// `E` have one factor a node.
struct Folded {
    /// `Σ_{j of the node} ρ^j/(t − x_j)`.
    by_node: Vec<Scalar>,
    /// `y = Σ_j ρ^j/(t − x_j) · y_j`.
    y: Scalar,
}

impl Folded {
    /// From the powers of `ρ` and `1/(t − ω^z)` for each slot `z` that is opened.
    fn new(nodes: usize, queries: &[Query], powers: &[Scalar], inverses: &[Scalar; WIDTH]) -> Self {
        let mut folded = Self { by_node: vec![Scalar::ZERO; nodes], y: Scalar::ZERO };
        for (queries, powers) in queries.chunks(WideSum::TERMS_MAX).zip(powers.chunks(WideSum::TERMS_MAX)) {
            let mut y = WideSum::ZERO;
            for (query, power) in queries.iter().zip(powers) {
                let weight = *power * inverses[query.z as usize];
                folded.by_node[query.node] += weight;
                y.add_product(&weight, &query.y);
            }
            folded.y += y.reduce();
        }
        folded
    }
}

/// `1, ρ, ρ², …`
fn powers(rho: Scalar, count: usize) -> Vec<Scalar> {
    std::iter::successors(Some(Scalar::ONE), |power| Some(*power * rho)).take(count).collect()
}
