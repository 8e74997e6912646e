//! Real data: the genesis of two chains, blocks of a third, and the state roots that must come out.
//!
//! Read here by a plain JSON parser and no code of the product, so that the two can be compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use rustorium_state::Change;
use rustorium_verkle::StateRoot;
use serde_json::Value;

const BLOCKS: &str = "mainnet_blocks.jsonl.gz";

/// The folder of real data: `RUSTORIUM_DATA`, else `shared/data` beside the workspace.
pub struct Data {
    folder: PathBuf,
    roots: Value,
}

/// What a state must come to.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Blocks applied.
    pub after_blocks: usize,
    /// Keys in the state.
    pub keys: usize,
    /// Its root.
    pub state_root: StateRoot,
}

impl Data {
    /// The data, or `None`, said aloud, where there is none.
    ///
    /// # Errors
    /// `RUSTORIUM_DATA` names a folder without it.
    pub fn find() -> anyhow::Result<Option<Data>> {
        let named = std::env::var_os("RUSTORIUM_DATA").map(PathBuf::from);
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
        let folder = named.clone().unwrap_or(beside.into());
        if named.is_none() && !folder.join("roots.json").exists() {
            // Past libtest, which swallows what a passing test prints.
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("?");
            writeln!(std::io::stderr(), "\nSKIPPED {test}: no real data, set RUSTORIUM_DATA to where roots.json is")?;
            return Ok(None);
        }
        let roots =
            File::open(folder.join("roots.json")).with_context(|| format!("roots.json in {}", folder.display()));
        let roots = serde_json::from_reader(BufReader::new(roots?))?;
        Ok(Some(Data { folder, roots }))
    }

    /// A file's path.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The pairs of a Substrate spec's raw genesis.
    pub fn genesis(&self, name: &str) -> anyhow::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut text = String::new();
        unpack(&self.file(name))?.read_to_string(&mut text)?;
        let spec: Value = serde_json::from_str(&text)?;
        let raw = &spec["genesis"]["raw"];
        // Kusama's is of the old form, an array of the top map and the child tries.
        let top = raw["top"].as_object().or(raw[0].as_object()).context("genesis.raw.top")?;
        let pair =
            |(key, value): (&String, &Value)| Ok((hex(key)?, hex(value.as_str().context("a value is a text")?)?));
        top.iter().map(pair).collect()
    }

    /// What a genesis must come to.
    pub fn genesis_mark(&self, name: &str) -> anyhow::Result<Mark> {
        mark(&self.roots[name], 0)
    }

    /// The changes of each real block, in order.
    pub fn blocks(&self) -> anyhow::Result<Vec<Vec<Change>>> {
        let block = |line: std::io::Result<String>| {
            let block: Value = serde_json::from_str(&line?)?;
            let change = |change: &Value| {
                let value = change[1].as_str().map(hex).transpose()?;
                ensure!(value.is_some() || change[1].is_null(), "a value is a text or null");
                Ok((hex(change[0].as_str().context("a key is a text")?)?, value))
            };
            block["changes"].as_array().context("changes")?.iter().map(change).collect()
        };
        BufReader::new(unpack(&self.file(BLOCKS))?).lines().map(block).collect()
    }

    /// What the state must come to on the way through the blocks.
    pub fn block_marks(&self) -> anyhow::Result<Vec<Mark>> {
        let marks = self.roots[BLOCKS].as_array().context("marks")?;
        marks
            .iter()
            .map(|entry| mark(entry, entry["after_blocks"].as_u64().context("after_blocks")? as usize))
            .collect()
    }
}

fn mark(entry: &Value, after_blocks: usize) -> anyhow::Result<Mark> {
    let root = hex(entry["state_root"].as_str().context("state_root")?)?;
    let keys = entry["keys"].as_u64().context("keys")? as usize;
    Ok(Mark { after_blocks, keys, state_root: StateRoot(root.as_slice().try_into()?) })
}

fn unpack(path: &Path) -> anyhow::Result<GzDecoder<File>> {
    Ok(GzDecoder::new(File::open(path).with_context(|| path.display().to_string())?))
}

fn hex(text: &str) -> anyhow::Result<Vec<u8>> {
    const_hex::decode(text).with_context(|| format!("not hex: {text:.80}"))
}
