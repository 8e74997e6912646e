//! A JSON object whose fields are known by name: taken apart in one pass, each field left as text until it is asked for.
//!
//! A field given twice is refused, as no reader agrees with another on which one counts. At most as many fields are kept
//! as are known.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{SpecError, shortened};

/// Names further apart than this are not offered as what was meant.
const NEAREST_SIMILARITY_MIN: f64 = 0.7;

/// What to do with a field that is not known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// Skip it: another program's business.
    Skipped,
    /// Refuse it: a typing error in what we depend on.
    Refused,
}

/// A string, borrowed from the text where it has no escapes.
#[derive(serde::Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// The known fields of one JSON object.
pub(crate) struct Fields<'a> {
    path: String,
    entries: Vec<(&'static str, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    /// Takes the object at `path` apart (the empty path is the whole spec).
    pub(crate) fn parse(
        path: &str,
        text: &'a str,
        known: &'static [&'static str],
        others: Others,
    ) -> Result<Self, SpecError> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let collected = deserializer
            .deserialize_map(Collect { path, known, others })
            .and_then(|entries| deserializer.end().map(|()| entries));
        match collected {
            Ok(entries) => Ok(Self { path: path.to_owned(), entries: entries? }),
            Err(error) if path.is_empty() => Err(SpecError::Json(error)),
            Err(_) => Err(wrong(path.to_owned(), "a JSON object", text)),
        }
    }

    /// The path of one of this object's fields.
    pub(crate) fn path(&self, name: &str) -> String {
        joined(&self.path, name)
    }

    /// A field's text; `null` counts as absent.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a str> {
        let (_, raw) = self.entries.iter().find(|(known, _)| *known == name)?;
        Some(raw.get()).filter(|text| *text != "null")
    }

    /// A field as a type that serde knows; `expected` says in words what it must be.
    pub(crate) fn optional<T: Deserialize<'a>>(
        &self,
        name: &str,
        expected: &'static str,
    ) -> Result<Option<T>, SpecError> {
        let Some(text) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|_| self.wrong(name, expected))
    }

    /// As [`Fields::optional`], for a field that must be there.
    pub(crate) fn required<T: Deserialize<'a>>(&self, name: &str, expected: &'static str) -> Result<T, SpecError> {
        self.optional(name, expected)?.ok_or_else(|| SpecError::Missing { path: self.path(name) })
    }

    /// A refusal of a field's value.
    pub(crate) fn wrong(&self, name: &str, expected: &'static str) -> SpecError {
        wrong(self.path(name), expected, self.raw(name).unwrap_or("null"))
    }
}

/// A refusal of the JSON text `found` at `path`.
pub(crate) fn wrong(path: String, expected: &'static str, found: &str) -> SpecError {
    SpecError::Field { path, expected, found: shortened(found) }
}

fn joined(path: &str, name: &str) -> String {
    let name = shortened(name);
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn nearest(name: &str, known: &'static [&'static str]) -> Option<&'static str> {
    // The measure is quadratic in the lengths; a name as long as this is near to nothing.
    const NAME_BYTES_MAX: usize = 64;
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let similarity = |candidate: &str| strsim::jaro_winkler(&candidate.to_lowercase(), &name.to_lowercase());
    known
        .iter()
        .map(|candidate| (similarity(candidate), *candidate))
        .filter(|(similarity, _)| *similarity >= NEAREST_SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

struct Collect<'p> {
    path: &'p str,
    known: &'static [&'static str],
    others: Others,
}

impl<'de> Visitor<'de> for Collect<'_> {
    // Errors of JSON are serde's; ours travel as a value, so that they keep their type.
    type Value = Result<Vec<(&'static str, &'de RawValue)>, SpecError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries: Vec<(&'static str, &'de RawValue)> = Vec::new();
        let mut refusal = None;
        while let Some(Text(name)) = map.next_key()? {
            let known = self.known.iter().find(|known| **known == name);
            match known {
                // The rest must still be JSON.
                _ if refusal.is_some() => drop(map.next_value::<IgnoredAny>()?),
                Some(known) if entries.iter().any(|(seen, _)| seen == known) => {
                    refusal = Some(SpecError::Repeated { path: joined(self.path, &name) });
                    map.next_value::<IgnoredAny>()?;
                }
                Some(known) => entries.push((known, map.next_value()?)),
                None => {
                    if self.others == Others::Refused {
                        let path = joined(self.path, &name);
                        refusal = Some(SpecError::Unknown { path, nearest: nearest(&name, self.known) });
                    }
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(refusal.map_or(Ok(entries), Err))
    }
}
