//! Subscriptions, over WebSocket alone: heads, finality and values as they change, in Substrate's shapes.
//!
//! A subscription begins with what is, and goes on with every move of the chain: a subscriber that is told of a block hears
//! of the next one, however fast they come, or the subscription ends with the number of blocks that were missed. Bounds:
//! [`SUBSCRIPTIONS_MAX`] of them a connection, [`SUBSCRIPTION_BLOCKS_MAX`] blocks that wait for a subscriber,
//! [`SUBSCRIPTION_KEYS_MAX`] keys, and what an [`Outlet`] lets lie unwritten.

mod outlet;

use std::sync::Arc;

use jsonrpsee::PendingSubscriptionSink;
use jsonrpsee::core::{SubscriptionResult, async_trait};
use jsonrpsee::proc_macros::rpc;
use jsonrpsee::server::Extensions;
use rustorium_state::{Header, Reader, Tip, View, Watch};
use rustorium_verkle::ValueHash;

use self::outlet::{Outlet, patiently};
use super::chain::substrate_header;
use super::distinct;
use crate::error::ApiError;
use crate::limits::{NOTIFICATION_VALUES_BYTES_MAX, REORG_BLOCKS_MAX, SUBSCRIPTION_BLOCKS_MAX, SUBSCRIPTION_KEYS_MAX};
use crate::openrpc::{Document, describe};
use crate::wire::{HexBytes, StorageChangeSet, SubstrateHeader};
use crate::work::Work;

/// What a client can listen to.
#[rpc(server, client)]
pub trait SubscribeApi {
    /// The head, and each block that becomes the head. When another fork wins, its blocks from where the forks part.
    #[subscription(
        name = "chain_subscribeNewHeads" => "chain_newHead",
        unsubscribe = "chain_unsubscribeNewHeads",
        item = SubstrateHeader,
        with_extensions
    )]
    async fn subscribe_new_heads(&self) -> SubscriptionResult;

    /// The newest final block, and each block that becomes final.
    #[subscription(
        name = "chain_subscribeFinalizedHeads" => "chain_finalizedHead",
        unsubscribe = "chain_unsubscribeFinalizedHeads",
        item = SubstrateHeader,
        with_extensions
    )]
    async fn subscribe_finalized_heads(&self) -> SubscriptionResult;

    /// The values of keys at the head, and those that a new head has changed.
    #[subscription(
        name = "state_subscribeStorage" => "state_storage",
        unsubscribe = "state_unsubscribeStorage",
        item = StorageChangeSet,
        with_extensions
    )]
    async fn subscribe_storage(&self, keys: Vec<HexBytes>) -> SubscriptionResult;
}

/// Adds the methods of this file.
pub(crate) fn document(doc: &mut Document) {
    describe!(doc, chain_subscribeNewHeads "WebSocket: a subscription to headers of new heads (chain_newHead)"
        (;) -> String);
    describe!(doc, chain_unsubscribeNewHeads "Ends a subscription" (subscription: String;) -> bool);
    describe!(doc, chain_subscribeFinalizedHeads "WebSocket: a subscription to headers of final blocks (chain_finalizedHead)"
        (;) -> String);
    describe!(doc, chain_unsubscribeFinalizedHeads "Ends a subscription" (subscription: String;) -> bool);
    describe!(doc, state_subscribeStorage "WebSocket: a subscription to the values of 1 to 1024 keys (state_storage)"
        (keys: Vec<HexBytes>;) -> String);
    describe!(doc, state_unsubscribeStorage "Ends a subscription" (subscription: String;) -> bool);
}

/// The subscriptions over a reader.
pub(crate) struct Subscribe {
    reader: Reader,
    work: Work,
}

impl Subscribe {
    pub(crate) fn new(reader: Reader, work: Work) -> Self {
        Self { reader, work }
    }

    /// Tells of each block that becomes what `newest` finds in a tip.
    async fn follow_heads(
        &self,
        pending: PendingSubscriptionSink,
        extensions: &Extensions,
        newest: fn(&Tip) -> &Arc<View>,
    ) -> Result<(), ApiError> {
        let (tip, mut watch) = self.reader.watch(SUBSCRIPTION_BLOCKS_MAX);
        let Some(outlet) = Outlet::open(pending, extensions).await else { return Ok(()) };
        let mut last = newest(&tip).clone();
        // What is held is kept in memory.
        drop(tip);
        outlet.send(&substrate_header(last.header())).await;
        while let Some(tip) = outlet.next(&mut watch).await? {
            let next = newest(&tip).clone();
            let headers = match next.header() {
                header if header.hash == last.header().hash => continue,
                header if header.parent_hash == last.header().hash => vec![header.clone()],
                _ => patiently(&self.work, (last, next.clone()), |(last, next)| between(last, next)).await?,
            };
            for header in headers {
                outlet.send(&substrate_header(&header)).await;
            }
            last = next;
        }
        Ok(())
    }

