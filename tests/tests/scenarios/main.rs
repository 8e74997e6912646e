//! Scenarios against the real program: real data, restarts, crashes, and its manners as a daemon.

mod blocks;
mod bulk;
mod crashes;
mod engine;
mod forks;
mod genesis;
mod manners;
mod mending;
mod operators;
mod stateless;

use std::collections::BTreeMap;

use anyhow::ensure;
use jsonrpsee::core::ClientError;
use rustorium_rpc::StateApiClient as _;
use rustorium_rpc::wire::{HexBytes, WitnessBundle};
use rustorium_tests::daemon::Daemon;

/// Keys of a page, the most that a node gives.
const PAGE: usize = 1000;

/// All keys with a prefix, page by page.
fn keys(daemon: &Daemon, prefix: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    loop {
        let (prefix, start) = (HexBytes(prefix.to_vec()), keys.last().cloned().map(HexBytes));
        let page = daemon.ask(async |client| client.keys_paged(Some(prefix), PAGE as u32, start, None).await)?;
        let last = page.len() < PAGE;
        keys.extend(page.into_iter().map(|key| key.0));
        if last {
            return Ok(keys);
        }
    }
}

fn value(daemon: &Daemon, key: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
    let value = daemon.ask(async |client| client.storage(HexBytes(key.to_vec()), None).await)?;
    Ok(value.map(|value| value.0))
}

fn witness(daemon: &Daemon, keys: &[Vec<u8>]) -> Result<WitnessBundle, ClientError> {
    let keys = keys.iter().cloned().map(HexBytes).collect();
    daemon.ask(async |client| client.witness(keys, None).await)
}

/// Whether the node's state is these pairs and no others, by listing and reading everything.
fn holds_exactly(daemon: &Daemon, pairs: &BTreeMap<Vec<u8>, Vec<u8>>) -> anyhow::Result<()> {
    let keys = keys(daemon, b"")?;
    ensure!(keys.iter().eq(pairs.keys()), "{} keys listed, {} expected", keys.len(), pairs.len());
    for page in keys.chunks(PAGE) {
        let asked = page.iter().cloned().map(HexBytes).collect();
        let sets = daemon.ask(async |client| client.query_storage_at(asked, None).await)?;
        ensure!(sets.len() == 1 && sets[0].changes.len() == page.len(), "one set with all keys");
        for (key, value) in &sets[0].changes {
            let right = pairs.get(&key.0);
            ensure!(value.as_ref().map(|value| &value.0) == right, "the value of {key}");
        }
    }
    Ok(())
}

/// The code and the data of a refusal.
fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (i32, serde_json::Value) {
    match answer {
        Err(ClientError::Call(refusal)) => {
            let data = refusal.data().map(|data| serde_json::from_str(data.get()).expect("JSON"));
            (refusal.code(), data.unwrap_or_default())
        }
        other => panic!("not a refusal: {other:?}"),
    }
}
