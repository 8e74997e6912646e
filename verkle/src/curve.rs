//! BLS12-381 behind one small door: scalars, points of G1, sums, and the one pairing equation the tree needs.
//!
//! What judges foreign points has two makes behind the same functions: `blst.rs`, and `portable.rs` where there is no
//! assembly (wasm, or the feature `portable`), which is also the twin that tests compare with.
//!
//! Nothing outside this folder names a curve library. Everything a caller sees is a canonical value: a [`Point`] is on
//! the curve (and in the prime-order subgroup only where [`Point::is_in_subgroup`] says so), a [`Scalar`] is below `r`.

mod ark;
pub(crate) mod batch;
#[cfg(not(any(target_family = "wasm", feature = "portable")))]
mod blst;
mod bucket;
#[cfg(target_arch = "x86_64")]
mod decode;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod msm;
#[cfg(any(test, target_family = "wasm", feature = "portable"))]
mod portable;
pub mod table;
mod wide;

use std::fmt;

pub use ark::{G2Point, Point, Scalar, Sum, lagrange_basis, root_of_unity_256};
pub use batch::Kernel;
#[cfg(not(any(target_family = "wasm", feature = "portable")))]
use blst as judge;
pub use bucket::weighted_sum;
pub use judge::{G2Lines, pairings_agree};
pub use msm::msm;
#[cfg(any(target_family = "wasm", feature = "portable"))]
use portable as judge;
#[cfg(test)]
pub(crate) use portable::naive_msm;
pub use wide::WideSum;

use crate::key::write_hex;
use crate::parallel;

/// `c48(P)`: the 48-byte compressed encoding of a point of G1, as in EIP-4844. Not checked until it is decoded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointBytes(pub [u8; 48]);

impl PointBytes {
    /// The encoding of the point at infinity: `c0 00…00`.
    pub const INFINITY: Self = {
        let mut bytes = [0; 48];
        bytes[0] = 0xc0;
        Self(bytes)
    };

    /// Whether this is the encoding of the point at infinity.
    pub fn is_infinity(&self) -> bool {
        *self == Self::INFINITY
    }
}

impl AsRef<[u8]> for PointBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PointBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Display for PointBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl Point {
    /// Decodes `c48(P)`; accepts exactly one encoding for a point, and does not check the subgroup.
    pub fn decode(bytes: &PointBytes) -> Result<Self, NotAPoint> {
        judge::decode(bytes)
    }

    /// [`Point::decode`] of each, on all threads if there are many.
    pub fn decode_many(encodings: &[PointBytes]) -> Vec<Result<Self, NotAPoint>> {
        // A root takes 15 µs alone and 4 µs among many.
        const FEW: usize = 6;
        #[cfg(target_arch = "x86_64")]
        if encodings.len() >= FEW && Kernel::available()[0] == Kernel::Ifma {
            let chunks: Vec<&[PointBytes]> = encodings.chunks(decode::TOGETHER).collect();
            return parallel::map_from(2, &chunks, |chunk| decode::decode_together(chunk)).concat();
        }
        parallel::map_from(FEW, encodings, Self::decode)
    }

    /// Whether the point is in the subgroup of order `r`. Of many points each is asked: the cofactor has the factor 3, so
    /// that a random combination of them would let a bad one pass every third time.
    pub fn is_in_subgroup(&self) -> bool {
        judge::is_in_subgroup(self)
    }
}

/// The bytes are not the canonical encoding of a point of the curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not the canonical encoding of a point of BLS12-381's G1")]
pub struct NotAPoint;
