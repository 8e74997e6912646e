//! The `rustorium` section: what members agree on beyond the genesis.
//!
//! Every field is optional; the defaults stand beside the fields of [`Rules`]. Every field counts, so one that is not
//! known is refused. Proofs of possession are carried here and checked where certificates are.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::SpecError;
use crate::fields::{Fields, Others, Text, wrong};
use crate::{AUTHORITIES_MAX, TEXT_BYTES_MAX};

const SECTION: &str = "rustorium";
const FIELDS: &[&str] =
    &["genesisHash", "finality", "checkpointInterval", "weakSubjectivityMs", "threshold", "authorities"];
const THRESHOLD_FIELDS: &[&str] = &["num", "den"];
const AUTHORITY_FIELDS: &[&str] = &["name", "blsPublicKey", "proofOfPossession", "weight"];

const WEAK_SUBJECTIVITY_MS_DEFAULT: u64 = 14 * 24 * 60 * 60 * 1000;
const CHECKPOINT_INTERVAL_DEFAULT: u32 = 32;

/// When a block becomes final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finality {
    /// As soon as it is applied.
    #[default]
    Instant,
    /// When the consensus engine says so.
    Engine,
}

/// The part of the total weight that must have signed a certificate, `num / den`, above 0 and at most 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// The numerator, 1 to `den`.
    pub num: u32,
    /// The denominator.
    pub den: u32,
}

/// Somebody who signs checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// For people; outside the spec hash.
    pub name: String,
    /// A compressed G1 point, not yet decoded.
    pub bls_public_key: [u8; 48],
    /// A compressed G2 point, the signature of the key over itself, not yet checked; outside the spec hash.
    pub proof_of_possession: [u8; 96],
    /// 1 or more; the weights of all authorities add up within 64 bits.
    pub weight: u64,
}

/// The section as a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The chain's own name for its genesis block, never zero; by default it is computed.
    pub(crate) genesis_hash: Option<[u8; 32]>,
    /// `"instant"` by default.
    pub(crate) finality: Finality,
    /// Blocks from one checkpoint to the next, 1 or more; 32 by default.
    pub(crate) checkpoint_interval: u32,
    /// How old a checkpoint may be to be trusted, above 0; 14 days by default.
    pub(crate) weak_subjectivity_ms: u64,
    /// 2/3 by default.
    pub(crate) threshold: Threshold,
    /// In file order; none by default.
    pub(crate) authorities: Vec<Authority>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            genesis_hash: None,
            finality: Finality::Instant,
            checkpoint_interval: CHECKPOINT_INTERVAL_DEFAULT,
            weak_subjectivity_ms: WEAK_SUBJECTIVITY_MS_DEFAULT,
            threshold: Threshold { num: 2, den: 3 },
            authorities: Vec::new(),
        }
    }
}

impl Rules {
    /// The section's JSON text becomes rules.
    pub(crate) fn parse(text: &str) -> Result<Self, SpecError> {
        let fields = Fields::parse(SECTION, text, FIELDS, Others::Refused)?;
        let default = Self::default();
        let finality = fields.optional("finality", "\"instant\" or \"engine\"")?;
        let threshold = fields.raw("threshold").map(Threshold::parse).transpose()?;
        let authorities = fields.optional("authorities", "an array of authorities")?;
        Ok(Self {
            genesis_hash: genesis_hash(&fields)?,
            finality: finality.unwrap_or_default(),
            checkpoint_interval: positive(&fields, "checkpointInterval", "a number of blocks from 1 to 4294967295")?
                .unwrap_or(default.checkpoint_interval),
            weak_subjectivity_ms: positive(&fields, "weakSubjectivityMs", "a number of milliseconds, 1 or more")?
                .unwrap_or(default.weak_subjectivity_ms),
            threshold: threshold.unwrap_or(default.threshold),
            authorities: authorities.map(parse_authorities).transpose()?.unwrap_or_default(),
        })
    }
}

