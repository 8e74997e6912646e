//! The index of keys beside the leaves.
//!
//! The two are in different orders, so sums are compared that know no order: `Σ B3_seed(key) mod 2^128` over the leaves
//! and over the index. Nobody who does not know the seed can make two different sets of keys agree. Where they do not
//! agree, each key is looked up.

use rustorium_verkle::KeyPath;

use crate::backend::Column;
use crate::error::ReadError;
use crate::schema::decode_leaf;

use super::rows::{Cursor, PAGE_ROWS};
use super::{Cure, Finding, Means, Mends, Report, Rows, Stage};

/// A set of keys, as a sum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeySum {
    seed: [u8; 32],
    sum: u128,
}

impl KeySum {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self { seed: *seed, sum: 0 }
    }

    /// Adds a key and what its row in the index holds, which should be nothing.
    pub(super) fn add(&mut self, key: &[u8], row: &[u8]) {
        let hash = blake3::keyed_hash(&self.seed, key);
        let term = u128::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"));
        self.sum = self.sum.wrapping_add(term).wrapping_add(row.len() as u128);
    }
}

/// Compares the index with the keys of the leaves.
pub(super) fn check(
    rows: Rows<'_>,
    keys: KeySum,
    means: &mut Means<'_>,
    mends: &mut Mends,
    report: &mut Report,
) -> Result<(), ReadError> {
    let mut found = KeySum::new(&means.seed);
    let mut cursor = Cursor::new(rows.snapshot, Column::Index, rows.generation.all(), PAGE_ROWS);
    let mut seen = 0;
    loop {
        let page = cursor.page()?;
        if page.is_empty() {
            break;
        }
        seen += page.len() as u64;
        page.iter().for_each(|(key, value)| found.add(&key[1..], value));
        (means.progress)(Stage { what: "comparing the index of keys", rows: seen, part: None });
    }
    if found != keys {
        find_missing(rows, means, mends, report)?;
        find_strays(rows, means, mends, report)?;
    }
    Ok(())
}

/// Looks up the key of each leaf.
fn find_missing(
    rows: Rows<'_>,
    means: &mut Means<'_>,
    mends: &mut Mends,
    report: &mut Report,
) -> Result<(), ReadError> {
    let mut cursor = Cursor::new(rows.snapshot, Column::Leaf, rows.generation.all(), PAGE_ROWS);
    let mut seen = 0;
    loop {
        let page = cursor.page()?;
        if page.is_empty() {
            return Ok(());
        }
        seen += page.len() as u64;
        let leaves = page.iter().filter_map(|(key, value)| decode_leaf(key, value).ok());
        let mut wanted: Vec<(Vec<u8>, KeyPath)> =
            leaves.map(|(path, row)| (rows.generation.index_key(row.key()), path)).collect();
        wanted.sort_unstable();
        let (keys, paths): (Vec<Vec<u8>>, Vec<KeyPath>) = wanted.into_iter().unzip();
        for ((key, path), value) in keys.iter().zip(paths).zip(rows.snapshot.get_many(Column::Index, &keys)?) {
            let what = match value {
                Some(value) if value.is_empty() => continue,
                Some(_) => "its key's row holds something",
                None => "its key is missing",
            };
            report.find(Finding::new(Column::Index, format!("leaf {path}"), what, Cure::Mend));
            mends.put(Column::Index, key, &[]);
        }
        (means.progress)(Stage { what: "looking up each key in the index", rows: seen, part: None });
    }
}

/// Looks up the leaf of each key.
fn find_strays(rows: Rows<'_>, means: &mut Means<'_>, mends: &mut Mends, report: &mut Report) -> Result<(), ReadError> {
    let mut cursor = Cursor::new(rows.snapshot, Column::Index, rows.generation.all(), PAGE_ROWS);
    let mut seen = 0;
    loop {
        let page = cursor.page()?;
        if page.is_empty() {
            return Ok(());
        }
        seen += page.len() as u64;
        let leaf_key = |key: &[u8]| rows.generation.leaf_key(&KeyPath::of(&key[1..])).to_vec();
        let mut wanted: Vec<(Vec<u8>, &[u8])> = page.iter().map(|(key, _)| (leaf_key(key), key.as_slice())).collect();
        wanted.sort_unstable();
        let keys: Vec<Vec<u8>> = wanted.iter().map(|(leaf, _)| leaf.clone()).collect();
        for ((_, key), value) in wanted.iter().zip(rows.snapshot.get_many(Column::Leaf, &keys)?) {
            if value.is_none() {
                report.find(Finding::of_key(Column::Index, key, "a key without a leaf", Cure::Mend));
                mends.delete(Column::Index, key);
            }
        }
        (means.progress)(Stage { what: "looking up each key's leaf", rows: seen, part: None });
    }
}
