//! Many witnesses in one pairing product.
//!
//! Rules 2 to 7 are judged for each witness, each point by itself. What is left of witness `k` is an equation `A_k = 0` in a
//! group of prime order `r` ([`crate::multiproof::Equation`]), and judged is `Σ_k w_k·A_k = 0` with weights of 128 bits. If
//! an `A_k` is not zero, then whatever the others are at most one `w_k` of `2^128` lets the sum be zero. The weights come
//! from an XOF over all that is judged and the caller's seed, so that a forger who does not know the seed cannot know
//! them, and one who knows it has to try `2^128` forgeries all the same. If the sum is not zero, its halves are judged, down to
//! the culprits.

use std::collections::BTreeMap;

use super::verify::{Decoded, refuted};
use super::{Claim, Invalid, Witness};
use crate::curve::{Point, PointBytes, Scalar};
use crate::key::StateRoot;
use crate::multiproof::{Equation, Points, Weighted, hold_together};
use crate::parallel;

const WEIGHTS_CONTEXT: &str = "rustorium.v1 witness batch check";

/// A witness with what it is to show.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The state that it is about.
    pub state_root: StateRoot,
    /// The witness.
    pub witness: &'a Witness,
    /// What the verifier believes it to show.
    pub claims: &'a [Claim],
}

/// A witness of which only the openings are to be judged.
struct Judged {
    /// Its place among the cases.
    case: usize,
    equation: Equation,
    /// Its nodes' places among the distinct commitments.
    nodes: Vec<usize>,
    d: Point,
    pi: Point,
}

/// Judges many witnesses, of one state or of several, each as [`Witness::verify`] would, and all at the price of about one
/// pairing product: a verdict for each, in their order. A forged one among `k` costs some `2·log k` products more.
///
/// `seed` must not be known to whoever made the witnesses. An honest witness is never refused for the company it is in, and
/// a forged one passes with a probability of `2^-128`.
pub fn verify_many(cases: &[Case<'_>], seed: &[u8; 32]) -> Vec<Result<(), Invalid>> {
    let statements = parallel::map(cases, |case| case.witness.statement(&case.state_root, case.claims, &[]));
    // Witnesses of one state have nodes in common, the root at least: each is decoded once.
    let mut places: BTreeMap<PointBytes, usize> = BTreeMap::new();
    let mut distinct: Vec<PointBytes> = Vec::new();
    for commitment in statements.iter().flatten().flat_map(|statement| &statement.commitments) {
        places.entry(*commitment).or_insert_with(|| {
            distinct.push(*commitment);
            distinct.len() - 1
        });
    }
    let points = Point::decode_many(&distinct);
    let numbered: Vec<_> = cases.iter().zip(statements).enumerate().collect();
    let judged = parallel::map(&numbered, |(index, (case, statement))| {
        let statement = statement.as_ref().map_err(Invalid::clone)?;
        let nodes: Vec<usize> = statement.commitments.iter().map(|commitment| places[commitment]).collect();
        let Decoded { d, pi, .. } = case.witness.points(statement, nodes.iter().map(|&at| points[at]))?;
        let equation = Equation::new(&statement.commitments, &statement.queries, &case.witness.proof);
        Ok(Judged { case: *index, equation: equation.ok_or_else(refuted)?, nodes, d, pi })
    });
    let mut verdicts: Vec<Result<(), Invalid>> =
        judged.iter().map(|judged| judged.as_ref().map(|_| ()).map_err(Invalid::clone)).collect();
    let judged: Vec<Judged> = judged.into_iter().flatten().collect();
    // A commitment that is no point belongs to no equation that is left.
    let points: Vec<Point> = points.into_iter().map(|point| point.unwrap_or(Point::INFINITY)).collect();
    let weights = weights(cases, seed);
    let equations: Vec<(usize, Weighted<'_>)> = judged
        .iter()
        .map(|Judged { case, equation, nodes, d, pi }| {
            (*case, Weighted { weight: weights[*case], equation, nodes, d: *d, pi: *pi })
        })
        .collect();
    for culprit in culprits(&points, &equations) {
        verdicts[culprit] = Err(refuted());
    }
    verdicts
}

/// One weight of 128 bits for each case, from all that is judged.
fn weights(cases: &[Case<'_>], seed: &[u8; 32]) -> Vec<Scalar> {
    let mut hasher = blake3::Hasher::new_derive_key(WEIGHTS_CONTEXT);
    hasher.update(seed).update(&(cases.len() as u64).to_le_bytes());
    for case in cases {
        let witness = case.witness.encode();
        hasher.update(&case.state_root.0).update(&(witness.len() as u64).to_le_bytes()).update(&witness);
        hasher.update(&(case.claims.len() as u64).to_le_bytes());
        for claim in case.claims {
            hasher.update(&claim.path.0).update(&[claim.value.is_some() as u8]);
            hasher.update(&claim.value.map_or([0; 32], |value| value.0));
        }
    }
    let mut stream = hasher.finalize_xof();
    let mut weight = || {
        let mut bytes = [0; 16];
        stream.fill(&mut bytes);
        Scalar::from_u128(u128::from_le_bytes(bytes))
    };
    cases.iter().map(|_| weight()).collect()
}

/// The cases whose equations do not hold.
fn culprits(points: &[Point], equations: &[(usize, Weighted<'_>)]) -> Vec<usize> {
    match equations {
        [] => Vec::new(),
        [(case, one)] => {
            let nodes: Vec<Point> = one.nodes.iter().map(|&at| points[at]).collect();
            let holds = one.equation.holds(Points { nodes: &nodes, d: one.d, pi: one.pi });
            if holds { Vec::new() } else { vec![*case] }
        }
        _ => {
            let weighted: Vec<Weighted<'_>> = equations.iter().map(|(_, weighted)| *weighted).collect();
            if hold_together(points, &weighted) {
                return Vec::new();
            }
            let (left, right) = equations.split_at(equations.len() / 2);
            [culprits(points, left), culprits(points, right)].concat()
        }
    }
}
