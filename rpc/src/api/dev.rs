//! `dev_*`: blocks on demand, on a development node only.

use std::sync::Arc;

use jsonrpsee::core::async_trait;
use jsonrpsee::proc_macros::rpc;
use rustorium_state::Handle;
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::limits::COMMANDS_MAX;
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
    commands: Arc<Semaphore>,
}

impl Dev {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle, commands: Arc::new(Semaphore::new(COMMANDS_MAX)) }
    }
}

#[async_trait]
impl DevApiServer for Dev {
    async fn submit_changes(&self, changes: Vec<KeyValue>) -> Result<Sealed, ApiError> {
        let _place = self.commands.try_acquire().map_err(|_| ApiError::BUSY)?;
        let header = self.handle.seal(super::changes(changes)).await?;
        Ok(Sealed { number: header.number, hash: header.hash.into(), state_root: Hash32(header.state_root.0) })
    }
}
