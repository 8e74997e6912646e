//! One block's state, to read: values, listings and witnesses.
//!
//! A view is made by the writer and never changes; whoever holds one reads the same block for as long as he likes, and
//! waits for nobody. Rows are trusted to be ours: one that does not decode, or a big value that is not the one its leaf
//! names, is an error that says where; a small value that was altered in place shows where its node is in memory, and in
//! its witness: one that would not verify is never handed out.

mod update;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use metrics::{Histogram, histogram};
use rustorium_verkle::{Claim, Committer, Invalid, KeyPath, Leaf, Point, StateRoot, ValueHash, Witness};

use crate::backend::{Bounds, Column, Snapshot};
use crate::block::{BlockHash, Header};
use crate::cache::{Cache, WitnessId};
use crate::error::ReadError;
use crate::metrics::{READ_SECONDS, WITNESS_SECONDS, WITNESSES_REFUSED};
use crate::schema::{Generation, HeaderRow, LeafRow, header_key, number_key};
use crate::undo::{Kept, Past, Pins};
use crate::walk::{self, Walk};

/// The state after one block.
pub struct View {
    header: Header,
    /// The commitment that the state root is of.
    root: Point,
    snapshot: Arc<dyn Snapshot>,
    generation: Generation,
    shared: Arc<Shared>,
}

/// What the views of a store share.
pub(crate) struct Shared {
    /// Its tables make a witness in a fraction of the time.
    pub(crate) committer: Arc<Committer>,
    pub(crate) cache: Cache,
    pub(crate) pins: Pins,
    read_seconds: Histogram,
    witness_seconds: Histogram,
}

impl Shared {
    pub(crate) fn new(committer: Arc<Committer>, cache_bytes: u64) -> Self {
        Self {
            committer,
            cache: Cache::new(cache_bytes),
            pins: Pins::default(),
            read_seconds: histogram!(READ_SECONDS),
            witness_seconds: histogram!(WITNESS_SECONDS),
        }
    }
}

/// Records the time until it is dropped.
struct Timed<'a>(Instant, &'a Histogram);

impl<'a> Timed<'a> {
    fn start(histogram: &'a Histogram) -> Self {
        Self(Instant::now(), histogram)
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.1.record(self.0.elapsed());
    }
}

/// A key and its value, or that it has none.
type Claimed = (Vec<u8>, Option<Vec<u8>>);

/// Values of some keys and what proves them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The block that they are of.
    pub header: Header,
    /// Keys and values in the order asked; a key asked twice stands once.
    pub claims: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The encoded witness (`STATE_TREE.md` §5; of an update, `STATELESS_UPDATE.md`).
    pub witness: Vec<u8>,
}

impl Proof {
    /// Whether the witness proves the claims under this state root. The root must come from whom one trusts: that of
    /// `header` is only what the proof says of itself.
    pub fn verify(&self, root: &StateRoot) -> Result<(), Invalid> {
        Witness::decode(&self.witness)?.verify(root, &self.claims.iter().map(claim).collect::<Vec<_>>())
    }
}

fn claim((key, value): &Claimed) -> Claim {
    Claim { path: KeyPath::of(key), value: value.as_deref().map(ValueHash::of) }
}

impl View {
    pub(crate) fn new(
        header: Header,
        root: Point,
        snapshot: Arc<dyn Snapshot>,
        generation: Generation,
        shared: Arc<Shared>,
    ) -> Self {
        Self { header, root, snapshot, generation, shared }
    }

    /// The same block, read from rows that say the same of it.
    pub(crate) fn over(&self, snapshot: Arc<dyn Snapshot>) -> Self {
        Self::new(self.header.clone(), self.root, snapshot, self.generation, self.shared.clone())
    }

    /// The state after an earlier block, whose changes since are kept; this one's rows are all in the columns.
    pub(crate) fn past(&self, header: Header, kept: Kept) -> Result<Self, ReadError> {
        let past = Past {
            base: self.snapshot.clone(),
            generation: self.generation,
            committer: self.shared.committer.clone(),
            number: header.number,
            newest: kept.newest,
        };
        let root = walk::root(&past, self.generation)?.commitment;
        if StateRoot::of(&root.encode()) != header.state_root {
            return Err(ReadError::damaged(format!(
                "the root node of block {} is not that of its header",
                header.number
            )));
        }
        Ok(Self::new(header, root, Arc::new(past), self.generation, self.shared.clone()))
    }

