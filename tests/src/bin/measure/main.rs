//! How long things take on this machine, and how much memory: one table, from the library crates over RocksDB as the node
//! configures it.
//!
//! A measurement is of one process that does nothing else; run it on a machine that does nothing else either. "Cold" is a
//! store that was just opened: its own caches are empty, the operating system's page cache is not.

mod machine;
mod store;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _};
use rustorium_chain_spec::ChainSpec;
use rustorium_state::Change;
use rustorium_tests::chain::rng;
use rustorium_tests::data::Data;
use rustorium_verkle::{Claim, StateRoot, Witness};

use crate::machine::{Cpu, median, peak_bytes, reset_peak};
use crate::store::{Applied, Store, Timings};

/// Blocks that are applied before those that count.
const WARM_UP: usize = 2;
/// Times that a witness is made and verified; the median counts.
const REPEATS: usize = 9;
/// Witnesses of so many keys.
const WITNESS_KEYS: [usize; 2] = [1, 1000];

/// Measures genesis, commits and witnesses
#[derive(Parser)]
struct Arguments {
    /// Keys in the tree
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
    /// Keys of a block that fills the tree
    #[arg(long, default_value_t = 50_000)]
    load: usize,
    /// Random updates of a block
    #[arg(long, default_value_t = 10_000)]
    updates: usize,
    /// Blocks of updates; the median counts
    #[arg(long, default_value_t = 9)]
    blocks: usize,
    /// Where the stores are made; on the disk that matters
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Seed of keys and values
    #[arg(long, default_value_t = 1, env = "RUSTORIUM_SEED")]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let timings = Timings::listen();
    let folder = tempfile::Builder::new().prefix("rustorium-measure-").tempdir_in(&arguments.folder)?;
    row("machine", machine::describe(folder.path())?);
    genesis(&folder.path().join("kusama"))?;
    let mut tree = Tree::fill(&arguments, Store::at(&folder.path().join("tree")), &timings)?;
    tree.update(&arguments, &timings)?;
    tree.prove()
}

fn row(name: &str, what: impl std::fmt::Display) {
    println!("{name:<28} {what}");
}

/// The genesis of Kusama into a fresh store, from the file to the synced head.
fn genesis(folder: &std::path::Path) -> anyhow::Result<()> {
    let Some(data) = Data::find()? else { return Ok(()) };
    let name = "kusama.json.gz";
    let (started, cpu) = (Instant::now(), Cpu::now()?);
    let spec = ChainSpec::parse(&std::fs::read(data.file(name))?)?;
    let parsed = started.elapsed();
    let store = Store::at(folder);
    // The daemon builds them meanwhile; here their time is told apart.
    store.prepare();
    let prepared = started.elapsed();
    let open = store.open(&spec)?;
    let (loaded, cpu) = (started.elapsed(), Cpu::now()?.since(&cpu));
    let head = open.reader.head();
    anyhow::ensure!(head.header().state_root == data.genesis_mark(name)?.state_root, "the wrong root");
    let text = format!(
        "{:.2} s ({:.2} spec, {:.2} tables, {:.2} tree and store; CPU {:.2}), peak memory {} MB",
        loaded.as_secs_f64(),
        parsed.as_secs_f64(),
        (prepared - parsed).as_secs_f64(),
        (loaded - prepared).as_secs_f64(),
        cpu.as_secs_f64(),
        peak_bytes()? >> 20,
    );
    row(&format!("Kusama genesis, {} keys", spec.genesis().len()), text);
    drop(head);
    open.close();
    Ok(())
}

/// A tree of random pairs.
struct Tree {
    store: Store,
    spec: ChainSpec,
    keys: Vec<Vec<u8>>,
    rng: StdRng,
}

