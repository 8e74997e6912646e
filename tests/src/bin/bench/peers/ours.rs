//! Our state on RocksDB, through its public door: `Handle::apply_blocking`, `View::value` and `View::witness`.

use std::path::Path;

use anyhow::Context as _;
use rustorium_state::Change;
use rustorium_verkle::{Claim, Witness};

use super::Peer;
use crate::store::{Phases, Store, committer};
use crate::workload::{Key, Update};

struct Ours {
    store: Store,
    phases: Phases,
}

pub(super) fn open(folder: &Path) -> anyhow::Result<Box<dyn Peer>> {
    Ok(Box::new(Ours { store: Store::open(folder, committer())?, phases: Phases::new() }))
}

impl Peer for Ours {
    fn commit(&mut self, block: Vec<Update>) -> anyhow::Result<()> {
        let changes: Vec<Change> = block.into_iter().map(|(key, value)| (key.to_vec(), Some(value))).collect();
        self.phases = self.store.apply(changes)?.phases;
        Ok(())
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        self.store.flush()
    }

    fn read(&mut self, key: &Key) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.store.reader.head().value(key)?)
    }

    fn prove(&mut self, key: &Key) -> anyhow::Result<Vec<u8>> {
        Ok(self.store.reader.head().witness(&[key.to_vec()], u64::MAX)?.witness)
    }

    fn verify(&mut self, proof: &[u8], key: &Key, value: &[u8]) -> anyhow::Result<()> {
        let root = self.store.reader.head().header().state_root;
        Witness::decode(proof)?.verify(&root, &[Claim::value(key, value)]).context("a witness of our own")
    }

    fn phases(&mut self) -> Phases {
        std::mem::take(&mut self.phases)
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        self.store.close();
        Ok(())
    }
}
