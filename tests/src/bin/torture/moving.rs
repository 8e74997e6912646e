//! A block's pairs go from one store to another, and processes that take them in are killed: the store is what it was, or
//! stands at the block with all of its pairs.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _};
use rustorium_state::backend::{Backend, Durability, Memory, Rocks};
use rustorium_state::bulk::{Terms, export, import};
use rustorium_state::{At, Depth};

use crate::Round;
use crate::counts::Counts;
use crate::engine::{Chain, Engine, ID, config, rocks_config};
use crate::forks::{Forks, Known};
use crate::killing;
use crate::mortal::{FailPoint, Mortal, Purpose};
use crate::script::forgets;
use crate::verdict::Told;

const PAIRS: u32 = 300;
/// More than a frame of the file has.
const MANY_PAIRS: u32 = 20_000;
const STEPS_MAX: u64 = 60;
/// Processes that are killed before one may end its work.
const LIVES_MAX: u32 = 4;

pub fn round(round: Round, place: &Path, counts: &mut Counts) -> anyhow::Result<()> {
    let mut rng = round.rng();
    let pairs = if rng.random_bool(0.2) { MANY_PAIRS } else { PAIRS };
    let [file, store] = ["file", "store"].map(|name| place.join(name));
    let (source, known) = send(Chain::new(round.blocks(), pairs), &file, &mut rng).context("the source")?;
    let mut told = Told::new(Chain::new(round.blocks(), pairs), true);
    go_on(&mut told, &store, rng.random_range(0..STEPS_MAX), &mut rng)?;
    for life in 0..rng.random_range(1..=LIVES_MAX) {
        // Where both stand at the same block, nobody could tell them apart.
        while told.forks().finalized() == known.block.hash {
            go_on(&mut told, &store, 5, &mut rng)?;
        }
        let some = [Purpose::Slice, Purpose::Switch];
        let purpose = some[rng.next_u32() as usize % some.len()];
        let nth = if purpose == Purpose::Slice { rng.random_range(1..6) } else { 1 };
        let fail_point = FailPoint { purpose, nth, is_after: rng.random() };
        let file = file.to_str().context("a path in text")?;
        let words = ["--imports", file, "--blocks", &told.chain.seed.to_string(), "--pairs", &pairs.to_string()];
        let is_killed = killing::dies(&words, fail_point, &store)?;
        counts.one(match is_killed {
            true => format!("import killed {} {}", fail_point.when(), purpose.name()),
            false => "imports beside a fail point".to_owned(),
        });
        let engine = open(&told, &store, &mut rng)?;
        let is_there = told.moves(moved(&told, &source, &known), source.index, &engine.reader);
        ensure!(is_there || is_killed, "life {life}: an import that ended well has done nothing");
        told.judge(&engine.reader, &mut rng).with_context(|| format!("life {life}, moved {is_there}"))?;
        told.drive(&engine, rng.random_range(0..3), &mut rng)??;
    }
    take(&told.chain, Mortal::new(Rocks::open(&store, &rocks_config())?, None), &file)?;
    counts.one("stores moved to another's block");
    for life in 0..2 {
        let rocks: Arc<dyn Backend> = Arc::new(Rocks::open(&store, &rocks_config())?);
        let report = told.chain.examine(rocks)?.check(Depth::Deep, [5; 32], &mut |_| ())?;
        ensure!(report.is_sound(), "{report}");
        let engine = open(&told, &store, &mut rng)?;
        if life == 0 {
            let is_there = told.moves(moved(&told, &source, &known), source.index, &engine.reader);
            ensure!(is_there, "the store is not where the import ended");
            let above = engine.reader.block_hash(known.block.number + 1)?;
            ensure!(above.is_none(), "{above:?} is above the newest block");
        }
        told.judge(&engine.reader, &mut rng).context("moved")?;
        told.drive(&engine, rng.random_range(5..20), &mut rng)??;
        told.settle(&engine)?;
    }
    Ok(())
}

/// A store in memory that goes its way, and the pairs of one of its final blocks in a file.
fn send(chain: Chain, file: &Path, rng: &mut StdRng) -> anyhow::Result<(Told, Known)> {
    let mut told = Told::new(chain, true);
    let config = config(&told.chain, rng, Durability::Synced);
    let engine = Engine::open(Arc::new(Memory::new()), &told.chain, &config)?;
    told.drive(&engine, rng.random_range(0..STEPS_MAX), rng)??;
    let forks = told.forks();
    let past = forks.past.choose(rng).filter(|_| !forgets(told.chain.seed) && rng.random());
    let known = past.unwrap_or(&forks.blocks[&forks.finalized()]).clone();
    let view = engine.reader.at(At::Block(known.block.hash))?;
    let mut file = File::options().read(true).write(true).create_new(true).open(file)?;
    let carried = export(&view, ID, told.chain.genesis, &mut file, &mut |_| ControlFlow::Continue(()))?;
    ensure!(carried.pairs == known.pairs.len() as u64, "{carried:?}");
    drop(engine);
    Ok((told, known))
}

/// Takes a file's pairs in, all of them.
pub fn take(chain: &Chain, backend: Mortal, file: &Path) -> anyhow::Result<()> {
    let terms = Terms { may_lose: true, ..Terms::default() };
    let examination = chain.examine(Arc::new(backend))?;
    import(&examination, &mut File::open(file)?, &terms, &mut |_| ControlFlow::Continue(()))?;
    Ok(())
}

fn open(told: &Told, store: &Path, rng: &mut StdRng) -> anyhow::Result<Engine> {
    let rocks = Rocks::open(store, &rocks_config())?;
    Ok(Engine::open(Arc::new(rocks), &told.chain, &config(&told.chain, rng, Durability::Synced))?)
}

fn go_on(told: &mut Told, store: &Path, steps: u64, rng: &mut StdRng) -> anyhow::Result<()> {
    let engine = open(told, store, rng)?;
    Ok(told.drive(&engine, steps, rng)??)
}

/// What a store is after the import: headers stay where they lead to the block, and of older states nothing.
fn moved(told: &Told, source: &Told, known: &Known) -> Forks {
    let (forks, block) = (told.forks(), &known.block);
    let number = block.number as usize;
    let parent = number.checked_sub(1).map(|parent| forks.chain.get(parent) == Some(&block.parent_hash));
    let leads = forks.chain.get(number) == Some(&block.hash) || parent == Some(true);
    let (mut chain, first) = match leads {
        true => (forks.chain.clone(), forks.first),
        false => (source.forks().chain.clone(), block.number),
    };
    chain.truncate(number);
    chain.push(block.hash);
    let above = forks.chain.iter().skip(number + 1).chain(forks.blocks.keys());
    let dropped = above.filter(|hash| !chain.contains(hash)).copied().collect();
    Forks {
        blocks: [(block.hash, known.clone())].into(),
        chain,
        first: if number == 0 { 0 } else { first },
        past: vec![],
        head: block.hash,
        dropped,
    }
}
