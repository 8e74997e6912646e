//! The trusted setup (spec §2): powers of the Ethereum KZG ceremony, embedded, checked by hash, decoded on first use.
//!
//! No other setup is ever accepted, in a test build or elsewhere: the secret of a home-made one is known to its maker.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::curve::{G2Lines, G2Point, Point, PointBytes, lagrange_basis};

static G1_MONOMIAL: &[u8; 256 * 48] = include_bytes!("../spec/kzg_setup_g1_monomial_256.bin");
static G2_MONOMIAL: &[u8; 2 * 96] = include_bytes!("../spec/kzg_setup_g2_monomial_2.bin");

const G1_SHA256: &str = "c186d40b4d05bdd2987cb8ebfa41f134ffa8e5038e9d5b5ae2c9ce4983b1f1fc";
const G2_SHA256: &str = "cb309e7babbbfc398ba780e993f9cdce0a3580ec14b76ce155876a3e249e5c66";

/// `L_i = [ℓ_i(τ)]` for the 256 slots. Derived once a process (about a fifth of a second); verifying never needs it.
///
/// # Panics
/// If the embedded file is not the spec's: a broken build.
pub fn lagrange() -> &'static [Point] {
    static LAGRANGE: OnceLock<Vec<Point>> = OnceLock::new();
    LAGRANGE.get_or_init(|| {
        assert_eq!(sha256(G1_MONOMIAL), G1_SHA256, "the embedded G1 powers are not the ceremony's");
        let monomial = std::array::from_fn(|k| {
            let bytes = G1_MONOMIAL[48 * k..48 * (k + 1)].try_into().expect("48 bytes a point");
            Point::decode(&PointBytes(bytes)).expect("the ceremony's powers are points")
        });
        lagrange_basis(&monomial)
    })
}

/// `[τ]₂`, ready for pairings.
///
/// # Panics
/// If the embedded file is not the spec's: a broken build.
pub fn tau_g2() -> &'static G2Lines {
    static TAU: OnceLock<G2Lines> = OnceLock::new();
    TAU.get_or_init(|| G2Lines::of(&tau_g2_point()))
}

pub(crate) fn tau_g2_point() -> G2Point {
    assert_eq!(sha256(G2_MONOMIAL), G2_SHA256, "the embedded G2 powers are not the ceremony's");
    let [one, tau] = [0, 96].map(|at| {
        let bytes: &[u8; 96] = G2_MONOMIAL[at..at + 96].try_into().expect("96 bytes a point");
        G2Point::decode(bytes).expect("the ceremony's powers are points")
    });
    assert_eq!(one, G2Point::generator(), "the first G2 power is the generator");
    tau
}

/// `c48([τ]₁)`.
#[cfg(test)]
pub(crate) fn tau_g1() -> PointBytes {
    PointBytes(G1_MONOMIAL[48..96].try_into().expect("48 bytes a point"))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lagrange_basis_has_the_hash_of_the_spec() {
        let bytes: Vec<u8> = lagrange().iter().flat_map(|point| point.encode().0).collect();
        assert_eq!(sha256(&bytes), "6c2d96706a2c5ee41f1e8503ff91035b2e9a3e24c60b8caf8da34573010eae7e");
        assert!(lagrange().iter().all(Point::is_in_subgroup));
    }

    #[test]
    fn the_two_halves_of_the_setup_share_one_secret() {
        // e([τ]₁, [1]₂) = e([1]₁, [τ]₂)
        let tau = Point::decode(&tau_g1()).unwrap();
        assert!(crate::curve::pairings_agree(&tau, &Point::generator(), tau_g2()));
        assert!(!crate::curve::pairings_agree(&Point::generator(), &Point::generator(), tau_g2()));
    }
}
