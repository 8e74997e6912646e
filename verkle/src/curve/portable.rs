//! What judges foreign points, on arkworks: for targets without assembly, and the twin that `blst.rs` is compared with.

use std::sync::OnceLock;

use ark_bls12_381::{Bls12_381, Config, G1Affine};
use ark_ec::bls12::G2Prepared;
use ark_ec::pairing::Pairing;
use ark_ff::Zero;
use ark_serialize::CanonicalDeserialize;

use super::ark::Base;
use super::{G2Point, NotAPoint, Point, PointBytes};

/// A point of G2 with the lines of its Miller loop, so that a pairing need not walk it again.
#[derive(Clone, Debug)]
pub struct G2Lines(G2Prepared<Config>);

impl G2Lines {
    /// The lines of a point.
    pub fn of(point: &G2Point) -> Self {
        Self(G2Prepared::from(point.0))
    }
}

pub(super) fn decode(bytes: &PointBytes) -> Result<Point, NotAPoint> {
    let point = G1Affine::deserialize_compressed_unchecked(&bytes.0[..]).map_err(|_| NotAPoint)?;
    let point = Point(point);
    // The library decides what it tolerates; the spec wants one encoding for a point.
    if point.encode() == *bytes { Ok(point) } else { Err(NotAPoint) }
}

/// Of an element that is not zero.
pub(super) fn inverse(element: &Base) -> Base {
    element.inverse_portably()
}

pub(super) fn is_in_subgroup(point: &Point) -> bool {
    point.0.is_in_correct_subgroup_assuming_on_curve()
}

/// `e(a, [1]₂) = e(b, q)`, by one product of two Miller loops and one final exponentiation.
pub fn pairings_agree(a: &Point, b: &Point, q: &G2Lines) -> bool {
    static ONE: OnceLock<G2Lines> = OnceLock::new();
    let one = ONE.get_or_init(|| G2Lines::of(&G2Point::generator()));
    Bls12_381::multi_pairing([a.0, -b.0], [one.0.clone(), q.0.clone()]).is_zero()
}

/// `Σ scalars_i · points_i` of points of the subgroup, by the library alone: the twin of what is fast.
#[cfg(test)]
pub fn naive_msm(points: &[Point], scalars: &[super::Scalar]) -> Point {
    use ark_bls12_381::{Fr, G1Projective};
    use ark_ec::{CurveGroup, VariableBaseMSM};

    let bases: Vec<G1Affine> = points.iter().map(|point| point.0).collect();
    let scalars: Vec<Fr> = scalars.iter().map(|scalar| scalar.0).collect();
    Point(G1Projective::msm_unchecked(&bases, &scalars).into_affine())
}
