//! A store opened to be looked at and mended, also where [`crate::open`] refuses it as damaged.
//!
//! [`Examination::open`] writes nothing, and is content with a store whose rows do not agree: what names the chain, the
//! live generation and the newest block is looked for elsewhere, where its row is no use. It refuses what is not ours to
//! mend: another's store, a newer format, another chain.
//! Life-cycle: open → any number of checks → at most one repair ([`Examination::repair`]). Nobody else may have the store
//! open.

mod standing;

use std::sync::Arc;

use parity_scale_codec::{DecodeAll, Encode};
use rustorium_verkle::{Committer, KeyPath, StateRoot};

use crate::backend::{Backend, BackendError, Bounds, Column, Snapshot};
use crate::block::{BlockHash, Header};
use crate::check::undo::check as check_undo;
use crate::check::{Cure, Depth, Examined, Finding, Means, Mends, Report, Rows, Stage, check_layer, examine};
use crate::error::{OpenError, ReadError};
use crate::layer::Run;
use crate::schema::{ChainRow, FORMAT, Generation, decode_format, decode_leaf, meta};
use crate::store::{Genesis, genesis_content, other_chain};
use crate::undo::Kept;
use crate::view::{Shared, View, header_row};
use crate::walk;

use standing::block_of;
pub(crate) use standing::{Known, Standing};

/// Keys that a deep check proves by a witness.
const WITNESS_KEYS: usize = 256;
/// Leaves by which all of them are estimated.
const LEAVES_SAMPLED: usize = 4096;
/// Bytes of nodes kept in memory while they are proved.
const CACHE_BYTES: u64 = 16 << 20;

/// A store that is looked at.
pub struct Examination {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) committer: Arc<Committer>,
    /// What is wrong with the row that names the chain, and what it should be.
    chain: Report,
    pub(crate) chain_row: Option<Vec<u8>>,
}

/// Where a store stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Which copy of the tree is the live one.
    pub generation: u8,
    /// The block whose tree the columns hold.
    pub base: Option<Header>,
    /// The newest final block.
    pub finalized: Option<Header>,
    /// The head.
    pub head: Option<Header>,
    /// The number of the oldest block whose state is kept, where any is.
    pub oldest: Option<u64>,
    /// Blocks of the journal.
    pub journal_blocks: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Leaves in the columns: counted where there are few, else estimated to some per cent.
    pub leaves: u64,
}

/// What came of looking at a store.
pub(crate) struct Seen {
    pub(crate) standing: Standing,
    pub(crate) report: Report,
    /// Whether the leaves give the final block's root; not known where they could not be read.
    pub(crate) leaves_hold: Option<bool>,
    /// Blocks above the final one whose rows are wrong.
    pub(crate) bad_layers: Vec<BlockHash>,
}

impl Examination {
    /// Looks at the store of a chain.
    ///
    /// # Errors
    /// [`OpenError::Interrupted`] where there is no state, since its genesis was not loaded to the end; otherwise as
    /// [`crate::open`], but for damaged rows.
    pub fn open(
        backend: Arc<dyn Backend>,
        genesis: &Genesis<'_>,
        committer: Arc<Committer>,
    ) -> Result<Self, OpenError> {
        let mut chain = Report::default();
        let chain_row = check_chain(&*backend.snapshot()?, genesis, &mut chain)?;
        Ok(Self { backend, committer, chain, chain_row })
    }

    /// Where the store stands.
    pub fn summary(&self) -> Result<Summary, ReadError> {
        let snapshot = self.backend.snapshot()?;
        let Standing { generation, base, finalized, head, journal_rows, .. } = Standing::read(&*snapshot)?;
        let leaves = estimate_leaves(&*snapshot, generation)?;
        let (journal_blocks, journal_bytes) = journal_rows;
        // A row that does not decode is a check's business.
        let oldest = Kept::read(&*snapshot).ok().flatten().map(|kept| kept.oldest);
        Ok(Summary { generation: generation.0, base, finalized, head, oldest, journal_blocks, journal_bytes, leaves })
    }

    /// Checks everything, and changes nothing. `seed` draws weights and keys: it must not be foreseen.
    pub fn check(&self, depth: Depth, seed: [u8; 32], progress: &mut dyn FnMut(Stage)) -> Result<Report, ReadError> {
        let mut means = Means { committer: &self.committer, seed, progress };
        Ok(self.look(depth, &mut means, None)?.report)
    }

