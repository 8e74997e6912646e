//! What makes an applied block durable: one row of the column `fork`, which holds its layer.
//!
//! ```text
//! key    number u64 BE ‖ hash
//! value  SCALE (header: HeaderRow, change_bytes: u64, rows: u32)
//!        then for each row: column u8, with the highest bit set for a delete ‖ key bytes, Compact ‖ key
//!                           and, unless it is a delete: value bytes, Compact ‖ value
//! ```
//!
//! The rows are those that would put the block into the columns, so that opening a store does no arithmetic of the tree,
//! and the order of the keys has parents before children. A row that does not decode is damage, which is named.

use parity_scale_codec::{Compact, Decode, Encode};

use crate::backend::{Batch, Bounds, Column, Op, PART_BYTES_MAX, Snapshot};
use crate::block::BlockHash;
use crate::error::{ApplyError, ReadError};
use crate::schema::HeaderRow;

/// Set in a row's first byte when it is deleted.
const DELETE: u8 = 0x80;
/// Journal rows that are read at once; one may be large.
const PAGE_ROWS: usize = 16;
const PAGE_BYTES: usize = 32 << 20;

/// Bytes of the largest entry: what a backend takes in one row. A block's own limits keep it below, unless its keys were made
/// to share long prefixes and so have many nodes.
pub(crate) const ENTRY_BYTES_MAX: usize = PART_BYTES_MAX;
/// What a row takes in an entry beside its key and value, and an entry beside its rows, at most.
const ROW_BYTES: usize = 9;
const HEAD_BYTES: usize = 256;

/// A block as the journal has it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) hash: BlockHash,
    pub(crate) header: HeaderRow,
    /// Bytes of keys and values that the block changes.
    pub(crate) change_bytes: u64,
    /// The rows that put the block into the columns.
    pub(crate) rows: Batch,
}

/// The key of a block's journal row.
pub(crate) fn key(number: u64, hash: &BlockHash) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&hash.0);
    key
}

/// Refuses a block whose rows make a larger entry.
pub(crate) fn check_size(rows: &Batch, max: usize) -> Result<(), ApplyError> {
    let got = bytes(rows);
    if got > max { Err(ApplyError::TooManyRows { max, got }) } else { Ok(()) }
}

/// Bytes that an entry has at most.
fn bytes(rows: &Batch) -> usize {
    rows.bytes() + ROW_BYTES * rows.len() + HEAD_BYTES
}

/// The batch that puts a block into the journal.
pub(crate) fn entry(header: &HeaderRow, hash: &BlockHash, change_bytes: u64, rows: &Batch) -> Batch {
    let value = encode(header, change_bytes, rows);
    let mut batch = Batch::with_capacity(4, value.len() + 256);
    batch.put(Column::Fork, &key(header.number, hash), &value);
    batch
}

