//! Ethereum's Merkle-Patricia trie over RocksDB: nodes keyed by their hash, the ones that a block replaces deleted, one
//! synced batch a block. The trie reads nodes as it walks and forgets them at the end of a block.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::ensure;
use eth_trie::{EthTrie, Trie as _};
use rocksdb::{DB, WriteBatch};

use super::Peer;
use super::rocksdb::{database, family, write};
use crate::workload::{Key, Update};

/// The row that holds the newest root.
const HEAD: &[u8] = b"head";

struct Tree {
    trie: EthTrie<Nodes>,
    nodes: Arc<Nodes>,
    root: [u8; 32],
}

/// The nodes, and those that a commit hands in before it tells which to delete.
struct Nodes {
    db: DB,
    new: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
}

pub(super) fn open(folder: &Path) -> anyhow::Result<Box<dyn Peer>> {
    let nodes = Arc::new(Nodes { db: database(folder, &["nodes"])?, new: Mutex::default() });
    let (trie, root) = match nodes.db.get(HEAD)? {
        Some(row) => {
            let root: [u8; 32] = row.as_slice().try_into()?;
            (EthTrie::from(nodes.clone(), root.into())?, root)
        }
        None => (EthTrie::new(nodes.clone()), [0; 32]),
    };
    Ok(Box::new(Tree { trie, nodes, root }))
}

impl Peer for Tree {
    fn commit(&mut self, block: Vec<Update>) -> anyhow::Result<()> {
        for (key, value) in &block {
            self.trie.insert(key, value)?;
        }
        // Computes the root, hands the nodes over and has them written.
        self.root = self.trie.root_hash()?.into();
        Ok(self.nodes.db.put(HEAD, self.root)?)
    }

    fn read(&mut self, key: &Key) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.trie.get(key)?)
    }

    fn prove(&mut self, key: &Key) -> anyhow::Result<Vec<u8>> {
        Ok(borsh::to_vec(&self.trie.get_proof(key)?)?)
    }

    fn verify(&mut self, proof: &[u8], key: &Key, value: &[u8]) -> anyhow::Result<()> {
        let proven = self.trie.verify_proof(self.root.into(), key, borsh::from_slice(proof)?)?;
        ensure!(proven.as_deref() == Some(value), "another value");
        Ok(())
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A commit hands in its nodes, then the ones to delete, and only then reads again: the two go into one batch.
impl eth_trie::DB for Nodes {
    type Error = io::Error;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, io::Error> {
        self.db.get_cf(&family(&self.db, "nodes"), key).map_err(io::Error::other)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> Result<(), io::Error> {
        self.insert_batch(vec![key.to_vec()], vec![value])
    }

    fn remove(&self, key: &[u8]) -> Result<(), io::Error> {
        self.remove_batch(&[key.to_vec()])
    }

    fn insert_batch(&self, keys: Vec<Vec<u8>>, values: Vec<Vec<u8>>) -> Result<(), io::Error> {
        self.new.lock().expect("nobody panics with it").extend(keys.into_iter().zip(values));
        Ok(())
    }

    fn remove_batch(&self, keys: &[Vec<u8>]) -> Result<(), io::Error> {
        let nodes = family(&self.db, "nodes");
        let new = std::mem::take(&mut *self.new.lock().expect("nobody panics with it"));
        let new = new.iter().map(|(key, value)| (key, Some(value)));
        let mut rows: Vec<(&Vec<u8>, Option<&Vec<u8>>)> = new.chain(keys.iter().map(|key| (key, None))).collect();
        rows.sort_unstable();
        let mut batch = WriteBatch::default();
        for (key, value) in rows {
            match value {
                Some(value) => batch.put_cf(&nodes, key, value),
                None => batch.delete_cf(&nodes, key),
            }
        }
        write(&self.db, batch).map_err(io::Error::other)
    }

    /// What a commit handed in is on the disk already.
    fn flush(&self) -> Result<(), io::Error> {
        Ok(())
    }
}
