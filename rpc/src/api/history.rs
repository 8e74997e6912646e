//! What was: the changes of a key, what a block did, and how far back the states go.

use jsonrpsee::core::async_trait;
use jsonrpsee::proc_macros::rpc;
use rustorium_state::{HistoryQuery as Query, Reader};

use crate::error::ApiError;
use crate::limits::{HISTORY_ENTRIES_MAX, VALUES_BYTES_MAX};
use crate::openrpc::{Document, describe};
use crate::wire::{Diff, Hash32, HexBytes, HistoryEntry, HistoryPage, HistoryQuery, Retention};
use crate::work::Work;

/// The changes of a key, what a block did, and how far back the states go.
#[rpc(server, client)]
pub trait HistoryApi {
    /// The blocks that changed a key, oldest first.
    #[method(name = "state_getHistory")]
    async fn history(&self, key: HexBytes, query: Option<HistoryQuery>) -> Result<HistoryPage, ApiError>;

    /// What a block changed.
    #[method(name = "state_getDiff")]
    async fn diff(&self, hash: Hash32) -> Result<Diff, ApiError>;

    /// The oldest blocks whose values and witnesses can be read, and the newest.
    #[method(name = "chain_getRetention")]
    async fn retention(&self) -> Result<Retention, ApiError>;
}

/// Adds the methods of this file.
pub(crate) fn document(doc: &mut Document) {
    describe!(doc, state_getHistory "The blocks that changed a key, oldest first; at most 1000 (100 when no limit is given)"
        (key: HexBytes; query: HistoryQuery) -> HistoryPage);
    describe!(doc, state_getDiff "What a block changed, in the order of the keys"
        (hash: Hash32;) -> Diff);
    describe!(doc, chain_getRetention "The oldest blocks whose values and witnesses can be read, and the newest"
        (;) -> Retention);
}

/// The methods over a reader.
pub(crate) struct History {
    reader: Reader,
    work: Work,
}

impl History {
    pub(crate) fn new(reader: Reader, work: Work) -> Self {
        Self { reader, work }
    }
}

/// Entries of a page when the caller names no limit.
const ENTRIES: usize = 100;

#[async_trait]
impl HistoryApiServer for History {
    async fn history(&self, key: HexBytes, query: Option<HistoryQuery>) -> Result<HistoryPage, ApiError> {
        ApiError::check_key(&key.0)?;
        let HistoryQuery { from, to, limit, cursor } = query.unwrap_or_default();
        let limit = limit.map_or(ENTRIES, |limit| limit as usize);
        ApiError::check_limit("limit", HISTORY_ENTRIES_MAX, limit)?;
        if limit == 0 {
            return Err(ApiError::InvalidParams { why: "limit: give a number from 1 to 1000" });
        }
        let from = from.unwrap_or(0).max(cursor.unwrap_or(0));
        let query = Query { from, to: to.unwrap_or(u64::MAX), limit, bytes_max: VALUES_BYTES_MAX };
        let reader = self.reader.clone();
        self.work
            .run(move || {
                let history = reader.history(&key.0, query)?;
                let entry = |change: rustorium_state::KeyChange| HistoryEntry {
                    number: change.number,
                    hash: change.hash.into(),
                    old: change.old.map(HexBytes),
                    new: change.new.map(HexBytes),
                };
                Ok(HistoryPage { entries: history.changes.into_iter().map(entry).collect(), next: history.next })
            })
            .await
    }

    async fn diff(&self, hash: Hash32) -> Result<Diff, ApiError> {
        let reader = self.reader.clone();
        self.work
            .run(move || {
                let diff = reader.diff(&hash.into(), VALUES_BYTES_MAX)?;
                let change = |(key, old, new): (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>)| {
                    (HexBytes(key), old.map(HexBytes), new.map(HexBytes))
                };
                Ok(Diff {
                    number: diff.header.number,
                    hash: diff.header.hash.into(),
                    parent_hash: diff.header.parent_hash.into(),
                    changes: diff.changes.into_iter().map(change).collect(),
                })
            })
            .await
    }

    async fn retention(&self) -> Result<Retention, ApiError> {
        let status = self.reader.status();
        Ok(Retention {
            oldest_value: status.oldest_number,
            oldest_witness: status.oldest_number,
            finalized: status.finalized.number,
            head: status.head.number,
        })
    }
}
