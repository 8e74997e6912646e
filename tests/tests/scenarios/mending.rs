//! Damage to a node's store, by row and by byte: `rustorium db` names it, mends it, or says that it cannot.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rustorium_state::backend::{Backend as _, Batch, Bounds, Column, Durability, Rocks, RocksConfig};
use rustorium_tests::chain::{self, Model, block, changes, rng, seed, some_keys, write_spec};
use rustorium_tests::daemon::Daemon;
use rustorium_tests::program::run_to;
use serde_json::Value;

use super::{holds_exactly, witness};

/// Pairs of the genesis: their nodes and leaves fill more than one block of a file.
const PAIRS: u32 = 2_000;
const BLOCKS: u64 = 6;

/// A stopped node's data and what it must hold.
struct Stopped {
    _folder: tempfile::TempDir,
    spec: PathBuf,
    base_path: PathBuf,
    model: Model,
}

impl Stopped {
    fn new() -> anyhow::Result<Self> {
        let seed = seed();
        let folder = tempfile::tempdir()?;
        let pairs = chain::genesis(seed, PAIRS);
        let spec = write_spec(folder.path(), "mending", &pairs)?;
        let base_path = folder.path().join("base");
        let mut model = Model::new(&pairs);
        let daemon = Daemon::start(spec.to_str().context("text")?, &base_path)?;
        let genesis = daemon.genesis_hash()?;
        for number in 1..=BLOCKS {
            let changes = changes(seed, number);
            daemon.apply(block(number, genesis, &changes))??;
            model.apply(changes);
        }
        ensure!(daemon.stop("TERM")?.success());
        Ok(Self { _folder: folder, spec, base_path, model })
    }

    fn db(&self) -> PathBuf {
        self.base_path.join("db")
    }

    /// `rustorium db …` of this store, which must end with this exit code; what it says.
    fn db_to(&self, code: i32, command: &[&str]) -> anyhow::Result<String> {
        let place =
            ["--chain", self.spec.to_str().context("text")?, "--base-path", self.base_path.to_str().context("text")?];
        let (out, err) = run_to(code, &[&["db"], command, &place].concat())?;
        Ok(out + &err)
    }

    /// Changes rows as nobody should.
    fn harm(&self, fill: impl FnOnce(&mut Batch, &dyn Fn(Column) -> Vec<(Vec<u8>, Vec<u8>)>)) -> anyhow::Result<()> {
        let backend = Rocks::open(&self.db(), &RocksConfig::default())?;
        let snapshot = backend.snapshot()?;
        let rows = |column| snapshot.range(column, &Bounds::all(), usize::MAX, usize::MAX).expect("it reads").rows;
        let mut batch = Batch::new();
        fill(&mut batch, &rows);
        Ok(backend.commit(batch, Durability::Synced)?)
    }

    /// A node on it has the model's root and pairs and proves them.
    fn holds_model(&self) -> anyhow::Result<()> {
        let daemon = Daemon::start(self.spec.to_str().context("text")?, &self.base_path)?;
        let head = daemon.head()?;
        ensure!(head.number == BLOCKS && head.state_root.0 == self.model.state_root().0, "the head is {head:?}");
        let keys = some_keys(&mut rng(seed(), "mending", 0), 40);
        self.model.verify(&witness(&daemon, &keys)?, &keys)?;
        holds_exactly(&daemon, self.model.pairs())?;
        ensure!(daemon.stop("TERM")?.success());
        Ok(())
    }
}

#[test]
fn damaged_rows_are_named_and_mended() -> anyhow::Result<()> {
    let store = Stopped::new()?;
    assert!(store.db_to(0, &["check"])?.contains("all is well"));
    let sound: Value = serde_json::from_str(&store.db_to(0, &["check", "--deep", "--json"])?)?;
    assert_eq!(sound["report"]["leaves"], store.model.pairs().len());
    assert_eq!(sound["report"]["blocks"], BLOCKS + 1);
    assert!(store.db_to(0, &["check", "--repair"])?.contains("nothing was done"));

    store.harm(|batch, rows| {
        let (nodes, index) = (rows(Column::Node), rows(Column::Index));
        nodes.iter().skip(1).step_by(8).for_each(|(key, _)| batch.put(Column::Node, key, &nodes[0].1));
        index.iter().take(40).for_each(|(key, _)| batch.delete(Column::Index, key));
        batch.put(Column::Index, b"\0no leaf", b"");
        batch.delete(Column::Meta, b"live");
    })?;
    for deep in [&["check"][..], &["check", "--deep"]] {
        let told = store.db_to(65, deep)?;
        for what in ["column node", "column index", "column meta, `live`", "can be mended", "--repair"] {
            ensure!(told.contains(what), "{what}: {told}");
        }
    }
    let refused = Daemon::spawn(&["--chain", store.spec.to_str().context("text")?], &store.base_path)?;
    assert_eq!(refused.ended(std::time::Duration::from_secs(20))?.code(), Some(65));
    let told = store.db_to(0, &["check", "--repair"])?;
    assert!(told.contains("done: ") && told.contains("all is well now"), "{told}");
    assert!(store.db_to(0, &["check", "--deep"])?.contains("all is well"));
    store.holds_model()
}

