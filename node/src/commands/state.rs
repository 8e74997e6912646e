//! `rustorium state`: all pairs of a block into a file and back, while the node is stopped.
//!
//! The file is `rustorium_state::bulk`'s. Takes the lock of the data directory, as a running node does. Answers go to
//! stdout, progress to stderr where that is a terminal.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustorium_state::bulk::{BulkError, Carried, Terms, export as export_pairs, import as import_pairs};
use rustorium_state::{At, AtError, BlockHash, OpenError, Reader, View};
use rustorium_verkle::StateRoot;
use serde_json::json;

use super::db::Store;
use super::db::progress::Bar;
use crate::cli::{StateExport, StateImport};
use crate::exit::{Exit, OrExit as _};
use crate::run::store::open_error;

/// Writes a final block's pairs into a file.
pub fn export(export: &StateExport, out: &mut impl Write) -> anyhow::Result<Exit> {
    let store = Store::find(&export.store)?;
    let backend = store.open(&store.db())?;
    // A store that is not whole is not made whole here.
    drop(store.examine_backend(backend.clone())?);
    let reader = store.load(backend)?;
    let view = view(&reader, export.at)?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&export.file);
    let mut file =
        file.with_context(|| format!("cannot write {}", export.file.display())).or_exit(Exit::CannotCreate)?;
    let mut bar = Bar::default();
    let mut progress = |stage| {
        bar.show(stage);
        ControlFlow::Continue(())
    };
    let carried = export_pairs(&view, store.id(), reader.genesis_hash(), &mut file, &mut progress);
    bar.end();
    let carried = carried
        .map_err(|error| failed(error, Exit::CannotCreate))
        .with_context(|| format!("cannot export into {}", export.file.display()))?;
    tell("exported", &carried, &export.file, export.store.json, out)
}

/// The state at a final block, or at the newest.
fn view(reader: &Reader, number: Option<u64>) -> anyhow::Result<Arc<View>> {
    let finalized = reader.finalized();
    let at = match number {
        None => At::Finalized,
        Some(number) if number > finalized.number => {
            let message = format!("block {number} is not final, the newest final one is {}", finalized.number);
            return Err(Exit::Usage.error(message));
        }
        Some(number) => match reader.block_hash(number).map_err(|error| open_error(error.into()))? {
            Some(hash) => At::Block(hash),
            None => return Err(Exit::Unavailable.error(format!("block {number} is not known here"))),
        },
    };
    reader.at(at).map_err(|error| match error {
        AtError::Read(error) => open_error(error.into()),
        gone => Exit::Unavailable.error(gone.to_string()),
    })
}

/// Makes a file's pairs the state of a store.
pub fn import(import: &StateImport, out: &mut impl Write) -> anyhow::Result<Exit> {
    let file = File::open(&import.file);
    let mut file = file.with_context(|| format!("cannot read {}", import.file.display())).or_exit(Exit::NoInput)?;
    let store = Store::make(&import.store)?;
    let backend = store.open(&store.db())?;
    let examination = match store.examine_backend(backend.clone()) {
        Ok(examination) => examination,
        // A new store: what every store begins with is the genesis.
        Err(error) if Exit::of(&error) == Exit::Temporary => {
            drop(store.load(backend.clone())?);
            store.examine_backend(backend)?
        }
        Err(error) => return Err(error),
    };
    let trusted = import.state_root.map(|root| StateRoot(root.0));
    let terms = Terms { trusted, may_lose: import.may_lose };
    let mut bar = Bar::default();
    let mut progress = |stage| {
        bar.show(stage);
        ControlFlow::Continue(())
    };
    let carried = import_pairs(&examination, &mut file, &terms, &mut progress);
    bar.end();
    let carried = carried
        .map_err(|error| failed(error, Exit::NoInput))
        .with_context(|| format!("cannot import {}", import.file.display()))?;
    tell("imported", &carried, &import.file, import.store.json, out)
}

/// The exit code is the reason's; `file` is that of a file that cannot be read or written.
fn failed(error: BulkError, file: Exit) -> anyhow::Error {
    let exit = match error {
        BulkError::Read(error) => return open_error(error.into()),
        BulkError::Backend(error) => return open_error(OpenError::Backend(error)),
        BulkError::File(_) => file,
        BulkError::Interrupted | BulkError::Pending => Exit::Temporary,
        BulkError::Newer { .. } | BulkError::OtherChain { .. } => Exit::Config,
        BulkError::OtherBlock { .. } => Exit::CannotCreate,
        BulkError::Older { .. } => {
            return Exit::Usage.error(format!("{error}; --may-lose takes it all the same"));
        }
        BulkError::NotOurs
        | BulkError::Damaged { .. }
        | BulkError::Truncated { .. }
        | BulkError::Untrusted { .. }
        | BulkError::RootMismatch { .. } => Exit::BadData,
    };
    Err::<(), _>(error).or_exit(exit).expect_err("an error stays one")
}

fn tell(what: &str, carried: &Carried, file: &Path, json: bool, out: &mut impl Write) -> anyhow::Result<Exit> {
    let Carried { origin, pairs, bytes, resumed } = carried;
    let header = origin.header();
    let BlockHash(hash) = header.hash;
    if json {
        let told = json!({
            "chain": origin.chain, "number": header.number, "hash": const_hex::encode_prefixed(hash),
            "stateRoot": header.state_root.to_string(), "pairs": pairs, "bytes": bytes, "resumed": resumed,
            "file": file.display().to_string(),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&told)?)?;
    } else {
        let again = if *resumed > 0 { format!(", {resumed} of them before") } else { String::new() };
        writeln!(out, "{what} {pairs} pairs{again}, {bytes} bytes")?;
        writeln!(out, "block {} {}, state root {}", header.number, header.hash, header.state_root)?;
    }
    Ok(Exit::Done)
}
