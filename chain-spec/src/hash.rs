//! The two hashes that name a chain (`INTERFACES.md`, "Blocks" and "Chain spec").
//!
//! `B3` is BLAKE3 in derive-key mode, `SCALE` is Parity's codec, as in `spec/STATE_TREE.md` §1. A format once hashed
//! never changes its meaning: a new one takes a new context string.

use parity_scale_codec::Encode;
use rustorium_verkle::StateRoot;

use crate::rules::{Finality, Rules};

const GENESIS_CONTEXT: &str = "rustorium.v1 genesis";
const SPEC_CONTEXT: &str = "rustorium.v1 spec";

/// `B3("rustorium.v1 genesis", SCALE(id: String, state_root: [u8; 32]))`.
pub(crate) fn genesis_hash(id: &str, state_root: &StateRoot) -> [u8; 32] {
    blake3::derive_key(GENESIS_CONTEXT, &(id, state_root.0).encode())
}

/// `B3("rustorium.v1 spec", SCALE(id: String, genesis_hash, finality: u8, checkpointInterval: u32, weakSubjectivityMs:
/// u64, num: u32, den: u32, authorities: Vec<(bls: [u8; 48], weight: u64)>))`, authorities in file order.
pub(crate) fn spec_hash(id: &str, genesis_hash: &[u8; 32], rules: &Rules) -> [u8; 32] {
    let finality: u8 = match rules.finality {
        Finality::Instant => 0,
        Finality::Engine => 1,
    };
    let authorities: Vec<([u8; 48], u64)> = rules.authorities.iter().map(|a| (a.bls_public_key, a.weight)).collect();
    let fields = (
        id,
        genesis_hash,
        finality,
        rules.checkpoint_interval,
        rules.weak_subjectivity_ms,
        rules.threshold.num,
        rules.threshold.den,
        authorities,
    );
    blake3::derive_key(SPEC_CONTEXT, &fields.encode())
}
