//! Strict JSON: one value, bounded depth, no key twice. Two readers of one document must never see different things,
//! and duplicated keys are where they do (RFC 8259, section 4).

use std::fmt;

use agentos_types::limits::JSON_DEPTH_MAX;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The value, or why not. Invalid UTF-8, lone surrogates and trailing text are refused as well.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { levels_left: JSON_DEPTH_MAX }.deserialize(&mut deserializer).map_err(|e| e.to_string())?;
    deserializer.end().map_err(|e| e.to_string())?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Strict {
    levels_left: usize,
}

impl Strict {
    fn inner<E: de::Error>(self) -> Result<Self, E> {
        match self.levels_left.checked_sub(1) {
            Some(levels_left) if levels_left > 0 => Ok(Self { levels_left }),
            _ => Err(E::custom(format_args!("nested deeper than {JSON_DEPTH_MAX} levels"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Element(self))? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(Element(self))?;
            if object.contains_key(&key) {
                return Err(de::Error::custom("a key is used twice in one object"));
            }
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

/// A value one level further in; an empty array needs no level for its items, which is why the check sits here.
struct Element(Strict);

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.inner::<D::Error>()?.deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn accepts_what_json_allows() {
        let text = r#"{"a":[1,-2,1.5,"x",null,true,{"b":{}}],"é":"\u00e9"}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        let deepest = parse(nested(JSON_DEPTH_MAX).as_bytes()).unwrap();
        assert_eq!(agentos_types::json::depth(&deepest), JSON_DEPTH_MAX);
    }

    #[test]
    fn refuses_what_readers_disagree_about() {
        let check = |bytes: &[u8], part: &str| {
            let reason = parse(bytes).expect_err(part);
            assert!(reason.contains(part), "{reason} lacks {part}");
        };
        check(br#"{"a":1,"a":2}"#, "twice");
        check(br#"[{"b":{"a":1,"\u0061":2}}]"#, "twice");
        check(nested(JSON_DEPTH_MAX + 1).as_bytes(), "deeper");
        check(nested(100_000).as_bytes(), "deeper");
        check(b"{\"a\":\"\xff\"}", "unicode");
        check(br#""\ud800""#, "");
        check(b"{} {}", "trailing");
        check(b"", "EOF");
        check(b"NaN", "");
        check(b"1e999", "range");
    }
}
