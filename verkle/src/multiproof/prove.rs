//! Making a proof. The cost of a large one is that of `F_z`, below: a product for each slot of each opened node's row and
//! each of its openings.

use super::{Folded, Multiproof, Query, powers};
use crate::commit::Committer;
use crate::curve::{PointBytes, Scalar, WideSum, msm};
use crate::domain::{Domain, WIDTH};
use crate::key::SlotScalar;
use crate::transcript::Transcript;
use crate::{parallel, setup};

/// Products below which work is not spread over threads.
const PIECE_PRODUCTS: usize = 8192;

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
    let mut transcript = Transcript::new(queries, |node| &nodes[node].commitment);
    let powers = powers(transcript.challenge(), queries.len());
    let g = folded_quotients(nodes, queries, &powers);
    let d = commit_to(&g).encode();
    transcript.absorb_point(&d);
    let t = transcript.challenge();

    // (h − g)(X) divided by X − t: π_i = ((h − g)(x_i) − y)/(x_i − t), where y = (h − g)(t). A t in the domain has
    // probability 2^-247; no verifier accepts it.
    let inverses = domain.inverse_distances(t, 0..=255).unwrap_or([Scalar::ZERO; WIDTH]);
    let Folded { by_node, y } = Folded::new(nodes.len(), queries, &powers, &inverses);
    let h = weighted_rows(nodes, &by_node);
    let quotient: [Scalar; WIDTH] = std::array::from_fn(|i| (y + g[i] - h[i]) * inverses[i]);
    Multiproof { d, pi: commit_to(&quotient).encode() }
}

/// `g(X) = Σ_z (F_z(X) − F_z(x_z))/(X − x_z)` with `F_z(X) = Σ_{j: z_j = z} ρ^j · f_j(X)`, for each slot `z` that is opened.
fn folded_quotients(nodes: &[Opened<'_>], queries: &[Query], powers: &[Scalar]) -> [Scalar; WIDTH] {
    let mut by_slot: [Vec<usize>; WIDTH] = std::array::from_fn(|_| Vec::new());
    let mut products = 0;
    for (j, query) in queries.iter().enumerate() {
        by_slot[query.z as usize].push(j);
        products += nodes[query.node].row.len();
    }
    let opened: Vec<u8> = (0..=255).filter(|z| !by_slot[*z as usize].is_empty()).collect();
    let pieces = (products / PIECE_PRODUCTS).clamp(1, 4 * parallel::threads());
    let pieces: Vec<&[u8]> = opened.chunks(opened.len().div_ceil(pieces).max(1)).collect();
    let sums = parallel::map(&pieces, |slots| {
        let mut g = [Scalar::ZERO; WIDTH];
        let mut wide = Box::new([WideSum::ZERO; WIDTH]);
        for &z in *slots {
            // ω^(−z) · F_z, as the division wants it.
            let scale = Domain::shared().point(z.wrapping_neg());
            let mut f = [Scalar::ZERO; WIDTH];
            for queries_of_z in by_slot[z as usize].chunks(WideSum::TERMS_MAX) {
                for &j in queries_of_z {
                    add_row(&mut wide, nodes[queries[j].node].row, &(powers[j] * scale));
                }
                take(&mut wide, &mut f);
            }
            Domain::shared().add_quotient(&mut g, &f, z);
        }
        g
    });
    sums.iter().fold([Scalar::ZERO; WIDTH], |g, piece| std::array::from_fn(|i| g[i] + piece[i]))
}

/// `Σ_n weight_n · f_n` on the domain.
fn weighted_rows(nodes: &[Opened<'_>], weights: &[Scalar]) -> [Scalar; WIDTH] {
    let nodes: Vec<(&Opened<'_>, &Scalar)> = nodes.iter().zip(weights).collect();
    let pieces: Vec<&[(&Opened<'_>, &Scalar)]> = nodes.chunks(WideSum::TERMS_MAX).collect();
    let sums = parallel::map(&pieces, |piece| {
        let (mut wide, mut sum) = (Box::new([WideSum::ZERO; WIDTH]), [Scalar::ZERO; WIDTH]);
        piece.iter().for_each(|(node, weight)| add_row(&mut wide, node.row, weight));
        take(&mut wide, &mut sum);
        sum
    });
    sums.iter().fold([Scalar::ZERO; WIDTH], |h, piece| std::array::from_fn(|i| h[i] + piece[i]))
}

fn add_row(sums: &mut [WideSum; WIDTH], row: &[(u8, SlotScalar)], weight: &Scalar) {
    for (slot, scalar) in row {
        sums[*slot as usize].add_product(weight, scalar);
    }
}

/// Moves what has been summed up over to `totals`.
fn take(sums: &mut [WideSum; WIDTH], totals: &mut [Scalar; WIDTH]) {
    for (sum, total) in sums.iter_mut().zip(totals) {
        if !sum.is_zero() {
            *total += std::mem::replace(sum, WideSum::ZERO).reduce();
        }
    }
}