impl Tree {
    fn fill(arguments: &Arguments, store: Store, timings: &Timings) -> anyhow::Result<Self> {
        reset_peak()?;
        let spec = ChainSpec::parse(br#"{"name": "M", "id": "measure", "genesis": {"raw": {"top": {}}}}"#)?;
        let mut rng = rng(arguments.seed, "measure", 0);
        let mut keys = Vec::with_capacity(arguments.keys);
        keys.resize_with(arguments.keys, || bytes(&mut rng, 32));
        store.prepare();
        let open = store.open(&spec)?;
        let (started, cpu) = (Instant::now(), Cpu::now()?);
        for chunk in keys.chunks(arguments.load) {
            let changes = chunk.iter().map(|key| (key.clone(), Some(value(&mut rng)))).collect();
            open.apply(changes, timings)?;
        }
        let (took, cpu) = (started.elapsed(), Cpu::now()?.since(&cpu));
        let text = format!(
            "{:.1} s, {:.0} keys/s, CPU {:.1} s, peak memory {} MB",
            took.as_secs_f64(),
            arguments.keys as f64 / took.as_secs_f64(),
            cpu.as_secs_f64(),
            peak_bytes()? >> 20
        );
        row(&format!("fill, {} keys", arguments.keys), text);
        open.close();
        Ok(Self { store, spec, keys, rng })
    }

    /// Blocks that overwrite random keys.
    fn update(&mut self, arguments: &Arguments, timings: &Timings) -> anyhow::Result<()> {
        reset_peak()?;
        let open = self.store.open(&self.spec)?;
        let mut all: Vec<(Applied, Duration)> = Vec::new();
        for _ in 0..WARM_UP + arguments.blocks {
            let keys: Vec<&Vec<u8>> = self.keys.sample(&mut self.rng, arguments.updates).collect();
            let changes: Vec<Change> = keys.into_iter().map(|key| (key.clone(), Some(value(&mut self.rng)))).collect();
            let cpu = Cpu::now()?;
            all.push((open.apply(changes, timings)?, Cpu::now()?.since(&cpu)));
        }
        let counted = &all[WARM_UP..];
        let of = |part: fn(&(Applied, Duration)) -> Duration| median(counted.iter().map(part)).as_secs_f64() * 1e3;
        let total = of(|(applied, _)| applied.total);
        let text = format!(
            "{total:.0} ms: {:.0} in memory, {:.0} durable; {:.0} keys/s, CPU {:.0} ms, peak memory {} MB",
            of(|(applied, _)| applied.computed),
            of(|(applied, _)| applied.written),
            arguments.updates as f64 / total * 1e3,
            of(|(_, cpu)| *cpu),
            peak_bytes()? >> 20,
        );
        row(&format!("commit, {} updates", arguments.updates), text);
        let first = &all[0].0;
        let text = format!("{:.0} ms the first block after opening", first.total.as_secs_f64() * 1e3);
        row("", text);
        open.close();
        Ok(())
    }

    /// Witnesses of random keys.
    fn prove(&mut self) -> anyhow::Result<()> {
        for count in WITNESS_KEYS {
            let (mut cold, mut warm, mut verifying, mut bytes) = (vec![], vec![], vec![], 0);
            for _ in 0..REPEATS {
                let asked: Vec<Vec<u8>> = self.keys.sample(&mut self.rng, count).cloned().collect();
                let open = self.store.open(&self.spec)?;
                let view = open.reader.head();
                let (first, proof) = timed(|| view.witness(&asked, u64::MAX));
                proof?;
                let (again, proof) = timed(|| view.witness(&asked, u64::MAX));
                let proof = proof?;
                let root = StateRoot(proof.header.state_root.0);
                let (verified, verdict) = timed(|| verify(&proof.witness, &root, &proof.claims));
                verdict?;
                bytes = proof.witness.len();
                cold.push(first);
                warm.push(again);
                verifying.push(verified);
                drop(view);
                open.close();
            }
            let ms = |times: Vec<Duration>| median(times.into_iter()).as_secs_f64() * 1e3;
            let text = format!(
                "{bytes} bytes; made in {:.1} ms cold, {:.1} ms warm (both verify it once); verified in {:.1} ms",
                ms(cold),
                ms(warm),
                ms(verifying)
            );
            row(&format!("witness, {count} of {} keys", self.keys.len()), text);
        }
        Ok(())
    }
}

fn verify(witness: &[u8], root: &StateRoot, claims: &[(Vec<u8>, Option<Vec<u8>>)]) -> anyhow::Result<()> {
    let claim = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
        value.as_ref().map_or(Claim::absent(key), |value| Claim::value(key, value))
    };
    let claims: Vec<Claim> = claims.iter().map(claim).collect();
    Witness::decode(witness)?.verify(root, &claims).context("a witness of our own")
}

fn timed<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let result = act();
    (started.elapsed(), result)
}

/// A value of 32 to 100 bytes.
fn value(rng: &mut StdRng) -> Vec<u8> {
    let length = rng.random_range(32..=100);
    bytes(rng, length)
}

fn bytes(rng: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill_bytes(&mut bytes);
    bytes
}
