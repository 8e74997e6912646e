//! Every bound of the JSON-RPC servers, by name.
//!
//! [`Limits`] is what one listener is built with; [`Limits::PUBLIC`] and [`Limits::ENGINE`] are what a node runs with,
//! and tests build smaller ones. Sizes are bytes unless the name says otherwise.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes in a MiB.
const MIB: u32 = 1 << 20;

/// Keys in one `state_getWitness`, claims in one `state_verifyWitness`, keys in one `state_queryStorageAt`.
pub const WITNESS_KEYS_MAX: usize = 1024;
/// Keys in one page of `state_getKeysPaged`.
pub const PAGE_KEYS_MAX: usize = 1000;
/// Numbers in one `chain_getBlockHash`.
pub const BLOCK_NUMBERS_MAX: usize = 1000;
/// Entries in one page of `state_getHistory`.
pub const HISTORY_ENTRIES_MAX: usize = 1000;
/// Bytes of values in one answer, judged from stored lengths before anything is loaded.
pub const VALUES_BYTES_MAX: u64 = 24 << 20;
/// Jobs that wait for the blocking pool; one more is answered `Busy`.
pub const JOBS_WAITING_MAX: usize = 256;
/// What a `Busy` caller is told to wait.
pub const RETRY_MS: u64 = 250;
/// Calls under way on one WebSocket; while there are as many, nothing more is read from it.
pub const SOCKET_CALLS_MAX: usize = 8;
/// Subscriptions of one WebSocket.
pub const SUBSCRIPTIONS_MAX: u32 = 64;
/// Keys of one subscription.
pub const SUBSCRIPTION_KEYS_MAX: usize = 1024;
/// Blocks that wait for a subscriber; one that is slower is told how many it missed, and the subscription ends.
pub const SUBSCRIPTION_BLOCKS_MAX: usize = 64;
/// Blocks of another fork that a subscriber is told of when it wins.
pub const REORG_BLOCKS_MAX: usize = 4096;
/// Bytes of values that a subscriber is sent at once.
pub const NOTIFICATION_VALUES_BYTES_MAX: u64 = 16 << 20;
/// A WebSocket with so many bytes that it has not been sent yet gets no more notifications until it has.
pub const NOTIFICATIONS_UNWRITTEN_MAX: u64 = 1 << 20;
/// Answers that wait in a WebSocket's channel.
pub const SOCKET_ANSWERS_MAX: u32 = 16;

/// A connection that sends no whole request head for so long is closed; idle kept-alive connections too.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A request body that takes longer is given up.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a stopping server waits for what is under way.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause after the operating system refused to give us a connection (as when file descriptors run out).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The buffer hyper reads a connection through, which bounds a request head.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// The bounds of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One request: an HTTP body or a WebSocket message.
    pub request_bytes_max: u32,
    /// One answer.
    pub response_bytes_max: u32,
    /// Calls in a batch.
    pub batch_max: u32,
    /// WebSockets that are open and HTTP requests under way, together; one more is HTTP 429.
    pub connections_max: u32,
    /// Sockets that are open, idle ones included; more wait in the operating system's queue.
    pub sockets_max: u32,
    /// Bytes of all requests under way.
    ///
    /// An HTTP request counts its `Content-Length` before its body is read, or the whole of `request_bytes_max` when it is
    /// chunked and names no length, until its answer is made; what does not fit is HTTP 503. A WebSocket message names no
    /// length before it has arrived, so it counts the size of its params once they are parsed, and what does not fit is
    /// answered `Busy`; before that it is bounded by `request_bytes_max` a connection.
    pub in_flight_bytes_max: u32,
}

impl Limits {
    /// The public listener.
    pub const PUBLIC: Self = Self {
        request_bytes_max: 8 * MIB,
        response_bytes_max: 40 * MIB,
        batch_max: 50,
        connections_max: 100,
        sockets_max: 256,
        in_flight_bytes_max: 512 * MIB,
    };

    /// The privileged listener: large requests, from one or two callers that hold the secret.
    pub const ENGINE: Self =
        Self { request_bytes_max: 256 * MIB, connections_max: 16, sockets_max: 32, ..Self::PUBLIC };
}

/// Bytes of requests that a listener may hold at a time, by the rule of [`Limits::in_flight_bytes_max`].
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    kib: Arc<Semaphore>,
}

impl Budget {
    pub(crate) fn new(bytes_max: u32) -> Self {
        Self { kib: Arc::new(Semaphore::new(kib(bytes_max as u64) as usize)) }
    }

    /// A share of `bytes`, given back when dropped; `None` when it does not fit now.
    pub(crate) fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        self.kib.clone().try_acquire_many_owned(kib(bytes)).ok()
    }
}

/// Whole KiB, at least one, so that empty requests count too.
fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_taken_refused_and_given_back() {
        let budget = Budget::new(4 << 10);
        let three = budget.take(2049).expect("three KiB of four");
        assert!(budget.take(1025).is_none());
        let one = budget.take(0).expect("an empty request counts as one KiB");
        assert!(budget.take(1).is_none());
        drop(three);
        assert!(budget.take(3 << 10).is_some());
        drop(one);
        assert!(budget.take(u64::MAX).is_none());
    }
}
