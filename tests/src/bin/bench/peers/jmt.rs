//! The Jellyfish Merkle tree over RocksDB, hashed by BLAKE3. Nodes are keyed by version and path, as it hands them out, so
//! that a block's nodes lie side by side and nothing is overwritten; values by key and version. A block goes in by the
//! batched call and is one synced batch. Stale nodes stay where they are.

use std::path::Path;

use anyhow::Context as _;
use jmt::proof::SparseMerkleProof;
use jmt::storage::{LeafNode, Node, NodeKey, TreeReader, TreeUpdateBatch};
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, RootHash, SimpleHasher, Version};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch};

use super::Peer;
use super::rocksdb::{database, family, write};
use crate::workload::{Key, Update};

/// The row that holds the next version and the newest root.
const HEAD: &[u8] = b"head";

struct Tree {
    rows: Rows,
    /// The version that the next block makes; the first is 0.
    next: Version,
    root: RootHash,
}

struct Rows(DB);

struct Blake3(blake3::Hasher);

pub(super) fn open(folder: &Path) -> anyhow::Result<Box<dyn Peer>> {
    let db = database(folder, &["nodes", "values"])?;
    let head = db.get(HEAD)?.map(|row| borsh::from_slice(&row)).transpose()?;
    let (next, root) = head.unwrap_or((0, RootHash([0; 32])));
    Ok(Box::new(Tree { rows: Rows(db), next, root }))
}

impl Peer for Tree {
    fn commit(&mut self, block: Vec<Update>) -> anyhow::Result<()> {
        let block = block.into_iter().map(|(key, value)| (KeyHash(key), value)).collect();
        let (roots, batch) = tree(&self.rows).batch_put_value_sets(vec![block], None, self.next)?;
        let root = *roots.last().context("a root")?;
        self.rows.write(&batch, self.next + 1, root)?;
        (self.next, self.root) = (self.next + 1, root);
        Ok(())
    }

    fn read(&mut self, key: &Key) -> anyhow::Result<Option<Vec<u8>>> {
        self.rows.get_value_option(self.next, KeyHash(*key))
    }

    fn prove(&mut self, key: &Key) -> anyhow::Result<Vec<u8>> {
        let (_, proof) = tree(&self.rows).get_with_proof(KeyHash(*key), self.next - 1)?;
        Ok(borsh::to_vec(&proof)?)
    }

    fn verify(&mut self, proof: &[u8], key: &Key, value: &[u8]) -> anyhow::Result<()> {
        let proof: SparseMerkleProof<Blake3> = borsh::from_slice(proof)?;
        proof.verify_existence(self.root, KeyHash(*key), value)
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

fn tree(rows: &Rows) -> JellyfishMerkleTree<'_, Rows, Blake3> {
    JellyfishMerkleTree::new(rows)
}

impl Rows {
    /// Both maps of a batch ascend by the keys of their rows.
    fn write(&self, batch: &TreeUpdateBatch, next: Version, root: RootHash) -> anyhow::Result<()> {
        let (nodes, values) = (family(&self.0, "nodes"), family(&self.0, "values"));
        let mut rows = WriteBatch::default();
        for (key, node) in batch.node_batch.nodes() {
            rows.put_cf(&nodes, node_key(key)?, borsh::to_vec(node)?);
        }
        for ((version, key), value) in batch.node_batch.values() {
            rows.put_cf(&values, value_key(*key, *version), borsh::to_vec(value)?);
        }
        rows.put(HEAD, borsh::to_vec(&(next, root))?);
        write(&self.0, rows)
    }
}

impl TreeReader for Rows {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        let row = self.0.get_pinned_cf(&family(&self.0, "nodes"), node_key(key)?)?;
        Ok(row.map(|row| borsh::from_slice(&row)).transpose()?)
    }

    /// The newest value at or before a version.
    fn get_value_option(&self, version_max: Version, key: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        let start = value_key(key, version_max);
        let mode = IteratorMode::From(&start, Direction::Reverse);
        match self.0.iterator_cf(&family(&self.0, "values"), mode).next().transpose()? {
            Some((found, value)) if found.starts_with(&key.0) => Ok(borsh::from_slice(&value)?),
            _ => Ok(None),
        }
    }

    /// Asked for when a tree is restored alone, which is not done here.
    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("not kept")
    }
}

fn node_key(key: &NodeKey) -> anyhow::Result<Vec<u8>> {
    let mut row = key.version().to_be_bytes().to_vec();
    borsh::to_writer(&mut row, key.nibble_path())?;
    Ok(row)
}

fn value_key(key: KeyHash, version: Version) -> Vec<u8> {
    [&key.0[..], &version.to_be_bytes()].concat()
}

impl SimpleHasher for Blake3 {
    fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}
