//! What the process of one store does: load it, or one round of commits, reads and proofs.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::{Entry, Peer};
use crate::machine::{Took, median, peak_bytes, timed};
use crate::store::Phases;
use crate::workload::{Key, Scale, Workload};

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    Load,
    /// A round, counted from 0.
    Round(usize),
}

/// What came of it, for the parent process.
#[derive(Serialize, Deserialize)]
pub(super) enum Outcome {
    Refused(String),
    Loaded(Loaded),
    Round(Round),
}

/// Times are of one key.
#[derive(Serialize, Deserialize)]
pub(super) struct Loaded {
    pub(super) wall_us: f64,
    pub(super) cpu_us: f64,
    pub(super) peak_bytes: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Round {
    /// The median commit.
    pub(super) commit_ms: f64,
    /// Of one update.
    pub(super) wall_us: f64,
    /// Of one update, all threads.
    pub(super) cpu_us: f64,
    pub(super) read_us: f64,
    pub(super) prove_us: f64,
    pub(super) verify_us: f64,
    pub(super) proof_bytes: f64,
    /// Of a commit, on average.
    pub(super) phases_ms: Vec<(String, f64)>,
    pub(super) peak_bytes: u64,
}

/// The arguments by which a process is told its turn.
pub(super) fn arguments(name: &str, folder: &Path, turn: Turn) -> Vec<String> {
    let mut words = vec!["peer".to_owned(), name.to_owned(), folder.display().to_string()];
    if let Turn::Round(round) = turn {
        words.push(round.to_string());
    }
    words
}

pub(super) fn take(entry: &Entry, folder: &Path, turn: Turn, seed: u64, scale: &Scale) -> anyhow::Result<Outcome> {
    if let Some(why) = (entry.refused)() {
        return Ok(Outcome::Refused(why.to_owned()));
    }
    let folder = folder.join(entry.name);
    fs::create_dir_all(&folder)?;
    let mut peer = (entry.open)(&folder).context("opening")?;
    let workload = Workload::new(seed, *scale);
    let outcome = match turn {
        Turn::Load => Outcome::Loaded(load(&mut *peer, &workload, scale)?),
        Turn::Round(number) => Outcome::Round(round(&mut *peer, entry.proves, &workload, scale, number)?),
    };
    peer.close()?;
    Ok(outcome)
}

fn load(peer: &mut dyn Peer, workload: &Workload, scale: &Scale) -> anyhow::Result<Loaded> {
    let mut took = Took::default();
    for block in workload.load() {
        let (one, done) = timed(|| peer.commit(block));
        done?;
        took += one;
    }
    let Took { wall, cpu } = took;
    let each = 1e6 / scale.keys as f64;
    Ok(Loaded { wall_us: wall.as_secs_f64() * each, cpu_us: cpu.as_secs_f64() * each, peak_bytes: peak_bytes()? })
}

fn round(
    peer: &mut dyn Peer,
    proves: bool,
    workload: &Workload,
    scale: &Scale,
    number: usize,
) -> anyhow::Result<Round> {
    let (mut commits, mut phases) = (Vec::new(), Phases::new());
    for (index, block) in workload.round(number).enumerate() {
        let (took, done) = timed(|| peer.commit(block));
        done?;
        let told = peer.phases();
        if index >= scale.warm_up {
            commits.push(took);
            add(&mut phases, told);
        }
    }
    let updates = (scale.updates * scale.blocks) as f64;
    let total = |of: fn(&Took) -> f64| commits.iter().map(of).sum::<f64>();
    let read_us = read(peer, &workload.known(number, "reads", scale.reads))?;
    let mut round = Round {
        commit_ms: median(commits.iter().map(|took| took.wall.as_secs_f64() * 1e3)),
        wall_us: total(|took| took.wall.as_secs_f64() * 1e6) / updates,
        cpu_us: total(|took| took.cpu.as_secs_f64() * 1e6) / updates,
        read_us,
        prove_us: 0.0,
        verify_us: 0.0,
        proof_bytes: 0.0,
        phases_ms: phases
            .into_iter()
            .map(|(name, time)| (name, time.as_secs_f64() * 1e3 / scale.blocks as f64))
            .collect(),
        peak_bytes: 0,
    };
    if proves && scale.proofs > 0 {
        prove(peer, &workload.known(number, "proofs", scale.proofs), &mut round)?;
    }
    round.peak_bytes = peak_bytes()?;
    Ok(round)
}

fn add(sums: &mut Phases, more: Phases) {
    for (name, time) in more {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += time,
            None => sums.push((name, time)),
        }
    }
}

/// Microseconds of a read.
fn read(peer: &mut dyn Peer, keys: &[Key]) -> anyhow::Result<f64> {
    let (took, missing) = timed(|| {
        let is_missing = |key: &&Key| !matches!(peer.read(key), Ok(Some(_)));
        keys.iter().filter(is_missing).count()
    });
    ensure!(missing == 0, "{missing} keys cannot be read");
    Ok(took.wall.as_secs_f64() * 1e6 / keys.len() as f64)
}

fn prove(peer: &mut dyn Peer, keys: &[Key], round: &mut Round) -> anyhow::Result<()> {
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
    let each = 1.0 / keys.len() as f64;
    round.prove_us = making.wall.as_secs_f64() * 1e6 * each;
    round.verify_us = verifying.wall.as_secs_f64() * 1e6 * each;
    round.proof_bytes = bytes as f64 * each;
    Ok(())
}
