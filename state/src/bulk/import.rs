//! A file's pairs into another generation, which becomes the live one when they give its root.

use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;

use parity_scale_codec::{Decode, DecodeAll, Encode};
use rustorium_verkle::{KeyPath, StateRoot};

use super::export::proceed;
use super::file::{Frame, Pieces, Place, Sum};
use super::{BulkError, Carried, Origin};
use crate::backend::{Backend, Batch, Bounds, Column, Durability, Snapshot, commit_patiently};
use crate::block::{BlockHash, Header};
use crate::check::{Cursor, PAGE_ROWS, Stage};
use crate::error::ReadError;
use crate::examination::{Examination, Standing};
use crate::finalize::put_first;
use crate::schema::{ChainRow, Generation, decode_leaf, header_key, meta, number_key};
use crate::staging::{Staging, clear_others};
use crate::view::header_row;

/// Frames that are read ahead.
const AHEAD: usize = 2;
/// A file is read in pieces of so many bytes.
const READ_BYTES: usize = 1 << 20;
/// Above every key of ours.
const BEHIND_ALL: [u8; 80] = [0xff; 80];

/// On which terms a file is taken.
#[derive(Clone, Copy, Default, Debug)]
pub struct Terms {
    /// The state root that the caller trusts.
    pub trusted: Option<StateRoot>,
    /// Whether blocks that are final may be lost: those above the file's.
    pub may_lose: bool,
}

/// How far an import is, in the row `import`.
#[derive(Encode, Decode)]
struct Mark {
    generation: u8,
    head: Sum,
    place: Place,
    last: Option<[u8; 32]>,
}

/// Makes the file's block the head, final and the base of a store, with the file's pairs for its state. What was not final
/// is dropped, and so is every older state: history begins anew. Errors leave the store as it was.
///
/// Headers of blocks before the file's stay where they lead to it; else that of block 0 stays alone.
/// `progress` may break it off; the next import of the same file goes on.
pub fn import(
    examination: &Examination,
    file: &mut File,
    terms: &Terms,
    progress: &mut dyn FnMut(Stage) -> ControlFlow<()>,
) -> Result<Carried, BulkError> {
    let backend = &*examination.backend;
    let snapshot = backend.snapshot()?;
    let standing = Standing::read(&*snapshot)?;
    let finalized = standing.finalized.as_ref().ok_or_else(|| ReadError::damaged("no final block is to be found"))?;
    let origin = begin(file)?.origin;
    let chain = chain(&*snapshot)?;
    judge(&origin, &chain, finalized, terms)?;
    fits(&origin, &*standing.stack(&finalized.hash).over(snapshot.clone()))?;
    if !snapshot.range(Column::Aux, &Bounds::all(), 1, 0)?.rows.is_empty() {
        return Err(BulkError::Pending);
    }
    let has_mark = snapshot.get(Column::Meta, meta::IMPORT)?.is_some();
    let filled = match fill(examination, standing.generation, file, has_mark, progress) {
        // What came before may be of another file with the same block.
        Err(BulkError::Damaged { .. } | BulkError::Truncated { .. } | BulkError::RootMismatch { .. }) if has_mark => {
            fill(examination, standing.generation, file, false, progress)
        }
        filled => filled,
    };
    let (place, resumed) = filled?;
    let to = standing.generation.next();
    switch(backend, &origin, to, &standing, &chain.genesis_hash)?;
    clear_others(backend, to, None)?;
    Ok(Carried { origin, pairs: place.pairs, bytes: place.bytes, resumed })
}

/// The file from its beginning.
fn begin(file: &mut File) -> Result<Pieces<BufReader<File>>, BulkError> {
    file.rewind()?;
    Pieces::open(BufReader::with_capacity(READ_BYTES, file.try_clone()?))
}

