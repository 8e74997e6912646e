//! Update witnesses: what lets someone who holds a block's state root alone compute that of the next.

use rustorium_verkle::StateRoot;

use super::{Proof, Timed, View};
use crate::block::{Change, Changes};
use crate::cache::WitnessId;
use crate::error::ReadError;

impl View {
    /// The values, before the next block, of what that block reads and changes (one key at least), with an update witness
    /// of them; the last change of a key counts. Refused, before anything big is loaded, when they have more than
    /// `bytes_max` bytes together.
    ///
    /// # Panics
    /// If there is no key: there is nothing to prove.
    pub fn update_witness(&self, reads: &[Vec<u8>], changes: &[Change], bytes_max: u64) -> Result<Proof, ReadError> {
        let _timed = Timed::start(&self.shared.witness_seconds);
        let (claims, values) = self.claims(reads.iter().chain(changes.iter().map(|(key, _)| key)), bytes_max)?;
        let changes: Vec<_> = Changes::new(changes.to_vec()).to_tree().collect();
        let id = WitnessId::of_update(&self.header.state_root, &claims, &changes);
        let witness = self.proof(id, || {
            let reads = claims.iter().map(|claim| claim.path);
            let witness = self.walk().prove_update(reads, changes.iter().copied())?;
            let witness = witness.prove_update(Some(&self.shared.committer))?;
            let judged = witness.verify(&self.header.state_root, &claims, &changes, &self.shared.committer);
            Ok(judged.map(|_: StateRoot| witness.encode()))
        })?;
        Ok(Proof { header: self.header.clone(), claims: values, witness: witness.to_vec() })
    }
}
