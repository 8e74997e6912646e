//! A genesis into a fresh store, up to the synced head: random keys, and a real chain's, Kusama's, from its file. The
//! latter is skipped, and said so, where the file is not at hand.

use rustorium_chain_spec::ChainSpec;
use rustorium_state::{BlockHash, Genesis};
use rustorium_tests::data::Data;
use rustorium_verkle::StateRoot;

use crate::Choices;
use crate::machine::{Took, peak_bytes, timed};
use crate::store::{Store, committer};
use crate::table::{Table, digits, megabytes, thousands, time};
use crate::workload::{Scale, Workload};

const KUSAMA: &str = "kusama.json.gz";

pub(crate) fn measure(choices: &Choices, scale: &Scale) -> anyhow::Result<()> {
    let mut table = Table::new(["genesis", "keys", "wall", "CPU", "keys/s", "reading its file"]);
    let mut row = |name: &str, keys: usize, took: Took, file: String| {
        let rate = keys as f64 / took.wall.as_secs_f64();
        table.row([name.to_owned(), thousands(keys as u64), time(took.wall), time(took.cpu), digits(rate), file]);
    };
    let workload = Workload::new(choices.seed, *scale);
    let pairs: Vec<(Vec<u8>, Vec<u8>)> = workload.load().flatten().map(|(key, value)| (key.to_vec(), value)).collect();
    let (took, _) = load(choices, &Genesis { id: "bench", pairs: &pairs, hash: &|root| BlockHash(root.0) })?;
    row("random keys", pairs.len(), took, String::new());

    if let Some(data) = Data::find()? {
        let (read, spec) = timed(|| anyhow::Ok(ChainSpec::parse(&std::fs::read(data.file(KUSAMA))?)?));
        let spec = spec?;
        let hash = |root: &_| BlockHash(spec.genesis_hash(root));
        let (took, root) = load(choices, &Genesis { id: spec.id(), pairs: spec.genesis(), hash: &hash })?;
        anyhow::ensure!(root == data.genesis_mark(KUSAMA)?.state_root, "the wrong root");
        row("Kusama's", spec.genesis().len(), took, time(read.wall));
    }
    table.print("A genesis into a fresh store on RocksDB, tables built before");
    println!("Peak memory of this part: {}.", megabytes(peak_bytes()?));
    Ok(())
}

fn load(choices: &Choices, genesis: &Genesis<'_>) -> anyhow::Result<(Took, StateRoot)> {
    let folder = tempfile::Builder::new().prefix("rustorium-bench-").tempdir_in(&choices.folder)?;
    let committer = committer();
    let (took, store) = timed(|| Store::open_chain(folder.path(), committer, genesis));
    let store = store?;
    let root = store.reader.head().header().state_root;
    store.close();
    Ok((took, root))
}
