//! What the API answers when it cannot: one code, one name and one shape of data for each case.
//!
//! The name leads the message (`"UnknownBlock: …"`); the code and the keys of `data` are a contract with clients. What a
//! caller can do nothing about (a disk that fails, a bug) is −32603. jsonrpsee's own errors (parse, size, batch, unknown
//! method) stay as they are. How the state's errors become these is in `error/from_state.rs`.

mod from_state;

use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::types::error::{INTERNAL_ERROR_CODE, INVALID_PARAMS_CODE, INVALID_REQUEST_CODE};
use serde_json::{Map, Value, json};

use crate::limits::RETRY_MS;

/// Every code of ours and its name, for documents and clients.
pub const CODES: [(i32, &str); 17] = [
    (4001, "UnknownBlock"),
    (4002, "StatePruned"),
    (4010, "InvalidWitness"),
    (4020, "LimitExceeded"),
    (4021, "ValueTooLarge"),
    (4022, "KeyTooLong"),
    (4030, "NotAChild"),
    (4031, "ConflictingBlock"),
    (4032, "RootMismatch"),
    (4033, "TooManyUnfinalised"),
    (4034, "NotAhead"),
    (4040, "Busy"),
    (4041, "Repairing"),
    (4042, "NotSynced"),
    (4050, "DiskFull"),
    (4051, "Poisoned"),
    (4052, "Damaged"),
];

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// A block that this node does not have.
    #[error("UnknownBlock: no block {at}")]
    UnknownBlock {
        /// What was asked for.
        at: String,
    },
    /// A block whose state is gone.
    #[error("StatePruned: the oldest block with state is {oldest}")]
    StatePruned {
        /// The oldest number that still has state.
        oldest: u64,
    },
    /// A witness that does not prove what is claimed.
    #[error("InvalidWitness: {why}")]
    InvalidWitness {
        /// The rule of the spec that refuses it.
        rule: &'static str,
        /// What the verifier says.
        why: String,
    },
    /// More asked than one call gives.
    #[error("LimitExceeded: {limit}: at most {max}, got {got}")]
    LimitExceeded {
        /// Of what.
        limit: &'static str,
        /// The most.
        max: u64,
        /// What the call would take.
        got: u64,
    },
    /// More blocks than wait for a subscriber.
    #[error("LimitExceeded: at most {max} blocks wait for a subscriber, missed {missed}")]
    FellBehind {
        /// The most.
        max: u64,
        /// What the subscriber was not told of.
        missed: u64,
    },
    /// A value no block may hold.
    #[error("ValueTooLarge: a value has at most {max} bytes, got {got}")]
    ValueTooLarge {
        /// The most bytes.
        max: u64,
        /// The value's.
        got: u64,
    },
    /// A key no block may hold.
    #[error("KeyTooLong: a key has at most {max} bytes, got {got}")]
    KeyTooLong {
        /// The most bytes.
        max: u64,
        /// The key's.
        got: u64,
    },
    /// A block that does not continue the chain.
    #[error("NotAChild: expected {expected}, got {got}")]
    NotAChild {
        /// What would do.
        expected: String,
        /// What came.
        got: String,
    },
    /// A known hash with other content.
    #[error("ConflictingBlock: {hash} is known with other content")]
    ConflictingBlock {
        /// The hash.
        hash: String,
    },
    /// The block does not have the state root that it says.
    #[error("RootMismatch: the block says {expected}, its changes give {got}")]
    RootMismatch {
        /// The block's.
        expected: String,
        /// The computed one.
        got: String,
    },
    /// Too much is not final.
    #[error("TooManyUnfinalised: expected {expected}, got {got}: finalise a block")]
    TooManyUnfinalised {
        /// What would do.
        expected: String,
        /// What it would be.
        got: String,
    },
    /// A block to finalise that is not above the finalised one.
    #[error("NotAhead: expected {expected}, got {got}")]
    NotAhead {
        /// What would do.
        expected: String,
        /// What came.
        got: String,
    },
    /// A param of the right type and the wrong content.
    #[error("Invalid params")]
    InvalidParams {
        /// What is wrong.
        why: &'static str,
    },
    /// A subscription over HTTP.
    #[error("Invalid request: subscriptions need a WebSocket, on the same address and port")]
    NeedsWebSocket,
    /// Too much is under way.
    #[error("Busy: try again in {retry_ms} ms")]
    Busy {
        /// Milliseconds to wait.
        retry_ms: u64,
    },
    /// No room to write; the node goes on reading.
    #[error("DiskFull: {what}")]
    DiskFull {
        /// What and where.
        what: String,
    },
    /// A commit failed earlier, and nothing is written until the node is restarted.
    #[error("Poisoned: {what}")]
    Poisoned {
        /// What and where.
        what: String,
    },
    /// Stored bytes are not what they should be.
    #[error("Damaged: {what}")]
    Damaged {
        /// What and where.
        what: String,
    },
    /// The disk failed us, the node is stopping, or we have a bug.
    #[error("Internal error: {what}")]
    Internal {
        /// What happened.
        what: String,
    },
}

impl ApiError {
    /// That the node has too much to do.
    pub(crate) const BUSY: Self = Self::Busy { retry_ms: RETRY_MS };

