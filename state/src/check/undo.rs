//! What is kept of the past: the row that says how much, and in depth that each place leads to its entry and each entry
//! has its places, and that the root node of every block is its header's.

use parity_scale_codec::DecodeAll;

use crate::backend::{Bounds, Column, Snapshot};
use crate::error::ReadError;
use crate::schema::meta;
use crate::undo::{self, Kept, Place, chunk_key, decode_chunk, split_at};
use crate::view::{View, header_row, number_hash};

use super::rows::{Cursor, PAGE_ROWS};
use super::{Cure, Depth, Finding, Means, Mends, Report, Stage};

/// Checks the history below the block of this view, whose rows are the columns themselves.
pub(crate) fn check(
    base: &View,
    depth: Depth,
    means: &mut Means<'_>,
    mends: &mut Mends,
    report: &mut Report,
) -> Result<(), ReadError> {
    let snapshot = base.snapshot();
    let mut wrong = Vec::new();
    match Kept::read(snapshot) {
        Ok(None) => {}
        Ok(Some(kept)) if kept.newest < base.header().number => {
            wrong.push((Column::Meta, "undo".to_owned(), "ends before the base".to_owned()));
        }
        Ok(Some(kept)) if depth == Depth::Deep => {
            find_lost(snapshot, kept, means, &mut wrong)?;
            find_strays(snapshot, kept, means, &mut wrong)?;
            find_roots(base, kept, means, &mut wrong)?;
        }
        Ok(Some(_)) => {}
        Err(ReadError::Backend(error)) => return Err(error.into()),
        Err(error) => wrong.push((Column::Meta, "undo".to_owned(), error.to_string())),
    }
    if !wrong.is_empty() {
        // Without the row nothing of it is read, and all of it is swept.
        mends.delete(Column::Meta, meta::UNDO);
    }
    wrong.into_iter().for_each(|(column, row, what)| report.find(Finding::new(column, row, what, Cure::Mend)));
    Ok(())
}

/// What is wrong, and where.
type Wrong = Vec<(Column, String, String)>;

/// Entries without a place.
fn find_lost(snapshot: &dyn Snapshot, kept: Kept, means: &mut Means<'_>, wrong: &mut Wrong) -> Result<(), ReadError> {
    let mut cursor = Cursor::new(snapshot, Column::Undo, window(kept), PAGE_ROWS);
    let mut seen = 0;
    while let Some((key, value)) = cursor.next()? {
        seen += 1;
        if seen % 1024 == 0 {
            (means.progress)(Stage { what: "following the history's entries", rows: seen, part: None });
        }
        let number = u64::from_be_bytes(*key.first_chunk().unwrap_or(&[0; 8]));
        let mut find = |what: String| wrong.push((Column::Undo, format!("block {number}"), what));
        if key.get(8) != Some(&0) {
            continue;
        }
        let entries = match decode_chunk(&value) {
            Ok(entries) => entries,
            Err(error) => {
                find(error.to_string());
                continue;
            }
        };
        for entry in entries {
            for id in entry.places() {
                if snapshot.get(Column::UndoAt, &undo::at(&id, number))?.is_none() {
                    find("an entry that no place leads to".to_owned());
                }
            }
        }
    }
    Ok(())
}

/// Places that lead nowhere.
fn find_strays(snapshot: &dyn Snapshot, kept: Kept, means: &mut Means<'_>, wrong: &mut Wrong) -> Result<(), ReadError> {
    let mut cursor = Cursor::new(snapshot, Column::UndoAt, Bounds::all(), PAGE_ROWS);
    let mut seen = 0;
    while let Some((key, value)) = cursor.next()? {
        seen += 1;
        if seen % 1024 == 0 {
            (means.progress)(Stage { what: "following the history's places", rows: seen, part: None });
        }
        let (id, number) = split_at(&key)?;
        // What is older is being swept, what is newer is being written.
        if number <= kept.oldest || number > kept.newest || value.is_empty() {
            continue;
        }
        let what = match Place::decode_all(&mut &value[..]) {
            Ok(Place::Chunk { chunk, index }) => {
                let chunk = snapshot.get(Column::Undo, &chunk_key(number, chunk))?;
                let entries = chunk.map(|chunk| decode_chunk(&chunk)).transpose().ok().flatten().unwrap_or_default();
                match entries.get(index as usize) {
                    Some(entry) if entry.places().iter().any(|place| place == id) => continue,
                    _ => "leads to no entry of its own".to_owned(),
                }
            }
            Ok(Place::Nowhere | Place::Computed) => continue,
            Err(error) => format!("does not decode: {error}"),
        };
        wrong.push((Column::UndoAt, format!("block {number}"), what));
    }
    Ok(())
}

/// Blocks whose root node is not that of their header.
fn find_roots(base: &View, kept: Kept, means: &mut Means<'_>, wrong: &mut Wrong) -> Result<(), ReadError> {
    let snapshot = base.snapshot();
    for number in kept.oldest..=base.header().number {
        let part = Some((number - kept.oldest) as f32 / (base.header().number - kept.oldest).max(1) as f32);
        (means.progress)(Stage { what: "looking at the roots of the past", rows: number - kept.oldest, part });
        // The headers are checked elsewhere.
        let Some(hash) = number_hash(snapshot, number)? else { continue };
        let Some(row) = header_row(snapshot, &hash)? else { continue };
        match base.past(row.header(hash), kept) {
            Ok(_) => {}
            Err(ReadError::Backend(error)) if !undo::is_ours(&error) => return Err(error.into()),
            Err(error) => wrong.push((Column::Undo, format!("block {number}"), error.to_string())),
        }
    }
    Ok(())
}

/// The chunks of the blocks that can be undone.
fn window(kept: Kept) -> Bounds {
    let key = |number: u64| number.saturating_add(1).to_be_bytes().to_vec();
    Bounds { start: key(kept.oldest), end: Some(key(kept.newest)) }
}
