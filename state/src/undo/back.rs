//! Going back: the newest final block is taken away, with all that it did, and its parent is the newest again.
//!
//! Block by block, each in one batch: whatever happens, the store stands at a block that was final. The tree goes back as
//! it goes forward, by changes, and must come to the root that the parent's header has.

use parity_scale_codec::Encode;
use rustorium_verkle::{KeyPath, StateRoot};

use super::{Entry, Kept, at, big_key, chunk_key, decode_chunk};
use crate::apply::change;
use crate::backend::{Backend, Batch, Bounds, Column, Durability, Snapshot, commit_patiently};
use crate::block::{Change, Changes, Header};
use crate::error::ReadError;
use crate::finalize::put_tree;
use crate::meters::Phases;
use crate::schema::{LeafRow, header_key, meta, number_key};
use crate::view::{View, header_row};

/// Chunks of a page.
const PAGE_CHUNKS: usize = 256;

/// Takes away the block of this view, which is the newest final one, with nothing above it, and in the columns. The view of
/// its parent.
pub(crate) fn step(view: &View, backend: &dyn Backend) -> Result<View, ReadError> {
    let snapshot = view.snapshot();
    let Header { number, hash, parent_hash, .. } = *view.header();
    let kept = Kept::read(snapshot)?.filter(|kept| kept.oldest < number && kept.newest == number);
    let kept = kept.ok_or_else(|| ReadError::damaged(format!("block {number} has no undo rows")))?;
    let parent = header_row(snapshot, &parent_hash)?;
    let parent = parent.ok_or_else(|| ReadError::damaged(format!("no header of block {parent_hash}")))?;
    let mut batch = Batch::new();
    let changes = Changes::new(changes(snapshot, number, &mut batch)?);
    let delta = change(view, &changes, &view.shared().committer, &mut Phases::default())?;
    if delta.state_root() != StateRoot(parent.state_root) {
        let what = format!("block {number} taken back gives {}, not its parent's root", delta.state_root());
        return Err(ReadError::damaged(what));
    }
    put_tree(&mut batch, view.generation(), &changes, &delta);
    batch.delete_range(Column::Undo, &number.to_be_bytes(), &(number + 1).to_be_bytes());
    batch.delete(Column::Block, &header_key(&hash));
    batch.delete(Column::Block, &number_key(number));
    for name in [meta::HEAD, meta::FINAL, meta::BASE] {
        batch.put(Column::Meta, name, &parent_hash.0);
    }
    batch.put(Column::Meta, meta::UNDO, &Kept { newest: number - 1, ..kept }.encode());
    commit_patiently(backend, batch, Durability::Synced)?;
    delta.whole.into_iter().for_each(|node| view.shared().cache.insert(node));
    let header = parent.header(parent_hash);
    Ok(View::new(header, delta.root, backend.snapshot()?, view.generation(), view.shared().clone()))
}

/// What undoes a block; the deletion of its rows in `undo_at` goes into the batch.
fn changes(snapshot: &dyn Snapshot, number: u64, batch: &mut Batch) -> Result<Vec<Change>, ReadError> {
    let mut changes = Vec::new();
    for_each_entry(snapshot, number, |entry| {
        entry.places().iter().for_each(|id| batch.delete(Column::UndoAt, &at(id, number)));
        changes.extend(undone(snapshot, number, entry)?);
        Ok(())
    })?;
    Ok(changes)
}

/// The key and its value before the block, if this is about a leaf.
fn undone(snapshot: &dyn Snapshot, number: u64, entry: Entry) -> Result<Option<Change>, ReadError> {
    Ok(match entry {
        Entry::New { key } => Some((key, None)),
        Entry::Changed { old } | Entry::Gone { old } => Some(match old {
            LeafRow::Inline { key, value } => (key, Some(value)),
            LeafRow::Big { key, .. } => {
                let value = snapshot.get(Column::Undo, &big_key(number, &KeyPath::of(&key)))?;
                let value =
                    value.ok_or_else(|| ReadError::damaged(format!("an old value of block {number} is gone")))?;
                (key, Some(value))
            }
        }),
        Entry::Node { .. } => None,
    })
}

/// What a block did, entry by entry: leaves by path, then nodes.
pub(crate) fn for_each_entry(
    snapshot: &dyn Snapshot,
    number: u64,
    mut each: impl FnMut(Entry) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let end = [&number.to_be_bytes()[..], &[1]].concat();
    let mut bounds = Bounds { start: chunk_key(number, 0), end: Some(end) };
    loop {
        let found = snapshot.range(Column::Undo, &bounds, PAGE_CHUNKS, 4 << 20)?;
        for (_, chunk) in &found.rows {
            decode_chunk(chunk)?.into_iter().try_for_each(&mut each)?;
        }
        match found.rows.last() {
            Some((key, _)) if found.more => bounds = bounds.after(key),
            _ => return Ok(()),
        }
    }
}
