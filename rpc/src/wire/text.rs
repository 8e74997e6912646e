//! Values that are one JSON text or number: bytes, hashes, the names of blocks. Strict in, canonical out.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes as `0x` hex, two digits a byte, either case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HexBytes(pub Vec<u8>);

/// 32 bytes as `0x` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash32(pub [u8; 32]);

/// Why a text is not the bytes that were expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// No `0x` in front.
    #[error("hex must begin with 0x")]
    Prefix,
    /// Half a byte.
    #[error("hex has an odd number of digits, {0}")]
    Odd(usize),
    /// Something that is no digit, counted from 0 after the `0x`.
    #[error("not a hex digit at position {at}: {found:?}")]
    Digit {
        /// Position after the `0x`.
        at: usize,
        /// What stands there.
        found: char,
    },
    /// A hash of another length.
    #[error("a hash has 32 bytes, this has {0}")]
    Length(usize),
}

/// Which block a read is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum At {
    /// The newest block, `"head"`.
    #[default]
    Head,
    /// The newest finalised block, `"finalized"`.
    Finalized,
    /// The newest certified block, `"certified"`.
    Certified,
    /// The block of this hash.
    Block(Hash32),
}

/// A block number: a JSON number, or hex as Substrate's clients send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockNumber(pub u64);

/// One of something, or a list of it; answers take the shape of the question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// A list.
    Many(Vec<T>),
}

/// The bytes of strict `0x` hex.
pub fn parse_hex(text: &str) -> Result<Vec<u8>, HexError> {
    let digits = text.strip_prefix("0x").ok_or(HexError::Prefix)?;
    if let Some((at, found)) = digits.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(HexError::Digit { at, found });
    }
    // All are digits now, so an odd count is the one thing left to be wrong.
    const_hex::decode(digits).map_err(|_| HexError::Odd(digits.len()))
}

impl std::str::FromStr for HexBytes {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        parse_hex(text).map(Self)
    }
}

impl std::str::FromStr for Hash32 {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        let bytes = parse_hex(text)?;
        bytes.as_slice().try_into().map(Self).map_err(|_| HexError::Length(bytes.len()))
    }
}

impl From<Vec<u8>> for HexBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for HexBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// `0x` hex out, a visitor of strings in.
macro_rules! as_text {
    ($($name:ident: $expecting:literal),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&const_hex::encode_prefixed(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&const_hex::encode_prefixed(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(|error| E::custom(format_args!("{error} (in {})", shown(text))))
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    )*};
}

as_text!(HexBytes: "bytes as 0x hex", Hash32: "32 bytes as 0x hex");

/// A foreign text cut to what fits an error message.
fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    match text.char_indices().nth(SHOWN_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}… of {} bytes", &text[..end], text.len()),
    }
}

impl JsonSchema for HexBytes {
    fn schema_name() -> Cow<'static, str> {
        "HexBytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0x([0-9a-fA-F]{2})*$", "description": "Bytes as 0x hex." })
    }
}

impl JsonSchema for Hash32 {
    fn schema_name() -> Cow<'static, str> {
        "Hash32".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0x[0-9a-fA-F]{64}$", "description": "32 bytes as 0x hex." })
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Head => serializer.serialize_str("head"),
            Self::Finalized => serializer.serialize_str("finalized"),
            Self::Certified => serializer.serialize_str("certified"),
            Self::Block(hash) => hash.serialize(serializer),
        }
    }
}

impl std::str::FromStr for At {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        match text {
            "head" => Ok(Self::Head),
            "finalized" => Ok(Self::Finalized),
            "certified" => Ok(Self::Certified),
            hash => hash.parse().map(Self::Block),
        }
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = At;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a block hash, \"head\", \"finalized\" or \"certified\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<At, E> {
                text.parse().map_err(|error| {
                    E::custom(format_args!(
                        "{} is not a block hash ({error}), \"head\", \"finalized\" or \"certified\"",
                        shown(text)
                    ))
                })
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for At {
    fn schema_name() -> Cow<'static, str> {
        "At".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let hash = generator.subschema_for::<Hash32>();
        json_schema!({
            "description": "A block: its hash, or a name.",
            "oneOf": [hash, { "enum": ["head", "finalized", "certified"] }],
            "default": "head"
        })
    }
}

impl Serialize for BlockNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for BlockNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrHex)
    }
}

struct NumberOrHex;

