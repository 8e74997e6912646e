//! `rustorium db rollback`: takes final blocks back, as far as what they overwrote is kept.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Context as _;
use rustorium_state::{ApplyError, BlockHash, Config, Genesis, Handle, Header, History, Reader};
use rustorium_verkle::Committer;
use serde_json::json;

use super::progress::Bar;
use super::{Store, open_error};
use crate::cli::DbRollback;
use crate::exit::{Exit, OrExit as _};

/// Takes back every block above a number.
pub fn rollback(rollback: &DbRollback, out: &mut impl Write) -> anyhow::Result<Exit> {
    let store = Store::find(&rollback.store)?;
    let backend = store.open(&store.db())?;
    let hash = |root: &_| BlockHash(store.spec.genesis_hash(root));
    let genesis = Genesis { id: store.spec.id(), pairs: store.spec.genesis(), hash: &hash };
    let committer = Arc::new(Committer::new(store.window_bits(&*backend)));
    // Nothing is given up here.
    let config = Config { history: History::Archive, ..Config::new(committer) };
    // A store without a state is not made one here.
    drop(store.examine_backend(backend.clone())?);
    let opened = rustorium_state::open(backend, &genesis, &config, &mut |_| ControlFlow::Break(()));
    let (writer, handle, reader) =
        opened.map_err(open_error).with_context(|| format!("cannot open the store {}", store.db().display()))?;
    let running = std::thread::spawn(|| writer.run());
    let done = go_back(rollback, &handle, &reader);
    handle.close();
    running.join().map_err(|_| Exit::Internal.error("the writer ended in a panic"))?;
    let (from, header) = done?;
    let Header { number, hash, state_root, .. } = &header;
    if rollback.store.json {
        let (hash, root) = (hash.to_string(), state_root.to_string());
        let head = json!({ "number": number, "hash": hash, "stateRoot": root });
        writeln!(out, "{}", json!({ "store": store.name(), "from": from, "head": head }))?;
    } else {
        writeln!(out, "store         {}", store.name())?;
        writeln!(out, "taken back    blocks {} to {}", number + 1, from)?;
        writeln!(out, "head          block {number} {hash}")?;
        writeln!(out, "state root    {state_root}")?;
    }
    Ok(Exit::Done)
}

/// Goes back block by block; the number of the head before, and the head now.
fn go_back(rollback: &DbRollback, handle: &Handle, reader: &Reader) -> anyhow::Result<(u64, Header)> {
    let status = reader.status();
    let (head, to) = (status.head.number, rollback.to);
    if to >= head {
        return Err(Exit::Usage.error(format!("the head is block {head}: --to names one below it")));
    }
    if to < status.oldest_number {
        let oldest = status.oldest_number;
        let message = format!("block {to} is too old: the oldest that can be gone back to is block {oldest}");
        return Err(Exit::Unavailable.error(message));
    }
    if !rollback.yes {
        let message = format!("this takes back blocks {} to {head} for good: say --yes if you mean it", to + 1);
        return Err(Exit::Usage.error(message));
    }
    let mut bar = Bar::default();
    let mut now = status.head;
    for number in (to..head).rev() {
        let hash = reader.block_hash(number).map_err(|error| open_error(error.into()))?;
        let hash = hash.ok_or_else(|| Exit::BadData.error(format!("no block has number {number}")))?;
        let gone = handle.rollback_blocking(hash);
        now = gone.map_err(ours).with_context(|| format!("the store stands at block {}", number + 1))?;
        bar.show_part("going back", head - number, head - to);
    }
    bar.end();
    Ok((head, now))
}

fn ours(error: ApplyError) -> anyhow::Error {
    let exit = match &error {
        ApplyError::Damaged { .. } => Exit::BadData,
        ApplyError::DiskFull { .. } | ApplyError::Busy { .. } => Exit::Temporary,
        _ => Exit::Internal,
    };
    Err::<(), _>(error).or_exit(exit).expect_err("an error stays one")
}