    /// The block whose state this is.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The tables that commitments of this state are made with, for whoever has some to make or to judge.
    pub fn committer(&self) -> &Committer {
        &self.shared.committer
    }

    /// The value of a key, if it has one.
    pub fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let _timed = Timed::start(&self.shared.read_seconds);
        let path = KeyPath::of(key);
        let leaf = self.walk().cached_leaf(&path);
        if let Some(found) = self.cached_value(leaf) {
            return Ok(found.map(|value| value.to_vec()));
        }
        let row = self.leaf_rows(&[path])?.pop().flatten();
        self.value_of(&path, row, leaf)
    }

    /// The value of a key, or that it has none, if that is known without the disk.
    pub(crate) fn value_in_memory(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let found = self.cached_value(self.walk().cached_leaf(&KeyPath::of(key)))?;
        Some(found.map(|value| value.to_vec()))
    }

    /// The size of a key's value in bytes, if it has one; the value itself is not loaded when it is big.
    pub fn value_size(&self, key: &[u8]) -> Result<Option<u64>, ReadError> {
        let row = self.leaf_rows(&[KeyPath::of(key)])?.pop().flatten();
        Ok(row.map(|row| row.value_bytes()))
    }

    /// The values of some keys, in their order; refused, before anything big is loaded, when they have more than
    /// `bytes_max` bytes together.
    pub fn values(&self, keys: &[Vec<u8>], bytes_max: u64) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
        let _timed = Timed::start(&self.shared.read_seconds);
        let (paths, order) = sorted_paths(keys);
        let leaves: Vec<Option<Option<Leaf>>> = paths.iter().map(|path| self.walk().cached_leaf(path)).collect();
        let mut values: Vec<Option<Option<Arc<[u8]>>>> = leaves.iter().map(|leaf| self.cached_value(*leaf)).collect();
        let unknown: Vec<usize> = (0..paths.len()).filter(|index| values[*index].is_none()).collect();
        let rows = self.leaf_rows(&unknown.iter().map(|index| paths[*index]).collect::<Vec<_>>())?;
        let mut sizes: Vec<u64> =
            values.iter().map(|value| value.iter().flatten().map(|v| v.len() as u64).sum()).collect();
        for (index, row) in unknown.iter().zip(&rows) {
            sizes[*index] = row.as_ref().map_or(0, LeafRow::value_bytes);
        }
        let got = order.iter().map(|index| sizes[*index]).fold(0, u64::saturating_add);
        if got > bytes_max {
            return Err(ReadError::ValuesTooLarge { max: bytes_max, got });
        }
        for (index, row) in unknown.into_iter().zip(rows) {
            values[index] = Some(self.value_of(&paths[index], row, leaves[index])?.map(Into::into));
        }
        let value = |index: usize| values[index].as_ref().and_then(|value| Some(value.as_ref()?.to_vec()));
        Ok(order.into_iter().map(value).collect())
    }

    /// The hashes of some keys' values, in their order; big values are not loaded.
    pub fn value_hashes(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<ValueHash>>, ReadError> {
        let (paths, order) = sorted_paths(keys);
        let mut leaves: Vec<Option<Option<Leaf>>> = paths.iter().map(|path| self.walk().cached_leaf(path)).collect();
        let unknown: Vec<usize> = (0..paths.len()).filter(|index| leaves[*index].is_none()).collect();
        let rows = self.leaf_rows(&unknown.iter().map(|index| paths[*index]).collect::<Vec<_>>())?;
        for (index, row) in unknown.into_iter().zip(rows) {
            leaves[index] = Some(row.as_ref().map(LeafRow::leaf));
        }
        let value_hash = |index: usize| leaves[index].flatten().map(|leaf| leaf.value_hash);
        Ok(order.into_iter().map(value_hash).collect())
    }

    /// At most `count` keys that begin with `prefix`, in raw byte order, those after `start_after` if it is given.
    pub fn keys_paged(
        &self,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        count: usize,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut bounds = Bounds::prefix(&self.generation.index_key(prefix));
        if let Some(key) = start_after {
            bounds = bounds.after(&self.generation.index_key(key));
        }
        if bounds.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.snapshot.range(Column::Index, &bounds, count, usize::MAX)?;
        Ok(found.rows.into_iter().map(|(key, _)| key[1..].to_vec()).collect())
    }

    /// The values of some keys (one at least) with a witness; refused, before anything big is loaded, when they have
    /// more than `bytes_max` bytes together.
    ///
    /// # Panics
    /// If `keys` is empty: there is nothing to prove.
    pub fn witness(&self, keys: &[Vec<u8>], bytes_max: u64) -> Result<Proof, ReadError> {
        let _timed = Timed::start(&self.shared.witness_seconds);
        let (claims, values) = self.claims(keys, bytes_max)?;
        let witness = self.prove_claims(&claims)?;
        Ok(Proof { header: self.header.clone(), claims: values, witness: witness.to_vec() })
    }

    /// What proves that these keys, each of them once, have these values, as the caller knows that they do.
    pub(crate) fn prove(&self, values: Vec<Claimed>) -> Result<Arc<Proof>, ReadError> {
        let _timed = Timed::start(&self.shared.witness_seconds);
        let mut claims: Vec<Claim> = values.iter().map(claim).collect();
        claims.sort_unstable_by_key(|claim| claim.path);
        let witness = self.prove_claims(&claims)?;
        Ok(Arc::new(Proof { header: self.header.clone(), claims: values, witness: witness.to_vec() }))
    }

    /// The encoded witness of these claims, which ascend by path.
    fn prove_claims(&self, claims: &[Claim]) -> Result<Arc<[u8]>, ReadError> {
        self.proof(WitnessId::new(&self.header.state_root, claims), || {
            let subtree = self.walk().prove(claims.iter().map(|claim| claim.path))?;
            let nodes = subtree.commitments();
            let witness = subtree.prove(Some(&self.shared.committer))?;
            let judged = witness.verify_known(&self.header.state_root, claims, &nodes);
            Ok(judged.map(|()| witness.encode()))
        })
    }

    /// What a witness is to prove of these keys, by path, and their values, in the order asked; each key once.
    fn claims<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a Vec<u8>>,
        bytes_max: u64,
    ) -> Result<(Vec<Claim>, Vec<Claimed>), ReadError> {
        let mut seen = HashSet::new();
        let distinct: Vec<Vec<u8>> = keys.into_iter().filter(|key| seen.insert(*key)).cloned().collect();
        assert!(!distinct.is_empty(), "a witness is for one key or more");
        let values = self.values(&distinct, bytes_max)?;
        let values: Vec<Claimed> = distinct.into_iter().zip(values).collect();
        let mut claims: Vec<Claim> = values.iter().map(claim).collect();
        claims.sort_unstable_by_key(|claim| claim.path);
        Ok((claims, values))
    }

    /// The encoded witness of this name, if need be from `prove`, which judges what it makes.
    fn proof(
        &self,
        id: WitnessId,
        prove: impl FnOnce() -> Result<Result<Vec<u8>, Invalid>, ReadError>,
    ) -> Result<Arc<[u8]>, ReadError> {
        if let Some(witness) = self.shared.cache.witness(&id) {
            return Ok(witness);
        }
        // A damaged store makes a witness that does not verify: better an error than a wrong answer.
        let damaged = |invalid| ReadError::damaged(format!("the tree under these keys: {invalid}"));
        let judged = prove().and_then(|judged| judged.map_err(damaged));
        // What is wrong may be a cached node, which must not outlive the repair of the rows that it was made from.
        let judged = judged.inspect_err(|error| {
            if let ReadError::Damaged { .. } = error {
                metrics::counter!(WITNESSES_REFUSED, "reason" => "Damaged").increment(1);
                self.shared.cache.clear();
            }
        });
        let witness: Arc<[u8]> = judged?.into();
        self.shared.cache.insert_witness(id, witness.clone());
        Ok(witness)
    }

    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk { snapshot: &*self.snapshot, generation: self.generation, root: &self.root, cache: &self.shared.cache }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn root(&self) -> Point {
        self.root
    }

    pub(crate) fn snapshot(&self) -> &dyn Snapshot {
        &*self.snapshot
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// The row of a block that was applied at or before this one.
    pub(crate) fn header_row(&self, hash: &BlockHash) -> Result<Option<HeaderRow>, ReadError> {
        header_row(&*self.snapshot, hash)
    }

    /// The header of a block that this one descends from, or of another that is known to be final.
    pub fn ancestor(&self, hash: &BlockHash) -> Result<Option<Header>, ReadError> {
        Ok(self.header_row(hash)?.map(|row| row.header(*hash)))
    }

    /// The hash of the block with this number on the way to this one.
    pub(crate) fn block_hash(&self, number: u64) -> Result<Option<BlockHash>, ReadError> {
        number_hash(&*self.snapshot, number)
    }

    /// The leaf rows of these paths, which ascend strictly.
    fn leaf_rows(&self, paths: &[KeyPath]) -> Result<Vec<Option<LeafRow>>, ReadError> {
        let keys: Vec<Vec<u8>> = paths.iter().map(|path| self.generation.leaf_key(path).to_vec()).collect();
        let rows = self.snapshot.get_many(Column::Leaf, &keys)?;
        let decode = |(path, row): (&KeyPath, Option<Vec<u8>>)| {
            row.map(|row| LeafRow::decode_at(path, &row).map_err(ReadError::damaged)).transpose()
        };
        paths.iter().zip(rows).map(decode).collect()
    }

    /// What the cache knows of a leaf's value, where the leaf, or that there is none, is known.
    fn cached_value(&self, leaf: Option<Option<Leaf>>) -> Option<Option<Arc<[u8]>>> {
        match leaf? {
            Some(leaf) => self.shared.cache.value(&leaf).map(Some),
            None => Some(None),
        }
    }

    /// The value in a row of the leaf column, which must be what the tree says if that is known.
    fn value_of(
        &self,
        path: &KeyPath,
        row: Option<LeafRow>,
        leaf: Option<Option<Leaf>>,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let found = row.as_ref().map(|row| Leaf { path: *path, value_hash: row.value_hash() });
        if leaf.is_some_and(|leaf| leaf != found) {
            // The cached node may be what is wrong.
            self.shared.cache.clear();
            return Err(ReadError::damaged(format!("leaf {path} is not the one that its node was made of")));
        }
        let (bytes, leaf) = match (row, found) {
            (Some(LeafRow::Inline { value, .. }), Some(leaf)) => {
                self.shared.cache.insert_value(leaf, &value);
                return Ok(Some(value));
            }
            (Some(LeafRow::Big { bytes, .. }), Some(leaf)) => (bytes, leaf),
            _ => return Ok(None),
        };
        let value = self.snapshot.get(Column::Big, &self.generation.leaf_key(path))?;
        match value {
            Some(value) if value.len() as u64 == bytes && ValueHash::of(&value) == leaf.value_hash => Ok(Some(value)),
            Some(_) => Err(ReadError::damaged(format!("the value of leaf {path} is not the one that was written"))),
            None => Err(ReadError::damaged(format!("the value of leaf {path} is missing"))),
        }
    }
}

