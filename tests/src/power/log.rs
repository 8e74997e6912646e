//! Power loss under RocksDB: its write-ahead log is cut where it was not synced, and garbage put behind.
//!
//! Knows of RocksDB's files no more than the log's framing: blocks of 32 KiB, in them records of checksum (4 bytes), length
//! (2), type (1), the log's number (4, in the types 5 to 8, which a log that is recycled has) and data.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 11;

/// A place in the logs of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of the log file.
    pub log: u64,
    /// Bytes in it.
    pub bytes: u64,
}

/// What lies behind the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// The file ends.
    Nothing,
    /// Blocks that were allocated and never written.
    Zeros,
    /// What was in those blocks before, whosever it was.
    Garbage,
    /// One sector is not written, those behind it are.
    Hole,
}

/// A cut that was made.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Where.
    pub at: Place,
    /// What lies behind.
    pub behind: Behind,
}

/// Where the records of the newest log end: after a commit that returned, the place up to which it is written, and if it
/// was synced, synced.
pub fn end(dir: &Path) -> anyhow::Result<Place> {
    let (log, path) = logs(dir)?.pop().context("a store without a log")?;
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Place { log, bytes: records_end(&bytes, log) as u64 })
}

/// Copies a store's directory. One that is open must not be written meanwhile; what its background threads do is noticed,
/// and the copy begun again.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for _ in 0..COPIES_MAX {
        let before = listing(from)?;
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to)?;
        let copied = before.iter().try_for_each(|(name, _)| fs::copy(from.join(name), to.join(name)).map(drop));
        match copied {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            Ok(()) if listing(from)? == before => return Ok(()),
            _ => {}
        }
    }
    bail!("{} never stands still", from.display())
}

/// Cuts the newest log at random, behind `synced` and before its end, and puts behind the cut what a disk may leave there.
pub fn cut(dir: &Path, synced: Place, rng: &mut StdRng) -> anyhow::Result<Cut> {
    let (log, path) = logs(dir)?.pop().context("a store without a log")?;
    let mut bytes = fs::read(&path)?;
    let end = records_end(&bytes, log);
    let start = if log == synced.log { synced.bytes as usize } else { 0 };
    assert!(log >= synced.log && start <= end, "the log ends before what was synced: {synced:?}, {log} has {end}");
    let at = rng.random_range(start..=end);
    let behind = match rng.random_range(0..4) {
        0 => Behind::Nothing,
        1 => Behind::Zeros,
        2 => Behind::Garbage,
        _ => Behind::Hole,
    };
    match behind {
        Behind::Nothing => bytes.truncate(at),
        Behind::Zeros => bytes[at..].fill(0),
        Behind::Garbage => {
            let len = bytes.len().max(at + rng.random_range(1..100_000));
            bytes.resize(len, 0);
            rng.fill_bytes(&mut bytes[at..]);
        }
        Behind::Hole => {
            let sector_end = (at / 512 + 1) * 512;
            let hole_end = sector_end.min(bytes.len());
            bytes[at..hole_end].fill(0);
        }
    }
    fs::write(&path, bytes)?;
    Ok(Cut { at: Place { log, bytes: at as u64 }, behind })
}

const COPIES_MAX: usize = 100;

/// The logs of a store, the newest last.
fn logs(dir: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let mut logs: Vec<(u64, PathBuf)> = listing(dir)?
        .into_iter()
        .filter_map(|(name, _)| Some((name.strip_suffix(".log")?.parse().ok()?, dir.join(&name))))
        .collect();
    logs.sort();
    Ok(logs)
}

/// Names and lengths, but of the file that only tells of what happened.
fn listing(dir: &Path) -> anyhow::Result<Vec<(String, u64)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.metadata() {
            Ok(found) if found.is_file() && !name.starts_with("LOG") => names.push((name, found.len())),
            _ => {}
        }
    }
    names.sort();
    Ok(names)
}

/// Where the records of the log `number` end in a file that may have been another's before.
fn records_end(bytes: &[u8], number: u64) -> usize {
    let mut at = 0;
    loop {
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEADER_BYTES {
            // The writer fills up a block that has no room for a header.
            match record_bytes(&bytes[(at + left).min(bytes.len())..], number) {
                Some(_) => at += left,
                None => return at,
            }
        }
        match record_bytes(&bytes[at.min(bytes.len())..], number) {
            Some(len) if len <= BLOCK_BYTES - at % BLOCK_BYTES => at += len,
            _ => return at,
        }
    }
}

/// The bytes of the record that `bytes` begin with, if it is one of the log `number`.
fn record_bytes(bytes: &[u8], number: u64) -> Option<usize> {
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    let len = HEADER_BYTES + usize::from(u16::from_le_bytes([header[4], header[5]]));
    let is_ours = (5..=8).contains(&header[6]) && header[7..] == (number as u32).to_le_bytes();
    (is_ours && len <= bytes.len()).then_some(len)
}
