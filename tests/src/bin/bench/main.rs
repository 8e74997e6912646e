//! `bench`: how fast this is, and how fast others are, on the machine at hand, in tables that a stranger can print anew.
//!
//! Every part runs in a process of its own, on the machine as it finds it: run it where nothing else is at work. Keys,
//! values and blocks are functions of the seed; nothing else is random. `--quick` does less of everything.

mod bulk;
mod commit;
mod engine;
mod front;
mod genesis;
mod history;
mod machine;
mod memory;
mod peers;
mod proofs;
mod store;
mod table;
mod updates;
mod whole;
mod witnesses;
mod workload;

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};
use serde::de::DeserializeOwned;

use crate::table::digits;
use crate::workload::Scale;

/// The allocator of the node, for every store alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time that one run of one store may take; ten million keys take most of it to load.
const OWN_MAX: Duration = Duration::from_secs(900);
/// How often it is looked whether it has ended.
const POLL: Duration = Duration::from_millis(20);

/// Prints how long things take on this machine
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    choices: Choices,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(clap::Args, Clone)]
struct Choices {
    /// Do less: two minutes instead of fifteen
    #[arg(long, global = true)]
    quick: bool,
    /// Where stores are made: on the disk that matters, with 10 GB of room
    #[arg(long, global = true, default_value = ".")]
    folder: PathBuf,
    /// Seed of keys and values
    #[arg(long, global = true, default_value_t = 1, env = "RUSTORIUM_SEED")]
    seed: u64,
    /// Only these stores, as in `--stores ours,nomt`
    #[arg(long, global = true, value_delimiter = ',')]
    stores: Vec<String>,
    /// Keys that stores are loaded with
    #[arg(long, global = true)]
    keys: Option<usize>,
    /// Commits that count
    #[arg(long, global = true)]
    blocks: Option<usize>,
    /// Proofs
    #[arg(long, global = true)]
    proofs: Option<usize>,
}

/// A part of it; all of them when none is named
#[derive(Subcommand, Clone)]
enum Part {
    /// Commits and proofs in memory, beside the bare additions that they need
    Commit,
    /// A whole tree in memory: built, and checked
    Whole,
    /// Witnesses from a store on disk
    Witnesses,
    /// Update witnesses of real blocks beside plain ones
    Updates,
    /// The state engine: unfinalised blocks, what makes them durable, reads through them, a crash
    Engine,
    /// The front: writes of many tasks at once, with proofs, and in batches
    Front,
    /// What it costs to keep the past, and to read it
    History,
    /// Our store beside others: durable commits, reads, proofs
    Peers,
    /// All pairs of a block out of a store and into another
    Bulk,
    /// A genesis into a fresh store
    Genesis,
    #[command(hide = true)]
    EngineMade { place: PathBuf, keys: usize },
    #[command(hide = true)]
    EngineFound { place: PathBuf, keys: usize },
    #[command(hide = true)]
    Peer { name: String, place: PathBuf },
}

impl Choices {
    fn scale(&self) -> Scale {
        let scale = match self.quick {
            false => Scale {
                keys: 1_000_000,
                load: 50_000,
                updates: 10_000,
                warm_up: 3,
                blocks: 20,
                reads: 20_000,
                proofs: 2000,
                runs: 3,
            },
            true => Scale {
                keys: 200_000,
                load: 50_000,
                updates: 10_000,
                warm_up: 2,
                blocks: 6,
                reads: 5000,
                proofs: 200,
                runs: 1,
            },
        };
        Scale {
            keys: self.keys.unwrap_or(scale.keys),
            blocks: self.blocks.unwrap_or(scale.blocks),
            proofs: self.proofs.unwrap_or(scale.proofs),
            ..scale
        }
    }

    fn arguments(&self) -> Vec<String> {
        let mut words =
            vec!["--folder".into(), self.folder.display().to_string(), "--seed".into(), self.seed.to_string()];
        words.extend(self.quick.then(|| "--quick".to_owned()));
        for (name, number) in [("--keys", self.keys), ("--blocks", self.blocks), ("--proofs", self.proofs)] {
            words.extend(number.into_iter().flat_map(|number| [name.to_owned(), number.to_string()]));
        }
        words.extend(self.stores.iter().flat_map(|store| ["--stores".to_owned(), store.clone()]));
        words
    }
}

fn main() -> ExitCode {
    let Arguments { choices, part } = Arguments::parse();
    match run(&choices, part) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(choices: &Choices, part: Option<Part>) -> anyhow::Result<()> {
    match part {
        None => all(choices),
        Some(Part::Commit) => commit::measure(choices),
        Some(Part::Whole) => whole::measure(choices),
        Some(Part::Witnesses) => witnesses::measure(choices, &choices.scale()),
        Some(Part::Updates) => updates::measure(),
        Some(Part::Bulk) => bulk::measure(choices, &choices.scale()),
        Some(Part::Genesis) => genesis::measure(choices, &choices.scale()),
        Some(Part::History) => history::measure(choices, &choices.scale()),
        Some(Part::Engine) => engine::measure(choices, &choices.scale()),
        Some(Part::Front) => front::measure(choices, &choices.scale()),
        Some(Part::EngineMade { place, keys }) => engine::made(&place, keys, choices.seed),
        Some(Part::EngineFound { place, keys }) => engine::found(&place, keys, choices.seed),
        Some(Part::Peers) => peers::measure(choices, &choices.scale()),
        Some(Part::Peer { name, place }) => peers::run(&name, &place, choices.seed, &choices.scale()),
    }
}

/// Every part, under one head.
fn all(choices: &Choices) -> anyhow::Result<()> {
    let started = Instant::now();
    head(choices)?;
    let mut failed = Vec::new();
    for part in ["commit", "whole", "witnesses", "updates", "genesis", "engine", "history", "bulk", "front", "peers"] {
        let status = Command::new(std::env::current_exe()?).args(choices.arguments()).arg(part).status()?;
        failed.extend((!status.success()).then_some(part));
    }
    println!(
        "\nAll of it took {} s; load average at the end {}.",
        digits(started.elapsed().as_secs_f64()),
        machine::load()?
    );
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn head(choices: &Choices) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("rustorium-bench-").tempdir_in(&choices.folder)?;
    println!("## Rustorium's measurements{}\n", if choices.quick { ", quick" } else { "" });
    for (name, what) in machine::describe(folder.path())? {
        println!("- {name}: {what}");
    }
    println!("- seed: {}", choices.seed);
    Ok(())
}

/// Runs this program with further arguments and gives what the last line that it prints says, as JSON. It is ended when it
/// takes longer than it should.
fn own<T: DeserializeOwned>(choices: &Choices, arguments: &[String]) -> anyhow::Result<T> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(choices.arguments()).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let started = Instant::now();
    // What it prints is less than a pipe holds, so nobody needs to read meanwhile.
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > OWN_MAX {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("its process took more than {} s", OWN_MAX.as_secs());
        }
        std::thread::sleep(POLL);
    };
    ensure!(status.success(), "its process ended with {status}");
    let mut text = String::new();
    child.stdout.take().context("its output")?.read_to_string(&mut text)?;
    serde_json::from_str(text.lines().last().context("its process said nothing")?).context("what its process said")
}
