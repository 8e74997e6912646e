//! `chain_*`: heads and headers.

use jsonrpsee::core::async_trait;
use jsonrpsee::proc_macros::rpc;
use rustorium_state::{Header, Reader};

use crate::error::ApiError;
use crate::limits::BLOCK_NUMBERS_MAX;
use crate::openrpc::{Document, describe};
use crate::wire::{BlockNumber, Digest, Hash32, Head, OneOrMany, SubstrateHeader};
use crate::work::Work;

/// Heads and headers.
#[rpc(server, client, namespace = "chain", namespace_separator = "_")]
pub trait ChainApi {
    /// The newest block.
    #[method(name = "getHead")]
    async fn head(&self) -> Result<Head, ApiError>;

    /// A header in Substrate's shape, of the head when no hash is given; null when unknown.
    #[method(name = "getHeader")]
    async fn header(&self, hash: Option<Hash32>) -> Result<Option<SubstrateHeader>, ApiError>;

    /// The hash of the canonical block of a number, or of each number of a list; null when unknown, and the head's when
    /// no number is given.
    #[method(name = "getBlockHash")]
    async fn block_hash(&self, number: Option<OneOrMany<BlockNumber>>) -> Result<OneOrMany<Option<Hash32>>, ApiError>;

    /// The hash of the newest finalised block.
    #[method(name = "getFinalizedHead")]
    async fn finalized_head(&self) -> Result<Hash32, ApiError>;
}

/// Adds the methods of this file.
pub(crate) fn document(doc: &mut Document) {
    describe!(doc, chain_getHead "The newest block" (;) -> Head);
    describe!(doc, chain_getHeader "A header in Substrate's shape, or null; the head's when no hash is given"
        (; hash: Hash32) -> Option<SubstrateHeader>);
    describe!(doc, chain_getBlockHash "Hashes of canonical blocks, null when unknown; the head's when no number is given"
        (; number: OneOrMany<BlockNumber>) -> OneOrMany<Option<Hash32>>);
    describe!(doc, chain_getFinalizedHead "The hash of the newest finalised block" (;) -> Hash32);
}

/// The methods over a reader.
pub(crate) struct Chain {
    reader: Reader,
    work: Work,
}

impl Chain {
    pub(crate) fn new(reader: Reader, work: Work) -> Self {
        Self { reader, work }
    }
}

#[async_trait]
impl ChainApiServer for Chain {
    async fn head(&self) -> Result<Head, ApiError> {
        Ok(self.reader.head().header().into())
    }

    async fn header(&self, hash: Option<Hash32>) -> Result<Option<SubstrateHeader>, ApiError> {
        let Some(hash) = hash else {
            return Ok(Some(substrate_header(self.reader.head().header())));
        };
        let reader = self.reader.clone();
        self.work.run(move || Ok(reader.header(&hash.into())?.as_ref().map(substrate_header))).await
    }

    async fn block_hash(&self, number: Option<OneOrMany<BlockNumber>>) -> Result<OneOrMany<Option<Hash32>>, ApiError> {
        let Some(number) = number else {
            return Ok(OneOrMany::One(Some(self.reader.head().header().hash.into())));
        };
        if let OneOrMany::Many(numbers) = &number {
            ApiError::check_limit("numbers", BLOCK_NUMBERS_MAX, numbers.len())?;
        }
        let reader = self.reader.clone();
        let hash = move |number: &BlockNumber| -> Result<Option<Hash32>, ApiError> {
            Ok(reader.block_hash(number.0)?.map(Into::into))
        };
        self.work
            .run(move || {
                Ok(match number {
                    OneOrMany::One(number) => OneOrMany::One(hash(&number)?),
                    OneOrMany::Many(numbers) => OneOrMany::Many(numbers.iter().map(hash).collect::<Result<_, _>>()?),
                })
            })
            .await
    }

    async fn finalized_head(&self) -> Result<Hash32, ApiError> {
        Ok(self.reader.finalized().hash.into())
    }
}

/// A header in Substrate's shape.
pub(super) fn substrate_header(header: &Header) -> SubstrateHeader {
    SubstrateHeader {
        number: format!("{:#x}", header.number),
        parent_hash: header.parent_hash.into(),
        state_root: Hash32(header.state_root.0),
        extrinsics_root: Hash32([0; 32]),
        digest: Digest::default(),
    }
}
