//! `system_*`: which node of which chain this is, in Substrate's shapes.

use jsonrpsee::core::async_trait;
use jsonrpsee::proc_macros::rpc;
use serde_json::{Map, Value};

use super::Identity;
use crate::error::ApiError;
use crate::openrpc::{Document, describe};
use crate::wire::{Health, Peer};

/// Which node of which chain this is.
#[rpc(server, client, namespace = "system", namespace_separator = "_")]
pub trait SystemApi {
    /// The program's name.
    #[method(name = "name")]
    async fn name(&self) -> Result<String, ApiError>;

    /// The program's version.
    #[method(name = "version")]
    async fn version(&self) -> Result<String, ApiError>;

    /// The chain's name.
    #[method(name = "chain")]
    async fn chain(&self) -> Result<String, ApiError>;

    /// The kind of chain: `"Development"`, `"Local"`, `"Live"` or `{"Custom": "…"}`.
    #[method(name = "chainType")]
    async fn chain_type(&self) -> Result<Value, ApiError>;

    /// What the chain spec says under `properties`.
    #[method(name = "properties")]
    async fn properties(&self) -> Result<Map<String, Value>, ApiError>;

    /// Peers and syncing.
    #[method(name = "health")]
    async fn health(&self) -> Result<Health, ApiError>;

    /// Connected peers.
    #[method(name = "peers")]
    async fn peers(&self) -> Result<Vec<Peer>, ApiError>;
}

/// Adds the methods of this file.
pub(crate) fn document(doc: &mut Document) {
    describe!(doc, system_name "The program's name" (;) -> String);
    describe!(doc, system_version "The program's version" (;) -> String);
    describe!(doc, system_chain "The chain's name" (;) -> String);
    describe!(doc, system_chainType "\"Development\", \"Local\", \"Live\" or {\"Custom\": …}" (;) -> Value);
    describe!(doc, system_properties "The chain spec's properties" (;) -> Map<String, Value>);
    describe!(doc, system_health "Peers and syncing" (;) -> Health);
    describe!(doc, system_peers "Connected peers" (;) -> Vec<Peer>);
}

/// The methods over what node and chain call themselves.
pub(crate) struct System {
    identity: Identity,
}

impl System {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity }
    }
}

#[async_trait]
impl SystemApiServer for System {
    async fn name(&self) -> Result<String, ApiError> {
        Ok(self.identity.node_name.clone())
    }

    async fn version(&self) -> Result<String, ApiError> {
        Ok(self.identity.node_version.clone())
    }

    async fn chain(&self) -> Result<String, ApiError> {
        Ok(self.identity.chain.clone())
    }

    async fn chain_type(&self) -> Result<Value, ApiError> {
        Ok(self.identity.chain_type.clone())
    }

    async fn properties(&self) -> Result<Map<String, Value>, ApiError> {
        Ok(self.identity.properties.clone())
    }

    // A node has no peers yet, and needs none to be healthy.
    async fn health(&self) -> Result<Health, ApiError> {
        Ok(Health { peers: 0, is_syncing: false, should_have_peers: false })
    }

    async fn peers(&self) -> Result<Vec<Peer>, ApiError> {
        Ok(Vec::new())
    }
}
