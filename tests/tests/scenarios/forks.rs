//! Real blocks beside made-up ones that lose, finality that lags, and restarts: the published roots all the same.

use std::collections::BTreeMap;

use anyhow::ensure;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rustorium_rpc::StateApiClient as _;
use rustorium_rpc::wire::{At, Hash32, HexBytes, NewBlock};
use rustorium_state::Change;
use rustorium_tests::chain::{self, Model, block, rng, seed, write_engine_spec};
use rustorium_tests::daemon::Daemon;
use rustorium_tests::data::Data;

use super::{holds_exactly, refusal, witness};

/// Blocks that finality lies behind at most.
const LAG_MAX: u64 = 8;

#[test]
fn real_blocks_win_among_forks() -> anyhow::Result<()> {
    let Some(data) = Data::find()? else { return Ok(()) };
    let (blocks, marks) = (data.blocks()?, data.block_marks()?);
    let mut rng = rng(seed(), "real forks", 0);
    let folder = tempfile::tempdir()?;
    let base_path = folder.path().join("base");
    let spec = write_engine_spec(folder.path(), "forks", &BTreeMap::new())?;
    let spec = spec.to_str().unwrap();
    let mut daemon = Daemon::start(spec, &base_path)?;
    let genesis = daemon.genesis_hash()?;
    let (mut model, mut finalized, mut losers, mut restarts) = (Model::default(), 0, Vec::new(), 0);
    for (number, changes) in (1..).zip(&blocks) {
        let real = block(number, genesis, changes);
        // A sibling that comes first is the head until the engine has chosen.
        let is_late = rng.random_bool(0.5);
        let mut fork = || lose(&daemon, &real, changes, &model, &mut rng);
        let mut made = if is_late { vec![] } else { fork()? };
        let mut next = model.clone();
        let root = daemon.apply(real.clone())??;
        ensure!(next.apply(changes.clone()).0 == root.0, "block {number}");
        if is_late {
            made = fork()?;
        }
        losers.extend(made.into_iter().map(|hash| (number, hash)));
        model = next;
        if number - finalized > rng.random_range(1..=LAG_MAX) {
            finalized = rng.random_range(finalized + 1..=number);
        }
        let named = (finalized > 0).then(|| chain::hash(finalized));
        let status = daemon.choose(real.hash, named)??;
        ensure!((status.head.hash, status.finalized.number) == (real.hash, finalized), "{status:?}");
        if rng.random_bool(0.1) {
            if rng.random_bool(0.5) {
                daemon.kill()?
            } else {
                ensure!(daemon.stop("TERM")?.success())
            }
            daemon = Daemon::start(spec, &base_path)?;
            ensure!(daemon.status()? == status, "after a restart at block {number}");
            restarts += 1;
        }
        if let Some(mark) = marks.iter().find(|mark| mark.after_blocks as u64 == number) {
            ensure!(root.0 == mark.state_root.0, "after {number} blocks");
            ensure!(model.pairs().len() == mark.keys, "after {number} blocks");
            let asked: Vec<Vec<u8>> = changes.sample(&mut rng, 20).map(|(key, _)| key.clone()).collect();
            model.verify(&witness(&daemon, &asked)?, &asked)?;
        }
    }
    let last = blocks.len() as u64;
    ensure!(marks.last().map(|mark| mark.after_blocks as u64) == Some(last), "the last block has a mark");
    daemon.finalize(chain::hash(last))??;
    ensure!(daemon.status()?.unfinalised_blocks == 0, "something is left");
    for (number, hash) in &losers {
        let gone = daemon.ask(async |client| client.state_root(Some(At::Block(*hash))).await);
        ensure!(refusal(gone).0 == 4001, "a loser of number {number} is left");
    }
    holds_exactly(&daemon, model.pairs())?;
    println!("{last} blocks, {} that lost, {restarts} restarts", losers.len());
    ensure!(daemon.stop("TERM")?.success());
    Ok(())
}

/// Siblings of a real block, with some of its changes and some altered, and children of theirs; each comes to its own root.
fn lose(
    daemon: &Daemon,
    real: &NewBlock,
    changes: &[Change],
    before: &Model,
    rng: &mut StdRng,
) -> anyhow::Result<Vec<Hash32>> {
    let (mut made, mut model) = (Vec::new(), before.clone());
    let mut parent = (real.number - 1, real.parent_hash);
    for _ in 0..rng.random_range(0..3) {
        let altered: Vec<Change> = changes.iter().filter_map(|change| alter(change, rng)).collect();
        let hash = Hash32(rng.random());
        let hex = |(key, value): &Change| (HexBytes(key.clone()), value.clone().map(HexBytes));
        let block = NewBlock {
            number: parent.0 + 1,
            hash,
            parent_hash: parent.1,
            timestamp_ms: None,
            state_root: None,
            changes: altered.iter().map(hex).collect(),
        };
        let root = daemon.apply(block)??;
        ensure!(model.apply(altered).0 == root.0, "a sibling of block {}", real.number);
        made.push(hash);
        parent = (parent.0 + 1, hash);
    }
    Ok(made)
}

fn alter((key, value): &Change, rng: &mut StdRng) -> Option<Change> {
    match rng.random_range(0..4) {
        0 => None,
        1 => Some((key.clone(), Some(rng.random::<[u8; 32]>().to_vec()))),
        2 => Some((key.clone(), None)),
        _ => Some((key.clone(), value.clone())),
    }
}
