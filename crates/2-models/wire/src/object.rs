//! A JSON object that keeps its order and the spelling of its values. The order of a schema's properties is the order in
//! which a model writes them, and the order of tools decides whether a provider finds its prompt cache again.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

/// A value as it was written.
pub type Raw = Box<RawValue>;

/// Fields in their order. A name that comes twice is refused: two readers could take different ones.
#[derive(Clone, Debug, Default)]
pub struct Object(Vec<(String, Raw)>);

impl Object {
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| &**value)
    }

    /// Takes a field out. What is left at the end of a reader is what it did not know.
    pub fn take(&mut self, name: &str) -> Option<Raw> {
        let at = self.0.iter().position(|(field, _)| field == name)?;
        Some(self.0.remove(at).1)
    }

    /// The same, read as a type. `null` is as if the field were not there.
    pub fn take_as<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, serde_json::Error> {
        match self.take(name) {
            Some(value) if value.get() != "null" => serde_json::from_str(value.get()).map(Some),
            _ => Ok(None),
        }
    }

    pub fn put(&mut self, name: impl Into<String>, value: Raw) {
        self.0.push((name.into(), value));
    }

    /// Any value that serde can write; what cannot be written is a defect of the caller's type.
    pub fn put_as<T: Serialize + ?Sized>(
        &mut self,
        name: impl Into<String>,
        value: &T,
    ) -> Result<(), serde_json::Error> {
        serde_json::value::to_raw_value(value).map(|raw| self.put(name, raw))
    }

    /// Drops all other fields.
    pub fn keep(&mut self, names: &[&str]) {
        self.0.retain(|(name, _)| names.contains(&name.as_str()));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), &**value))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut fields: Vec<(String, Raw)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Raw>()? {
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format!("the field '{name}' comes twice")));
            }
            fields.push((name, value));
        }
        Ok(Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_spelling_survive() {
        let text = r#"{"z":1.0,"a":{"y":2,"b":[1e2]},"m":null}"#;
        let mut object = Object::parse(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), text);
        assert_eq!(object.take_as::<String>("m").unwrap(), None, "null is absence");
        assert_eq!(object.take("a").unwrap().get(), r#"{"y":2,"b":[1e2]}"#);
        assert_eq!(object.names().collect::<Vec<_>>(), ["z"]);
    }

    #[test]
    fn a_name_that_comes_twice_is_refused() {
        assert!(Object::parse(br#"{"a":1,"a":2}"#).unwrap_err().to_string().contains("'a' comes twice"));
    }
}
