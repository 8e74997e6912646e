//! Both listeners over real sockets on loopback, with real state in memory: bytes in, answers out.
//!
//! What is denied or limited is tried as a single call and inside a batch, over HTTP and over WebSocket, since each takes
//! another way through the server.

mod discover;
mod fixture;
mod limits;
mod privileged;
mod public;
mod subscriptions;
mod wire;
