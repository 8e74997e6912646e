//! A block's pairs into a file.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;

use rustorium_verkle::{KeyPath, NodePath, ValueHash};

use super::file::{Frames, Pieces, Place, head};
use super::{BulkError, Carried, Origin};
use crate::backend::{Bounds, Column};
use crate::block::BlockHash;
use crate::check::{Cursor, PAGE_ROWS, Stage};
use crate::error::ReadError;
use crate::schema::{LeafRow, decode_leaf};
use crate::view::View;

/// Writes all pairs of a block, with what `chain` calls its chain, into a file that is open for reading and writing: an
/// empty one, or one that an export of the same block was broken off in, which goes on then. Nothing is computed: that
/// the leaves are right is for a check of the store, or for the import. `progress` may break it off.
pub fn export(
    view: &View,
    chain: &str,
    genesis_hash: BlockHash,
    file: &mut File,
    progress: &mut dyn FnMut(Stage) -> ControlFlow<()>,
) -> Result<Carried, BulkError> {
    let header = view.header().clone();
    let row =
        view.header_row(&header.hash)?.ok_or_else(|| ReadError::damaged(format!("no header of {}", header.hash)))?;
    let origin = Origin {
        chain: chain.to_owned(),
        genesis_hash,
        number: header.number,
        hash: header.hash,
        parent_hash: header.parent_hash,
        state_root: header.state_root.0,
        timestamp_ms: header.timestamp_ms,
        content: row.content,
    };
    let (head, sum) = head(&origin);
    let (place, last) = match resume(file, &origin, &head, progress)? {
        Found::Whole(place) => {
            return Ok(Carried { origin, pairs: place.pairs, bytes: place.bytes, resumed: place.pairs });
        }
        Found::Part(place, last) => (place, last),
        Found::Nothing => {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&head)?;
            (Place { offset: head.len() as u64, ..Place::default() }, None)
        }
    };
    file.set_len(place.offset)?;
    file.seek(SeekFrom::Start(place.offset))?;
    let mut frames = Frames::new(&mut *file, sum, place);
    write(view, last, &mut frames, progress)?;
    let end = frames.finish()?;
    file.sync_all()?;
    Ok(Carried { origin, pairs: end.pairs, bytes: end.bytes, resumed: place.pairs })
}

/// What a file has of an export.
enum Found {
    Nothing,
    Part(Place, Option<KeyPath>),
    Whole(Place),
}

/// Looks what is there already: whole frames stay, and what follows them goes.
fn resume(
    file: &mut File,
    origin: &Origin,
    head: &[u8],
    progress: &mut dyn FnMut(Stage) -> ControlFlow<()>,
) -> Result<Found, BulkError> {
    file.rewind()?;
    let mut start = Vec::new();
    (&mut *file).take(head.len() as u64).read_to_end(&mut start)?;
    // Nothing, or a head that was not written to its end.
    if start.len() < head.len() && head.starts_with(&start) {
        return Ok(Found::Nothing);
    }
    file.rewind()?;
    let mut pieces = Pieces::open(BufReader::new(&mut *file))?;
    if pieces.origin != *origin {
        let name = |origin: &Origin| format!("{} {} of {}", origin.number, origin.hash, origin.chain);
        return Err(BulkError::OtherBlock { expected: name(origin), found: name(&pieces.origin) });
    }
    loop {
        let (place, last) = (pieces.place, pieces.last);
        match pieces.next() {
            Ok(Some(frame)) => {
                proceed(progress(Stage { what: "reading what is there", rows: frame.next.pairs, part: None }))?
            }
            Ok(None) => return Ok(Found::Whole(place)),
            Err(BulkError::File(error)) if error.kind() != ErrorKind::UnexpectedEof => return Err(error.into()),
            Err(_) => return Ok(Found::Part(place, last)),
        }
    }
}

/// Writes the pairs behind this path.
fn write(
    view: &View,
    last: Option<KeyPath>,
    frames: &mut Frames<&mut File>,
    progress: &mut dyn FnMut(Stage) -> ControlFlow<()>,
) -> Result<(), BulkError> {
    let generation = view.generation();
    // Slot by slot: of a state of the past, a page ends when too much younger is passed over.
    for slot in last.map_or(0, |path| path.0[0])..=0xff {
        let all = generation.leaf_bounds(&NodePath::ROOT, slot, slot);
        let last = last.filter(|path| path.0[0] == slot);
        let rest = last.map_or(all.clone(), |path| all.after(&generation.leaf_key(&path)));
        write_slot(view, rest, frames, progress)?;
    }
    Ok(())
}

fn write_slot(
    view: &View,
    rest: Bounds,
    frames: &mut Frames<&mut File>,
    progress: &mut dyn FnMut(Stage) -> ControlFlow<()>,
) -> Result<(), BulkError> {
    let mut leaves = Cursor::new(view.snapshot(), Column::Leaf, rest, PAGE_ROWS);
    while let Some((row_key, row)) = leaves.next()? {
        let (path, row) = decode_leaf(&row_key, &row).map_err(ReadError::damaged)?;
        let is_full = match &row {
            LeafRow::Inline { key, value } => frames.put(key, value)?,
            LeafRow::Big { key, value_hash, .. } => {
                let value = view.snapshot().get(Column::Big, &row_key).map_err(ReadError::from)?;
                let value = value.filter(|value| ValueHash::of(value).0 == *value_hash);
                let value =
                    value.ok_or_else(|| ReadError::damaged(format!("the value of leaf {path} is not there")))?;
                frames.put(key, &value)?
            }
        };
        if is_full {
            // Paths are hashes, so the first bytes tell how far it is.
            let reached = u16::from_be_bytes([path.0[0], path.0[1]]);
            let part = Some(f32::from(reached) / f32::from(u16::MAX));
            proceed(progress(Stage { what: "exporting", rows: frames.place.pairs, part }))?;
        }
    }
    Ok(())
}

pub(super) fn proceed(answer: ControlFlow<()>) -> Result<(), BulkError> {
    if answer.is_break() { Err(BulkError::Interrupted) } else { Ok(()) }
}
