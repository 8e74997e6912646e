//! The genesis of a real chain, Kusama's, into a fresh store: from the file to the synced head. Skipped, and said so, where
//! the file is not at hand.

use rustorium_chain_spec::ChainSpec;
use rustorium_state::{BlockHash, Genesis};
use rustorium_tests::data::Data;

use crate::Choices;
use crate::machine::{Watch, peak_bytes};
use crate::store::{Store, committer};
use crate::table::{Table, megabytes, thousands, time};

const FILE: &str = "kusama.json.gz";

pub(crate) fn measure(choices: &Choices) -> anyhow::Result<()> {
    let Some(data) = Data::find()? else { return Ok(()) };
    let folder = tempfile::Builder::new().prefix("rustorium-bench-").tempdir_in(&choices.folder)?;
    let whole = Watch::start();
    let spec = ChainSpec::parse(&std::fs::read(data.file(FILE))?)?;
    let parsed = whole.stop();
    // A node builds its tables meanwhile; here their time is told apart.
    let watch = Watch::start();
    let committer = committer();
    let tables = watch.stop();
    let watch = Watch::start();
    let hash = |root: &_| BlockHash(spec.genesis_hash(root));
    let genesis = Genesis { id: spec.id(), pairs: spec.genesis(), hash: &hash };
    let store = Store::open_chain(folder.path(), committer, &genesis)?;
    let (loaded, whole) = (watch.stop(), whole.stop());
    let root = store.reader.head().header().state_root;
    store.close();
    anyhow::ensure!(root == data.genesis_mark(FILE)?.state_root, "the wrong root");

    let mut table = Table::new(["part", "wall", "CPU"]);
    let parts = [("spec read", parsed), ("tables built", tables), ("tree and store", loaded), ("together", whole)];
    for (part, took) in parts {
        table.row([part.to_owned(), time(took.wall), time(took.cpu)]);
    }
    table.print(&format!("Kusama's genesis, {} keys, into a fresh store", thousands(spec.genesis().len() as u64)));
    println!("Peak memory of this part: {}.", megabytes(peak_bytes()?));
    Ok(())
}
