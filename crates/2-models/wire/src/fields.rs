//! Taking fields out of an [`Object`] and putting them into one, with the path for who has to find the mistake.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{Object, Protocol, Raw, Refusal};

/// A field of an object, or an object in a list.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

pub fn malformed(field: impl Into<String>, reason: impl ToString) -> Refusal {
    Refusal::Malformed { field: field.into(), reason: reason.to_string() }
}

pub fn object(raw: &RawValue, path: &str) -> Result<Object, Refusal> {
    Object::parse(raw.get().as_bytes()).map_err(|error| malformed(path, error))
}

pub fn optional<T: DeserializeOwned>(object: &mut Object, path: &str, name: &str) -> Result<Option<T>, Refusal> {
    object.take_as(name).map_err(|error| malformed(join(path, name), error))
}

pub fn required<T: DeserializeOwned>(object: &mut Object, path: &str, name: &str) -> Result<T, Refusal> {
    optional(object, path, name)?.ok_or_else(|| malformed(join(path, name), "the field is missing"))
}

/// A string, or a list of objects.
pub enum Content {
    Text(String),
    Blocks(Vec<Raw>),
}

pub fn content(raw: &RawValue, path: &str) -> Result<Content, Refusal> {
    let read = if raw.get().starts_with('"') {
        serde_json::from_str(raw.get()).map(Content::Text)
    } else {
        serde_json::from_str(raw.get()).map(Content::Blocks)
    };
    read.map_err(|error| malformed(path, error))
}

/// Refuses the first extra that the protocol has no place for.
pub fn only(extra: &Object, known: &[&str], path: &str, protocol: Protocol) -> Result<(), Refusal> {
    let stranger = extra.iter().find(|(name, value)| !known.contains(name) && !asks_for_nothing(name, value));
    match stranger {
        Some((name, _)) => Err(Refusal::NoPlace { field: join(path, name), protocol }),
        None => Ok(()),
    }
}

/// A field that is written out, but says what holds without it. Clients and frameworks write these always.
pub fn asks_for_nothing(name: &str, value: &RawValue) -> bool {
    matches!(
        (name, value.get()),
        (_, "null")
            | ("store" | "logprobs", "false")
            | ("detail" | "service_tier", "\"auto\"")
            | ("service_tier", "\"default\"")
            | ("logit_bias" | "metadata", "{}")
            | ("modalities", "[\"text\"]")
            | ("type", "\"function\"")
    )
}

pub fn raw<T: Serialize + ?Sized>(value: &T) -> Raw {
    // Strings, numbers and objects of them: none of these can fail to be written.
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// An object in the making.
#[derive(Debug, Default)]
pub struct Build(Object);

impl Build {
    pub fn new() -> Self {
        Self::default()
    }

    /// An object with a `type`.
    pub fn kind(kind: &str) -> Self {
        Self::new().with("type", kind)
    }

    pub fn with<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        self.0.put(name, raw(value));
        self
    }

    pub fn maybe<T: Serialize>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(name, &value),
            None => self,
        }
    }

    /// If there is anything in it.
    pub fn list(self, name: &str, values: &[Raw]) -> Self {
        if values.is_empty() { self } else { self.with(name, values) }
    }

    /// What is not there yet.
    pub fn extra(mut self, extra: &Object, known: &[&str]) -> Self {
        for (name, value) in extra.iter().filter(|(name, _)| known.contains(name)) {
            if self.0.get(name).is_none() {
                self.0.put(name, value.to_owned());
            }
        }
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn object(self) -> Object {
        self.0
    }

    pub fn raw(self) -> Raw {
        raw(&self.0)
    }

    pub fn bytes(self) -> Vec<u8> {
        // The same: nothing in it can fail to be written.
        serde_json::to_vec(&self.0).unwrap_or_default()
    }
}

pub fn read<T: DeserializeOwned>(raw: &RawValue, path: &str) -> Result<T, Refusal> {
    serde_json::from_str(raw.get()).map_err(|error| malformed(path, error))
}

/// A schema with its name as title and its description as its own, for protocols that have no other place for them: a model
/// reads them there.
pub fn titled(schema: &RawValue, name: Option<&str>, description: Option<&str>) -> Result<Object, Refusal> {
    let mut schema = object(schema, "json_schema.schema")?;
    for (field, text) in [("title", name), ("description", description)] {
        if let Some(text) = text.filter(|_| schema.get(field).is_none()) {
            schema.put(field, raw(text));
        }
    }
    Ok(schema)
}
