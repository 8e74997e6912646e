//! The front: [`Storage`] over the writer's thread.

use std::sync::Arc;

use super::hands::Hands;
use super::intake::{Intake, Request, Wanted};
use super::pending::Overlay;
use super::{ProofError, ReadResult, Storage, WriteResult};
use crate::apply::check_sizes;
use crate::block::{Change, Header};
use crate::error::{ApplyError, ReadError};
use crate::handle::Handle;
use crate::view::Proof;

/// When blocks end, and how much may wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontConfig {
    /// A block is made when so many changes wait for it,
    pub block_changes: usize,
    /// or so many bytes of keys and values,
    pub block_bytes: usize,
    /// or when the first of them has waited so long.
    pub block_ms: u64,
    /// While so many changes are acknowledged and in no block, others wait. One batch may be larger.
    pub pending_changes_max: usize,
    /// While they have so many bytes, others wait. They lie in memory.
    pub pending_bytes_max: usize,
    /// Callers that may wait to be acknowledged; further ones are answered [`ApplyError::Busy`].
    pub queue_max: usize,
    /// Bytes of keys and values that may wait to be acknowledged. One batch may have more.
    pub queue_bytes_max: usize,
    /// Threads that read what is not in memory, and verify.
    pub threads: usize,
}

impl Default for FrontConfig {
    /// A block every 50 000 changes, 32 MiB or half a second; 500 000 changes and 256 MiB in no block; 16 384 callers and
    /// 256 MiB in the queue; two threads.
    fn default() -> Self {
        Self {
            block_changes: 50_000,
            block_bytes: 32 << 20,
            block_ms: 500,
            pending_changes_max: 500_000,
            pending_bytes_max: 256 << 20,
            queue_max: 16_384,
            queue_bytes_max: 256 << 20,
            threads: 2,
        }
    }
}

/// What the writer has of a front.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) intake: Arc<Intake>,
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) config: FrontConfig,
}

/// [`Storage`] over a running [`crate::Writer`]. Cheap to clone.
///
/// It is open until [`Front::close`], or until the last clone is dropped; what was acknowledged then goes into a last block.
/// One front at a time is open.
#[derive(Clone)]
pub struct Front {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    handle: Handle,
    hands: Hands,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.parts.intake.close();
        self.handle.wake();
    }
}

impl Front {
    /// Lays a front over the writer of `handle`; refused while another one is open.
    ///
    /// # Panics
    /// If the system gives it no threads.
    pub async fn open(handle: &Handle, config: FrontConfig) -> Result<Self, ApplyError> {
        let parts = Parts { intake: Arc::new(Intake::new(&config)), overlay: Arc::default(), config };
        let hands = Hands::start(parts.config.threads).expect("threads for a front");
        // Closed again by whoever drops this future half-way.
        let front = Self { inner: Arc::new(Inner { parts, handle: handle.clone(), hands }) };
        handle.open_front(front.inner.parts.clone()).await?;
        Ok(front)
    }

    /// [`Storage::write_with_proof`] with a witness of this key alone: smaller to send on, and some milliseconds of work for
    /// each caller.
    pub async fn write_with_own_proof(
        &self,
        key: impl Into<Vec<u8>> + Send,
        value: impl Into<Vec<u8>> + Send,
    ) -> Result<WriteResult, ApplyError> {
        let change = (key.into(), Some(value.into()));
        self.change_with_proof(change, true).await
    }

    /// [`Storage::delete_with_proof`] with a witness of this key alone.
    pub async fn delete_with_own_proof(&self, key: impl Into<Vec<u8>> + Send) -> Result<WriteResult, ApplyError> {
        let change = (key.into(), None);
        self.change_with_proof(change, true).await
    }

    /// Takes no more writes, from this front or its clones, and makes a last block of what was acknowledged. Answers the
    /// head. From then on blocks may come through the [`Handle`] again.
    pub async fn close(&self) -> Result<Header, ApplyError> {
        let (answer, answered) = async_channel::bounded(1);
        self.inner.parts.intake.push_last(Request::new(Vec::new(), Wanted::Block(answer)))?;
        self.inner.handle.wake();
        answered.recv().await.unwrap_or(Err(ApplyError::Closed))
    }