    /// Tells of each new head that has other values of some keys than the one before.
    async fn follow_storage(
        &self,
        pending: PendingSubscriptionSink,
        extensions: &Extensions,
        keys: Vec<HexBytes>,
    ) -> Result<(), ApiError> {
        let (Tip { head, .. }, watch) = self.reader.watch(SUBSCRIPTION_BLOCKS_MAX);
        let begun = match checked_keys(keys) {
            Ok(keys) => {
                let keys: Arc<[Vec<u8>]> = keys.into();
                let all = (head, keys.clone());
                let read = |(head, keys): &(Arc<View>, Arc<[Vec<u8>]>)| {
                    Ok((head.value_hashes(keys)?, change_set(head, keys.to_vec())?))
                };
                patiently(&self.work, all, read).await.map(|(hashes, set)| (keys, hashes, set))
            }
            Err(error) => Err(error),
        };
        match begun {
            Err(error) => pending.reject(error).await,
            Ok((keys, hashes, set)) => {
                let Some(outlet) = Outlet::open(pending, extensions).await else { return Ok(()) };
                outlet.send(&set).await;
                drop(set);
                return self.follow_values(&outlet, watch, keys, hashes).await;
            }
        }
        Ok(())
    }

    async fn follow_values(
        &self,
        outlet: &Outlet,
        mut watch: Watch,
        keys: Arc<[Vec<u8>]>,
        mut hashes: Vec<Option<ValueHash>>,
    ) -> Result<(), ApiError> {
        while let Some(tip) = outlet.next(&mut watch).await? {
            let now =
                patiently(&self.work, (tip.head.clone(), keys.clone()), |(head, keys)| Ok(head.value_hashes(keys)?))
                    .await?;
            let pairs = keys.iter().zip(hashes.iter().zip(&now));
            let changed: Vec<Vec<u8>> =
                pairs.filter(|(_, (before, now))| before != now).map(|(key, _)| key.clone()).collect();
            hashes = now;
            if !changed.is_empty() {
                let read = |(head, changed): &(Arc<View>, Vec<Vec<u8>>)| change_set(head, changed.clone());
                let set = patiently(&self.work, (tip.head, changed), read).await?;
                outlet.send(&set).await;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl SubscribeApiServer for Subscribe {
    async fn subscribe_new_heads(&self, pending: PendingSubscriptionSink, ext: &Extensions) -> SubscriptionResult {
        outlet::closing(self.follow_heads(pending, ext, |tip| &tip.head).await)
    }

    async fn subscribe_finalized_heads(
        &self,
        pending: PendingSubscriptionSink,
        ext: &Extensions,
    ) -> SubscriptionResult {
        outlet::closing(self.follow_heads(pending, ext, |tip| &tip.finalized).await)
    }

    async fn subscribe_storage(
        &self,
        pending: PendingSubscriptionSink,
        ext: &Extensions,
        keys: Vec<HexBytes>,
    ) -> SubscriptionResult {
        outlet::closing(self.follow_storage(pending, ext, keys).await)
    }
}

/// The keys of a subscription: at least one, not too many, none too long; each once.
fn checked_keys(keys: Vec<HexBytes>) -> Result<Vec<Vec<u8>>, ApiError> {
    if keys.is_empty() {
        return Err(ApiError::InvalidParams { why: "keys: a subscription needs at least one key" });
    }
    ApiError::check_limit("keys", SUBSCRIPTION_KEYS_MAX, keys.len())?;
    keys.iter().try_for_each(|key| ApiError::check_key(&key.0))?;
    Ok(distinct(keys))
}

fn change_set(head: &View, keys: Vec<Vec<u8>>) -> Result<StorageChangeSet, ApiError> {
    let values = head.values(&keys, NOTIFICATION_VALUES_BYTES_MAX)?;
    let changes = keys.into_iter().map(HexBytes).zip(values.into_iter().map(|value| value.map(HexBytes)));
    Ok(StorageChangeSet { block: head.header().hash.into(), changes: changes.collect() })
}

/// The blocks that lead to `next` from where it parts from `last`, oldest first; only `next` itself when that is where
/// `last` came from.
fn between(last: &View, next: &View) -> Result<Vec<Header>, ApiError> {
    let parent = |view: &View, header: &Header| -> Result<Header, ApiError> {
        let what = || format!("the header of block {}", header.parent_hash);
        view.ancestor(&header.parent_hash)?.ok_or_else(|| ApiError::Damaged { what: what() })
    };
    let (mut old, mut new) = (last.header().clone(), next.header().clone());
    let mut way = Vec::new();
    while old.hash != new.hash {
        let (old_number, new_number) = (old.number, new.number);
        if new_number >= old_number {
            if way.len() == REORG_BLOCKS_MAX {
                let missed = next.header().number - new_number;
                return Err(ApiError::FellBehind { max: REORG_BLOCKS_MAX as u64, missed });
            }
            let below = parent(next, &new)?;
            way.push(std::mem::replace(&mut new, below));
        }
        if old_number >= new_number {
            old = parent(last, &old)?;
        }
    }
    if way.is_empty() {
        way.push(new);
    }
    way.reverse();
    Ok(way)
}