/// The value of a block's journal row.
pub(crate) fn encode(header: &HeaderRow, change_bytes: u64, rows: &Batch) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(self::bytes(rows));
    (header, change_bytes, rows.len() as u32).encode_to(&mut bytes);
    for op in rows.ops() {
        let (column, key, value) = match op {
            Op::Put { column, key, value } => (column as u8, key, Some(value)),
            Op::Delete { column, key } => (column as u8 | DELETE, key, None),
            Op::DeleteRange { .. } => unreachable!("a block's rows name no ranges"),
        };
        bytes.push(column);
        for part in std::iter::once(key).chain(value) {
            Compact(part.len() as u32).encode_to(&mut bytes);
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

/// The block of a journal row.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Entry, String> {
    let (number, hash) = key.split_first_chunk::<8>().ok_or("a journal key of less than 8 bytes")?;
    let number = u64::from_be_bytes(*number);
    let hash = BlockHash(hash.try_into().map_err(|_| format!("a journal key of {} bytes, expected 40", key.len()))?);
    let entry = decode_value(value).map(|(header, change_bytes, rows)| Entry { hash, header, change_bytes, rows });
    match entry {
        Some(entry) if entry.header.number == number => Ok(entry),
        Some(_) => Err(format!("journal row of block {number} {hash}: it holds another number")),
        None => Err(format!("journal row of block {number} {hash}: it does not decode")),
    }
}

fn decode_value(mut input: &[u8]) -> Option<(HeaderRow, u64, Batch)> {
    let (header, change_bytes, rows) = <(HeaderRow, u64, u32)>::decode(&mut input).ok()?;
    // A row takes two bytes at least, so the count cannot make us reserve more than is there.
    let mut batch = Batch::with_capacity((rows as usize).min(input.len() / 2), input.len());
    for _ in 0..rows {
        let (first, rest) = input.split_first()?;
        input = rest;
        let column = *Column::ALL.get(usize::from(first & !DELETE))?;
        let key = part(&mut input)?;
        match first & DELETE {
            0 => batch.put(column, key, part(&mut input)?),
            _ => batch.delete(column, key),
        }
    }
    input.is_empty().then_some((header, change_bytes, batch))
}

/// A length and so many bytes.
fn part<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = Compact::<u32>::decode(input).ok()?.0 as usize;
    let (part, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(part)
}

/// Every block of the journal, parents before children.
pub(crate) fn for_each(
    snapshot: &dyn Snapshot,
    mut each: impl FnMut(Result<Entry, String>) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut bounds = Bounds::all();
    loop {
        let found = snapshot.range(Column::Fork, &bounds, PAGE_ROWS, PAGE_BYTES)?;
        for (key, value) in &found.rows {
            each(decode(key, value))?;
        }
        match found.rows.last() {
            Some((key, _)) if found.more => bounds = bounds.after(key),
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> HeaderRow {
        let parent_hash = BlockHash([3; 32]);
        HeaderRow { number: 7, parent_hash, state_root: [4; 32], timestamp_ms: None, content: [6; 32] }
    }

    fn rows() -> Batch {
        let mut rows = Batch::new();
        rows.put(Column::Leaf, b"key", b"value");
        rows.delete(Column::Index, b"gone");
        rows.put(Column::Index, b"", b"");
        rows
    }

    /// The format is frozen: a change that moves a byte needs a new format number.
    #[test]
    fn a_journal_row_is_frozen_and_round_trips() {
        let hash = BlockHash([9; 32]);
        let (key, value) = (key(7, &hash), encode(&header(), 55, &rows()));
        assert_eq!(key.to_vec(), [&[0, 0, 0, 0, 0, 0, 0, 7][..], &[9; 32]].concat());
        let tail = [
            &[55, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 12][..],
            b"key",
            &[20],
            b"value",
            &[0x83, 16],
            b"gone",
            &[3, 0, 0],
        ];
        assert_eq!(value, [header().encode(), tail.concat()].concat());
        let entry = decode(&key, &value).unwrap();
        assert_eq!((entry.hash, entry.header, entry.change_bytes), (hash, header(), 55));
        assert_eq!(entry.rows.ops().collect::<Vec<_>>(), rows().ops().collect::<Vec<_>>());
    }

    #[test]
    fn an_entry_is_no_larger_than_was_said_and_refused_when_it_is_too_large() {
        let entry = encode(&header(), 55, &rows()).len();
        assert!(entry <= bytes(&rows()));
        assert!(check_size(&rows(), bytes(&rows())).is_ok());
        let refused = check_size(&rows(), bytes(&rows()) - 1);
        assert!(matches!(refused, Err(ApplyError::TooManyRows { max, got }) if got == max + 1), "{refused:?}");
    }

    #[test]
    fn a_row_that_was_cut_or_belongs_elsewhere_is_named() {
        let hash = BlockHash([9; 32]);
        let value = encode(&header(), 55, &rows());
        for len in 0..value.len() {
            let what = decode(&key(7, &hash), &value[..len]).unwrap_err();
            assert!(what.contains("block 7") && what.contains("does not decode"), "{what}");
        }
        assert!(decode(&key(8, &hash), &value).unwrap_err().contains("another number"));
        assert!(decode(b"short", &value).is_err());
        let mut long = value.clone();
        long.push(0);
        assert!(decode(&key(7, &hash), &long).is_err());
        let mut column = value;
        let at = column.len() - rows().bytes() - 8;
        column[at] = 99;
        assert!(decode(&key(7, &hash), &column).is_err());
    }
}