#[test]
fn a_damaged_journal_takes_the_node_back_to_its_last_good_block() -> anyhow::Result<()> {
    let store = Stopped::new()?;
    store.harm(|batch, rows| {
        let journal = rows(Column::Fork);
        assert_eq!(journal.len() as u64, BLOCKS, "blocks wait in the journal");
        batch.put(Column::Fork, &journal[3].0, b"nonsense");
    })?;
    let told = store.db_to(65, &["check"])?;
    assert!(told.contains("column fork") && told.contains("can be rewound"), "{told}");
    let told = store.db_to(0, &["check", "--repair"])?;
    assert!(told.contains("the final block is now 3"), "{told}");
    // Whoever made the blocks applies them again.
    let daemon = Daemon::start(store.spec.to_str().context("text")?, &store.base_path)?;
    assert_eq!(daemon.head()?.number, 3);
    let genesis = daemon.genesis_hash()?;
    for number in 4..=BLOCKS {
        daemon.apply(block(number, genesis, &changes(seed(), number)))??;
    }
    assert!(daemon.stop("TERM")?.success());
    store.holds_model()
}

/// Flips a byte within the first block of each table of a column.
fn flip(db: &Path, column: &str) -> anyhow::Result<usize> {
    // A table names its column among its properties, where keys share their beginnings.
    let mark = format!("name{column}");
    let mut flipped = 0;
    for entry in fs::read_dir(db)? {
        let path = entry?.path();
        let mut bytes = fs::read(&path)?;
        let is_of_column = bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
        if path.extension().is_some_and(|ext| ext == "sst") && is_of_column {
            bytes[700] ^= 1;
            fs::write(&path, bytes)?;
            flipped += 1;
        }
    }
    Ok(flipped)
}

#[test]
fn blocks_that_do_not_read_are_copied_around() -> anyhow::Result<()> {
    let store = Stopped::new()?;
    assert!(store.db_to(0, &["compact"])?.contains("column"));
    ensure!(flip(&store.db(), "node")? > 0, "tables of the column node");
    let told = store.db_to(65, &["check"])?;
    assert!(told.contains("copying may help"), "{told}");
    let told = store.db_to(0, &["check", "--repair"])?;
    assert!(told.contains("copied into a new store") && told.contains("all is well now"), "{told}");
    let mut left: Vec<_> =
        fs::read_dir(&store.base_path)?.map(|entry| Ok(entry?.file_name())).collect::<anyhow::Result<_>>()?;
    left.sort();
    assert_eq!(left, ["LOCK", "db", "engine.jwt"]);
    store.holds_model()
}

#[test]
fn what_is_lost_is_said_and_nothing_touched() -> anyhow::Result<()> {
    // Leaves that do not read, and a manifest that names nothing.
    let store = Stopped::new()?;
    store.db_to(0, &["compact"])?;
    ensure!(flip(&store.db(), "leaf")? > 0, "tables of the column leaf");
    assert!(store.db_to(65, &["check"])?.contains("column leaf"));
    let told = store.db_to(65, &["check", "--repair"])?;
    assert!(told.contains("nothing was done") && told.contains("sync or replay"), "{told}");
    assert!(store.db_to(65, &["check"])?.contains("column leaf"));

    let store = Stopped::new()?;
    for entry in fs::read_dir(store.db())? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST")) {
            fs::write(path, b"nonsense")?;
        }
    }
    store.db_to(65, &["check"])?;
    let told = store.db_to(65, &["check", "--repair"])?;
    assert!(told.contains("sync"), "{told}");
    Ok(())
}

#[test]
fn who_asks_wrongly_is_told() -> anyhow::Result<()> {
    let store = Stopped::new()?;
    let told = store.db_to(0, &["stats"])?;
    assert!(told.contains("bytes a key") && told.contains(&format!("block {BLOCKS} ")), "{told}");
    let stats: Value = serde_json::from_str(&store.db_to(0, &["stats", "--json"])?)?;
    assert_eq!((&stats["head"]["number"], &stats["journalBlocks"]), (&BLOCKS.into(), &BLOCKS.into()));
    assert_eq!(stats["keys"], PAIRS);
    assert_eq!(stats["head"]["stateRoot"], store.model.state_root().to_string());

    let spec = store.spec.to_str().context("text")?;
    let absent = store.base_path.join("absent");
    let (_, told) = run_to(66, &["db", "check", "--chain", spec, "--base-path", absent.to_str().context("text")?])?;
    assert!(told.contains("there is no data directory") && !absent.exists(), "{told}");
    let empty = store.base_path.join("empty");
    fs::create_dir(&empty)?;
    let (_, told) = run_to(66, &["db", "stats", "--chain", spec, "--base-path", empty.to_str().context("text")?])?;
    assert!(told.contains("there is no store"), "{told}");
    let base_path = store.base_path.to_str().context("text")?;
    let (_, told) = run_to(78, &["db", "check", "--chain", "dev", "--base-path", base_path])?;
    assert!(told.contains("`mending`") && told.contains("`dev`"), "{told}");

    let daemon = Daemon::start(spec, &store.base_path)?;
    let told = store.db_to(75, &["check"])?;
    assert!(told.contains(&format!("(pid {}: ", daemon.pid())), "{told}");
    Ok(())
}
