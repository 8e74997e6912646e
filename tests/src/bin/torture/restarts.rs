//! No crash: long scripts, with the engine closed and opened again, beneath readers that never stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use rand::RngExt as _;
use rustorium_state::backend::{Backend, Durability, Memory, Rocks};
use rustorium_state::{At, Reader};

use crate::Round;
use crate::counts::Counts;
use crate::engine::{Chain, Engine, config, rocks_config};
use crate::script::BLOCK_KEY;
use crate::verdict::Told;

const PAIRS: u32 = 300;
const READERS: usize = 2;

pub fn round(round: Round, place: &Path, counts: &mut Counts) -> anyhow::Result<()> {
    let mut rng = round.rng();
    let mut told = Told::new(Chain::new(round.blocks(), PAIRS), true);
    let memory = Arc::new(Memory::new());
    let is_on_disk = rng.random_bool(0.5);
    let before = told.index;
    for life in 0..rng.random_range(2..10) {
        let backend: Arc<dyn Backend> = match is_on_disk {
            true => Arc::new(Rocks::open(place, &rocks_config())?),
            false => memory.clone(),
        };
        let engine = Engine::open(backend, &told.chain, &config(&told.chain, &mut rng, Durability::Synced))?;
        told.judge(&engine.reader, &mut rng).with_context(|| format!("life {life}"))?;
        let is_over = AtomicBool::new(false);
        let read = std::thread::scope(|threads| {
            let readers: Vec<_> = (0..READERS).map(|_| threads.spawn(|| read_on(&engine.reader, &is_over))).collect();
            let driven = told.drive(&engine, rng.random_range(0..60), &mut rng);
            is_over.store(true, Ordering::Relaxed);
            let read = readers.into_iter().map(|reader| reader.join().expect("a reader does not panic"));
            let read = read.sum::<anyhow::Result<u64>>();
            driven??;
            read
        });
        counts.add("views read beside the writer", read?);
        if rng.random_bool(0.3) {
            told.judge(&engine.reader, &mut rng).with_context(|| format!("life {life}"))?;
            told.settle(&engine)?;
        }
        counts.one("restarts");
    }
    counts.add("steps acknowledged", told.index - before);
    Ok(())
}

/// Whatever view there is, it is of one block; how many were looked at.
fn read_on(reader: &Reader, is_over: &AtomicBool) -> anyhow::Result<u64> {
    let mut read = 0;
    while !is_over.load(Ordering::Relaxed) {
        for at in [At::Head, At::Finalized] {
            let view = reader.at(at)?;
            let header = view.header();
            let found = view.value(BLOCK_KEY)?;
            let expected = (header.number > 0).then(|| header.hash.0.to_vec());
            ensure!(found == expected, "block {} {} reads another's value", header.number, header.hash);
            read += 1;
        }
        let status = reader.status();
        ensure!(status.head.number >= status.finalized.number, "the head is behind: {status:?}");
    }
    Ok(read)
}