/// The hash of the block with this number.
pub(crate) fn number_hash(snapshot: &dyn Snapshot, number: u64) -> Result<Option<BlockHash>, ReadError> {
    let Some(bytes) = snapshot.get(Column::Block, &number_key(number))? else { return Ok(None) };
    let hash = bytes.try_into().map_err(|_| ReadError::damaged(format!("the hash of block {number}")))?;
    Ok(Some(BlockHash(hash)))
}

pub(crate) fn header_row(snapshot: &dyn Snapshot, hash: &BlockHash) -> Result<Option<HeaderRow>, ReadError> {
    use parity_scale_codec::DecodeAll;
    let Some(bytes) = snapshot.get(Column::Block, &header_key(hash))? else { return Ok(None) };
    let row = HeaderRow::decode_all(&mut &bytes[..]);
    row.map(Some).map_err(|error| ReadError::damaged(format!("the header of block {hash}: {error}")))
}

/// The keys' paths, ascending and each once, and for each key the index of its path.
fn sorted_paths(keys: &[Vec<u8>]) -> (Vec<KeyPath>, Vec<usize>) {
    let unsorted: Vec<KeyPath> = keys.iter().map(|key| KeyPath::of(key)).collect();
    let mut paths = unsorted.clone();
    paths.sort_unstable();
    paths.dedup();
    let index = |path: &KeyPath| paths.binary_search(path).expect("every path is in the list");
    let order = unsorted.iter().map(index).collect();
    (paths, order)
}