    /// Looks at the rows that name everything, the journal, the state of the final block, and what each block above it
    /// changes.
    pub(crate) fn look(
        &self,
        depth: Depth,
        means: &mut Means<'_>,
        mut mends: Option<&mut Mends>,
    ) -> Result<Seen, ReadError> {
        let snapshot = self.backend.snapshot()?;
        let mut before = self.chain.clone();
        let standing = match Standing::read(&*snapshot) {
            Ok(standing) => standing,
            Err(ReadError::Backend(error @ BackendError::Damaged { .. })) => {
                before.find(Finding::new(Column::Meta, "a block of the file", error, Cure::Copy));
                let standing = Standing::nowhere();
                return Ok(Seen { standing, report: before, leaves_hold: None, bad_layers: Vec::new() });
            }
            Err(error) => return Err(error),
        };
        before.absorb(standing.report.clone());
        let Some(header) = standing.finalized.clone() else {
            return Ok(Seen { standing, report: before, leaves_hold: None, bad_layers: Vec::new() });
        };
        let over = standing.stack(&header.hash).over(snapshot.clone());
        let rows = Rows { snapshot: &*over, generation: standing.generation, header: &header };
        let Examined { mut report, leaves_hold } = examine(rows, depth, means, mends.as_deref_mut())?;
        report.journal = standing.journal_rows.0;
        if let Some(base) = standing.base.as_ref().filter(|_| report.is_sound()) {
            let view = self.view(base, snapshot.clone(), standing.generation)?;
            let mut unkept = Mends::default();
            check_undo(&view, depth, means, mends.unwrap_or(&mut unkept), &mut report)?;
        }
        let mut bad_layers = Vec::new();
        // On a damaged tree a block's own rows cannot be told from those beneath.
        if report.is_sound() {
            bad_layers = self.look_above(&standing, &snapshot, means, &mut report)?;
        }
        if depth == Depth::Deep && report.is_sound() && before.is_sound() {
            self.prove_some(&header, over.clone(), standing.generation, means, &mut report)?;
        }
        report.absorb_first(&mut before);
        Ok(Seen { standing, report, leaves_hold, bad_layers })
    }

    /// Checks what each block above the final one lays over its parent; those that are wrong.
    fn look_above(
        &self,
        standing: &Standing,
        snapshot: &Arc<dyn Snapshot>,
        means: &mut Means<'_>,
        report: &mut Report,
    ) -> Result<Vec<BlockHash>, ReadError> {
        let finalized = standing.finalized.as_ref().expect("looked for before");
        let mut bad = Vec::new();
        for (index, known) in standing.journal.iter().enumerate() {
            let Header { number, hash, parent_hash, .. } = known.header;
            if number <= finalized.number || bad.contains(&parent_hash) {
                bad.extend(bad.contains(&parent_hash).then_some(hash));
                continue;
            }
            (means.progress)(Stage { what: "checking the blocks of the journal", rows: index as u64, part: None });
            let over = known.stack.over(snapshot.clone());
            let run = Run::new(number, known.rows.clone());
            if let Some(what) = check_layer(&*over, standing.generation, &run, &means.seed)? {
                report.find(Finding::new(Column::Fork, format!("block {number} {hash}"), what, Cure::Rewind));
                bad.push(hash);
            }
        }
        Ok(bad)
    }

    fn view(&self, header: &Header, snapshot: Arc<dyn Snapshot>, generation: Generation) -> Result<View, ReadError> {
        let shared = Shared::new(self.committer.clone(), CACHE_BYTES);
        let root = walk::root(&*snapshot, generation)?.commitment;
        Ok(View::new(header.clone(), root, snapshot, generation, Arc::new(shared)))
    }

    /// The row that names the chain is as it should be.
    pub(crate) fn chain_is_mended(&mut self) {
        (self.chain, self.chain_row) = (Report::default(), None);
    }