    /// The code that a client sees.
    pub fn code(&self) -> i32 {
        match self {
            Self::UnknownBlock { .. } => 4001,
            Self::StatePruned { .. } => 4002,
            Self::InvalidWitness { .. } => 4010,
            Self::LimitExceeded { .. } | Self::FellBehind { .. } => 4020,
            Self::ValueTooLarge { .. } => 4021,
            Self::KeyTooLong { .. } => 4022,
            Self::NotAChild { .. } => 4030,
            Self::ConflictingBlock { .. } => 4031,
            Self::RootMismatch { .. } => 4032,
            Self::TooManyUnfinalised { .. } => 4033,
            Self::NotAhead { .. } => 4034,
            Self::Busy { .. } => 4040,
            Self::DiskFull { .. } => 4050,
            Self::Poisoned { .. } => 4051,
            Self::Damaged { .. } => 4052,
            Self::InvalidParams { .. } => INVALID_PARAMS_CODE,
            Self::NeedsWebSocket => INVALID_REQUEST_CODE,
            Self::Internal { .. } => INTERNAL_ERROR_CODE,
        }
    }

    /// What a client sees beside code and message.
    pub fn data(&self) -> Option<Value> {
        Some(match self {
            Self::UnknownBlock { at } => json!({ "at": at }),
            Self::StatePruned { oldest } => json!({ "oldest": oldest }),
            Self::InvalidWitness { rule, .. } => json!({ "rule": rule }),
            Self::LimitExceeded { limit, max, got } => json!({ "limit": limit, "max": max, "got": got }),
            Self::FellBehind { max, missed } => json!({ "limit": "blocksWaiting", "max": max, "got": missed }),
            Self::ValueTooLarge { max, got } => json!({ "limit": "valueBytes", "max": max, "got": got }),
            Self::KeyTooLong { max, got } => json!({ "limit": "keyBytes", "max": max, "got": got }),
            Self::NotAChild { expected, got }
            | Self::RootMismatch { expected, got }
            | Self::TooManyUnfinalised { expected, got }
            | Self::NotAhead { expected, got } => json!({ "expected": expected, "got": got }),
            Self::ConflictingBlock { hash } => json!({ "got": hash }),
            Self::Busy { retry_ms } => json!({ "retryMs": retry_ms }),
            Self::DiskFull { what } | Self::Poisoned { what } | Self::Damaged { what } => json!({ "what": what }),
            Self::InvalidParams { why } => json!(why),
            Self::NeedsWebSocket | Self::Internal { .. } => return None,
        })
    }

    /// Refuses more of something than one call gives.
    pub(crate) fn check_limit(limit: &'static str, max: usize, got: usize) -> Result<(), Self> {
        match got > max {
            true => Err(Self::LimitExceeded { limit, max: max as u64, got: got as u64 }),
            false => Ok(()),
        }
    }

    /// Refuses a key that no block can hold.
    pub(crate) fn check_key(key: &[u8]) -> Result<(), Self> {
        let max = rustorium_state::KEY_BYTES_MAX;
        match key.len() > max {
            true => Err(Self::KeyTooLong { max: max as u64, got: key.len() as u64 }),
            false => Ok(()),
        }
    }
}

impl From<ApiError> for ErrorObjectOwned {
    fn from(error: ApiError) -> Self {
        Self::owned(error.code(), error.to_string(), error.data())
    }
}

/// The codes as an OpenRPC `components.errors`.
pub(crate) fn document() -> Map<String, Value> {
    CODES.iter().map(|(code, name)| ((*name).into(), json!({ "code": code, "message": name }))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_begins_with_the_name_of_the_code() {
        let text = String::new;
        let errors = [
            ApiError::UnknownBlock { at: text() },
            ApiError::StatePruned { oldest: 1 },
            ApiError::InvalidWitness { rule: "decode", why: text() },
            ApiError::LimitExceeded { limit: "keys", max: 1, got: 2 },
            ApiError::FellBehind { max: 1, missed: 2 },
            ApiError::ValueTooLarge { max: 1, got: 2 },
            ApiError::KeyTooLong { max: 1, got: 2 },
            ApiError::NotAChild { expected: text(), got: text() },
            ApiError::ConflictingBlock { hash: text() },
            ApiError::RootMismatch { expected: text(), got: text() },
            ApiError::TooManyUnfinalised { expected: text(), got: text() },
            ApiError::NotAhead { expected: text(), got: text() },
            ApiError::BUSY,
            ApiError::DiskFull { what: text() },
            ApiError::Poisoned { what: text() },
            ApiError::Damaged { what: text() },
        ];
        for error in errors {
            let name = CODES.iter().find(|(code, _)| *code == error.code()).expect("a code of the table").1;
            assert!(error.to_string().starts_with(&format!("{name}: ")), "{error}");
            assert!(error.data().is_some_and(|data| data.is_object()), "{error}");
        }
    }

    #[test]
    fn data_has_the_keys_that_clients_rely_on() {
        let data = |error: ApiError| error.data().expect("data");
        assert_eq!(data(ApiError::UnknownBlock { at: "0x01".into() }), json!({ "at": "0x01" }));
        assert_eq!(data(ApiError::StatePruned { oldest: 7 }), json!({ "oldest": 7 }));
        assert_eq!(data(ApiError::InvalidWitness { rule: "count", why: "…".into() }), json!({ "rule": "count" }));
        let limit = ApiError::check_limit("keys", 1024, 1025).expect_err("over the limit");
        assert_eq!(data(limit), json!({ "limit": "keys", "max": 1024, "got": 1025 }));
        assert_eq!(data(ApiError::KeyTooLong { max: 1, got: 2 }), json!({ "limit": "keyBytes", "max": 1, "got": 2 }));
        assert_eq!(
            data(ApiError::ValueTooLarge { max: 1, got: 2 }),
            json!({ "limit": "valueBytes", "max": 1, "got": 2 })
        );
        assert_eq!(
            data(ApiError::NotAhead { expected: "a".into(), got: "b".into() }),
            json!({ "expected": "a", "got": "b" })
        );
        assert_eq!(data(ApiError::Busy { retry_ms: 9 }), json!({ "retryMs": 9 }));
    }
}
