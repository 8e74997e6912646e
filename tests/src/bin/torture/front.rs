//! The front under many callers: the power fails beneath it, and a process that drives it is killed. Each caller has keys
//! of its own, and one write under way, so that what was acknowledged is known for each of them alone.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};
use rustorium_state::backend::{Backend, Bounds, Column, Durability, Rocks};
use rustorium_state::{
    ApplyError, Change, Config, Depth, Finality, Front, FrontConfig, Handle, Storage as _, WriteResult, check,
};
use rustorium_tests::chain;
use rustorium_tests::power::PowerLoss;
use rustorium_verkle::{Claim, Witness};

use crate::Round;
use crate::counts::Counts;
use crate::engine::{COMMITTER, Chain, Engine, configured, rocks_config};
use crate::killing::{self, Life};
use crate::mortal::{FailPoint, Purpose};

const PAIRS: u32 = 300;
pub const CALLERS: usize = 8;
/// Keys of a caller.
const KEYS: u32 = 30;
/// All keys of callers begin so.
const PREFIX: &[u8] = b"caller";
/// Commits that a life lasts at most.
const COMMITS_MAX: u64 = 60;

/// How many writes of each caller were acknowledged.
pub type Done = [u64; CALLERS];

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Write `index` of a caller: what it changes, and whether it is to be proved.
fn write_of(seed: u64, caller: usize, index: u64) -> (Vec<Change>, bool) {
    let mut rng = chain::rng(seed, &format!("caller {caller}"), index);
    let change = |rng: &mut StdRng| {
        let key = [PREFIX, &[caller as u8], &rng.random_range(0..KEYS).to_be_bytes()].concat();
        let value = match rng.random_range(0..12) {
            0..3 => None,
            3 => Some(vec![index as u8; rng.random_range(4000..6000)]),
            _ => Some([&index.to_be_bytes()[..], &vec![7; rng.random_range(0..60)]].concat()),
        };
        (key, value)
    };
    match rng.random_range(0..10) {
        0..6 => (vec![change(&mut rng)], false),
        6 | 7 => (vec![change(&mut rng)], true),
        _ => ((0..rng.random_range(2..30)).map(|_| change(&mut rng)).collect(), false),
    }
}

/// What a caller has after so many writes.
fn pairs_of(seed: u64, caller: usize, writes: u64) -> Pairs {
    let mut pairs = Pairs::new();
    for (key, value) in (0..writes).flat_map(|index| write_of(seed, caller, index).0) {
        match value {
            Some(value) => drop(pairs.insert(key, value)),
            None => drop(pairs.remove(&key)),
        }
    }
    pairs
}

/// Has all callers write until one of their writes fails, or all are done; tells what is acknowledged. A proof that proves
/// nothing is an error of ours.
pub fn drive(
    handle: &Handle,
    seed: u64,
    from: &Done,
    writes: u64,
    config: FrontConfig,
    acknowledged: &(impl Fn(usize, u64) + Sync),
) -> anyhow::Result<()> {
    let front = match pollster::block_on(Front::open(handle, config)) {
        Ok(front) => front,
        Err(error) => return fails(&error),
    };
    let is_over = AtomicBool::new(false);
    let ended: Vec<anyhow::Result<()>> = std::thread::scope(|threads| {
        let call = |caller: usize| {
            let (front, is_over) = (front.clone(), &is_over);
            let call = async move {
                for index in from[caller]..from[caller] + writes {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    match write(&front, seed, caller, index).await? {
                        Ok(()) => acknowledged(caller, index),
                        Err(error) => {
                            is_over.store(true, Ordering::Relaxed);
                            return fails(&error);
                        }
                    }
                }
                Ok(())
            };
            threads.spawn(move || pollster::block_on(call))
        };
        let calls: Vec<_> = (0..CALLERS).map(call).collect();
        calls.into_iter().map(|call| call.join().expect("no caller panics")).collect()
    });
    ended.into_iter().collect()
}

/// Whether an error is one that a broken disk gives.
fn fails(error: &ApplyError) -> anyhow::Result<()> {
    let is_known = matches!(error, ApplyError::Poisoned { .. } | ApplyError::Backend(_) | ApplyError::Closed);
    ensure!(is_known, "a write failed: {error}");
    Ok(())
}

