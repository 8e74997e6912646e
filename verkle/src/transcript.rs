//! The multiproof's Fiat–Shamir transcript (spec §6): one BLAKE3 hasher in derive-key mode; a challenge is 64 bytes of
//! the XOF over all that was absorbed so far, modulo `r`.

use crate::curve::{PointBytes, Scalar};
use crate::key::SlotScalar;

const MULTIPROOF_CONTEXT: &str = "rustorium.v1 multiproof";

pub(crate) struct Transcript(blake3::Hasher);

impl Transcript {
    /// A transcript that has absorbed the number of queries.
    pub(crate) fn new(queries: usize) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(MULTIPROOF_CONTEXT);
        let count = u32::try_from(queries).expect("at most 2^20 terminals of 32 queries each");
        hasher.update(&count.to_le_bytes());
        Self(hasher)
    }

    pub(crate) fn absorb_query(&mut self, commitment: &PointBytes, z: u8, y: &SlotScalar) {
        let mut query = [0; 48 + 1 + 32];
        query[..48].copy_from_slice(&commitment.0);
        query[48] = z;
        query[49..].copy_from_slice(&y.to_le_bytes());
        self.0.update(&query);
    }

    pub(crate) fn absorb_point(&mut self, point: &PointBytes) {
        self.0.update(&point.0);
    }

    pub(crate) fn challenge(&self) -> Scalar {
        let mut bytes = [0; 64];
        self.0.finalize_xof().fill(&mut bytes);
        Scalar::from_wide(&bytes)
    }
}
