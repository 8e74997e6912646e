//! The raw genesis: the pairs of the state before the first block.
//!
//! `genesis.raw` comes as an object `{top, childrenDefault}`, or in the old form `[top, children]`. The pairs are read
//! as a stream, without a tree of JSON values in between; what comes out has distinct keys in ascending order.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{SpecError, shortened};
use crate::fields::{Fields, Others, Text, wrong};
use crate::{GENESIS_KEYS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Names under which other genesis forms go; each means that the pairs would have to be computed by a runtime, or that
/// they are not in the file at all.
const NOT_RAW: [&str; 6] = [
    "runtime",
    "runtimeAndCode",
    "runtimeGenesis",
    "runtimeGenesisConfig",
    "runtimeGenesisConfigPatch",
    "stateRootHash",
];
const FORMS: &[&str] = &["raw", NOT_RAW[0], NOT_RAW[1], NOT_RAW[2], NOT_RAW[3], NOT_RAW[4], NOT_RAW[5]];
const RAW: &str = "genesis.raw";
const TOP: &str = "genesis.raw.top";
const CHILDREN: &str = "genesis.raw.childrenDefault";

/// Key and value of one pair.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// The pairs of a spec's `genesis` object, keys distinct and ascending.
pub(crate) fn parse(text: &str) -> Result<Vec<Pair>, SpecError> {
    let genesis = Fields::parse("genesis", text, FORMS, Others::Refused)?;
    if let Some(form) = NOT_RAW.iter().find(|form| genesis.raw(form).is_some()) {
        return Err(SpecError::NotRaw { found: Some(genesis.path(form)) });
    }
    let raw = genesis.raw("raw").ok_or(SpecError::NotRaw { found: None })?;
    let (top, children) = if raw.starts_with('[') {
        let expected = "an object {top, childrenDefault} or an array [top, children]";
        let (top, children): (&RawValue, &RawValue) =
            serde_json::from_str(raw).map_err(|_| wrong(RAW.to_owned(), expected, raw))?;
        (top.get(), Some(children.get()).filter(|text| *text != "null"))
    } else {
        let raw = Fields::parse(RAW, raw, &["top", "childrenDefault"], Others::Refused)?;
        let top = raw.raw("top").ok_or(SpecError::Missing { path: TOP.to_owned() })?;
        (top, raw.raw("childrenDefault"))
    };
    if let Some(children) = children {
        streamed(CHILDREN, children, NoChildren)?;
    }
    let mut pairs = streamed(TOP, top, Pairs)?;
    pairs.sort_unstable();
    // Two spellings of one key are one key.
    match pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(SpecError::RepeatedKey { key: shortened(&const_hex::encode_prefixed(&pair[0].0)) }),
        None => Ok(pairs),
    }
}

/// Runs a visitor over the JSON object at `path`. What the visitor refuses travels as a value, to keep its type.
fn streamed<'a, T, V>(path: &str, text: &'a str, visitor: V) -> Result<T, SpecError>
where
    V: Visitor<'a, Value = Result<T, SpecError>>,
{
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let streamed = deserializer.deserialize_map(visitor);
    streamed.map_err(|_| wrong(path.to_owned(), "a JSON object", text))?
}

/// The pairs of `top`.
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Result<Vec<Pair>, SpecError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of hex keys and hex values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        let mut refusal = None;
        while let Some((Text(key), value)) = map.next_entry::<Text<'_>, &RawValue>()? {
            if pairs.len() == GENESIS_KEYS_MAX {
                refusal = refusal.or(Some(SpecError::TooManyKeys { max: GENESIS_KEYS_MAX }));
            }
            // After a refusal the rest must still be read: the map ends where it ends.
            if refusal.is_none() {
                match pair(&key, value.get()) {
                    Ok(pair) => pairs.push(pair),
                    Err(error) => refusal = Some(error),
                }
            }
        }
        Ok(refusal.map_or(Ok(pairs), Err))
    }
}

/// One pair from its key and its value's JSON text. Lengths are judged before anything is decoded.
fn pair(key: &str, value: &str) -> Result<Pair, SpecError> {
    let named = || shortened(key);
    let key_bytes = key.len().saturating_sub(2).div_ceil(2);
    if key_bytes > KEY_BYTES_MAX {
        return Err(SpecError::KeyTooLong { key: named(), got: key_bytes });
    }
    let key_decoded = hex(key).ok_or_else(|| SpecError::KeyHex { key: named() })?;
    let Ok(Text(value)) = serde_json::from_str(value) else { return Err(SpecError::ValueHex { key: named() }) };
    let value_bytes = value.len().saturating_sub(2).div_ceil(2);
    if value_bytes > VALUE_BYTES_MAX {
        return Err(SpecError::ValueTooLarge { key: named(), got: value_bytes });
    }
    let value = hex(&value).ok_or_else(|| SpecError::ValueHex { key: named() })?;
    Ok((key_decoded, value))
}

/// `0x` and an even number of digits of either case.
fn hex(text: &str) -> Option<Vec<u8>> {
    // The decoder takes text without a prefix as well; we do not.
    text.starts_with("0x").then(|| const_hex::decode(text).ok()).flatten()
}

/// `childrenDefault`, of which only empty tries are let through: an empty child trie leaves no trace in a state.
struct NoChildren;

impl<'de> Visitor<'de> for NoChildren {
    type Value = Result<(), SpecError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of child tries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut refusal = None;
        while let Some(Text(key)) = map.next_key()? {
            let child: &RawValue = map.next_value()?;
            let mut fields = serde_json::Deserializer::from_str(child.get());
            if refusal.is_none() && !fields.deserialize_map(NoFields).unwrap_or(false) {
                refusal = Some(SpecError::ChildTrie { key: shortened(&key) });
            }
        }
        Ok(refusal.map_or(Ok(()), Err))
    }
}

/// Whether an object is empty.
struct NoFields;

impl<'de> Visitor<'de> for NoFields {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut empty = true;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            empty = false;
        }
        Ok(empty)
    }
}
