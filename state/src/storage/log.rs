//! The log of changes that are acknowledged and in no block yet: a row of the column `aux` for each gathering of callers.
//!
//! ```text
//! key    'p' ‖ sequence u64 BE
//! value  SCALE Vec<(key: Vec<u8>, value: Option<Vec<u8>>)>, in the order in which they came
//! ```
//!
//! The commit that makes a block durable deletes the rows of its changes. So every row is of changes that are nowhere
//! else, and the changes of all rows in their order belong on the head. A row that does not decode is damage, which is
//! named.

use parity_scale_codec::{Compact, DecodeAll, Encode};

use crate::apply::check_sizes;
use crate::backend::{Batch, Bounds, Column, Snapshot};
use crate::block::Change;
use crate::error::ReadError;

/// What the keys begin with.
const PREFIX: u8 = b'p';
/// Rows that are read at once; one may be large.
const PAGE_ROWS: usize = 64;
const PAGE_BYTES: usize = 32 << 20;

/// The key of a row.
pub(crate) fn key(sequence: u64) -> [u8; 9] {
    let mut key = [PREFIX; 9];
    key[1..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// Where all rows are.
pub(crate) fn bounds() -> Bounds {
    Bounds::prefix(&[PREFIX])
}

/// The value of a row of so many changes, which have so many bytes of keys and values.
pub(crate) fn encode<'a>(count: usize, bytes: usize, changes: impl Iterator<Item = &'a Change>) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes + 8 * count + 8);
    Compact(count as u32).encode_to(&mut value);
    changes.for_each(|change| change.encode_to(&mut value));
    value
}

/// The sequence and the changes of a row.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<(u64, Vec<Change>), String> {
    let sequence = match key {
        [PREFIX, sequence @ ..] => sequence.try_into().map(u64::from_be_bytes).ok(),
        _ => None,
    };
    let sequence = sequence.ok_or("a key that no row of this column has")?;
    let named = |what: &str| format!("acknowledged changes, row {sequence}: {what}");
    let changes = Vec::<Change>::decode_all(&mut &value[..]).map_err(|_| named("they do not decode"))?;
    check_sizes(&changes).map_err(|error| named(&error.to_string()))?;
    Ok((sequence, changes))
}

/// Deletes the rows up to this one.
pub(crate) fn delete_through(batch: &mut Batch, sequence: u64) {
    batch.delete_range(Column::Aux, &key(0), &key(sequence.saturating_add(1)));
}

/// Every row, in order.
pub(crate) fn for_each<E: From<ReadError>>(
    snapshot: &dyn Snapshot,
    mut each: impl FnMut(u64, Vec<Change>) -> Result<(), E>,
) -> Result<(), E> {
    let mut bounds = bounds();
    loop {
        let found = snapshot.range(Column::Aux, &bounds, PAGE_ROWS, PAGE_BYTES).map_err(ReadError::from)?;
        for (key, value) in &found.rows {
            let (sequence, changes) = decode(key, value).map_err(ReadError::damaged)?;
            each(sequence, changes)?;
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

    /// The format is frozen: a change that moves a byte needs a new format number.
    #[test]
    fn a_row_is_frozen_and_round_trips() {
        let changes = vec![(b"ab".to_vec(), Some(b"c".to_vec())), (b"gone".to_vec(), None), (vec![], Some(vec![]))];
        let value = encode(3, 7, changes.iter());
        assert_eq!(key(258), [b'p', 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(value, [&[12, 8][..], b"ab", &[1, 4], b"c", &[16], b"gone", &[0, 0, 1, 0]].concat());
        assert_eq!(decode(&key(258), &value), Ok((258, changes)));
    }

    #[test]
    fn a_row_that_was_cut_is_named() {
        let value = encode(1, 3, [(b"ab".to_vec(), Some(b"c".to_vec()))].iter());
        for len in 0..value.len() {
            let what = decode(&key(7), &value[..len]).unwrap_err();
            assert!(what.contains("row 7"), "{what}");
        }
        assert!(decode(b"p7", &value).is_err() && decode(b"", &value).is_err());
        let long = encode(1, 0, [(vec![0; 1025], None)].iter());
        assert!(decode(&key(7), &long).unwrap_err().contains("1025"));
    }
}
