//! A front under 256 tasks on tokio, on disk: what each reads, what is proved, and what is left after it is dropped without
//! a word and opened again.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustorium_state::backend::{Rocks, RocksConfig};
use rustorium_state::{
    ApplyError, BlockHash, Config, Front, FrontConfig, Genesis, Handle, Reader, Storage, check, open,
};
use rustorium_verkle::{Committer, WindowBits};

const TASKS: u64 = 256;
const WRITES: u64 = 12;

fn config() -> Config {
    Config::new(Arc::new(Committer::new(WindowBits::SMALL)))
}

fn start(path: &Path) -> anyhow::Result<(JoinHandle<()>, Handle, Reader)> {
    let backend = Arc::new(Rocks::open(path, &RocksConfig::default())?);
    let genesis = Genesis { id: "front", pairs: &[], hash: &|root| BlockHash(root.0) };
    let (writer, handle, reader) = open(backend, &genesis, &config(), &mut |_| ControlFlow::Continue(()))?;
    Ok((std::thread::spawn(|| writer.run()), handle, reader))
}

fn key(task: u64, write: u64) -> Vec<u8> {
    [task.to_be_bytes(), write.to_be_bytes()].concat()
}

/// Any storage does; its last write is proved, and one that is given up half-way leaves nothing half-done.
async fn work(storage: impl Storage, task: u64) -> anyhow::Result<()> {
    for write in 0..WRITES {
        let key = key(task, write);
        storage.write(key.clone(), write.to_be_bytes()).await?;
        let found = storage.read(&key).await?.map(|found| found.value);
        anyhow::ensure!(found == Some(write.to_be_bytes().to_vec()), "task {task} does not read its write {write}");
    }
    let given_up = storage.write_batch(vec![(key(task, 100), Some(vec![1])), (key(task, 101), Some(vec![1]))]);
    let _ = tokio::time::timeout(std::time::Duration::from_micros(task), given_up).await;
    storage.delete(key(task, 0)).await?;
    let written = storage.write_with_proof(key(task, 1), "proved").await?;
    storage.verify_proof(&key(task, 1), Some(b"proved"), &written.witness).await?;
    Ok(())
}

#[test]
fn many_tasks_write_read_and_prove() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (writing, handle, reader) = start(folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let front = runtime.block_on(Front::open(&handle, FrontConfig { block_changes: 500, ..FrontConfig::default() }))?;
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(work(front.clone(), task))).collect();
        for task in tasks {
            task.await??;
        }
        anyhow::Ok(())
    })?;
    assert!(reader.head().header().number > 1);
    // No goodbye: the writer makes a last block.
    runtime.block_on(front.write("last", "word"))?;
    handle.close();
    writing.join().expect("the writer does not panic");
    assert!(matches!(runtime.block_on(front.write("later", "")), Err(ApplyError::Closed)));
    drop((front, handle, reader));

    let (writing, handle, reader) = start(folder.path())?;
    let head = reader.head();
    assert_eq!(head.value(b"last")?, Some(b"word".to_vec()));
    for task in 0..TASKS {
        assert_eq!(head.value(&key(task, 0))?, None);
        assert_eq!(head.value(&key(task, 1))?, Some(b"proved".to_vec()));
        assert_eq!(head.value(&key(task, 100))?, head.value(&key(task, 101))?, "half of a batch");
    }
    let report = check(&head, &Committer::new(WindowBits::SMALL))?;
    assert!(report.is_sound(), "{report}");
    handle.close();
    writing.join().expect("the writer does not panic");
    Ok(())
}
