//! `torture`: the state engine is broken off everywhere, and must have kept what it said.
//!
//! Rounds of seven kinds, each a function of the seed and its number: the power fails under memory; RocksDB's log is cut;
//! a process is killed, at random and at fail points; the engine is closed and opened again beneath its readers; a store
//! takes another's pairs in; and a front has many callers while all that happens. But for the front, a script drives the
//! real engine through a random tree of forks with finality, head choices, rollbacks and flushes, and after each crash
//! everything is held against a model, which is a map for each block. The first finding ends it.
//!
//! `--round N` does one round again. What the seed does not decide is when threads run and when a process dies by the
//! clock, so that some findings want several tries.

mod child;
mod counts;
mod cut;
mod engine;
mod forks;
mod front;
mod killing;
mod mending;
mod mortal;
mod moving;
mod power;
mod restarts;
mod script;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand};

use crate::counts::Counts;

/// Kinds of rounds, which take turns.
const KINDS: u64 = 7;
/// How often it is said how far things are.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Crashes the state engine for as long as it is told and looks whether anything was lost
#[derive(Parser)]
struct Arguments {
    /// For how long, in seconds
    #[arg(long, default_value_t = 3600, env = "RUSTORIUM_TORTURE_SECONDS")]
    seconds: u64,
    /// Seed of everything
    #[arg(long, default_value_t = 20_150_730, env = "RUSTORIUM_SEED")]
    seed: u64,
    /// Only this round
    #[arg(long)]
    round: Option<u64>,
    /// Where stores are made; what a finding leaves stays there
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    #[command(hide = true)]
    Child(child::Life),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.part {
        Some(Part::Child(life)) => child::live(life),
        None => torture(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn torture(Arguments { seconds, seed, round, folder, .. }: &Arguments) -> anyhow::Result<()> {
    println!("seed {seed}, {seconds} s");
    let mut counts = Counts::default();
    let (started, mut said) = (Instant::now(), Instant::now());
    for number in round.unwrap_or(0).. {
        if let Err(error) = one(*seed, number, folder, &mut counts) {
            let again = std::env::current_exe().unwrap_or_default();
            println!("{counts}\na finding after {} s; again:", started.elapsed().as_secs());
            println!("{} --seed {seed} --round {number}", again.display());
            return Err(error);
        }
        if said.elapsed() > SAID_EVERY {
            println!("after {} s, {} rounds\n{counts}", started.elapsed().as_secs(), number + 1);
            said = Instant::now();
        }
        // Each kind once at least.
        let is_enough = number + 1 >= KINDS && started.elapsed() > Duration::from_secs(*seconds);
        if round.is_some() || is_enough {
            break;
        }
    }
    println!("{counts}\nno finding in {} s, seed {seed}", started.elapsed().as_secs());
    Ok(())
}

/// One round, in a folder that is gone afterwards unless something was found.
fn one(seed: u64, number: u64, folder: &Path, counts: &mut Counts) -> anyhow::Result<()> {
    let mut place = tempfile::Builder::new().prefix("rustorium-torture-").tempdir_in(folder)?;
    let round = Round { seed, number };
    let done = catch_unwind(AssertUnwindSafe(|| match number % KINDS {
        0 => power::round(round, counts),
        5 => front::round(round, place.path(), counts),
        6 => moving::round(round, place.path(), counts),
        1 | 3 => killing::round(round, place.path(), counts),
        2 => cut::round(round, place.path(), counts),
        _ => restarts::round(round, place.path(), counts),
    }));
    let outcome = done.unwrap_or_else(|_| Err(anyhow!("a panic, see above")));
    if outcome.is_err() {
        place.disable_cleanup(true);
    }
    outcome.with_context(|| format!("round {number} of seed {seed}, in {}", place.path().display()))
}

/// Names a round.
#[derive(Clone, Copy)]
pub struct Round {
    seed: u64,
    number: u64,
}

impl Round {
    /// The seed of its blocks.
    fn blocks(self) -> u64 {
        self.seed ^ self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn rng(self) -> rand::rngs::StdRng {
        rustorium_tests::chain::rng(self.seed, "torture", self.number)
    }
}