/// Writes the file's pairs as the next generation; how far that went, and how many were there before.
fn fill(
    examination: &Examination,
    live: Generation,
    file: &mut File,
    may_resume: bool,
    progress: &mut dyn FnMut(Stage) -> ControlFlow<()>,
) -> Result<(Place, u64), BulkError> {
    let (backend, committer, to) = (&*examination.backend, &*examination.committer, live.next());
    let mut pieces = begin(file)?;
    let length = file.metadata()?.len().max(1);
    let mut staging = Staging::new(backend, to, committer);
    let mark = match may_resume {
        true => resumed(&*backend.snapshot()?, &pieces, to, &mut staging, progress)?,
        false => None,
    };
    match mark {
        Some(mark) => {
            file.seek(SeekFrom::Start(mark.place.offset))?;
            (pieces.place, pieces.last) = (mark.place, mark.last.map(KeyPath));
            // What was read ahead belongs to the beginning.
            pieces = pieces.over(BufReader::with_capacity(READ_BYTES, file.try_clone()?));
        }
        None => {
            staging = Staging::new(backend, to, committer);
            forget(backend, live)?;
        }
    }
    let (head, resumed) = (pieces.head, pieces.place.pairs);
    let expected = pieces.origin.header().state_root;
    let place = each_frame(pieces, |frame| {
        for pair in &frame.pairs {
            staging.put(pair.leaf, frame.key(pair), frame.value(pair))?;
        }
        let last = frame.pairs.last().map(|pair| pair.leaf.path.0);
        let mark = Mark { head, generation: to.0, place: frame.next, last };
        let mut also = Batch::new();
        also.put(Column::Meta, meta::IMPORT, &mark.encode());
        staging.commit(&also)?;
        let part = Some(frame.next.offset as f32 / length as f32);
        proceed(progress(Stage { what: "importing", rows: frame.next.pairs, part }))
    })?;
    let got = staging.finish()?;
    if got != expected {
        forget(backend, live)?;
        return Err(BulkError::RootMismatch { expected, got });
    }
    Ok((place, resumed))
}

/// Takes away what an import has left.
fn forget(backend: &dyn Backend, live: Generation) -> Result<(), BulkError> {
    let mut batch = Batch::new();
    batch.delete(Column::Meta, meta::IMPORT);
    commit_patiently(backend, batch, Durability::Synced)?;
    Ok(clear_others(backend, live, None)?)
}

/// Reads frames on a thread of its own, a few ahead; how far the file goes.
fn each_frame(
    mut pieces: Pieces<BufReader<File>>,
    mut take: impl FnMut(Frame) -> Result<(), BulkError>,
) -> Result<Place, BulkError> {
    let (sender, frames) = sync_channel::<Result<Frame, BulkError>>(AHEAD);
    let mut place = pieces.place;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Some(frame) = pieces.next().transpose() {
                let is_last = frame.is_err();
                // Nobody takes more when something has failed.
                if sender.send(frame).is_err() || is_last {
                    break;
                }
            }
        });
        // Moved, so that the reader hears when this ends early.
        for frame in frames {
            let frame = frame?;
            place = frame.next;
            take(frame)?;
        }
        Ok(place)
    })
}

/// Whose state the store holds.
fn chain(snapshot: &dyn Snapshot) -> Result<ChainRow, ReadError> {
    let row = snapshot.get(Column::Meta, meta::CHAIN)?;
    let row = row.and_then(|row| ChainRow::decode_all(&mut &row[..]).ok());
    row.ok_or_else(|| ReadError::damaged("the row `chain`"))
}

/// Whether the file's block may take the place of what is there.
fn judge(origin: &Origin, chain: &ChainRow, finalized: &Header, terms: &Terms) -> Result<(), BulkError> {
    if origin.genesis_hash != chain.genesis_hash {
        let name = |id: &str, hash| format!("`{id}` with the genesis {hash}");
        let expected = name(&chain.id, chain.genesis_hash);
        return Err(BulkError::OtherChain { expected, found: name(&origin.chain, origin.genesis_hash) });
    }
    let header = origin.header();
    if let Some(trusted) = terms.trusted.filter(|trusted| *trusted != header.state_root) {
        return Err(BulkError::Untrusted { trusted, found: header.state_root });
    }
    let is_ahead = header.number > finalized.number || header == *finalized;
    match is_ahead || terms.may_lose {
        true => Ok(()),
        false => Err(BulkError::Older { number: header.number, finalized: finalized.number }),
    }
}

/// Whether the file's header may stand among those that are there.
fn fits(origin: &Origin, settled: &dyn Snapshot) -> Result<(), BulkError> {
    let header = origin.header();
    let known = header_row(settled, &header.hash)?;
    let what = match () {
        () if header.hash == BlockHash::ZERO => "its block has no hash",
        () if (header.number == 0) != (header.hash == origin.genesis_hash) => {
            "block 0 and the genesis are not the same"
        }
        () if known.is_some_and(|row| row.header(header.hash) != header) => "its block is known with another header",
        () => return Ok(()),
    };
    Err(BulkError::Damaged { offset: 0, what: what.to_owned() })
}

