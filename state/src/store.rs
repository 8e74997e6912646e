//! A backend that is known to hold one chain's state in our format, and the only door through which it is written.
//!
//! Life-cycle: [`Store::open`] stamps an empty backend with the format, loads the genesis (in chunks, committed as they
//! come; an interrupted load starts over), and from then on refuses another chain's spec. Everything after is
//! [`Store::commit`]: one atomic batch.

use std::ops::ControlFlow;
use std::sync::Arc;

use parity_scale_codec::{DecodeAll, Encode};
use rustorium_verkle::tree::{Bulk, OutOfOrder};
use rustorium_verkle::{KeyPath, Leaf, StateRoot, ValueHash};

use crate::apply::check_size;
use crate::backend::{Backend, BackendError, Batch, Bounds, Column, Durability, Snapshot, commit_patiently};
use crate::block::{BlockHash, Header};
use crate::error::{OpenError, ReadError};
use crate::finalize::{put_first, put_leaf, put_nodes};
use crate::forks::{Forks, Size};
use crate::journal::{self, Entry};
use crate::layer::Run;
use crate::schema::{ChainRow, FORMAT, Generation, decode_format, encode_format, meta};
use crate::staging;
use crate::undo::Kept;
use crate::view::{Shared, header_row};
use crate::walk;

const GENESIS_CONTEXT: &str = "rustorium.v1 genesis content";
/// Pairs of the genesis that are committed together.
const GENESIS_CHUNK_PAIRS: usize = 16_384;
/// Bytes of values of the genesis that are committed together.
const GENESIS_CHUNK_BYTES: usize = 64 << 20;

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// What block 0 holds, and whose it is.
pub struct Genesis<'a> {
    /// The chain's id, for messages.
    pub id: &'a str,
    /// Keys and values; each key once.
    pub pairs: &'a [Pair],
    /// The genesis block's hash, once its state root is known.
    pub hash: &'a dyn Fn(&StateRoot) -> BlockHash,
}

/// How far the genesis is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Pairs in the store.
    pub pairs: usize,
    /// Pairs in the genesis.
    pub pairs_total: usize,
}

/// One chain's state in a backend.
pub(crate) struct Store {
    backend: Arc<dyn Backend>,
    generation: Generation,
    genesis_hash: BlockHash,
    shared: Arc<Shared>,
}

