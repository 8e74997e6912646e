//! A process is killed: by the clock, and at fail points.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};
use rustorium_state::backend::{Durability, Rocks};

use crate::Round;
use crate::child::did;
use crate::counts::Counts;
use crate::engine::{Chain, Engine, config, rocks_config};
use crate::mending;
use crate::mortal::{FailPoint, Purpose};
use crate::script::{forgets, takes_back};
use crate::verdict::Told;

const PAIRS: u32 = 300;
/// More than the store commits at once.
const MANY_PAIRS: u32 = 20_000;
/// A life that the clock ends lasts so long at most.
const LIFE: Duration = Duration::from_millis(600);
/// And one that a fail point is to end.
const WAIT: Duration = Duration::from_secs(20);

pub fn round(round: Round, place: &Path, counts: &mut Counts) -> anyhow::Result<()> {
    let mut rng = round.rng();
    let is_big = rng.random_bool(0.05);
    let pairs = if is_big { MANY_PAIRS } else { PAIRS };
    let mut told = Told::new(Chain::new(round.blocks(), pairs), true);
    let store = place.join("store");
    for life in 0..rng.random_range(2..if is_big { 4 } else { 10 }) {
        let before = told.index;
        let killed = life_of_child(&mut told, &store, life == 0, pairs, &mut rng);
        let how = killed.with_context(|| format!("life {life} from step {before}"))?;
        counts.one(how);
        counts.add("steps acknowledged", told.index - before);
        // The other times the next process has to recover by itself.
        if rng.random_bool(0.5) {
            let context = || format!("after life {life} from step {before}");
            let kept = look(&mut told, &store, &mut rng).with_context(context)?;
            counts.add("steps that a crash might have lost, and has not", kept as u64);
            if !takes_back(round.blocks()) && rng.random_bool(0.5) {
                mending::harm_and_mend(&told.chain, pairs, &store, &mut rng, counts).with_context(context)?;
                look(&mut told, &store, &mut rng).context("a store that was mended").with_context(context)?;
            }
        }
    }
    look(&mut told, &store, &mut rng).map(drop)
}

/// Opens the store here, and goes on a little.
fn look(told: &mut Told, store: &Path, rng: &mut StdRng) -> anyhow::Result<usize> {
    let rocks = Rocks::open(store, &rocks_config())?;
    let engine = Engine::open(Arc::new(rocks), &told.chain, &config(&told.chain, rng, Durability::Synced))?;
    let kept = told.judge(&engine.reader, rng)?;
    told.drive(&engine, 1, rng)??;
    if rng.random_bool(0.7) {
        told.settle(&engine)?;
    }
    Ok(kept)
}

/// A process that carries out the script from its start to its end; how it was killed.
fn life_of_child(
    told: &mut Told,
    store: &Path,
    is_first: bool,
    pairs: u32,
    rng: &mut StdRng,
) -> anyhow::Result<String> {
    let fail_point = rng.random_bool(0.7).then(|| fail_point(told.chain.seed, is_first, rng));
    let flush_blocks = rng.random_range(1..5u64).to_string();
    let numbers = [told.chain.seed.to_string(), pairs.to_string(), told.index.to_string(), flush_blocks];
    let names = ["--blocks", "--pairs", "--from", "--flush-blocks"].map(str::to_owned);
    let mut words: Vec<String> = names.into_iter().zip(numbers).flat_map(|(name, number)| [name, number]).collect();
    words.extend(fail_point.iter().flat_map(|point| ["--fail-point".to_owned(), point.to_string()]));
    let life = Life { words, store, has_fail_point: fail_point.is_some() };
    let how = live(life, rng, &mut |line| {
        let (index, header) = did(line)?;
        told.begin();
        ensure!(index == told.index, "step {index} was done, and {} was due", told.index);
        told.acknowledge(&header)
    })?;
    told.begin();
    Ok(how)
}

