//! One run of one store, in a process of its own: load, commit, read, prove.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::{Entry, Peer};
use crate::machine::{Took, disk_bytes, median, peak_bytes, timed};
use crate::store::Phases;
use crate::workload::{Key, Scale, Workload};

/// What came of it, for the parent process.
#[derive(Serialize, Deserialize)]
pub(super) enum Outcome {
    Refused(String),
    Done(Run),
}

/// Figures of one run.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct Run {
    pub(super) load: Each,
    /// The median commit.
    pub(super) commit_ms: f64,
    pub(super) update: Each,
    pub(super) read: Each,
    pub(super) prove: Each,
    pub(super) verify: Each,
    pub(super) proof_bytes: f64,
    /// Of a commit, on average.
    pub(super) phases_ms: Vec<(String, f64)>,
    pub(super) peak_bytes: u64,
    pub(super) disk_bytes: u64,
}

/// What one key costs, in microseconds; CPU time is of all threads.
#[derive(Serialize, Deserialize, Default, Clone, Copy)]
pub(super) struct Each {
    pub(super) wall_us: f64,
    pub(super) cpu_us: f64,
}

impl Each {
    fn of(took: Took, keys: usize) -> Self {
        let each = 1e6 / keys as f64;
        Self { wall_us: took.wall.as_secs_f64() * each, cpu_us: took.cpu.as_secs_f64() * each }
    }
}

pub(super) fn in_full(entry: &Entry, folder: &Path, seed: u64, scale: &Scale) -> anyhow::Result<Outcome> {
    if let Some(why) = (entry.refused)() {
        return Ok(Outcome::Refused(why.to_owned()));
    }
    fs::create_dir_all(folder)?;
    let mut peer = (entry.open)(folder).context("opening")?;
    let workload = Workload::new(seed, *scale);
    let mut run = Run { load: load(&mut *peer, &workload, scale)?, ..Run::default() };
    commit(&mut *peer, &workload, scale, &mut run)?;
    run.read = read(&mut *peer, &workload.final_keys("reads", scale.reads))?;
    if entry.proves && scale.proofs > 0 {
        prove(&mut *peer, &workload.final_keys("proofs", scale.proofs), &mut run)?;
    }
    run.peak_bytes = peak_bytes()?;
    peer.close()?;
    run.disk_bytes = disk_bytes(folder)?;
    Ok(Outcome::Done(run))
}

fn load(peer: &mut dyn Peer, workload: &Workload, scale: &Scale) -> anyhow::Result<Each> {
    let mut took = Took::default();
    for block in workload.load() {
        let (one, done) = timed(|| peer.commit(block));
        done.context("loading")?;
        took += one;
    }
    Ok(Each::of(took, scale.keys))
}

fn commit(peer: &mut dyn Peer, workload: &Workload, scale: &Scale, run: &mut Run) -> anyhow::Result<()> {
    let (mut all, mut walls, mut phases) = (Took::default(), Vec::new(), Phases::new());
    for (number, block) in workload.blocks().enumerate() {
        if number == scale.warm_up {
            peer.settle()?;
        }
        let (took, done) = timed(|| peer.commit(block));
        done.context("committing")?;
        let told = peer.phases();
        if number >= scale.warm_up {
            all += took;
            walls.push(took.wall);
            add(&mut phases, told);
        }
    }
    let (took, done) = timed(|| peer.settle());
    done.context("settling")?;
    all += took;
    run.commit_ms = median(walls).as_secs_f64() * 1e3;
    run.update = Each::of(all, scale.updates * scale.blocks);
    let ms = |(name, time): (String, std::time::Duration)| (name, time.as_secs_f64() * 1e3 / scale.blocks as f64);
    run.phases_ms = phases.into_iter().map(ms).collect();
    Ok(())
}

fn add(sums: &mut Phases, more: Phases) {
    for (name, time) in more {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += time,
            None => sums.push((name, time)),
        }
    }
}

fn read(peer: &mut dyn Peer, keys: &[Key]) -> anyhow::Result<Each> {
    let (took, missing) = timed(|| {
        let is_missing = |key: &&Key| !matches!(peer.read(key), Ok(Some(_)));
        keys.iter().filter(is_missing).count()
    });
    ensure!(missing == 0, "{missing} keys cannot be read");
    Ok(Each::of(took, keys.len()))
}

fn prove(peer: &mut dyn Peer, keys: &[Key], run: &mut Run) -> anyhow::Result<()> {
    let (mut making, mut verifying, mut bytes) = (Took::default(), Took::default(), 0);
    for key in keys {
        let value = peer.read(key)?.context("a key that cannot be read")?;
        let (took, proof) = timed(|| peer.prove(key));
        let proof = proof.context("proving")?;
        making += took;
        bytes += proof.len();
        let (took, verdict) = timed(|| peer.verify(&proof, key, &value));
        verdict.context("verifying")?;
        verifying += took;
    }
    run.prove = Each::of(making, keys.len());
    run.verify = Each::of(verifying, keys.len());
    run.proof_bytes = bytes as f64 / keys.len() as f64;
    Ok(())
}
