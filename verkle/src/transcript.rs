//! The multiproof's Fiat–Shamir transcript (spec §6): one BLAKE3 hasher in derive-key mode; a challenge is 64 bytes of
//! the XOF over all that was absorbed so far, modulo `r`.

use crate::curve::{PointBytes, Scalar};
use crate::multiproof::Query;

const MULTIPROOF_CONTEXT: &str = "rustorium.v1 multiproof";
/// Bytes that a query is absorbed as.
const QUERY_BYTES: usize = 48 + 1 + 32;
/// Queries that are absorbed at a time.
const RUN_QUERIES: usize = 1024;

pub(crate) struct Transcript(blake3::Hasher);

impl Transcript {
    /// A transcript that has absorbed the number of queries and each of them; `commitment` is a node's.
    pub(crate) fn new<'a>(queries: &[Query], commitment: impl Fn(usize) -> &'a PointBytes) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(MULTIPROOF_CONTEXT);
        let count = u32::try_from(queries.len()).expect("at most 2^20 terminals of 32 queries each");
        hasher.update(&count.to_le_bytes());
        // The hash is fast over long runs of bytes.
        let mut run = Vec::with_capacity(queries.len().min(RUN_QUERIES) * QUERY_BYTES);
        for queries in queries.chunks(RUN_QUERIES) {
            run.clear();
            for query in queries {
                run.extend(commitment(query.node).0);
                run.push(query.z);
                run.extend(query.y.to_le_bytes());
            }
            hasher.update(&run);
        }
        Self(hasher)
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
