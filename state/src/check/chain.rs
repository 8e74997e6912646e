//! Headers: the numbers lead from block 0, or from one that was imported, to the block that is checked, each to a child of
//! the one before.

use parity_scale_codec::DecodeAll;

use crate::backend::{Bounds, Column};
use crate::block::BlockHash;
use crate::error::ReadError;
use crate::schema::{HeaderRow, header_key, meta, number_key};

use super::rows::{Cursor, PAGE_ROWS};
use super::{Cure, Depth, Finding, Means, Mends, Report, Rows, Stage};

/// Checks the rows of the column of headers; in depth those, too, that no number leads to.
pub(super) fn check(
    rows: Rows<'_>,
    depth: Depth,
    means: &mut Means<'_>,
    mends: &mut Mends,
    report: &mut Report,
) -> Result<(), ReadError> {
    report.blocks = rows.header.number.saturating_add(1);
    let is_whole = is_whole(rows, means)?;
    if !is_whole {
        walk_back(rows, means, mends, report)?;
    }
    find_numbers_above(rows, mends, report)?;
    match depth {
        // Which headers have a number is known once the numbers are right.
        Depth::Deep if is_whole => find_strays(rows, means, mends, report),
        _ => Ok(()),
    }
}

/// The number from which on all headers are known.
fn first(rows: Rows<'_>) -> Result<u64, ReadError> {
    let row = rows.snapshot.get(Column::Meta, meta::FIRST)?;
    Ok(row.and_then(|row| Some(u64::from_be_bytes(row.try_into().ok()?))).unwrap_or(0))
}

/// Whether the numbers up to the header's are as they should be.
fn is_whole(rows: Rows<'_>, means: &mut Means<'_>) -> Result<bool, ReadError> {
    let end = rows.header.number.checked_add(1).map_or(Bounds::prefix(b"n").end, |end| Some(number_key(end)));
    let first = first(rows)?;
    let bounds = Bounds { start: number_key(first), end };
    let mut cursor = Cursor::new(rows.snapshot, Column::Block, bounds, PAGE_ROWS);
    let (mut parent, mut number) = (BlockHash::ZERO, first);
    loop {
        let page = cursor.page()?;
        if page.is_empty() {
            return Ok(parent == rows.header.hash && number == rows.header.number.saturating_add(1));
        }
        let hashes = page.iter().map(|(_, hash)| <[u8; 32]>::try_from(hash.as_slice()).map(BlockHash));
        let Ok(hashes) = hashes.collect::<Result<Vec<BlockHash>, _>>() else { return Ok(false) };
        let mut keys: Vec<Vec<u8>> = hashes.iter().map(header_key).collect();
        keys.sort_unstable();
        keys.dedup();
        let headers = rows.snapshot.get_many(Column::Block, &keys)?;
        for ((key, _), hash) in page.iter().zip(&hashes) {
            let at = keys.binary_search(&header_key(hash)).expect("every header was asked for");
            let header = headers[at].as_deref().and_then(|bytes| HeaderRow::decode_all(&mut &bytes[..]).ok());
            // The parent of a block that was imported is not known here.
            let is_import = number == first && first > 0;
            let fits = |header: HeaderRow| header.number == number && (is_import || header.parent_hash == parent);
            let fits = header.is_some_and(fits);
            if !fits || *key != number_key(number) {
                return Ok(false);
            }
            (parent, number) = (*hash, number + 1);
        }
        let part = Some(number as f32 / rows.header.number as f32);
        (means.progress)(Stage { what: "following the headers", rows: number, part });
    }
}

/// From the header to its parents, one by one: says what each number should lead to, as far as there are headers.
fn walk_back(rows: Rows<'_>, means: &mut Means<'_>, mends: &mut Mends, report: &mut Report) -> Result<(), ReadError> {
    let (mut number, mut hash) = (rows.header.number, rows.header.hash);
    let first = first(rows)?;
    loop {
        let key = number_key(number);
        if rows.snapshot.get(Column::Block, &key)?.as_deref() != Some(&hash.0) {
            let what = format!("does not lead to block {hash}");
            report.find(Finding::new(Column::Block, format!("number {number}"), what, Cure::Mend));
            mends.put(Column::Block, &key, &hash.0);
        }
        let header = rows.snapshot.get(Column::Block, &header_key(&hash))?;
        let header = header.and_then(|bytes| HeaderRow::decode_all(&mut &bytes[..]).ok());
        let parent = match header {
            Some(header) if header.number == number && number <= first => return Ok(()),
            Some(header) if header.number == number => header.parent_hash,
            _ => {
                let what = format!("no header of block {number}; those before it cannot be found from here");
                report.find(Finding::new(Column::Block, format!("block {hash}"), what, Cure::Resync));
                return Ok(());
            }
        };
        (number, hash) = (number - 1, parent);
        if number.is_multiple_of(PAGE_ROWS as u64) {
            (means.progress)(Stage { what: "following the headers back", rows: number, part: None });
        }
    }
}

/// Numbers above the header's.
fn find_numbers_above(rows: Rows<'_>, mends: &mut Mends, report: &mut Report) -> Result<(), ReadError> {
    let Some(above) = rows.header.number.checked_add(1) else { return Ok(()) };
    let bounds = Bounds { start: number_key(above), end: Bounds::prefix(b"n").end };
    let mut cursor = Cursor::new(rows.snapshot, Column::Block, bounds, PAGE_ROWS);
    while let Some((key, _)) = cursor.next()? {
        report.find(Finding::of_key(Column::Block, &key, "a number above the newest block's", Cure::Mend));
        mends.delete(Column::Block, &key);
    }
    Ok(())
}

/// Headers that no number leads to, and rows that are neither header nor number.
fn find_strays(rows: Rows<'_>, means: &mut Means<'_>, mends: &mut Mends, report: &mut Report) -> Result<(), ReadError> {
    let mut cursor = Cursor::new(rows.snapshot, Column::Block, Bounds::all(), PAGE_ROWS);
    let mut seen = 0;
    loop {
        let page = cursor.page()?;
        if page.is_empty() {
            return Ok(());
        }
        seen += page.len() as u64;
        (means.progress)(Stage { what: "looking for headers that no number leads to", rows: seen, part: None });
        for (key, value) in page {
            let hash = key.strip_prefix(b"h").and_then(|hash| Some(BlockHash(hash.try_into().ok()?)));
            let what = match (key.first(), hash) {
                (Some(b'n'), _) if key.len() == number_key(0).len() => continue,
                (_, Some(hash)) => match HeaderRow::decode_all(&mut &value[..]) {
                    Ok(header) => {
                        let leads = rows.snapshot.get(Column::Block, &number_key(header.number))?;
                        if leads.as_deref() == Some(&hash.0) {
                            continue;
                        }
                        "a header that no number leads to"
                    }
                    Err(_) => "not a header",
                },
                _ => "neither a header nor a number",
            };
            report.find(Finding::of_key(Column::Block, &key, what, Cure::Mend));
            mends.delete(Column::Block, &key);
        }
    }
}
