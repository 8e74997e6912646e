//! All pairs of a block out of one store and into another, durable, beside a genesis of the same pairs from memory, which
//! writes the same rows without a file.

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;

use rustorium_state::backend::{Rocks, RocksConfig};
use rustorium_state::bulk::{Carried, Terms, export, import};
use rustorium_state::{BlockHash, Examination, Genesis};

use crate::Choices;
use crate::machine::{Took, peak_bytes, timed};
use crate::store::{Store, committer};
use crate::table::{Table, digits, megabytes, thousands, time};
use crate::workload::{Scale, Workload};

const EMPTY: Genesis<'static> = Genesis { id: "bench", pairs: &[], hash: &|root| BlockHash(root.0) };

pub(crate) fn measure(choices: &Choices, scale: &Scale) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("rustorium-bench-").tempdir_in(&choices.folder)?;
    let place = |name: &str| folder.path().join(name);
    let committer = committer();
    let workload = Workload::new(choices.seed, *scale);

    let from = Store::open(&place("from"), committer.clone())?;
    for block in workload.load() {
        from.apply(block.into_iter().map(|(key, value)| (key.to_vec(), Some(value))).collect())?;
    }
    from.flush()?;
    let mut file = File::options().read(true).write(true).create_new(true).open(place("file"))?;
    let view = from.reader.head();
    let proceed = &mut |_| ControlFlow::Continue(());
    let (out, exported) = timed(|| export(&view, EMPTY.id, from.reader.genesis_hash(), &mut file, proceed));
    let Carried { origin, pairs, bytes, .. } = exported?;
    drop(view);
    from.close();

    Store::open(&place("to"), committer.clone())?.close();
    let to = Arc::new(Rocks::open(&place("to"), &RocksConfig::default())?);
    let examination = Examination::open(to, &EMPTY, committer.clone())?;
    let terms = Terms { trusted: Some(origin.header().state_root), ..Terms::default() };
    let (back, imported) = timed(|| import(&examination, &mut file, &terms, proceed));
    anyhow::ensure!(imported?.pairs == pairs, "pairs were lost");
    drop(examination);
    let peak = peak_bytes()?;

    let all: Vec<(Vec<u8>, Vec<u8>)> = workload.load().flatten().map(|(key, value)| (key.to_vec(), value)).collect();
    let genesis = Genesis { pairs: &all, ..EMPTY };
    let (loaded, store) = timed(|| Store::open_chain(&place("genesis"), committer, &genesis));
    let store = store?;
    anyhow::ensure!(store.reader.head().header().state_root == origin.header().state_root, "another root");
    store.close();

    let mut table = Table::new(["", "pairs", "wall", "CPU", "pairs/s"]);
    let rate = |took: &Took| digits(pairs as f64 / took.wall.as_secs_f64());
    for (what, took) in [("out, into a file", &out), ("in, root compared", &back), ("a genesis of them", &loaded)] {
        table.row([what.to_owned(), thousands(pairs), time(took.wall), time(took.cpu), rate(took)]);
    }
    table.print("All pairs of a block, out and in");
    let file_bytes = file.metadata()?.len();
    println!("Their file has {}, keys and values {}.", megabytes(file_bytes), megabytes(bytes));
    println!("Peak memory up to the import: {}.", megabytes(peak));
    Ok(())
}
