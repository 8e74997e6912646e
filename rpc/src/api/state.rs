//! `state_*`: values, keys, roots and witnesses at a block.

use std::collections::HashSet;

use jsonrpsee::core::async_trait;
use jsonrpsee::proc_macros::rpc;
use rustorium_state::{Change as StateChange, Proof, Reader, View};
use rustorium_verkle::{Change, Claim, StateRoot, UpdateWitness, Witness};

use super::distinct;
use crate::error::ApiError;
use crate::limits::{PAGE_KEYS_MAX, VALUES_BYTES_MAX, WITNESS_KEYS_MAX};
use crate::openrpc::{Document, describe};
use crate::wire::{
    At, Hash32, HexBytes, KeyValue, StorageChangeSet, UpdateCheck, UpdateQuestion, Updated, WitnessBundle, WitnessCheck,
};
use crate::work::Work;

/// Values, keys, roots and witnesses. `at` is a block hash, `"head"` (when left out), `"finalized"` or `"certified"`.
#[rpc(server, client, namespace = "state", namespace_separator = "_")]
pub trait StateApi {
    /// The value of a key, or null.
    #[method(name = "getStorage")]
    async fn storage(&self, key: HexBytes, at: Option<At>) -> Result<Option<HexBytes>, ApiError>;

    /// The length of a key's value in bytes, or null.
    #[method(name = "getStorageSize")]
    async fn storage_size(&self, key: HexBytes, at: Option<At>) -> Result<Option<u64>, ApiError>;

    /// Up to `count` keys that begin with `prefix` (null: all), in the order of their bytes, after `startKey`.
    #[method(name = "getKeysPaged")]
    async fn keys_paged(
        &self,
        prefix: Option<HexBytes>,
        count: u32,
        #[argument(rename = "startKey")] start_key: Option<HexBytes>,
        at: Option<At>,
    ) -> Result<Vec<HexBytes>, ApiError>;

    /// The state root.
    #[method(name = "getStateRoot")]
    async fn state_root(&self, at: Option<At>) -> Result<Hash32, ApiError>;

    /// A witness for the value or absence of each key.
    #[method(name = "getWitness")]
    async fn witness(&self, keys: Vec<HexBytes>, at: Option<At>) -> Result<WitnessBundle, ApiError>;

    /// Whether a witness proves its claims: true, or `InvalidWitness`.
    #[method(name = "verifyWitness")]
    async fn verify_witness(&self, check: WitnessCheck) -> Result<bool, ApiError>;

    /// An update witness: the values before of what a block reads and changes, and what leads to the state root after it.
    #[method(name = "getUpdateWitness")]
    async fn update_witness(&self, question: UpdateQuestion) -> Result<WitnessBundle, ApiError>;

    /// Where an update witness leads: the state root after, or `InvalidWitness`.
    #[method(name = "verifyUpdateWitness")]
    async fn verify_update_witness(&self, check: UpdateCheck) -> Result<Updated, ApiError>;

    /// The values of several keys, in Substrate's shape.
    #[method(name = "queryStorageAt")]
    async fn query_storage_at(&self, keys: Vec<HexBytes>, at: Option<At>) -> Result<Vec<StorageChangeSet>, ApiError>;
}

