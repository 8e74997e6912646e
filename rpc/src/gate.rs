//! One connection's socket, and how much it may keep us holding.
//!
//! jsonrpsee spawns a task for each WebSocket message and reads on whatever became of the last ones, so a client that
//! sends and never reads could pile up requests and answers without end. Here the socket itself pushes back: nothing is
//! read from it while [`SOCKET_CALLS_MAX`] of its calls are under way, while more than one full answer of it lies
//! unwritten, or while the other side does not take what we write. A side that takes nothing for [`STALL_TIMEOUT`] is cut
//! off. The rule knows bytes and calls, not frames: what pings and frame heads add lets a little more in, and nothing
//! that a client does makes it forget what lies in memory.
//!
//! [`Socket`] is the IO below hyper, [`CountLayer`] the JSON-RPC middleware that tells it of calls. A batch is one call.
//! The middleware covers calls, batches and notifications alike, and also takes a call's share of the [`Budget`]. What
//! subscriptions send goes through [`Gate::make_room`]. A subscription asked for over HTTP is refused here, with the remedy.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use jsonrpsee::server::MethodResponse;
use jsonrpsee::server::middleware::rpc::{Batch, BatchEntry, BatchEntryErr, Notification, RpcServiceT};
use jsonrpsee::types::{ErrorObjectOwned, Id, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Sleep;

use crate::error::ApiError;
use crate::limits::{Budget, NOTIFICATIONS_UNWRITTEN_MAX, SOCKET_CALLS_MAX};
use crate::meter::{Connection, busy};

/// How long a client may take none of an answer.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What one connection holds, shared by its socket and its calls.
#[derive(Debug)]
pub(crate) struct Gate {
    unwritten_max: u64,
    held: Mutex<Held>,
    /// Notifications are made one at a time.
    turn: tokio::sync::Mutex<()>,
    written: Notify,
}

#[derive(Debug, Default)]
struct Held {
    calls: usize,
    /// Bytes of answers made and not yet written.
    unwritten: u64,
    /// Whether the other side takes nothing.
    stalled: bool,
    reader: Option<Waker>,
}

impl Gate {
    pub(crate) fn new(unwritten_max: u32) -> Arc<Self> {
        Arc::new(Self {
            unwritten_max: unwritten_max.into(),
            held: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            written: Notify::new(),
        })
    }

    /// Waits until little of what was made lies unwritten, and counts so many bytes of a notification among it.
    pub(crate) async fn make_room(&self, bytes: u64) {
        let _turn = self.turn.lock().await;
        loop {
            // Made before looking, so that it hears of what happens in between.
            let written = self.written.notified();
            if self.held().unwritten < NOTIFICATIONS_UNWRITTEN_MAX {
                break;
            }
            written.await;
        }
        self.change(|held| held.unwritten += bytes);
    }

    /// Whether to read on; if not, the reader is woken once it may.
    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut held = self.held();
        if self.is_open(&held) {
            return Poll::Ready(());
        }
        held.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_open(&self, held: &Held) -> bool {
        held.calls < SOCKET_CALLS_MAX && held.unwritten <= self.unwritten_max && !held.stalled
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        let mut held = self.held();
        change(&mut held);
        if self.is_open(&held)
            && let Some(reader) = held.reader.take()
        {
            drop(held);
            reader.wake();
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change is one assignment, so what a panicking thread left is whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A TCP stream behind its [`Gate`]. Holds the connection's place among the sockets until it is dropped, also after an
/// upgrade.
pub(crate) struct Socket {
    stream: TcpStream,
    gate: Arc<Gate>,
    stall: Option<Pin<Box<Sleep>>>,
    _place: (OwnedSemaphorePermit, Connection),
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, gate: Arc<Gate>, place: (OwnedSemaphorePermit, Connection)) -> Self {
        Self { stream, gate, stall: None, _place: place }
    }

    /// Notes how a write went.
    fn note_write(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(wrote) => {
                let bytes = *wrote.as_ref().unwrap_or(&0) as u64;
                self.stall = None;
                self.gate.change(|held| {
                    held.stalled = false;
                    held.unwritten = held.unwritten.saturating_sub(bytes);
                });
                self.gate.written.notify_waiters();
                Poll::Ready(wrote)
            }
            Poll::Pending => {
                self.gate.change(|held| held.stalled = true);
                let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_TIMEOUT)));
                ready!(stall.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.gate.poll_open(cx));
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.note_write(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What marks a request as one that came over a WebSocket, among its extensions.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) gate: Arc<Gate>,
    pub(crate) budget: Budget,
}

impl Session {
    /// Counts a call of `bytes` until the guard is dropped; `None` when the budget has no room.
    fn begin(&self, bytes: usize) -> Option<Call> {
        let share = self.budget.take(bytes as u64)?;
        self.gate.change(|held| held.calls += 1);
        Some(Call { gate: self.gate.clone(), answer_bytes: 0, _share: share })
    }
}

/// A call under way.
struct Call {
    gate: Arc<Gate>,
    answer_bytes: u64,
    _share: OwnedSemaphorePermit,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.gate.change(|held| {
            held.calls -= 1;
            held.unwritten += self.answer_bytes;
        });
    }
}

/// Tells the gate of a connection of its calls.
#[derive(Debug, Clone)]
pub(crate) struct CountLayer {
    /// Methods that are called over WebSocket alone.
    pub(crate) subscriptions: Arc<BTreeSet<&'static str>>,
}

impl<S> tower::Layer<S> for CountLayer {
    type Service = Count<S>;

    fn layer(&self, inner: S) -> Count<S> {
        Count { inner, subscriptions: self.subscriptions.clone() }
    }
}

/// See [`CountLayer`].
#[derive(Debug, Clone)]
pub(crate) struct Count<S> {
    inner: S,
    subscriptions: Arc<BTreeSet<&'static str>>,
}

impl<S> Count<S> {
    /// The refusal of a method that needs a WebSocket.
    fn refused(&self, session: &Option<Session>, method: &str) -> Option<ErrorObjectOwned> {
        let refused = session.is_none() && self.subscriptions.contains(method);
        refused.then(|| ErrorObjectOwned::from(ApiError::NeedsWebSocket))
    }
}

/// Answers `call`, counted in `session`, or refuses it as busy.
async fn counted(
    session: Option<Session>,
    bytes: usize,
    id: Id<'static>,
    call: impl Future<Output = MethodResponse> + Send,
) -> MethodResponse {
    let Some(session) = session else { return call.await };
    let Some(mut guard) = session.begin(bytes) else {
        return MethodResponse::error(id, ErrorObjectOwned::from(busy("requests")));
    };
    let answer = call.await;
    // The answer to a subscription is on its way already, and may have been written.
    guard.answer_bytes = if answer.is_subscription() { 0 } else { answer.as_json().get().len() as u64 };
    answer
}

impl<S> RpcServiceT for Count<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            BatchResponse = MethodResponse,
            NotificationResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move {
            let session = request.extensions().get::<Session>().cloned();
            if let Some(refused) = this.refused(&session, request.method_name()) {
                return MethodResponse::error(request.id.clone().into_owned(), refused);
            }
            let bytes = request.params.as_ref().map_or(0, |params| params.get().len());
            let id = request.id.clone().into_owned();
            counted(session, bytes, id, this.inner.call(request)).await
        }
    }

    fn batch<'a>(&self, mut batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move {
            let session = batch.extensions().get::<Session>().cloned();
            for entry in batch.iter_mut() {
                if let Ok(BatchEntry::Call(request)) = entry
                    && let Some(refused) = this.refused(&session, request.method_name())
                {
                    *entry = Err(BatchEntryErr::new(request.id.clone(), refused));
                }
            }
            let params = batch.iter().flatten().filter_map(|entry| entry.params());
            let bytes = params.map(|params| params.get().len()).sum();
            counted(session, bytes, Id::Null, this.inner.batch(batch)).await
        }
    }

    // Not answered and not acted on, so there is nothing to count.
    fn notification<'a>(&self, notification: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let inner = self.inner.clone();
        async move { inner.notification(notification).await }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn reading_stops_and_is_taken_up_again() {
        let (gate, wakes) = (Gate::new(100), Arc::new(Wakes::default()));
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let session = Session { gate: gate.clone(), budget: Budget::new(1 << 20) };

        let mut calls: Vec<Call> = (0..SOCKET_CALLS_MAX).map(|_| session.begin(10).expect("room")).collect();
        assert!(gate.poll_open(&mut cx).is_pending(), "as many calls as allowed");
        calls.pop();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(gate.poll_open(&mut cx).is_ready());

        calls[0].answer_bytes = 101;
        calls.clear();
        assert!(gate.poll_open(&mut cx).is_pending(), "more unwritten than allowed");
        gate.change(|held| held.unwritten -= 1);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2);

        gate.change(|held| held.stalled = true);
        assert!(gate.poll_open(&mut cx).is_pending(), "the other side takes nothing");
        gate.change(|held| held.stalled = false);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 3);
        assert!(gate.poll_open(&mut cx).is_ready());
    }

    #[test]
    fn a_call_takes_its_share_and_gives_it_back() {
        let session = Session { gate: Gate::new(0), budget: Budget::new(2048) };
        let call = session.begin(2000).expect("room");
        assert!(session.begin(1).is_none());
        drop(call);
        assert!(session.begin(2048).is_some());
    }
}
