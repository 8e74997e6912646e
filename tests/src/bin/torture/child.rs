//! The process that is killed: it carries out the script and says each step that was acknowledged.
//!
//! On stdout, a line each: `open`, then `did <index> <number> <hash> <parent hash> <state root> <time or ->`, or with a front
//! `wrote <caller> <index>`, and at a fail point `dies <when> <what>`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustorium_state::backend::{Durability, Rocks};
use rustorium_state::{BlockHash, Header};
use rustorium_verkle::StateRoot;

use crate::engine::{Chain, Engine, configured, rocks_config};
use crate::front;
use crate::mending::mend;
use crate::mortal::{FailPoint, Mortal};
use crate::moving;
use crate::script::Step;

#[derive(clap::Args)]
pub struct Life {
    /// Of the chain
    #[arg(long)]
    pub blocks: u64,
    /// Pairs of the genesis
    #[arg(long)]
    pub pairs: u32,
    /// The step that comes first: all before were acknowledged
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    #[arg(long, default_value_t = 1)]
    pub flush_blocks: u64,
    /// Mend the store, and nothing else
    #[arg(long)]
    pub mends: bool,
    /// Take the pairs of this file in, and nothing else
    #[arg(long)]
    pub imports: Option<PathBuf>,
    /// Drive a front: how many writes of each caller were acknowledged before
    #[arg(long, value_delimiter = ',', num_args = 1)]
    pub front: Option<Vec<u64>>,
    #[arg(long)]
    pub fail_point: Option<FailPoint>,
    #[arg(long)]
    pub place: PathBuf,
}

pub fn live(life: &Life) -> anyhow::Result<()> {
    let chain = Chain::new(life.blocks, life.pairs);
    let backend = Mortal::new(Rocks::open(&life.place, &rocks_config())?, life.fail_point);
    if life.mends {
        return mend(&chain, backend);
    }
    if let Some(file) = &life.imports {
        return moving::take(&chain, backend, file);
    }
    if let Some(from) = &life.front {
        let from = from.as_slice().try_into().context("a number for each caller")?;
        return front::live(&chain, backend, from, life.flush_blocks);
    }
    let mut forks = chain.forks();
    for index in 0..life.from {
        let step = Step::new(chain.seed, index, &forks);
        forks.carry_out(&step);
    }
    let engine = Engine::open(Arc::new(backend), &chain, &configured(&chain, life.flush_blocks, Durability::Synced))?;
    println!("open");
    for index in life.from.. {
        let step = Step::new(chain.seed, index, &forks);
        let Header { number, hash, parent_hash, state_root, timestamp_ms } =
            step.send(&engine.handle).with_context(|| format!("step {index}: {step:?}"))?;
        let time = timestamp_ms.map_or("-".to_owned(), |time| time.to_string());
        println!("did {index} {number} {hash} {parent_hash} {state_root} {time}");
        forks.carry_out(&step);
    }
    Ok(())
}

/// What a child says of a step that was acknowledged.
pub fn did(line: &str) -> anyhow::Result<(u64, Header)> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["did", index, number, hash, parent_hash, state_root, time] = words[..] else { bail!("no such line") };
    let bytes = |text: &str| -> anyhow::Result<[u8; 32]> { Ok(const_hex::decode_to_array(text)?) };
    let header = Header {
        number: number.parse()?,
        hash: BlockHash(bytes(hash)?),
        parent_hash: BlockHash(bytes(parent_hash)?),
        state_root: StateRoot(bytes(state_root)?),
        timestamp_ms: if time == "-" { None } else { Some(time.parse()?) },
    };
    Ok((index.parse()?, header))
}
