//! Crashes: a node killed at random moments keeps every block that it acknowledged, and proves it.
//!
//! `RUSTORIUM_CRASHES` says how many (`make torture`: a hundred). The engine alone is crashed by `src/bin/torture`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rustorium_chain_spec::ChainSpec;
use rustorium_rpc::wire::{Hash32, WitnessBundle};
use rustorium_state::backend::{Rocks, RocksConfig};
use rustorium_state::{BlockHash, Config, Genesis, Reader, check};
use rustorium_tests::chain::{self, Model, block, changes, rng, seed, some_keys, write_spec};
use rustorium_tests::daemon::Daemon;
use rustorium_verkle::{Committer, WindowBits};

use super::witness;

/// Crashes in a usual run.
const CRASHES: u64 = 12;
/// Pairs of the genesis of a chain of blocks.
const PAIRS: u32 = 500;
/// Pairs of a genesis whose load is broken off; more than the store commits at once.
const PAIRS_LOADED: u32 = 20_000;
/// A node lives for at most so long, from its start or from when it takes blocks.
const LIFE_MS: u64 = 2000;
/// Keys of a witness.
const KEYS_ASKED: usize = 40;

fn crashes() -> u64 {
    std::env::var("RUSTORIUM_CRASHES").map_or(CRASHES, |count| count.parse().expect("RUSTORIUM_CRASHES is a number"))
}

#[test]
fn crash_while_blocks_stream_in() -> anyhow::Result<()> {
    let seed = seed();
    let folder = tempfile::tempdir()?;
    let pairs = chain::genesis(seed, PAIRS);
    let spec = write_spec(folder.path(), "crashes", &pairs)?;
    let mut chain = Chain { seed, model: Model::new(&pairs), number: 0, acknowledged: 0 };
    let base_path = folder.path().join("base");
    let mut blocks = 0;
    for crash in 0..crashes() {
        let mut rng = rng(seed, "crash", crash);
        let acknowledged = crash_once(&spec, &base_path, &mut chain, &mut rng);
        blocks += acknowledged.with_context(|| format!("crash {crash} after block {}", chain.acknowledged))?;
        // The other half of the times the next daemon has to recover by itself, and is asked then.
        if rng.random_bool(0.5) {
            let checked = chain.check_offline(&spec, &base_path, &mut rng);
            checked.with_context(|| format!("after crash {crash}, block {}", chain.acknowledged))?;
        }
    }
    let mut rng = rng(seed, "crash", u64::MAX);
    let daemon = Daemon::start(spec.to_str().unwrap(), &base_path)?;
    chain.check(&daemon.head()?, |keys| Ok(witness(&daemon, keys)?), &mut rng)?;
    assert!(daemon.stop("TERM")?.success());
    chain.check_offline(&spec, &base_path, &mut rng)?;
    println!("{} crashes, {blocks} blocks acknowledged", crashes());
    ensure!(blocks > crashes(), "{blocks} blocks in {} lives: hardly anything was interrupted", crashes());
    Ok(())
}

/// One life, ended at a random moment: some while the daemon starts, the others while it takes blocks; some of those by a
/// signal that it may obey. How many blocks it acknowledged.
fn crash_once(spec: &Path, base_path: &Path, chain: &mut Chain, rng: &mut StdRng) -> anyhow::Result<u64> {
    let mut daemon = Daemon::spawn(&["--chain", spec.to_str().unwrap()], base_path)?;
    let (starting, life) = (rng.random_bool(0.25), Duration::from_millis(rng.random_range(0..LIFE_MS)));
    if starting {
        thread::sleep(life);
        return daemon.kill().map(|()| 0);
    }
    daemon.ready()?;
    chain.check(&daemon.head()?, |keys| Ok(witness(&daemon, keys)?), rng)?;
    let genesis = daemon.genesis_hash()?;
    let (gently, killer) = (rng.random_bool(0.2), daemon.killer());
    let killing = thread::spawn(move || -> anyhow::Result<()> {
        thread::sleep(life);
        if gently {
            let status = killer.stop("TERM")?;
            ensure!(status.success(), "SIGTERM: {status}");
        }
        killer.kill()
    });
    let acknowledged = chain.stream(&daemon, genesis)?;
    killing.join().expect("killing does not panic").with_context(|| daemon.quoted())?;
    Ok(acknowledged)
}

/// What a chain of made-up blocks must look like.
struct Chain {
    seed: u64,
    /// The state after block `number`.
    model: Model,
    number: u64,
    /// The last block that was acknowledged; one more may be there.
    acknowledged: u64,
}

impl Chain {
    /// Sends blocks from the model's on until the daemon is gone; how many were acknowledged, each with the right root.
    fn stream(&mut self, daemon: &Daemon, genesis: Hash32) -> anyhow::Result<u64> {
        let (seed, first) = (self.seed, self.number + 1);
        let mut roots = Vec::new();
        let blocks = (first..).map(|number| block(number, genesis, &changes(seed, number)));
        let gone = daemon.apply_all(blocks, |number, root| roots.push((number, root)))?;
        let error = gone.expect_err("there is always another block");
        ensure!(!matches!(error, jsonrpsee::core::ClientError::Call(_)), "refused: {error}");
        for (number, root) in &roots {
            self.advance(*number);
            ensure!(self.model.state_root().0 == root.0, "block {number} came to {root}");
            self.acknowledged = *number;
        }
        Ok(roots.len() as u64)
    }

