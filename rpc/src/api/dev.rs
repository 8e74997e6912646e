//! `dev_*`: blocks on demand, on a development node only.

use jsonrpsee::core::async_trait;
use jsonrpsee::proc_macros::rpc;
use rustorium_state::Handle;

use crate::error::ApiError;
use crate::openrpc::{Document, describe};
use crate::wire::{Hash32, HexBytes, KeyValue, Sealed};

/// Blocks on demand.
#[rpc(server, client, namespace = "dev", namespace_separator = "_")]
pub trait DevApi {
    /// Makes the next block of these changes (null deletes) and applies it.
    #[method(name = "submitChanges")]
    async fn submit_changes(&self, changes: Vec<KeyValue>) -> Result<Sealed, ApiError>;
}

/// Adds the methods of this file.
pub(crate) fn document(doc: &mut Document) {
    describe!(doc, dev_submitChanges "Makes the next block of these changes (null deletes) and applies it"
        (changes: Vec<(HexBytes, Option<HexBytes>)>;) -> Sealed);
}

/// The methods over the writer.
pub(crate) struct Dev {
    handle: Handle,
}

impl Dev {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle }
    }
}

#[async_trait]
impl DevApiServer for Dev {
    async fn submit_changes(&self, changes: Vec<KeyValue>) -> Result<Sealed, ApiError> {
        let header = self.handle.seal(super::changes(changes)).await?;
        Ok(Sealed { number: header.number, hash: header.hash.into(), state_root: Hash32(header.state_root.0) })
    }
}