impl Visitor<'_> for NumberOrHex {
    type Value = BlockNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a block number, as a number or as 0x hex")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<BlockNumber, E> {
        Ok(BlockNumber(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<BlockNumber, E> {
        // `from_str_radix` would take a sign.
        let digits = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        digits
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(BlockNumber)
            .ok_or_else(|| E::custom(format_args!("{} is not a block number (0x hex, at most 64 bits)", shown(text))))
    }
}

impl JsonSchema for BlockNumber {
    fn schema_name() -> Cow<'static, str> {
        "BlockNumber".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A block number.",
            "oneOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^0x[0-9a-fA-F]{1,16}$" }]
        })
    }
}

// Written out rather than derived as untagged: a derived one would answer every mistake with "did not match any variant".
impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one item or a list")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                T::deserialize(de::value::U64Deserializer::new(number)).map(OneOrMany::One)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(de::value::StrDeserializer::new(text)).map(OneOrMany::One)
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                T::deserialize(de::value::UnitDeserializer::new()).map(OneOrMany::One)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Either(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, to_string};

    use super::*;

    #[test]
    fn hex_is_strict_and_names_what_is_wrong() {
        assert_eq!(from_str::<HexBytes>(r#""0x""#).unwrap(), HexBytes(vec![]));
        assert_eq!(from_str::<HexBytes>(r#""0xAb01""#).unwrap(), HexBytes(vec![0xab, 1]));
        assert_eq!(to_string(&HexBytes(vec![0xab, 1])).unwrap(), r#""0xab01""#);
        for (text, wrong) in [
            (r#""ab""#, "must begin with 0x"),
            (r#""""#, "must begin with 0x"),
            (r#""0Xab""#, "must begin with 0x"),
            (r#""0xabc""#, "odd number of digits, 3"),
            (r#""0xag""#, "position 1: 'g'"),
            (r#""0x 1""#, "position 0: ' '"),
            (r#""0xé1""#, "position 0: 'é'"),
            (r#""0x0x""#, "position 1: 'x'"),
            ("7", "bytes as 0x hex"),
            ("null", "bytes as 0x hex"),
        ] {
            let error = from_str::<HexBytes>(text).unwrap_err().to_string();
            assert!(error.contains(wrong), "{text}: {error}");
        }
        let error = from_str::<Hash32>(r#""0x00""#).unwrap_err().to_string();
        assert!(error.contains("a hash has 32 bytes, this has 1"), "{error}");
    }

    #[test]
    fn a_long_text_is_cut_in_errors() {
        let error = from_str::<HexBytes>(&format!("\"{}\"", "é".repeat(1 << 20))).unwrap_err().to_string();
        assert!(error.len() < 400, "{}", error.len());
    }

    #[test]
    fn at_is_a_hash_or_a_name() {
        assert_eq!(from_str::<At>(r#""head""#).unwrap(), At::Head);
        assert_eq!(from_str::<At>(r#""finalized""#).unwrap(), At::Finalized);
        assert_eq!(from_str::<At>(r#""certified""#).unwrap(), At::Certified);
        let hash = format!("\"0x{}\"", "07".repeat(32));
        assert_eq!(from_str::<At>(&hash).unwrap(), At::Block(Hash32([7; 32])));
        assert_eq!(to_string(&At::Block(Hash32([7; 32]))).unwrap(), hash);
        for text in [r#""latest""#, r#""Head""#, r#""0x00""#, "3", "[]"] {
            let error = from_str::<At>(text).unwrap_err().to_string();
            assert!(error.contains("\"head\", \"finalized\" or \"certified\""), "{text}: {error}");
        }
    }

    #[test]
    fn block_numbers_come_in_both_forms_and_in_lists() {
        type Numbers = OneOrMany<BlockNumber>;
        assert_eq!(from_str::<Numbers>("26").unwrap(), OneOrMany::One(BlockNumber(26)));
        assert_eq!(from_str::<Numbers>(r#""0x1a""#).unwrap(), OneOrMany::One(BlockNumber(26)));
        let many = OneOrMany::Many(vec![BlockNumber(1), BlockNumber(2)]);
        assert_eq!(from_str::<Numbers>(r#"[1, "0x2"]"#).unwrap(), many);
        assert_eq!(from_str::<Numbers>("[]").unwrap(), OneOrMany::Many(vec![]));
        for text in
            ["-1", "1.5", r#""26""#, r#""0x""#, r#""0x+1""#, r#""0x10000000000000000""#, "[[1]]", "{}", "[null]"]
        {
            assert!(from_str::<Numbers>(text).is_err(), "{text}");
        }
        let answer: OneOrMany<Option<Hash32>> = from_str("null").unwrap();
        assert_eq!(answer, OneOrMany::One(None));
    }
}