/// Adds the methods of this file.
pub(crate) fn document(doc: &mut Document) {
    describe!(doc, state_getStorage "The value of a key, or null"
        (key: HexBytes; at: At) -> Option<HexBytes>);
    describe!(doc, state_getStorageSize "The length of a key's value in bytes, or null"
        (key: HexBytes; at: At) -> Option<u64>);
    describe!(doc, state_getKeysPaged "Keys with a prefix, in raw byte order, after startKey; at most 1000"
        (prefix: Option<HexBytes>, count: u32; startKey: HexBytes, at: At) -> Vec<HexBytes>);
    describe!(doc, state_getStateRoot "The state root"
        (; at: At) -> Hash32);
    describe!(doc, state_getWitness "A witness for the value or absence of each of 1 to 1024 keys"
        (keys: Vec<HexBytes>; at: At) -> WitnessBundle);
    describe!(doc, state_verifyWitness "true, or the error InvalidWitness"
        (check: WitnessCheck;) -> bool);
    describe!(doc, state_getUpdateWitness "An update witness of 1 to 1024 keys that a block reads or changes"
        (question: UpdateQuestion;) -> WitnessBundle);
    describe!(doc, state_verifyUpdateWitness "The state root after, or the error InvalidWitness"
        (check: UpdateCheck;) -> Updated);
    describe!(doc, state_queryStorageAt "The values of up to 1024 keys, in Substrate's shape"
        (keys: Vec<HexBytes>; at: At) -> Vec<StorageChangeSet>);
}

/// The methods over a reader.
pub(crate) struct State {
    reader: Reader,
    work: Work,
}

impl State {
    pub(crate) fn new(reader: Reader, work: Work) -> Self {
        Self { reader, work }
    }

    /// Runs `read` on the state of a block, on the blocking pool.
    async fn at<T, F>(&self, at: Option<At>, read: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&View) -> Result<T, ApiError> + Send + 'static,
    {
        let reader = self.reader.clone();
        self.work.run(move || read(&*reader.at(at.unwrap_or_default().into())?)).await
    }
}

#[async_trait]
impl StateApiServer for State {
    async fn storage(&self, key: HexBytes, at: Option<At>) -> Result<Option<HexBytes>, ApiError> {
        ApiError::check_key(&key.0)?;
        self.at(at, move |view| Ok(view.value(&key.0)?.map(HexBytes))).await
    }

    async fn storage_size(&self, key: HexBytes, at: Option<At>) -> Result<Option<u64>, ApiError> {
        ApiError::check_key(&key.0)?;
        self.at(at, move |view| Ok(view.value_size(&key.0)?)).await
    }

    async fn keys_paged(
        &self,
        prefix: Option<HexBytes>,
        count: u32,
        start_key: Option<HexBytes>,
        at: Option<At>,
    ) -> Result<Vec<HexBytes>, ApiError> {
        let prefix = prefix.unwrap_or_default();
        ApiError::check_limit("count", PAGE_KEYS_MAX, count as usize)?;
        ApiError::check_key(&prefix.0)?;
        start_key.as_ref().map_or(Ok(()), |key| ApiError::check_key(&key.0))?;
        self.at(at, move |view| {
            let start = start_key.as_ref().map(|key| key.0.as_slice());
            Ok(view.keys_paged(&prefix.0, start, count as usize)?.into_iter().map(HexBytes).collect())
        })
        .await
    }

    async fn state_root(&self, at: Option<At>) -> Result<Hash32, ApiError> {
        self.at(at, |view| Ok(Hash32(view.header().state_root.0))).await
    }

    async fn witness(&self, keys: Vec<HexBytes>, at: Option<At>) -> Result<WitnessBundle, ApiError> {
        let keys = checked_keys(keys)?;
        self.at(at, move |view| Ok(bundle(view.witness(&keys, VALUES_BYTES_MAX)?))).await
    }

    async fn verify_witness(&self, check: WitnessCheck) -> Result<bool, ApiError> {
        // A witness of the spec may have more; this bounds what a caller can make us compute.
        ApiError::check_limit("claims", WITNESS_KEYS_MAX, check.claims.len())?;
        self.work
            .run(move || {
                let claims: Vec<Claim> = check.claims.iter().map(|(key, value)| claim(key, value.as_ref())).collect();
                Witness::decode(&check.witness.0)?.verify(&StateRoot(check.state_root.0), &claims)?;
                Ok(true)
            })
            .await
    }

