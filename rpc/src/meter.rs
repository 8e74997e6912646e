//! What operators see of calls and connections.
//!
//! Calls are measured at the methods themselves, behind all middleware: so a call in a batch counts as any other, and only
//! names of methods that exist become labels, whatever clients send.

use std::sync::Arc;
use std::time::Instant;

use jsonrpsee::Methods;
use jsonrpsee::core::server::MethodCallback;
use jsonrpsee::server::MethodResponse;
use jsonrpsee::types::error::INTERNAL_ERROR_CODE;
use metrics::Gauge;
use rustorium_state::metrics::{BUSY, CONNECTIONS, RPC_CALLS, RPC_SECONDS};

use crate::error::ApiError;

/// The same methods, each call of which is counted and timed.
pub(crate) fn measured(methods: &Methods) -> Methods {
    let mut measured = Methods::new();
    for name in methods.method_names() {
        let callback = match methods.method(name).expect("a name of these methods") {
            MethodCallback::Async(method) => {
                let method = method.clone();
                MethodCallback::Async(Arc::new(move |id, params, connection, bytes_max, extensions| {
                    let call = Call::begin(name);
                    let answer = method(id, params, connection, bytes_max, extensions);
                    Box::pin(async move { call.end(answer.await) })
                }))
            }
            MethodCallback::Sync(method) => {
                let method = method.clone();
                MethodCallback::Sync(Arc::new(move |id, params, bytes_max, extensions| {
                    Call::begin(name).end(method(id, params, bytes_max, extensions))
                }))
            }
            subscription => subscription.clone(),
        };
        measured.verify_and_insert(name, callback).expect("every method has one name");
    }
    measured
}

/// A call under way; it counts when it is dropped, also half-way.
struct Call {
    method: &'static str,
    begun: Instant,
    outcome: &'static str,
}

impl Call {
    fn begin(method: &'static str) -> Self {
        Self { method, begun: Instant::now(), outcome: "abandoned" }
    }

    fn end(mut self, answer: MethodResponse) -> MethodResponse {
        self.outcome = answer.as_error_code().map_or("ok", outcome);
        answer
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let labels = [("method", self.method), ("outcome", self.outcome)];
        metrics::counter!(RPC_CALLS, &labels).increment(1);
        metrics::histogram!(RPC_SECONDS, &labels).record(self.begun.elapsed());
    }
}

/// Whose doing an error is, by its code.
fn outcome(code: i32) -> &'static str {
    match code {
        4040..=4042 => "busy",
        INTERNAL_ERROR_CODE | 4050..=4052 => "failed",
        _ => "refused",
    }
}

/// An open connection, counted until it is dropped.
pub(crate) struct Connection(Gauge);

impl Connection {
    /// One of the listener of this name.
    pub(crate) fn open(listener: &'static str) -> Self {
        let open = metrics::gauge!(CONNECTIONS, "listener" => listener);
        open.increment(1.0);
        Self(open)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The refusal of one who would have to wait in a queue that is full.
pub(crate) fn busy(queue: &'static str) -> ApiError {
    metrics::counter!(BUSY, "queue" => queue).increment(1);
    ApiError::BUSY
}