/// What a process that is killed is for.
pub struct Life<'a> {
    /// Its arguments, without the store.
    pub words: Vec<String>,
    pub store: &'a Path,
    /// Whether it is to end itself.
    pub has_fail_point: bool,
}

/// A process from its start to its end: `heard` hears what it says of its work. How it was killed.
pub fn live(
    life: Life<'_>,
    rng: &mut StdRng,
    heard: &mut dyn FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let Life { words, store, has_fail_point } = life;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child").args(words).arg("--place").arg(store);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let lines = lines(&mut child)?;
    let life = if has_fail_point { WAIT } else { LIFE.mul_f64(rng.random()) };
    // A life by the clock begins at the start, in which recovery is, or when it has opened.
    let mut deadline = (has_fail_point || rng.random_bool(0.3)).then(|| Instant::now() + life);
    let mut how = None;
    loop {
        let left = deadline.map_or(WAIT, |deadline| deadline.saturating_duration_since(Instant::now()));
        match lines.recv_timeout(left) {
            Ok(line) if line == "open" => drop(deadline.get_or_insert(Instant::now() + life)),
            Ok(line) => match line.strip_prefix("dies ") {
                Some(at) => how = Some(format!("killed {at}")),
                None => heard(&line).with_context(|| format!("a child said `{line}`"))?,
            },
            Err(RecvTimeoutError::Timeout) => child.kill()?,
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait()?;
    ensure!(status.signal() == Some(9), "a child ended with {status}");
    match (how, deadline) {
        (Some(how), _) => Ok(how),
        (None, None) => bail!("not open after {WAIT:?}"),
        (None, Some(_)) => Ok("killed by the clock".to_owned()),
    }
}

/// Has a process do a work that has an end, and tells whether it was killed before.
pub fn dies(words: &[&str], fail_point: FailPoint, store: &Path) -> anyhow::Result<bool> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child").args(words).args(["--fail-point", &fail_point.to_string(), "--place"]).arg(store);
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?.wait()?;
    let is_killed = ended.signal() == Some(9);
    ensure!(is_killed || ended.success(), "a child ended with {ended}");
    Ok(is_killed)
}

fn fail_point(seed: u64, is_first: bool, rng: &mut StdRng) -> FailPoint {
    let mut some = match is_first {
        true => vec![Purpose::Stamp, Purpose::Slice, Purpose::Genesis, Purpose::Apply],
        false => vec![Purpose::Slice, Purpose::Apply, Purpose::Decide, Purpose::Base, Purpose::Rollback],
    };
    if !is_first {
        some.extend([Purpose::Undo, Purpose::Kept]);
        some.extend(takes_back(seed).then_some(Purpose::Back));
        some.extend(forgets(seed).then_some(Purpose::Sweep));
    }
    let purpose = some[rng.next_u32() as usize % some.len()];
    let nth = match purpose {
        Purpose::Stamp | Purpose::Genesis | Purpose::Switch | Purpose::Gather | Purpose::Seal => 1,
        Purpose::Slice | Purpose::Rollback | Purpose::Sweep | Purpose::Back => rng.random_range(1..4),
        Purpose::Decide | Purpose::Base | Purpose::Undo | Purpose::Kept => rng.random_range(1..8),
        Purpose::Apply => rng.random_range(1..40),
    };
    FailPoint { purpose, nth, is_after: rng.random() }
}

fn lines(child: &mut Child) -> anyhow::Result<Receiver<String>> {
    let mut stdout = BufReader::new(child.stdout.take().context("stdout")?);
    let (sender, lines) = channel();
    // Ends with the process.
    std::thread::spawn(move || {
        let mut line = String::new();
        // A line that was cut off says nothing.
        while stdout.read_line(&mut line).is_ok() && line.ends_with('\n') {
            let _ = sender.send(line.trim_end().to_owned());
            line.clear();
        }
    });
    Ok(lines)
}