    fn send(&self, changes: Vec<Change>, wanted: Wanted) -> Result<(), ApplyError> {
        check_sizes(&changes)?;
        if self.inner.parts.intake.push(Request::new(changes, wanted))? {
            self.inner.handle.wake();
        }
        Ok(())
    }

    async fn change(&self, changes: Vec<Change>) -> Result<(), ApplyError> {
        let (answer, answered) = async_channel::bounded(1);
        self.send(changes, Wanted::Durable(answer))?;
        answered.recv().await.unwrap_or(Err(ApplyError::Closed))
    }

    async fn change_with_proof(&self, change: Change, is_own: bool) -> Result<WriteResult, ApplyError> {
        let (answer, answered) = async_channel::bounded(1);
        self.send(vec![change], Wanted::Proof { is_own, answer })?;
        answered.recv().await.unwrap_or(Err(ApplyError::Closed))
    }
}

impl Storage for Front {
    async fn read(&self, key: &[u8]) -> Result<Option<ReadResult>, ReadError> {
        // First what lies over the head: what leaves here is in the head that is looked at next.
        if let Some(found) = self.inner.parts.overlay.find(key) {
            return Ok(found.map(|value| ReadResult { value, block: None }));
        }
        let head = self.inner.handle.reader().head();
        let result = |value, block: &Header| ReadResult { value, block: Some(block.clone()) };
        if let Some(found) = head.value_in_memory(key) {
            return Ok(found.map(|value| result(value, head.header())));
        }
        let key = key.to_vec();
        let read = move || Ok(head.value(&key)?.map(|value| result(value, head.header())));
        self.inner.hands.ask(read).await
    }

    fn write(
        &self,
        key: impl Into<Vec<u8>> + Send,
        value: impl Into<Vec<u8>> + Send,
    ) -> impl Future<Output = Result<(), ApplyError>> + Send {
        self.change(vec![(key.into(), Some(value.into()))])
    }

    fn delete(&self, key: impl Into<Vec<u8>> + Send) -> impl Future<Output = Result<(), ApplyError>> + Send {
        self.change(vec![(key.into(), None)])
    }

    async fn write_batch(&self, changes: Vec<Change>) -> Result<(), ApplyError> {
        match changes.is_empty() {
            true => Ok(()),
            false => self.change(changes).await,
        }
    }

    fn write_with_proof(
        &self,
        key: impl Into<Vec<u8>> + Send,
        value: impl Into<Vec<u8>> + Send,
    ) -> impl Future<Output = Result<WriteResult, ApplyError>> + Send {
        self.change_with_proof((key.into(), Some(value.into())), false)
    }

    fn delete_with_proof(
        &self,
        key: impl Into<Vec<u8>> + Send,
    ) -> impl Future<Output = Result<WriteResult, ApplyError>> + Send {
        self.change_with_proof((key.into(), None), false)
    }

    async fn verify_proof(&self, key: &[u8], value: Option<&[u8]>, proof: &Proof) -> Result<(), ProofError> {
        if !proof.claims.iter().any(|(claimed, of)| claimed == key && of.as_deref() == value) {
            return Err(ProofError::OtherClaim);
        }
        let (reader, proof) = (self.inner.handle.reader().clone(), proof.clone());
        let verify = move || {
            let hash = proof.header.hash;
            match reader.header(&hash)? {
                Some(header) if header == proof.header => Ok(proof.verify(&header.state_root)?),
                _ => Err(ProofError::OtherBlock { hash }),
            }
        };
        self.inner.hands.ask(verify).await
    }

    async fn seal(&self) -> Result<Header, ApplyError> {
        let (answer, answered) = async_channel::bounded(1);
        self.send(Vec::new(), Wanted::Block(answer))?;
        answered.recv().await.unwrap_or(Err(ApplyError::Closed))
    }
}

#[cfg(test)]
impl Front {
    /// Whether the writer has taken everything that was sent.
    pub(crate) fn queue_is_empty(&self) -> bool {
        self.inner.parts.intake.is_empty()
    }
}
