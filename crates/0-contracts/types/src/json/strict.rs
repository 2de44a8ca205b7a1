//! Strict JSON: one value, bounded depth, no key twice, no integer beyond 64 bits. Two readers of one document must never
//! see different things, and that is where they do (RFC 8259, sections 4 and 6).
//!
//! A fraction or an exponent makes a number an IEEE 754 double, which rounds; an integer is kept exactly or refused.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::limits::JSON_DEPTH_MAX;

/// The value, or why not. Invalid UTF-8, lone surrogates and trailing text are refused as well.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { levels_left: JSON_DEPTH_MAX }.deserialize(&mut deserializer).map_err(|e| e.to_string())?;
    deserializer.end().map_err(|e| e.to_string())?;
    if !integers_fit(bytes) {
        return Err("an integer is beyond 64 bits; send it as text".to_owned());
    }
    Ok(value)
}

/// Whether every integer of a valid document is kept exactly. The parser rounds larger ones to a double in silence.
pub fn integers_fit(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'"' => after_text(after),
            b'-' | b'0'..=b'9' => {
                let length =
                    rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
                let (number, after) = rest.split_at(length.count());
                if !fits(number) {
                    return false;
                }
                after
            }
            _ => after,
        };
    }
    true
}

/// What comes behind the closing quote.
fn after_text(mut rest: &[u8]) -> &[u8] {
    loop {
        match rest {
            [b'\\', _, after @ ..] => rest = after,
            [b'"', after @ ..] => return after,
            [_, after @ ..] => rest = after,
            [] => return rest,
        }
    }
}

fn fits(number: &[u8]) -> bool {
    /// Digits that fit whatever they are.
    const SAFE_DIGITS: usize = 18;
    if number.len() <= SAFE_DIGITS || number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return true;
    }
    std::str::from_utf8(number).is_ok_and(|text| text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok())
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
        assert_eq!(crate::json::depth(&deepest), JSON_DEPTH_MAX);
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
        check(b"18446744073709551616", "64 bits");
        check(br#"{"a":[1,-9223372036854775809]}"#, "64 bits");
        check(br#"["\\",99999999999999999999]"#, "64 bits");
    }

    #[test]
    fn integers_are_kept_exactly_or_refused() {
        for exact in ["18446744073709551615", "-9223372036854775808", "9007199254740993", "0", "-1"] {
            assert_eq!(parse(exact.as_bytes()).unwrap().to_string(), exact);
        }
        for other in
            [r#""18446744073709551616""#, r#"{"18446744073709551616":"\"99999999999999999999"}"#, "1e30", "1.5"]
        {
            assert!(parse(other.as_bytes()).is_ok(), "{other}");
        }
    }
}
