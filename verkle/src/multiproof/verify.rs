//! Judging proofs: hashing and field arithmetic bring a proof down to one equation between pairings, and many equations to
//! one.

use super::{Folded, Multiproof, Query, powers};
use crate::curve::{Point, PointBytes, Scalar, msm, pairings_agree};
use crate::domain::Domain;
use crate::setup;
use crate::transcript::Transcript;

/// What a proof comes down to: `e(E − D − [y] + t·π, [1]₂) = e(π, [τ]₂)`, as factors of points that need not be decoded
/// yet.
#[derive(Clone, Debug)]
pub struct Equation {
    /// Of the commitments in `E`, in the order of the nodes.
    by_node: Vec<Scalar>,
    y: Scalar,
    t: Scalar,
}

/// The points that an equation is about: the nodes' commitments, and `D` and `π`, which are in the subgroup.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    /// In the order of the nodes.
    pub nodes: &'a [Point],
    /// `D`.
    pub d: Point,
    /// `π`.
    pub pi: Point,
}

impl Equation {
    /// The equation of a proof of `queries`, sorted by `(node, z)`, over `nodes`, sorted by path; `None` for a proof that
    /// fails without one, because `t` is in the domain.
    pub fn new(nodes: &[PointBytes], queries: &[Query], proof: &Multiproof) -> Option<Self> {
        let mut transcript = Transcript::new(queries, |node| &nodes[node]);
        let powers = powers(transcript.challenge(), queries.len());
        transcript.absorb_point(&proof.d);
        let t = transcript.challenge();
        let inverses = Domain::shared().inverse_distances(t, queries.iter().map(|query| query.z))?;
        let Folded { by_node, y } = Folded::new(nodes.len(), queries, &powers, &inverses);
        Some(Self { by_node, y, t })
    }

    #[cfg(test)]
    pub(crate) fn t(&self) -> Scalar {
        self.t
    }

    /// Whether it holds.
    pub fn holds(&self, points: Points<'_>) -> bool {
        // One sum for all of E − D − [y] + t·π.
        let terms = [points.nodes, &[-points.d, Point::generator(), points.pi]].concat();
        let factors = [self.by_node.as_slice(), &[Scalar::ONE, -self.y, self.t]].concat();
        pairings_agree(&msm(&terms, &factors), &points.pi, setup::tau_g2())
    }
}

/// An equation with its factor in a sum of equations.
#[derive(Clone, Copy, Debug)]
pub struct Weighted<'a> {
    /// The factor.
    pub weight: Scalar,
    /// The equation.
    pub equation: &'a Equation,
    /// Where its nodes' commitments stand in the list of all commitments, in the order of its nodes.
    pub nodes: &'a [usize],
    /// `D`.
    pub d: Point,
    /// `π`.
    pub pi: Point,
}

/// Whether the sum of the equations holds: `e(Σ_k w_k·(E_k − D_k − [y_k] + t_k·π_k), [1]₂) = e(Σ_k w_k·π_k, [τ]₂)`, by one
/// product of pairings. `commitments` are those of all equations; a common one is a common term.
pub fn hold_together(commitments: &[Point], equations: &[Weighted<'_>]) -> bool {
    let mut factors = vec![Scalar::ZERO; commitments.len()];
    let mut generator = Scalar::ZERO;
    let (mut others, mut other_factors) = (Vec::new(), Vec::new());
    for Weighted { weight, equation, nodes, d, pi } in equations {
        for (&node, factor) in nodes.iter().zip(&equation.by_node) {
            factors[node] += *weight * *factor;
        }
        generator += -(*weight * equation.y);
        others.extend([-*d, *pi]);
        other_factors.extend([*weight, *weight * equation.t]);
    }
    let terms = [commitments, &others, &[Point::generator()]].concat();
    let left = msm(&terms, &[factors, other_factors, vec![generator]].concat());
    let (pis, weights): (Vec<Point>, Vec<Scalar>) = equations.iter().map(|one| (one.pi, one.weight)).unzip();
    pairings_agree(&left, &msm(&pis, &weights), setup::tau_g2())
}
