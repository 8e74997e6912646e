//! One proof for many openings of many nodes (spec §6).
//!
//! Query `j` says: the polynomial `f_j` behind commitment `C_j` has the value `y_j` at `x_j = ω^{z_j}`. The prover folds
//! all of them, `g(X) = Σ_j ρ^j · (f_j(X) − y_j)/(X − x_j)`, and shows at a random `t` that `g` is what it says. Queries
//! with the same slot share a divisor, so they are summed before dividing: at most 256 quotients a proof, however many
//! keys.

use crate::commit::Committer;
use crate::curve::{Point, PointBytes, Scalar, Sum, msm, pairings_agree};
use crate::domain::{Domain, WIDTH};
use crate::key::SlotScalar;
use crate::setup;
use crate::transcript::Transcript;

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

/// A node to open: its commitment and its slots that are not empty, ascending.
pub struct Opened<'a> {
    /// `c48(C)`.
    pub commitment: PointBytes,
    /// `(slot, scalar)`, ascending, no empty ones.
    pub row: &'a [(u8, SlotScalar)],
}

/// Proves `queries`, sorted by `(node, z)`, over `nodes`, sorted by path. The `y` of each query must be the row's. Without
/// a committer it is done without tables, several times slower.
pub fn prove(nodes: &[Opened<'_>], queries: &[Query], committer: Option<&Committer>) -> Multiproof {
    let commit_to = |values: &[Scalar; WIDTH]| match committer {
        Some(committer) => committer.commit_to(values),
        None => msm(setup::lagrange(), values),
    };
    let domain = Domain::shared();
    let mut transcript = Transcript::new(queries.len());
    for query in queries {
        transcript.absorb_query(&nodes[query.node].commitment, query.z, &query.y);
    }
    let rho = transcript.challenge();

    // F_z(X) = Σ_{j: z_j = z} ρ^j · f_j(X), for each slot z that is opened. Then
    // g(X) = Σ_z (F_z(X) − F_z(x_z))/(X − x_z).
    let mut folded: Vec<Option<Box<[Scalar; WIDTH]>>> = (0..WIDTH).map(|_| None).collect();
    let mut power = Scalar::ONE;
    for query in queries {
        let f_z = folded[query.z as usize].get_or_insert_with(|| Box::new([Scalar::ZERO; WIDTH]));
        for (slot, scalar) in nodes[query.node].row {
            f_z[*slot as usize] += power * Scalar::from(scalar);
        }
        power = power * rho;
    }
    let opened = || folded.iter().enumerate().filter_map(|(z, f)| f.as_deref().map(|f| (z as u8, f)));
    let mut g = [Scalar::ZERO; WIDTH];
    for (z, f_z) in opened() {
        domain.add_quotient(&mut g, f_z, z);
    }
    let d = commit_to(&g).encode();
    transcript.absorb_point(&d);
    let t = transcript.challenge();

    // (h − g)(X) with h(X) = Σ_z F_z(X)/(t − x_z), divided by X − t: p_i = ((h − g)(x_i) − y)/(x_i − t), where
    // y = (h − g)(t) = Σ_j ρ^j · y_j/(t − x_j). A t in the domain has probability 2^-247; no verifier accepts it.
    let mut inverses: [Scalar; WIDTH] = std::array::from_fn(|i| t - domain.point(i as u8));
    Scalar::invert_all(&mut inverses);
    let mut h_minus_g = g.map(|value| -value);
    let mut y = Scalar::ZERO;
    for (z, f_z) in opened() {
        let weight = inverses[z as usize];
        y += weight * f_z[z as usize];
        for (sum, value) in h_minus_g.iter_mut().zip(f_z) {
            *sum += weight * *value;
        }
    }
    let quotient: [Scalar; WIDTH] = std::array::from_fn(|i| (y - h_minus_g[i]) * inverses[i]);
    Multiproof { d, pi: commit_to(&quotient).encode() }
}

/// A node whose opening is judged: its commitment as sent and as decoded.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// `c48(C)`, what the transcript absorbs.
    pub encoded: PointBytes,
    /// `C`.
    pub point: Point,
}

/// Judges a proof of `queries`, sorted by `(node, z)`, over `nodes`, sorted by path. `d` and `pi` are the decoded points
/// of `proof`, in the subgroup.
pub fn verify(nodes: &[Committed], queries: &[Query], proof: &Multiproof, d: &Point, pi: &Point) -> bool {
    let domain = Domain::shared();
    let mut transcript = Transcript::new(queries.len());
    for query in queries {
        transcript.absorb_query(&nodes[query.node].encoded, query.z, &query.y);
    }
    let rho = transcript.challenge();
    transcript.absorb_point(&proof.d);
    let t = transcript.challenge();

    let mut inverses: [Scalar; WIDTH] = std::array::from_fn(|i| t - domain.point(i as u8));
    if inverses.iter().any(Scalar::is_zero) {
        return false; // t^256 = 1
    }
    Scalar::invert_all(&mut inverses);

    // E = Σ_j ρ^j/(t − x_j) · C_j, one term a node; y = Σ_j ρ^j · y_j/(t − x_j).
    let mut weights = vec![Scalar::ZERO; nodes.len()];
    let mut y = Scalar::ZERO;
    let mut power = Scalar::ONE;
    for query in queries {
        let weight = power * inverses[query.z as usize];
        weights[query.node] += weight;
        y += weight * Scalar::from(&query.y);
        power = power * rho;
    }

    // e(E − D − [y] + t·π, [1]₂) = e(π, [τ]₂)
    let points: Vec<Point> = nodes.iter().map(|node| node.point).collect();
    let mut left = Sum::from(msm(&points, &weights));
    left += -*d;
    left += Sum::of_product(&Point::generator(), &-y);
    left += Sum::of_product(pi, &t);
    pairings_agree(&left.to_point(), pi, setup::tau_g2())
}
