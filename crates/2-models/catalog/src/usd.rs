//! USD per million tokens, as people write prices: a decimal, read and written exactly.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// In micro-USD per million tokens, which is pico-USD per token. At most [`PerMillion::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerMillion(u64);

impl PerMillion {
    /// A million USD per million tokens. With tokens below 2⁶⁴ no bill overflows its 128 bits.
    pub const MAX: PerMillion = PerMillion(1_000_000_000_000);
    pub const ZERO: PerMillion = PerMillion(0);

    pub fn pico_usd_per_token(self) -> u64 {
        self.0
    }

    pub(crate) fn from_pico(pico: u64) -> Self {
        Self(pico)
    }
}

/// Why a text is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAPrice;

impl fmt::Display for NotAPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a price: write USD per million tokens, such as \"2.50\", with at most six digits behind the point and at \
             most 1000000",
        )
    }
}

impl std::error::Error for NotAPrice {}

impl FromStr for PerMillion {
    type Err = NotAPrice;

    fn from_str(text: &str) -> Result<Self, NotAPrice> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 7 || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
            return Err(NotAPrice);
        }
        let whole: u64 = whole.parse().map_err(|_| NotAPrice)?;
        let fraction: u64 = format!("{fraction:0<6}").parse().map_err(|_| NotAPrice)?;
        let price = Self(whole * 1_000_000 + fraction);
        if price > Self::MAX { Err(NotAPrice) } else { Ok(price) }
    }
}

impl fmt::Display for PerMillion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{fraction:06}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl Serialize for PerMillion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From a text, or from a number of JSON or TOML. A number with a point has gone through a double on its way; its shortest
/// decimal is what was written, so that nothing is lost up to fifteen digits.
impl<'de> Deserialize<'de> for PerMillion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = PerMillion;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("USD per million tokens, such as \"2.50\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PerMillion, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PerMillion, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PerMillion, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<PerMillion, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_and_written_back() {
        for (text, pico) in
            [("3", 3_000_000), ("0.1", 100_000), ("2.50", 2_500_000), ("0.000001", 1), ("1000000", 1_000_000_000_000)]
        {
            let price: PerMillion = text.parse().unwrap();
            assert_eq!(price.pico_usd_per_token(), pico, "{text}");
            assert_eq!(price.to_string().parse(), Ok(price), "{text}");
        }
        for text in ["", ".5", "-1", "+1", "1e3", "0.0000001", "1000000.1", "99999999", "1,5", "NaN", " 1", "1.2.3"] {
            assert_eq!(text.parse::<PerMillion>(), Err(NotAPrice), "{text}");
        }
    }

    #[test]
    fn numbers_of_json_keep_their_digits() {
        for (json, text) in [("0.1", "0.1"), ("3", "3"), ("3.0", "3"), ("0.000003", "0.000003"), ("\"1.10\"", "1.1")] {
            assert_eq!(serde_json::from_str::<PerMillion>(json).unwrap().to_string(), text);
        }
        for json in ["-0.1", "1e-9", "null", "[1]", "1e300"] {
            assert!(serde_json::from_str::<PerMillion>(json).is_err(), "{json}");
        }
    }
}