    fn advance(&mut self, number: u64) {
        while self.number < number {
            self.number += 1;
            self.model.apply(changes(self.seed, self.number));
        }
    }

    /// Whether a state is the one it must be: at the last block acknowledged or the one after it, with its root, and
    /// provable.
    fn check(
        &mut self,
        head: &rustorium_rpc::wire::Head,
        witness: impl FnOnce(&[Vec<u8>]) -> anyhow::Result<WitnessBundle>,
        rng: &mut StdRng,
    ) -> anyhow::Result<()> {
        let acknowledged = self.acknowledged;
        ensure!(
            (acknowledged..=acknowledged + 1).contains(&head.number) && head.number >= self.number,
            "the head is {}, block {acknowledged} was acknowledged",
            head.number
        );
        self.advance(head.number);
        // Once seen, it must stay.
        self.acknowledged = head.number;
        ensure!(head.number == 0 || head.hash == chain::hash(head.number), "the head's hash is {}", head.hash);
        ensure!(head.state_root.0 == self.model.state_root().0, "the root of block {}", head.number);
        let keys = some_keys(rng, KEYS_ASKED);
        self.model.verify(&witness(&keys)?, &keys)
    }

    /// The same on the store itself, and that all its rows agree with its leaves.
    fn check_offline(&mut self, spec: &Path, base_path: &Path, rng: &mut StdRng) -> anyhow::Result<()> {
        let reader = open_offline(spec, base_path)?;
        let view = reader.head();
        let witness = |keys: &[Vec<u8>]| {
            let proof = view.witness(keys, u64::MAX)?;
            Ok(WitnessBundle {
                block_hash: proof.header.hash.into(),
                block_number: proof.header.number,
                state_root: Hash32(proof.header.state_root.0),
                claims: proof.claims.into_iter().map(|(key, value)| (key.into(), value.map(Into::into))).collect(),
                witness: proof.witness.into(),
                certificate: None,
            })
        };
        self.check(&view.header().into(), witness, rng)?;
        is_sound(&reader, self.model.pairs())?;
        for number in 1..=self.number {
            let hash = reader.block_hash(number)?.with_context(|| format!("block {number} is gone"))?;
            ensure!(hash.0 == chain::hash(number).0 && reader.header(&hash)?.is_some(), "block {number}");
        }
        Ok(())
    }
}

#[test]
fn crash_while_the_genesis_loads() -> anyhow::Result<()> {
    let seed = seed();
    let folder = tempfile::tempdir()?;
    let pairs = chain::genesis(seed, PAIRS_LOADED);
    let spec = write_spec(folder.path(), "load", &pairs)?;
    let arguments = ["--chain", spec.to_str().unwrap()];
    let undisturbed = folder.path().join("undisturbed");
    let started = Instant::now();
    let daemon = Daemon::start_with(&arguments, &undisturbed)?;
    let load = started.elapsed();
    let head = daemon.head()?;
    assert!(daemon.stop("TERM")?.success());
    assert_eq!(head.state_root.0, Model::new(&pairs).state_root().0);

    let base_path = folder.path().join("base");
    for crash in 0..crashes().div_ceil(4) {
        let mut rng = rng(seed, "load", crash);
        let daemon = Daemon::spawn(&arguments, &base_path)?;
        thread::sleep(load.mul_f64(rng.random_range(0.0..1.0)));
        daemon.kill()?;
    }
    // A signal in the midst of it is obeyed; what was loaded until then is no state.
    let daemon = Daemon::spawn(&arguments, &base_path)?;
    thread::sleep(load / 2);
    assert!(daemon.stop("TERM")?.success());
    let daemon = Daemon::start_with(&arguments, &base_path)?;
    assert_eq!(daemon.head()?, head);
    assert!(daemon.stop("TERM")?.success());
    is_sound(&open_offline(&spec, &base_path)?, &pairs)
}

/// Opens a store as the daemon does.
fn open_offline(spec: &Path, base_path: &Path) -> anyhow::Result<Reader> {
    let spec = ChainSpec::parse(&std::fs::read(spec)?)?;
    let hash = |root: &_| BlockHash(spec.genesis_hash(root));
    let genesis = Genesis { id: spec.id(), pairs: spec.genesis(), hash: &hash };
    let config = Config::new(Arc::new(Committer::new(WindowBits::SMALL)));
    let backend = Rocks::open(&base_path.join("db"), &RocksConfig::default())?;
    let proceed = &mut |_| std::ops::ControlFlow::Continue(());
    let (_, _, reader) = rustorium_state::open(Arc::new(backend), &genesis, &config, proceed)?;
    Ok(reader)
}

fn is_sound(reader: &Reader, pairs: &BTreeMap<Vec<u8>, Vec<u8>>) -> anyhow::Result<()> {
    let view = reader.head();
    let report = check(&view, &Committer::new(WindowBits::SMALL))?;
    ensure!(report.is_sound(), "{report}");
    ensure!(report.leaves == pairs.len() as u64, "{} leaves, {} expected", report.leaves, pairs.len());
    Ok(())
}