/// How far an import of this file came before, if its rows are there: passes them to the tree.
fn resumed(
    snapshot: &dyn Snapshot,
    pieces: &Pieces<BufReader<File>>,
    to: Generation,
    staging: &mut Staging<'_>,
    progress: &mut dyn FnMut(Stage) -> ControlFlow<()>,
) -> Result<Option<Mark>, BulkError> {
    let row = snapshot.get(Column::Meta, meta::IMPORT)?;
    let Some(mark) = row.and_then(|row| Mark::decode_all(&mut &row[..]).ok()) else { return Ok(None) };
    let Some(last) = mark.last.filter(|_| mark.head == pieces.head && mark.generation == to.0) else { return Ok(None) };
    let end = [&to.leaf_key(&KeyPath(last))[..], &[0]].concat();
    let bounds = Bounds { start: to.all().start, end: Some(end) };
    let mut rows = Cursor::new(snapshot, Column::Leaf, bounds, PAGE_ROWS);
    let mut passed = 0;
    loop {
        let page = rows.page()?;
        if page.is_empty() {
            // A repair may have taken them away.
            return Ok((passed == mark.place.pairs).then_some(mark));
        }
        for (key, row) in &page {
            let Ok((_, row)) = decode_leaf(key, row) else { return Ok(None) };
            staging.pass(row.leaf());
            passed += 1;
        }
        staging.passed();
        let part = Some(passed as f32 / mark.place.pairs.max(1) as f32);
        proceed(progress(Stage { what: "reading what is there", rows: passed, part }))?;
    }
}

/// Makes the new generation the live one, in one batch.
fn switch(
    backend: &dyn Backend,
    origin: &Origin,
    to: Generation,
    standing: &Standing,
    genesis_hash: &BlockHash,
) -> Result<(), BulkError> {
    let header = origin.header();
    let settled = standing.finalized.as_ref().map_or(BlockHash::ZERO, |finalized| finalized.hash);
    let snapshot = standing.stack(&settled).over(backend.snapshot()?);
    let mut batch = Batch::new();
    for column in [Column::Fork, Column::Undo, Column::UndoAt] {
        batch.delete_range(column, &[], &BEHIND_ALL);
    }
    match leads_to(&*snapshot, &header)? {
        true => {
            drop_above(&*snapshot, header.number, &mut batch)?;
            // Of some the journal alone knows.
            for known in standing.way(&settled).iter().filter(|known| known.header.number < header.number) {
                batch.put(Column::Block, &header_key(&known.header.hash), &known.row.encode());
                batch.put(Column::Block, &number_key(known.header.number), &known.header.hash.0);
            }
        }
        false => {
            let key = header_key(genesis_hash);
            let genesis =
                snapshot.get(Column::Block, &key)?.ok_or_else(|| ReadError::damaged("no header of block 0"))?;
            batch.delete_range(Column::Block, &[], &BEHIND_ALL);
            batch.put(Column::Block, &key, &genesis);
            batch.put(Column::Block, &number_key(0), &genesis_hash.0);
            batch.put(Column::Meta, meta::FIRST, &header.number.to_be_bytes());
        }
    }
    // Where its parent is the genesis, nothing is missing.
    if header.number == 0 || header.parent_hash == *genesis_hash {
        batch.delete(Column::Meta, meta::FIRST);
    }
    put_first(&mut batch, &header, origin.content);
    batch.put(Column::Meta, meta::LIVE, &[to.0]);
    batch.delete(Column::Meta, meta::IMPORT);
    commit_patiently(backend, batch, Durability::Synced)?;
    Ok(())
}

/// Whether the final blocks that are known are this one's ancestors, as far as they are below it.
fn leads_to(snapshot: &dyn Snapshot, header: &Header) -> Result<bool, ReadError> {
    let is_at = |number: u64, hash: BlockHash| -> Result<bool, ReadError> {
        Ok(snapshot.get(Column::Block, &number_key(number))?.as_deref() == Some(&hash.0))
    };
    let parent = header.number.checked_sub(1);
    let is_child = || parent.map_or(Ok(false), |parent| is_at(parent, header.parent_hash));
    Ok(is_at(header.number, header.hash)? || is_child()?)
}

/// Takes away what finds the blocks from this number on.
fn drop_above(snapshot: &dyn Snapshot, number: u64, batch: &mut Batch) -> Result<(), ReadError> {
    let bounds = Bounds { start: number_key(number), end: Bounds::prefix(b"n").end };
    let mut numbers = Cursor::new(snapshot, Column::Block, bounds, PAGE_ROWS);
    while let Some((key, hash)) = numbers.next()? {
        batch.delete(Column::Block, &key);
        if let Ok(hash) = hash.try_into() {
            batch.delete(Column::Block, &header_key(&BlockHash(hash)));
        }
    }
    Ok(())
}
