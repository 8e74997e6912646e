//! A verifier that has a state root and nothing else, and the store that makes its witnesses.

use std::ops::ControlFlow;
use std::sync::Arc;

use rustorium_state::backend::Memory;
use rustorium_state::{Block, BlockHash, Change, Config, Genesis, Handle, Proof, Reader};
use rustorium_verkle::{Claim, Committer, Invalid, StateRoot, UpdateWitness, WindowBits};

/// Follows a chain by update witnesses, block to block.
pub struct Stateless {
    /// Where it is.
    pub root: StateRoot,
    committer: Committer,
}

impl Stateless {
    /// Begins at a root that it trusts.
    pub fn new(root: StateRoot) -> Self {
        Self { root, committer: Committer::new(WindowBits::SMALL) }
    }

    /// Builds the tables now rather than for the first block.
    pub fn prepare(&self) {
        self.committer.prepare();
    }

    /// Goes through a block that changes each key once: what it changes, what was there before, and what proves it.
    pub fn follow(
        &mut self,
        changes: &[Change],
        before: &[(Vec<u8>, Option<Vec<u8>>)],
        witness: &[u8],
    ) -> Result<(), Invalid> {
        let claim = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| match value {
            Some(value) => Claim::value(key, value),
            None => Claim::absent(key),
        };
        let change = |(key, value): &Change| match value {
            Some(value) => rustorium_verkle::Change::put(key, value),
            None => rustorium_verkle::Change::delete(key),
        };
        let claims: Vec<Claim> = before.iter().map(claim).collect();
        let changes: Vec<rustorium_verkle::Change> = changes.iter().map(change).collect();
        self.root = UpdateWitness::decode(witness)?.verify(&self.root, &claims, &changes, &self.committer)?;
        Ok(())
    }
}

/// A store in memory of an empty genesis, its writer running.
pub struct Store {
    /// Its blocks.
    pub reader: Reader,
    handle: Handle,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Store {
    /// Opens it.
    pub fn open(committer: Arc<Committer>) -> anyhow::Result<Self> {
        let genesis = Genesis { id: "stateless", pairs: &[], hash: &|root| BlockHash(root.0) };
        let proceed = &mut |_| ControlFlow::Continue(());
        let (writer, handle, reader) =
            rustorium_state::open(Arc::new(Memory::new()), &genesis, &Config::new(committer), proceed)?;
        Ok(Self { reader, handle, writer: Some(std::thread::spawn(|| writer.run())) })
    }

    /// The update witness of a block that only changes.
    pub fn prove(&self, changes: &[Change]) -> anyhow::Result<Proof> {
        Ok(self.reader.head().update_witness(&[], changes, u64::MAX)?)
    }

    /// Applies the changes as the next block.
    pub fn apply(&self, changes: &[Change]) -> anyhow::Result<StateRoot> {
        let head = self.reader.head().header().clone();
        let number = head.number + 1;
        let hash = BlockHash(*blake3::hash(&number.to_le_bytes()).as_bytes());
        let changes = changes.to_vec();
        let block = Block { number, hash, parent_hash: head.hash, timestamp_ms: None, state_root: None, changes };
        Ok(self.handle.apply_blocking(block)?.state_root)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.handle.close();
        let ended = self.writer.take().map(std::thread::JoinHandle::join);
        // A second panic would hide the first.
        if !std::thread::panicking() {
            ended.expect("dropped once").expect("the writer ends well");
        }
    }
}