    async fn update_witness(&self, question: UpdateQuestion) -> Result<WitnessBundle, ApiError> {
        let UpdateQuestion { reads, changes, at } = question;
        let changed = changes.iter().map(|(key, _)| key.clone());
        checked_keys(reads.iter().cloned().chain(changed).collect())?;
        let changes = checked_changes(changes)?;
        let reads: Vec<Vec<u8>> = reads.into_iter().map(|key| key.0).collect();
        self.at(at, move |view| Ok(bundle(view.update_witness(&reads, &changes, VALUES_BYTES_MAX)?))).await
    }

    async fn verify_update_witness(&self, check: UpdateCheck) -> Result<Updated, ApiError> {
        ApiError::check_limit("claims", WITNESS_KEYS_MAX, check.claims.len())?;
        ApiError::check_limit("changes", WITNESS_KEYS_MAX, check.changes.len())?;
        let reader = self.reader.clone();
        self.work
            .run(move || {
                let head = reader.head();
                let claims: Vec<Claim> = check.claims.iter().map(|(key, value)| claim(key, value.as_ref())).collect();
                let changes: Vec<Change> = check.changes.iter().map(change).collect();
                let witness = UpdateWitness::decode(&check.witness.0)?;
                let after = witness.verify(&StateRoot(check.state_root.0), &claims, &changes, head.committer())?;
                Ok(Updated { state_root_after: Hash32(after.0) })
            })
            .await
    }

    async fn query_storage_at(&self, keys: Vec<HexBytes>, at: Option<At>) -> Result<Vec<StorageChangeSet>, ApiError> {
        ApiError::check_limit("keys", WITNESS_KEYS_MAX, keys.len())?;
        keys.iter().try_for_each(|key| ApiError::check_key(&key.0))?;
        let keys = distinct(keys);
        self.at(at, move |view| {
            let values = view.values(&keys, VALUES_BYTES_MAX)?;
            let changes = keys.into_iter().map(HexBytes).zip(values.into_iter().map(|value| value.map(HexBytes)));
            Ok(vec![StorageChangeSet { block: view.header().hash.into(), changes: changes.collect() }])
        })
        .await
    }
}

/// The keys of a witness: at least one, not too many, none too long; each once.
fn checked_keys(keys: Vec<HexBytes>) -> Result<Vec<Vec<u8>>, ApiError> {
    if keys.is_empty() {
        return Err(ApiError::InvalidParams { why: "keys: a witness needs at least one key" });
    }
    ApiError::check_limit("keys", WITNESS_KEYS_MAX, keys.len())?;
    keys.iter().try_for_each(|key| ApiError::check_key(&key.0))?;
    Ok(distinct(keys))
}

/// The changes of an update witness, each key once.
fn checked_changes(changes: Vec<KeyValue>) -> Result<Vec<StateChange>, ApiError> {
    let mut keys = HashSet::with_capacity(changes.len());
    match changes.iter().all(|(key, _)| keys.insert(key)) {
        true => Ok(super::changes(changes)),
        false => Err(ApiError::InvalidParams {
            why: "changes: a key is changed twice; in a block the last change of a key counts, so send that one alone",
        }),
    }
}

fn bundle(proof: Proof) -> WitnessBundle {
    WitnessBundle {
        block_hash: proof.header.hash.into(),
        block_number: proof.header.number,
        state_root: Hash32(proof.header.state_root.0),
        claims: proof.claims.into_iter().map(|(key, value)| (HexBytes(key), value.map(HexBytes))).collect(),
        witness: HexBytes(proof.witness),
        certificate: None,
    }
}

fn change((key, value): &KeyValue) -> Change {
    match value {
        Some(value) => Change::put(&key.0, &value.0),
        None => Change::delete(&key.0),
    }
}

fn claim(key: &HexBytes, value: Option<&HexBytes>) -> Claim {
    match value {
        Some(value) => Claim::value(&key.0, &value.0),
        None => Claim::absent(&key.0),
    }
}