impl Store {
    /// Opens a backend for a chain, and loads the genesis if it is empty. Returns the blocks that it holds, too.
    pub(crate) fn open(
        backend: Arc<dyn Backend>,
        genesis: &Genesis<'_>,
        shared: Arc<Shared>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(Self, Forks), OpenError> {
        stamp(&*backend)?;
        let content = genesis_content(genesis);
        let snapshot = backend.snapshot()?;
        let store = match snapshot.get(Column::Meta, meta::CHAIN)? {
            Some(row) => {
                let chain = ChainRow::decode_all(&mut &row[..]).map_err(|error| damaged("chain", &error))?;
                if chain.genesis_content != content {
                    return Err(other_chain(genesis, &chain));
                }
                let live = snapshot.get(Column::Meta, meta::LIVE)?;
                let [generation] = live.as_deref().unwrap_or(&[]) else { return Err(damaged("live", &"no byte")) };
                let generation = Generation(*generation);
                let store = Self { backend, generation, genesis_hash: chain.genesis_hash, shared };
                // The pairs are the same; the hash may still be another's.
                let first =
                    header_row(&*snapshot, &chain.genesis_hash)?.ok_or_else(|| damaged("genesis", &"missing"))?;
                if (genesis.hash)(&StateRoot(first.state_root)) != chain.genesis_hash {
                    return Err(other_chain(genesis, &chain));
                }
                // Of a repair or an import that a crash broke off behind its end.
                staging::clear_others(&*store.backend, generation, staging::imported(&*snapshot)?)?;
                store
            }
            None => {
                // An interrupted load leaves leaves and nodes, and nothing of what names a head.
                for (column, bounds) in [(Column::Block, Bounds::all()), (Column::Meta, Bounds::prefix(meta::HEAD))] {
                    if !snapshot.range(column, &bounds, 1, usize::MAX)?.rows.is_empty() {
                        return Err(damaged("chain", &"missing beside blocks"));
                    }
                }
                let mut store = Self { backend, generation: Generation(0), genesis_hash: BlockHash::ZERO, shared };
                store.genesis_hash = store.load(genesis, content, progress)?;
                store
            }
        };
        let forks = store.forks()?;
        Ok((store, forks))
    }

    /// The one way to the disk.
    pub(crate) fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError> {
        self.backend.commit(batch, durability)
    }

    pub(crate) fn genesis_hash(&self) -> BlockHash {
        self.genesis_hash
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The base with the journal's blocks above it; what names head, final and base, and the roots, must agree.
    pub(crate) fn forks(&self) -> Result<Forks, OpenError> {
        let snapshot = self.backend.snapshot()?;
        let head = named_hash(&*snapshot, meta::HEAD)?;
        let finalized = named_hash(&*snapshot, meta::FINAL)?;
        let mut forks = self.base(&snapshot, named_hash(&*snapshot, meta::BASE)?)?;
        journal::for_each(&*snapshot, |entry| self.replay(&mut forks, entry.map_err(ReadError::damaged)?))?;
        if forks.branch(&finalized).is_none() {
            return Err(damaged("final", &format!("no block {finalized} in the journal")));
        }
        let losers = forks.losers(&finalized);
        if finalized != forks.finalized().hash() && !losers.is_empty() {
            return Err(damaged("final", &format!("the journal has {} blocks beside it", losers.len())));
        }
        forks.settle(&finalized);
        forks.mistrust_columns();
        if forks.branch(&head).is_none() {
            return Err(damaged("head", &format!("no block {head} in the journal")));
        }
        forks.set_head(head);
        Ok(forks)
    }

    /// The block whose tree is in the columns.
    fn base(&self, snapshot: &Arc<dyn Snapshot>, hash: BlockHash) -> Result<Forks, OpenError> {
        let row = header_row(&**snapshot, &hash)?.ok_or_else(|| damaged("base", &format!("no header of {hash}")))?;
        let root = walk::root(&**snapshot, self.generation)?.commitment;
        let kept = Kept::read(&**snapshot)?.filter(|kept| kept.newest >= row.number);
        let (header, snapshot) = (row.header(hash), snapshot.clone());
        let forks = Forks::new(header, root, snapshot, kept, self.generation, self.shared.clone());
        let view = &forks.finalized().view;
        for (number, expected) in [(0, self.genesis_hash), (row.number, hash)] {
            if view.block_hash(number)? != Some(expected) {
                return Err(damaged("base", &format!("block {number} is not {expected}")));
            }
        }
        if StateRoot::of(&root.encode()) != view.header().state_root {
            return Err(damaged("base", &format!("the root node is not that of {}", view.header().state_root)));
        }
        Ok(forks)
    }

    /// Puts a block of the journal above its parent.
    fn replay(&self, forks: &mut Forks, entry: Entry) -> Result<(), ReadError> {
        let Entry { hash, header, change_bytes, rows } = entry;
        let header = header.header(hash);
        let damaged =
            |what: String| ReadError::damaged(format!("journal row of block {} {hash}: {what}", header.number));
        let parent = forks.branch(&header.parent_hash).cloned();
        let parent = parent.ok_or_else(|| damaged(format!("its parent {} is not known", header.parent_hash)))?;
        if Some(header.number) != parent.view.header().number.checked_add(1) {
            return Err(damaged("its number is not its parent's and one".into()));
        }
        let size = Size { changes: change_bytes, rows: rows.bytes() as u64 };
        let run = Run::new(header.number, Arc::new(rows));
        let root = run.root(self.generation).map_err(damaged)?.unwrap_or(parent.view.root());
        if StateRoot::of(&root.encode()) != header.state_root {
            return Err(damaged(format!("its root node is not that of {}", header.state_root)));
        }
        forks.insert(forks.child(&parent, header, root, run, size, Arc::default()));
        Ok(())
    }

    /// Loads block 0: pairs in the order of their paths and the nodes that they finish, chunk by chunk, then the rows that
    /// make it the head. Nothing is read back.
    fn load(
        &self,
        genesis: &Genesis<'_>,
        content: [u8; 32],
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<BlockHash, OpenError> {
        self.clear()?;
        let sizes = genesis.pairs.iter().try_for_each(|(key, value)| check_size(key, Some(value)));
        sizes.map_err(|error| OpenError::Genesis { what: error.to_string() })?;
        let mut pairs: Vec<(KeyPath, &Pair)> = genesis.pairs.iter().map(|pair| (KeyPath::of(&pair.0), pair)).collect();
        pairs.sort_unstable_by_key(|(path, _)| *path);
        let pairs_total = pairs.len();
        let mut bulk = Bulk::new(&self.shared.committer);
        let mut rest = pairs.as_slice();
        proceed(progress(Progress { pairs: 0, pairs_total }))?;
        while !rest.is_empty() {
            let (chunk, others) = rest.split_at(chunk_len(rest));
            rest = others;
            let (mut batch, leaves) = self.pair_rows(chunk);
            let nodes = bulk.push(&leaves).map_err(|OutOfOrder { path }| OpenError::Genesis {
                what: format!("the key with the path {path} twice"),
            })?;
            put_nodes(&mut batch, self.generation, &nodes);
            commit_patiently(&*self.backend, batch, Durability::Buffered)?;
            proceed(progress(Progress { pairs: pairs_total - rest.len(), pairs_total }))?;
        }
        let nodes = bulk.finish();
        let (_, root) = nodes.last().expect("the root is always there");
        let state_root = StateRoot::of(&root.commitment.encode());
        let hash = (genesis.hash)(&state_root);
        let header = Header { number: 0, hash, parent_hash: BlockHash::ZERO, state_root, timestamp_ms: None };
        let chain = ChainRow { id: genesis.id.to_owned(), genesis_hash: hash, genesis_content: content };
        let mut batch = Batch::new();
        put_nodes(&mut batch, self.generation, &nodes);
        put_first(&mut batch, &header, content);
        batch.put(Column::Meta, meta::LIVE, &[self.generation.0]);
        batch.put(Column::Meta, meta::CHAIN, &chain.encode());
        self.commit(batch, Durability::Synced)?;
        tracing::info!(keys = pairs_total, %state_root, %hash, "genesis loaded");
        Ok(hash)
    }

    /// The rows of new pairs, and their leaves.
    fn pair_rows(&self, pairs: &[(KeyPath, &Pair)]) -> (Batch, Vec<Leaf>) {
        let mut batch = Batch::new();
        let mut leaves = Vec::with_capacity(pairs.len());
        let mut keys = Vec::with_capacity(pairs.len());
        for (path, (key, value)) in pairs {
            let leaf = Leaf { path: *path, value_hash: ValueHash::of(value) };
            put_leaf(&mut batch, &self.generation.leaf_key(path), key, value, leaf.value_hash);
            leaves.push(leaf);
            keys.push(self.generation.index_key(key));
        }
        keys.sort_unstable();
        keys.iter().for_each(|key| batch.put(Column::Index, key, &[]));
        (batch, leaves)
    }

    /// Takes away what an interrupted load has left.
    fn clear(&self) -> Result<(), BackendError> {
        let Bounds { start, end } = self.generation.all();
        let end = end.expect("generations end before 255");
        let mut batch = Batch::new();
        for column in [Column::Leaf, Column::Big, Column::Node, Column::Index] {
            batch.delete_range(column, &start, &end);
        }
        self.commit(batch, Durability::Synced)
    }
}

fn proceed(answer: ControlFlow<()>) -> Result<(), OpenError> {
    if answer.is_break() { Err(OpenError::Interrupted) } else { Ok(()) }
}

/// Stamps an empty backend with our format; refuses one that holds something else.
fn stamp(backend: &dyn Backend) -> Result<(), OpenError> {
    let snapshot = backend.snapshot()?;
    match snapshot.get(Column::Meta, meta::FORMAT)? {
        Some(row) => match decode_format(&row) {
            Some(FORMAT) => Ok(()),
            Some(1) => {
                // Head, final and base are one there.
                let mut batch = Batch::new();
                if let Some(head) = snapshot.get(Column::Meta, meta::HEAD)? {
                    [meta::FINAL, meta::BASE].iter().for_each(|name| batch.put(Column::Meta, name, &head));
                }
                batch.put(Column::Meta, meta::FORMAT, &encode_format());
                Ok(backend.commit(batch, Durability::Synced)?)
            }
            // What is new since then is not there yet.
            Some(2) => {
                let mut batch = Batch::new();
                batch.put(Column::Meta, meta::FORMAT, &encode_format());
                Ok(backend.commit(batch, Durability::Synced)?)
            }
            Some(found) => Err(OpenError::Newer { found, supported: FORMAT }),
            None => Err(OpenError::Foreign),
        },
        None => {
            for column in Column::ALL {
                if !snapshot.range(column, &Bounds::all(), 1, usize::MAX)?.rows.is_empty() {
                    return Err(OpenError::Foreign);
                }
            }
            let mut batch = Batch::new();
            batch.put(Column::Meta, meta::FORMAT, &encode_format());
            Ok(backend.commit(batch, Durability::Synced)?)
        }
    }
}

/// Whether the rows are of the first format, in which head, final and base are one.
pub(crate) fn is_first_format(snapshot: &dyn Snapshot) -> Result<bool, BackendError> {
    Ok(snapshot.get(Column::Meta, meta::FORMAT)?.is_some_and(|row| decode_format(&row) == Some(1)))
}

/// The block hash that a row of the column `meta` holds.
fn named_hash(snapshot: &dyn Snapshot, name: &'static [u8]) -> Result<BlockHash, OpenError> {
    let row = snapshot.get(Column::Meta, name)?;
    let hash = row.and_then(|row| Some(BlockHash(row.try_into().ok()?)));
    hash.ok_or_else(|| damaged(&String::from_utf8_lossy(name), &"no hash of 32 bytes"))
}

/// How many of these pairs are committed together: at least one.
fn chunk_len(pairs: &[(KeyPath, &Pair)]) -> usize {
    let mut bytes = 0;
    let small = |(_, (_, value)): &&(KeyPath, &Pair)| {
        let before = bytes;
        bytes += value.len();
        before < GENESIS_CHUNK_BYTES
    };
    pairs.iter().take(GENESIS_CHUNK_PAIRS).take_while(small).count()
}

pub(crate) fn genesis_content(genesis: &Genesis<'_>) -> [u8; 32] {
    let mut pairs: Vec<&Pair> = genesis.pairs.iter().collect();
    pairs.sort_unstable();
    let mut hasher = blake3::Hasher::new_derive_key(GENESIS_CONTEXT);
    hasher.update(&(genesis.id, pairs.len() as u64).encode());
    for (key, value) in pairs {
        hasher.update(&(key.len() as u64, value.len() as u64).encode()).update(key).update(value);
    }
    *hasher.finalize().as_bytes()
}

pub(crate) fn other_chain(genesis: &Genesis<'_>, found: &ChainRow) -> OpenError {
    OpenError::OtherChain {
        expected: format!("`{}` of the given spec", genesis.id),
        found: format!("`{}` with the genesis {}", found.id, found.genesis_hash),
    }
}

fn damaged(row: &str, why: &dyn std::fmt::Display) -> OpenError {
    ReadError::damaged(format!("the row `{row}`: {why}")).into()
}
