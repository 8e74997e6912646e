//! The state's errors as the API's.

use rustorium_state::backend::BackendError;
use rustorium_state::{ApplyError, AtError, ReadError};
use rustorium_verkle::Invalid;

use super::ApiError;

impl From<AtError> for ApiError {
    fn from(error: AtError) -> Self {
        match error {
            AtError::Unknown { at } => Self::UnknownBlock { at },
            AtError::Pruned { oldest } => Self::StatePruned { oldest },
            AtError::Read(error) => error.into(),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ValuesTooLarge { max, got } => Self::LimitExceeded { limit: "valuesBytes", max, got },
            ReadError::Damaged { what } => Self::Damaged { what },
            ReadError::Backend(error) => error.into(),
        }
    }
}

impl From<BackendError> for ApiError {
    fn from(error: BackendError) -> Self {
        let what = error.to_string();
        match error {
            BackendError::Busy { retry_ms, .. } => Self::Busy { retry_ms },
            BackendError::TooMuch { what: limit, max, got } => Self::LimitExceeded { limit, max, got },
            BackendError::Full { .. } | BackendError::NoSpace { .. } => Self::DiskFull { what },
            BackendError::Poisoned { .. } => Self::Poisoned { what },
            BackendError::Damaged { .. } => Self::Damaged { what },
            BackendError::Locked { .. } | BackendError::Foreign { .. } | BackendError::Io { .. } => {
                Self::Internal { what }
            }
        }
    }
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::UnknownParent { parent: hash } | ApplyError::UnknownBlock { hash } => {
                Self::UnknownBlock { at: hash.to_string() }
            }
            ApplyError::NotAChild { expected, got } => Self::NotAChild { expected, got },
            ApplyError::Conflicting { hash } => Self::ConflictingBlock { hash: hash.to_string() },
            ApplyError::RootMismatch { expected, got } => {
                Self::RootMismatch { expected: expected.to_string(), got: got.to_string() }
            }
            ApplyError::NotAhead { expected, got } => Self::NotAhead { expected, got },
            ApplyError::KeyTooLong { max, got } => Self::KeyTooLong { max: max as u64, got: got as u64 },
            ApplyError::ValueTooLarge { max, got } => Self::ValueTooLarge { max: max as u64, got: got as u64 },
            ApplyError::TooManyChanges { max, got } => {
                Self::LimitExceeded { limit: "changes", max: max as u64, got: got as u64 }
            }
            ApplyError::BlockTooLarge { max, got } => {
                Self::LimitExceeded { limit: "changeBytes", max: max as u64, got: got as u64 }
            }
            ApplyError::TooManyRows { max, got } => {
                Self::LimitExceeded { limit: "rowBytes", max: max as u64, got: got as u64 }
            }
            ApplyError::TooManyUnfinalised { what, max, got } => {
                Self::TooManyUnfinalised { expected: format!("at most {max} {what}"), got: got.to_string() }
            }
            ApplyError::Pruned { oldest } => Self::StatePruned { oldest },
            ApplyError::ZeroHash => Self::InvalidParams { why: "hash: a block's hash is never zero" },
            ApplyError::Busy { retry_ms } => Self::Busy { retry_ms },
            ApplyError::DiskFull { what, .. } => Self::DiskFull { what },
            ApplyError::Poisoned { what } => Self::Poisoned { what },
            ApplyError::Damaged { what } => Self::Damaged { what },
            error @ (ApplyError::FrontOpen | ApplyError::Unproven { .. }) => Self::Internal { what: error.to_string() },
            ApplyError::Closed => Self::Internal { what: "the node is shutting down".into() },
            ApplyError::Backend(error) => error.into(),
        }
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::InvalidWitness { rule: invalid.rule.name(), why: invalid.to_string() }
    }
}
