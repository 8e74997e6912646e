//! A subscription's way to its client, and what it waits for.

use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::{SubscriptionError, SubscriptionResult};
use jsonrpsee::server::{Extensions, SubscriptionSink};
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::{PendingSubscriptionSink, SubscriptionMessage};
use metrics::Gauge;
use rustorium_state::metrics::{SUBSCRIPTIONS, SUBSCRIPTIONS_BEHIND};
use rustorium_state::{Tip, Watch, WatchEnd};
use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::error::ApiError;
use crate::gate::{Gate, Session};
use crate::limits::SUBSCRIPTION_BLOCKS_MAX;
use crate::work::Work;

/// An accepted subscription.
pub(super) struct Outlet {
    sink: SubscriptionSink,
    gate: Option<Arc<Gate>>,
    open: Gauge,
}

impl Outlet {
    /// Accepts the subscription; `None` when the client is gone already.
    pub(super) async fn open(pending: PendingSubscriptionSink, extensions: &Extensions) -> Option<Self> {
        let gate = extensions.get::<Session>().map(|session| session.gate.clone());
        let sink = pending.accept().await.ok()?;
        let open = metrics::gauge!(SUBSCRIPTIONS, "method" => sink.method_name().to_owned());
        open.increment(1.0);
        Some(Self { sink, gate, open })
    }

    /// Sends once the client has taken what was sent to it before. To a client that is gone nothing is sent.
    pub(super) async fn send(&self, what: &impl Serialize) {
        let json = to_raw_value(what).expect("what we send is JSON");
        let send = async {
            if let Some(gate) = &self.gate {
                gate.make_room(json.get().len() as u64).await;
            }
            let _ = self.sink.send(SubscriptionMessage::from(json)).await;
        };
        tokio::select! {
            () = send => {}
            () = self.sink.closed() => {}
        }
    }

    /// The next move of the chain; `None` when nobody listens any more.
    pub(super) async fn next(&self, watch: &mut Watch) -> Result<Option<Tip>, ApiError> {
        tokio::select! {
            biased;
            () = self.sink.closed() => Ok(None),
            tip = watch.next() => match tip {
                Ok(tip) => Ok(Some(tip)),
                Err(WatchEnd::Missed { tips }) => {
                    let method = self.sink.method_name().to_owned();
                    metrics::counter!(SUBSCRIPTIONS_BEHIND, "method" => method).increment(1);
                    Err(ApiError::FellBehind { max: SUBSCRIPTION_BLOCKS_MAX as u64, missed: tips })
                }
                Err(WatchEnd::Closed) => Err(ApiError::Internal { what: WatchEnd::Closed.to_string() }),
            },
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

/// Runs a job, again and again while there is too much to do. What the chain does meanwhile waits in the watch.
pub(super) async fn patiently<T, I>(work: &Work, input: I, job: fn(&I) -> Result<T, ApiError>) -> Result<T, ApiError>
where
    T: Send + 'static,
    I: Send + Sync + 'static,
{
    let input = Arc::new(input);
    loop {
        let input = input.clone();
        match work.run(move || job(&input)).await {
            Err(ApiError::Busy { retry_ms }) => tokio::time::sleep(Duration::from_millis(retry_ms)).await,
            result => return result,
        }
    }
}

/// What a client hears at the end of a subscription that it did not end itself.
pub(super) fn closing(end: Result<(), ApiError>) -> SubscriptionResult {
    end.map_err(|error| {
        let error = to_raw_value(&ErrorObjectOwned::from(error)).expect("an error is JSON");
        SubscriptionError::from_json(error)
    })
}
