//! NOMT set up for this workload: commit workers on all cores, the upper levels of the tree in the cache from the start, a
//! hash table that stays more than half empty, and no witness or rollback log, since nobody asks for either here.

use std::path::Path;

use anyhow::{anyhow, ensure};
use nomt::hasher::{Blake3Hasher, ValueHasher as _};
use nomt::proof::PathProof;
use nomt::trie::LeafData;
use nomt::{IoUringPermission, KeyReadWrite, Nomt, Options, Session, SessionParams, check_iou_permissions};

use super::Peer;
use crate::machine::cores;
use crate::workload::{Key, Update};

/// Pages of its hash table, 4 KiB each. A tree of a million keys has some 300 000.
const BUCKETS: u32 = 1 << 20;
/// Its default. Each polls without a pause while anything is under way: on two cores it is fastest with one.
const IO_WORKERS_MAX: usize = 3;
/// So that where pages lie is the same in every run.
const BUCKETS_SEED: [u8; 16] = [7; 16];

struct Trie {
    /// What reads and proofs go through; it must end before the next commit.
    session: Option<Session<Blake3Hasher>>,
    nomt: Nomt<Blake3Hasher>,
}

pub(super) fn refused() -> Option<&'static str> {
    match check_iou_permissions() {
        IoUringPermission::Allowed => None,
        IoUringPermission::Denied => Some("this machine refuses io_uring"),
        IoUringPermission::NotSupported => Some("this machine has no io_uring, or an old one"),
    }
}

pub(super) fn open(folder: &Path) -> anyhow::Result<Box<dyn Peer>> {
    let mut options = Options::new();
    options.path(folder);
    options.commit_concurrency(cores()?);
    options.io_workers((cores()? / 2).clamp(1, IO_WORKERS_MAX));
    options.hashtable_buckets(BUCKETS);
    options.bitbox_seed(BUCKETS_SEED);
    options.prepopulate_page_cache(true);
    Ok(Box::new(Trie { session: None, nomt: Nomt::open(options)? }))
}

impl Trie {
    fn session(&mut self) -> &Session<Blake3Hasher> {
        self.session.get_or_insert_with(|| self.nomt.begin_session(SessionParams::default()))
    }
}

impl Peer for Trie {
    fn commit(&mut self, block: Vec<Update>) -> anyhow::Result<()> {
        self.session = None;
        let session = self.nomt.begin_session(SessionParams::default());
        let writes = block.into_iter().map(|(key, value)| (key, KeyReadWrite::Write(Some(value)))).collect();
        session.finish(writes)?.commit(&self.nomt)
    }

    fn read(&mut self, key: &Key) -> anyhow::Result<Option<Vec<u8>>> {
        self.session().read(*key)
    }

    fn prove(&mut self, key: &Key) -> anyhow::Result<Vec<u8>> {
        Ok(borsh::to_vec(&self.session().prove(*key)?)?)
    }

    fn verify(&mut self, proof: &[u8], key: &Key, value: &[u8]) -> anyhow::Result<()> {
        let proof: PathProof = borsh::from_slice(proof)?;
        let root = self.nomt.root().into_inner();
        let verified = proof.verify::<Blake3Hasher>(proof.terminal.path(), root).map_err(|e| anyhow!("{e:?}"))?;
        let leaf = LeafData { key_path: *key, value_hash: Blake3Hasher::hash_value(value) };
        ensure!(verified.confirm_value(&leaf).map_err(|e| anyhow!("{e:?}"))?, "another value");
        Ok(())
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}