/// One write, and a look at what it did. A write whose block could not be made is acknowledged all the same.
async fn write(front: &Front, seed: u64, caller: usize, index: u64) -> anyhow::Result<Result<(), ApplyError>> {
    let (changes, is_proved) = write_of(seed, caller, index);
    let (key, value) = changes.last().expect("a change").clone();
    let written: Result<Option<WriteResult>, ApplyError> = match (is_proved, value.clone()) {
        (true, Some(value)) => front.write_with_proof(key.clone(), value).await.map(Some),
        (true, None) => front.delete_with_proof(key.clone()).await.map(Some),
        (false, Some(value)) if changes.len() == 1 => front.write(key.clone(), value).await.map(|()| None),
        (false, None) if changes.len() == 1 => front.delete(key.clone()).await.map(|()| None),
        (false, _) => front.write_batch(changes).await.map(|()| None),
    };
    let written = match written {
        Ok(written) => written,
        Err(ApplyError::Unproven { .. }) => None,
        Err(error) => return Ok(Err(error)),
    };
    // Reads fail when the disk does.
    if let Ok(found) = front.read(&key).await {
        ensure!(found.map(|found| found.value) == value, "caller {caller} does not read its write {index}");
    }
    if let Some(written) = written {
        let proof = &written.witness;
        ensure!(proof.claims.contains(&(key, value)), "the proof of write {index} of {caller} is not of it");
        let claims: Vec<Claim> = proof
            .claims
            .iter()
            .map(|(key, value)| value.as_ref().map_or(Claim::absent(key), |value| Claim::value(key, value)))
            .collect();
        Witness::decode(&proof.witness)?.verify(&written.root, &claims).context("a proof of a write")?;
    }
    Ok(Ok(()))
}

/// What callers were told, and what a store holds.
struct Told {
    seed: u64,
    done: Done,
}

impl Told {
    /// After a crash: each caller's keys are as after its last acknowledged write, or as after the one under way, which is
    /// then done. Everything that was acknowledged is in a block.
    fn judge(&mut self, engine: &Engine) -> anyhow::Result<()> {
        let view = engine.reader.head();
        for caller in 0..CALLERS {
            let keys = view.keys_paged(&[PREFIX, &[caller as u8]].concat(), None, usize::MAX)?;
            let values = view.values(&keys, u64::MAX)?;
            let found: Pairs = keys.into_iter().zip(values.into_iter().flatten()).collect();
            let fits = |writes: &u64| pairs_of(self.seed, caller, *writes) == found;
            let acknowledged = self.done[caller];
            let writes = [acknowledged, acknowledged + 1].into_iter().find(fits);
            self.done[caller] = writes.with_context(|| {
                format!("caller {caller} has {} keys that are not those after {acknowledged} writes", found.len())
            })?;
        }
        let report = check(&view, &COMMITTER)?;
        ensure!(report.is_sound(), "{report}");
        let left = engine.backend.snapshot()?.range(Column::Aux, &Bounds::all(), 1, usize::MAX)?;
        ensure!(left.rows.is_empty(), "acknowledged changes are in no block after opening");
        Ok(())
    }
}

/// Blocks are final at once, and flushed often.
pub fn engine_config(chain: &Chain, flush_blocks: u64) -> Config {
    Config { finality: Finality::Instant, ..configured(chain, flush_blocks, Durability::Synced) }
}

/// Small blocks, and hardly any room for what is in none.
pub fn front_config(rng: &mut StdRng) -> FrontConfig {
    FrontConfig {
        block_changes: rng.random_range(1..60),
        block_ms: rng.random_range(1..50),
        pending_changes_max: rng.random_range(1..200),
        threads: 1,
        ..FrontConfig::default()
    }
}

pub fn round(round: Round, place: &Path, counts: &mut Counts) -> anyhow::Result<()> {
    match round.rng().random_bool(0.3) {
        true => power(round, counts),
        false => kill(round, place, counts),
    }
}

/// The power fails under memory.
fn power(round: Round, counts: &mut Counts) -> anyhow::Result<()> {
    let mut rng = round.rng();
    let chain = Chain::new(round.blocks(), PAIRS);
    let mut told = Told { seed: chain.seed, done: [0; CALLERS] };
    let mut machine = Arc::new(PowerLoss::new());
    for life in 0..rng.random_range(2..8) {
        if rng.random_bool(0.8) {
            machine.fail_at(rng.random_range(1..=COMMITS_MAX));
        }
        match Engine::open(machine.clone(), &chain, &engine_config(&chain, rng.random_range(1..5))) {
            Ok(engine) => {
                match told.judge(&engine) {
                    // What is written in the background may be where it fails; then nothing reads any more.
                    Err(_) if machine.is_off() => {}
                    judged => judged.with_context(|| format!("life {life}"))?,
                }
                let done = Mutex::new(told.done);
                let tell = |caller: usize, index: u64| done.lock().expect("nobody panics with it")[caller] = index + 1;
                let config = front_config(&mut rng);
                drive(&engine.handle, told.seed, &told.done, rng.random_range(1..30), config, &tell)?;
                let done = done.into_inner().expect("nobody panics with it");
                counts.add("writes acknowledged by a front", done.iter().sum::<u64>() - told.done.iter().sum::<u64>());
                told.done = done;
                counts.one(if machine.is_off() { "power lost under a front" } else { "a front ended" });
            }
            Err(error) => ensure!(machine.is_off(), "life {life}: {error}"),
        }
        machine = machine.crash(rng.next_u64()).0.into();
    }
    told.judge(&Engine::open(machine, &chain, &engine_config(&chain, 1))?)
}

