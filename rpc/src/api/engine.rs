//! `engine_*`: whoever produces the chain's blocks drives the node by these, on the privileged listener alone.

use jsonrpsee::core::async_trait;
use jsonrpsee::proc_macros::rpc;
use rustorium_state::{Block, Handle, Reader};
use rustorium_verkle::StateRoot;

use crate::error::ApiError;
use crate::wire::{Applied, Forkchoice, Hash32, Head, NewBlock, Status};

/// Blocks in, finality in, status out.
#[rpc(server, client, namespace = "engine", namespace_separator = "_")]
pub trait EngineApi {
    /// Applies a block; answered once it is durable. The same block again gives the same answer.
    #[method(name = "applyBlock")]
    async fn apply_block(&self, block: NewBlock) -> Result<Applied, ApiError>;

    /// Finalises a block and all below it; answers the newest finalised block.
    #[method(name = "finalizeBlock")]
    async fn finalize_block(&self, hash: Hash32) -> Result<Head, ApiError>;

    /// Makes a block the head, and another final if it is given; answers where that leads.
    #[method(name = "forkchoice")]
    async fn forkchoice(&self, choice: Forkchoice) -> Result<Status, ApiError>;

    /// Drops everything above a block, which becomes the head; only where the operator allows it.
    #[method(name = "rollback")]
    async fn rollback(&self, hash: Hash32) -> Result<Head, ApiError>;

    /// The head, the newest finalised block and the chain.
    #[method(name = "getStatus")]
    async fn status(&self) -> Result<Status, ApiError>;
}

/// The methods over reader and writer.
pub(crate) struct Engine {
    reader: Reader,
    handle: Handle,
}

impl Engine {
    pub(crate) fn new(engine: super::Engine) -> Self {
        Self { reader: engine.reader, handle: engine.handle }
    }
}

#[async_trait]
impl EngineApiServer for Engine {
    async fn apply_block(&self, block: NewBlock) -> Result<Applied, ApiError> {
        let block = Block {
            number: block.number,
            hash: block.hash.into(),
            parent_hash: block.parent_hash.into(),
            timestamp_ms: block.timestamp_ms,
            state_root: block.state_root.map(|root| StateRoot(root.0)),
            changes: super::changes(block.changes),
        };
        let header = self.handle.apply(block).await?;
        Ok(Applied { state_root: Hash32(header.state_root.0) })
    }

    async fn finalize_block(&self, hash: Hash32) -> Result<Head, ApiError> {
        Ok((&self.handle.finalize(hash.into()).await?).into())
    }

    async fn forkchoice(&self, choice: Forkchoice) -> Result<Status, ApiError> {
        self.handle.choose_head(choice.head.into(), choice.finalized.map(Into::into)).await?;
        self.status().await
    }

    async fn rollback(&self, hash: Hash32) -> Result<Head, ApiError> {
        Ok((&self.handle.rollback(hash.into()).await?).into())
    }

    async fn status(&self) -> Result<Status, ApiError> {
        let status = self.reader.status();
        Ok(Status {
            head: (&status.head).into(),
            finalized: (&status.finalized).into(),
            genesis_hash: self.reader.genesis_hash().into(),
            unfinalised_blocks: status.unfinalised_blocks,
            unfinalised_bytes: status.unfinalised_bytes,
        })
    }
}
