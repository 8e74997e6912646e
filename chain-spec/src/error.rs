//! Why a chain spec is refused. The culprit is always the file; each variant names the place in it.

use crate::{KEY_BYTES_MAX, SPEC_BYTES_MAX, VALUE_BYTES_MAX};

/// Why bytes are not a chain spec.
///
/// Fields are named by their path (`rustorium.threshold.num`), pairs of the genesis by their key as the file spells it,
/// shortened when it is long.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// More than [`SPEC_BYTES_MAX`] bytes, after unpacking.
    #[error("the spec is larger than {max} bytes{}", if *packed { " when unpacked" } else { "" })]
    TooLarge {
        /// The limit, [`SPEC_BYTES_MAX`].
        max: u64,
        /// Whether the bytes were gzipped.
        packed: bool,
    },
    /// The bytes begin as gzip does, but do not unpack.
    #[error("the spec looks gzipped but does not unpack: {0}")]
    Gzip(#[source] std::io::Error),
    /// The bytes are not JSON text, or not a JSON object.
    #[error("the spec is not a JSON object: {0}")]
    Json(#[source] serde_json::Error),
    /// A field without which there is no spec.
    #[error("`{path}` is missing")]
    Missing {
        /// The field.
        path: String,
    },
    /// A field given twice.
    #[error("`{path}` is given twice")]
    Repeated {
        /// The field.
        path: String,
    },
    /// A field that nobody knows, where each counts.
    #[error("`{path}` is not a known field{}", nearest.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default())]
    Unknown {
        /// The field.
        path: String,
        /// The known field whose name is nearest, if one is near.
        nearest: Option<&'static str>,
    },
    /// A field whose value has the wrong shape or is out of range.
    #[error("`{path}` must be {expected}, not {found}")]
    Field {
        /// The field.
        path: String,
        /// What would be right.
        expected: &'static str,
        /// The beginning of what is there.
        found: String,
    },
    /// The genesis is there in another form than the raw pairs.
    #[error(
        "the spec has no raw genesis ({}): export one with the chain's own node, `build-spec --raw --chain <this file>`",
        found.as_ref().map_or("`genesis.raw` is missing".to_owned(), |form| format!("it has `{form}`"))
    )]
    NotRaw {
        /// The form that is there instead, such as `genesis.runtimeGenesis`.
        found: Option<String>,
    },
    /// A child trie with something in it.
    #[error(
        "the genesis has a child trie at {key}, which a single tree cannot hold: move its pairs to the top trie and export \
         the spec again with `build-spec --raw`"
    )]
    ChildTrie {
        /// The child's storage key.
        key: String,
    },
    /// More than [`crate::GENESIS_KEYS_MAX`] pairs.
    #[error("the genesis has more than {max} keys")]
    TooManyKeys {
        /// The limit.
        max: usize,
    },
    /// A key of the genesis that is not hex.
    #[error("the genesis key {key} is not hex: `0x` and an even number of hex digits")]
    KeyHex {
        /// The key.
        key: String,
    },
    /// A value of the genesis that is not hex.
    #[error("the value of the genesis key {key} is not hex: a string of `0x` and an even number of hex digits")]
    ValueHex {
        /// The value's key.
        key: String,
    },
    /// A key of the genesis that is there twice, in one spelling or two.
    #[error("the genesis key {key} is given twice")]
    RepeatedKey {
        /// The key.
        key: String,
    },
    /// A key of more than [`KEY_BYTES_MAX`] bytes.
    #[error("the genesis key {key} has {got} bytes, at most {KEY_BYTES_MAX} are allowed")]
    KeyTooLong {
        /// The key.
        key: String,
        /// Its length in bytes.
        got: usize,
    },
    /// A value of more than [`VALUE_BYTES_MAX`] bytes.
    #[error("the value of the genesis key {key} has {got} bytes, at most {VALUE_BYTES_MAX} are allowed")]
    ValueTooLarge {
        /// The value's key.
        key: String,
        /// Its length in bytes.
        got: usize,
    },
    /// Two authorities with one BLS key.
    #[error("`{path}` has the same blsPublicKey as `{other}`")]
    RepeatedAuthority {
        /// The later one, such as `rustorium.authorities[3]`.
        path: String,
        /// The earlier one.
        other: String,
    },
    /// The authorities' weights do not add up within 64 bits.
    #[error("the weights of `rustorium.authorities` add up to more than {}", u64::MAX)]
    WeightOverflow,
}

impl SpecError {
    pub(crate) fn too_large(packed: bool) -> Self {
        Self::TooLarge { max: SPEC_BYTES_MAX, packed }
    }
}

/// The beginning of a text that may be long.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
    }
}