/// A process is killed that drives a front: by the clock, and around each kind of commit.
fn kill(round: Round, place: &Path, counts: &mut Counts) -> anyhow::Result<()> {
    let mut rng = round.rng();
    let chain = Chain::new(round.blocks(), PAIRS);
    let mut told = Told { seed: chain.seed, done: [0; CALLERS] };
    let store = place.join("store");
    // A store that is there: its making is killed in other rounds.
    drop(Engine::open(Arc::new(Rocks::open(&store, &rocks_config())?), &chain, &engine_config(&chain, 1))?);
    for life in 0..rng.random_range(2..8) {
        let fail_point = rng.random_bool(0.7).then(|| fail_point(&mut rng));
        let from = told.done.map(|done| done.to_string()).join(",");
        let mut words = vec!["--front".to_owned(), from, "--flush-blocks".into(), rng.random_range(1..5).to_string()];
        words.extend(["--blocks".into(), chain.seed.to_string(), "--pairs".into(), PAIRS.to_string()]);
        words.extend(fail_point.iter().flat_map(|point| ["--fail-point".to_owned(), point.to_string()]));
        let before: u64 = told.done.iter().sum();
        let mut heard = |line: &str| {
            let mut numbers = line.strip_prefix("wrote ").context("no such line")?.split(' ').map(str::parse::<u64>);
            let (Some(Ok(caller)), Some(Ok(index))) = (numbers.next(), numbers.next()) else {
                anyhow::bail!("no two numbers")
            };
            ensure!(told.done[caller as usize] == index, "write {index} of {caller} out of turn");
            told.done[caller as usize] += 1;
            Ok(())
        };
        let life_of = Life { words, store: &store, has_fail_point: fail_point.is_some() };
        let how = killing::live(life_of, &mut rng, &mut heard).with_context(|| format!("life {life}"))?;
        counts.one(format!("a front {how}"));
        counts.add("writes acknowledged by a front", told.done.iter().sum::<u64>() - before);
        if rng.random_bool(0.5) {
            continue;
        }
        let rocks: Arc<dyn Backend> = Arc::new(Rocks::open(&store, &rocks_config())?);
        let report = chain.examine(rocks.clone())?.check(Depth::Quick, [3; 32], &mut |_| ())?;
        ensure!(report.is_sound(), "after life {life}: {report}");
        counts.add("changes found in no block by a check, and in one afterwards", report.pending);
        told.judge(&Engine::open(rocks, &chain, &engine_config(&chain, 1))?).with_context(|| format!("life {life}"))?;
    }
    let rocks = Arc::new(Rocks::open(&store, &rocks_config())?);
    told.judge(&Engine::open(rocks, &chain, &engine_config(&chain, 1))?)
}

fn fail_point(rng: &mut StdRng) -> FailPoint {
    let some = [Purpose::Gather, Purpose::Seal, Purpose::Slice, Purpose::Base];
    let purpose = some[rng.next_u32() as usize % some.len()];
    let nth = if purpose == Purpose::Gather { rng.random_range(1..60) } else { rng.random_range(1..12) };
    FailPoint { purpose, nth, is_after: rng.random() }
}

/// The process that is killed: drives a front for good, and says each write that was acknowledged.
pub fn live(chain: &Chain, backend: impl Backend, from: &Done, flush_blocks: u64) -> anyhow::Result<()> {
    let engine = Engine::open(Arc::new(backend), chain, &engine_config(chain, flush_blocks))?;
    println!("open");
    let say = |caller: usize, index: u64| {
        // A line at a time.
        let _ = writeln!(std::io::stdout().lock(), "wrote {caller} {index}");
    };
    let mut rng = chain::rng(chain.seed, "front", from.iter().sum());
    drive(&engine.handle, chain.seed, from, u64::MAX / 2, front_config(&mut rng), &say)?;
    Ok(())
}