impl Threshold {
    fn parse(text: &str) -> Result<Self, SpecError> {
        let path = format!("{SECTION}.threshold");
        let fields = Fields::parse(&path, text, THRESHOLD_FIELDS, Others::Refused)?;
        let part = |name| {
            positive(&fields, name, "a number from 1 to 4294967295")?
                .ok_or_else(|| SpecError::Missing { path: fields.path(name) })
        };
        let (num, den) = (part("num")?, part("den")?);
        if num > den {
            return Err(wrong(path, "a fraction num/den of at most 1", text));
        }
        Ok(Self { num, den })
    }
}

impl Authority {
    fn parse(path: &str, text: &str) -> Result<Self, SpecError> {
        let fields = Fields::parse(path, text, AUTHORITY_FIELDS, Others::Refused)?;
        let expected = "a string of 1 to 1024 bytes";
        let name: String = fields.required("name", expected)?;
        if name.is_empty() || name.len() > TEXT_BYTES_MAX {
            return Err(fields.wrong("name", expected));
        }
        let required = |name| move || SpecError::Missing { path: format!("{path}.{name}") };
        Ok(Self {
            name,
            bls_public_key: hex(&fields, "blsPublicKey", "`0x` and the hex of 48 bytes")?
                .ok_or_else(required("blsPublicKey"))?,
            proof_of_possession: hex(&fields, "proofOfPossession", "`0x` and the hex of 96 bytes")?
                .ok_or_else(required("proofOfPossession"))?,
            weight: positive(&fields, "weight", "a number from 1 to 18446744073709551615")?
                .ok_or_else(required("weight"))?,
        })
    }
}

fn parse_authorities(entries: Vec<&RawValue>) -> Result<Vec<Authority>, SpecError> {
    let path = |index: usize| format!("{SECTION}.authorities[{index}]");
    if entries.len() > AUTHORITIES_MAX {
        let found = format!("{} of them", entries.len());
        return Err(wrong(format!("{SECTION}.authorities"), "an array of at most 4096 authorities", &found));
    }
    let mut seen = HashMap::new();
    let mut total: u64 = 0;
    let mut authorities = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let authority = Authority::parse(&path(index), entry.get())?;
        if let Some(other) = seen.insert(authority.bls_public_key, index) {
            return Err(SpecError::RepeatedAuthority { path: path(index), other: path(other) });
        }
        total = total.checked_add(authority.weight).ok_or(SpecError::WeightOverflow)?;
        authorities.push(authority);
    }
    Ok(authorities)
}

fn genesis_hash(fields: &Fields<'_>) -> Result<Option<[u8; 32]>, SpecError> {
    let expected = "`0x` and the hex of 32 bytes that are not all zero";
    match hex(fields, "genesisHash", expected)? {
        Some(hash) if hash == [0; 32] => Err(fields.wrong("genesisHash", expected)),
        hash => Ok(hash),
    }
}

/// A field of exactly `N` bytes as `0x` hex.
fn hex<const N: usize>(fields: &Fields<'_>, name: &str, expected: &'static str) -> Result<Option<[u8; N]>, SpecError> {
    let Some(Text(text)) = fields.optional(name, expected)? else { return Ok(None) };
    // The decoder takes text without a prefix as well; we do not.
    let bytes = text.starts_with("0x").then(|| const_hex::decode_to_array(&*text).ok()).flatten();
    bytes.map(Some).ok_or_else(|| fields.wrong(name, expected))
}

/// A whole number above zero that fits its type.
fn positive<'a, N: Deserialize<'a> + Default + PartialEq>(
    fields: &Fields<'a>,
    name: &str,
    expected: &'static str,
) -> Result<Option<N>, SpecError> {
    match fields.optional::<N>(name, expected)? {
        Some(number) if number == N::default() => Err(fields.wrong(name, expected)),
        number => Ok(number),
    }
}