    /// Has witnesses made of random keys, half of them of keys that are there; a view hands out none that does not
    /// verify.
    fn prove_some(
        &self,
        header: &Header,
        snapshot: Arc<dyn Snapshot>,
        generation: Generation,
        means: &mut Means<'_>,
        report: &mut Report,
    ) -> Result<(), ReadError> {
        (means.progress)(Stage { what: "proving random keys", rows: 0, part: None });
        let mut draws = blake3::Hasher::new_keyed(&means.seed).finalize_xof();
        let mut keys = Vec::with_capacity(WITNESS_KEYS);
        for _ in 0..WITNESS_KEYS / 2 {
            let mut path = KeyPath([0; 32]);
            draws.fill(&mut path.0);
            keys.push(path.0.to_vec());
            let bounds = Bounds { start: generation.leaf_key(&path).to_vec(), end: generation.all().end };
            if let Some((key, value)) = snapshot.range(Column::Leaf, &bounds, 1, 0)?.rows.first() {
                keys.push(decode_leaf(key, value).map_err(ReadError::damaged)?.1.key().to_vec());
            }
        }
        match self.view(header, snapshot, generation)?.witness(&keys, u64::MAX) {
            Ok(proof) => report.witnessed = proof.claims.len() as u64,
            Err(ReadError::Damaged { what }) => {
                report.find(Finding::new(Column::Node, "a witness of random keys", what, Cure::Resync));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Whose state it is: the genesis' hash follows from its header. The row that should say so, where it does not.
fn check_chain(
    snapshot: &dyn Snapshot,
    genesis: &Genesis<'_>,
    report: &mut Report,
) -> Result<Option<Vec<u8>>, OpenError> {
    match snapshot.get(Column::Meta, meta::FORMAT)?.map(|row| decode_format(&row)) {
        Some(Some(1..=FORMAT)) => {}
        Some(Some(found)) => return Err(OpenError::Newer { found, supported: FORMAT }),
        None if is_empty(snapshot)? => return Err(OpenError::Interrupted),
        Some(None) | None => return Err(OpenError::Foreign),
    }
    let content = genesis_content(genesis);
    let row = snapshot.get(Column::Meta, meta::CHAIN)?;
    if let Some(chain) = row.as_deref().and_then(|row| ChainRow::decode_all(&mut &row[..]).ok()) {
        // The pairs may be the same, and the hash another's.
        let header = header_row(snapshot, &chain.genesis_hash).ok().flatten();
        let hash = header.map(|header| (genesis.hash)(&StateRoot(header.state_root)));
        let is_other = chain.genesis_content != content || hash.is_some_and(|hash| hash != chain.genesis_hash);
        return if is_other { Err(other_chain(genesis, &chain)) } else { Ok(None) };
    }
    // A load that was broken off leaves leaves and nodes, and nothing of what names a block.
    if row.is_none() && snapshot.range(Column::Block, &Bounds::all(), 1, 0)?.rows.is_empty() {
        return Err(OpenError::Interrupted);
    }
    let mut find = |what, cure| report.find(Finding::new(Column::Meta, "`chain`", what, cure));
    match block_of(snapshot, 0)? {
        Some(first) if (genesis.hash)(&first.state_root) == first.hash => {
            find("missing, or not what it should be", Cure::Mend);
            let (id, genesis_hash) = (genesis.id.to_owned(), first.hash);
            Ok(Some(ChainRow { id, genesis_hash, genesis_content: content }.encode()))
        }
        _ => {
            find("does not say whose state this is, and block 0 is not the genesis given", Cure::Resync);
            Ok(None)
        }
    }
}

/// Paths are hashes, so the first leaves tell how close all of them lie: `n` of them reach `n / leaves` into the column.
fn estimate_leaves(snapshot: &dyn Snapshot, generation: Generation) -> Result<u64, ReadError> {
    let found = snapshot.range(Column::Leaf, &generation.all(), LEAVES_SAMPLED, usize::MAX)?;
    let sampled = found.rows.len() as u64;
    let Some((last, _)) = found.rows.last().filter(|_| found.more) else { return Ok(sampled) };
    let reach = last.get(1..9).and_then(|bytes| bytes.try_into().ok()).map_or(u64::MAX, u64::from_be_bytes);
    Ok((u128::from(sampled) * (1 << 64) / u128::from(reach.max(1))) as u64)
}

fn is_empty(snapshot: &dyn Snapshot) -> Result<bool, ReadError> {
    for column in Column::ALL {
        if !snapshot.range(column, &Bounds::all(), 1, 0)?.rows.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}
