//! Many writers on one store: acknowledged writes, a batch, a proof that a light client checks with a root alone.
//!
//! `cargo run --release --example storage [FOLDER]`; the store stays in the folder, `storage-data` if none is named.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use rustorium_state::backend::{Rocks, RocksConfig};
use rustorium_state::{BlockHash, Config, Front, FrontConfig, Genesis, Proof, Storage, open};
use rustorium_verkle::{Committer, StateRoot, WindowBits};

const WRITERS: u32 = 64;
const WRITES: u32 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).map_or(PathBuf::from("storage-data"), PathBuf::from);

    // A store on disk, and the one thread that writes to it.
    let backend = Arc::new(Rocks::open(&folder, &RocksConfig::default())?);
    let config = Config::new(Arc::new(Committer::new(WindowBits::SMALL)));
    let genesis = Genesis { id: "storage example", pairs: &[], hash: &|root| BlockHash(root.0) };
    let (writer, handle, reader) = open(backend, &genesis, &config, &mut |_| ControlFlow::Continue(()))?;
    let writing = thread::spawn(|| writer.run());
    println!("open at block {}", reader.head().header().number);

    // The front works on any executor. Here each writer is a thread with the smallest one there is.
    let storage = pollster::block_on(Front::open(&handle, FrontConfig::default()))?;
    let started = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let storage = storage.clone();
            thread::spawn(move || pollster::block_on(write(&storage, writer)))
        })
        .collect();
    for writer in writers {
        writer.join().expect("no writer panics")?;
    }
    println!("{} writes, each durable when it was answered, in {:?}", WRITERS * WRITES, started.elapsed());

    pollster::block_on(async {
        // All of a batch happens, or nothing.
        let transfer = vec![(b"alice".to_vec(), Some(b"60".to_vec())), (b"bob".to_vec(), Some(b"40".to_vec()))];
        storage.write_batch(transfer).await?;
        let alice = storage.read(b"alice").await?.expect("she was just written");
        println!("alice has {}", String::from_utf8_lossy(&alice.value));

        // In a block, and proved by a witness that holds nothing else.
        let written = storage.write_with_own_proof("carol", "7").await?;
        println!("block {} with root {} has carol", written.block.number, written.root);
        check(&written.witness, &written.root)?;
        storage.verify_proof(b"carol", Some(b"7"), &written.witness).await?;

        let last = storage.close().await?;
        println!("closed at block {}", last.number);
        Ok::<(), Box<dyn Error>>(())
    })?;
    handle.close();
    writing.join().expect("the writer does not panic");
    Ok(())
}

async fn write(storage: &impl Storage, writer: u32) -> Result<(), rustorium_state::ApplyError> {
    for write in 0..WRITES {
        let key = format!("writer {writer} key {write}");
        storage.write(key, write.to_string()).await?;
    }
    Ok(())
}

/// What a light client does, which has the proof from whomever and the root from whom it trusts.
fn check(proof: &Proof, root: &StateRoot) -> Result<(), Box<dyn Error>> {
    proof.verify(root)?;
    println!("a witness of {} bytes proves {} claims", proof.witness.len(), proof.claims.len());
    Ok(())
}
