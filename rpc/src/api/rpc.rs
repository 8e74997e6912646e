//! `rpc_methods` and `rpc.discover`: what the public listener serves, by name and as an OpenRPC document.

use std::sync::Arc;

use jsonrpsee::core::async_trait;
use jsonrpsee::proc_macros::rpc;
use serde_json::Value;

use crate::error::ApiError;
use crate::openrpc::{Document, describe};
use crate::wire::MethodNames;

/// What is served.
#[rpc(server, client)]
pub trait RpcApi {
    /// The names of all methods.
    #[method(name = "rpc_methods")]
    async fn methods(&self) -> Result<MethodNames, ApiError>;

    /// The OpenRPC document of all methods.
    #[method(name = "rpc.discover")]
    async fn discover(&self) -> Result<Value, ApiError>;
}

/// Adds the methods of this file.
pub(crate) fn document(doc: &mut Document) {
    describe!(doc, rpc_methods "The names of all methods" (;) -> MethodNames);
    describe!(doc, "rpc.discover" "This document" (;) -> Value);
}

/// The methods over what the others registered.
pub(crate) struct Rpc {
    names: Vec<String>,
    document: Arc<Value>,
}

impl Rpc {
    /// `others` are the names beside the two of this file.
    pub(crate) fn new(others: impl Iterator<Item = &'static str>, document: Value) -> Self {
        let mut names: Vec<String> = others.chain(["rpc_methods", "rpc.discover"]).map(str::to_owned).collect();
        names.sort_unstable();
        Self { names, document: Arc::new(document) }
    }
}

#[async_trait]
impl RpcApiServer for Rpc {
    async fn methods(&self) -> Result<MethodNames, ApiError> {
        Ok(MethodNames { methods: self.names.clone() })
    }

    async fn discover(&self) -> Result<Value, ApiError> {
        Ok((*self.document).clone())
    }
}
