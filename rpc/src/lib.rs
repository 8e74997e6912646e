//! JSON-RPC of Rustorium: the API's traits, the public and the privileged listener, their limits, and a client.
//!
//! The API is one trait a namespace ([`api`]); server, client and the OpenRPC document come from it. What crosses the
//! wire is plain values ([`wire`]), what goes wrong has one code each ([`error`]), every bound has a name ([`limits`]).
//! Privileged methods live on a listener of their own ([`server`]), whose secret ([`jwt`]) is checked before JSON-RPC
//! sees a byte.
//!
//! Trusts nobody who calls: sizes are judged before work is done, work on disk and cores is bounded, and so is what a
//! connection can make the process hold. Knows nothing of how state is kept (that is [`rustorium_state`]) or of peers.

#![forbid(unsafe_code)]

pub mod api;
pub mod client;
mod door;
pub mod error;
mod gate;
pub mod jwt;
pub mod limits;
mod meter;
mod openrpc;
pub mod server;
pub mod wire;
mod work;

pub use api::{
    ChainApiClient, DevApiClient, Engine, EngineApiClient, Identity, Public, RpcApiClient, StateApiClient,
    SystemApiClient,
};
pub use door::is_named_locally;
pub use error::ApiError;
pub use jwt::Secret;
pub use limits::Limits;
pub use server::{Running, ServeError, serve_engine, serve_public};
