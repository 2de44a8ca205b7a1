//! A price list of one model: what holds when, for whom, and for prompts of which size.

use std::fmt;

use agentos_types::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::PerMillion;

/// Pico-USD, for one token or one unit, of prompts with more than `over` tokens. `None`: it costs what the plain one costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub over: u64,
    #[serde(rename = "in")]
    pub input: u64,
    #[serde(rename = "out", default)]
    pub output: u64,
    /// Read from the provider's cache.
    #[serde(rename = "read", default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<u64>,
    /// Written to it, for minutes.
    #[serde(rename = "write", default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// Written to it for an hour.
    #[serde(rename = "write_1h", default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
    /// Sound, images and video, by the dearest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_in: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_out: Option<u64>,
    /// For each request, whatever it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// For each search of the web that the provider made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_search: Option<u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Prices that hold together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// A service tier; `None` is the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The first day, `2027-01-01`, from midnight UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Day>,
    /// The minutes of each day, UTC, in which it holds: from the first to before the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<(u16, u16)>,
    /// By size of the prompt, the smallest first; the first holds for all.
    pub rates: Vec<Rates>,
}

impl Entry {
    pub fn holds_at(&self, at: Timestamp) -> bool {
        let begun = self.from.as_ref().is_none_or(|day| at.day_start() >= day.0);
        let minute = at.as_micros().saturating_sub(at.day_start().as_micros()) / 60_000_000;
        begun && self.minutes.is_none_or(|(from, to)| (i64::from(from)..i64::from(to)).contains(&minute))
    }

    /// What a prompt of this size costs.
    pub fn rates_of(&self, input: u64) -> Option<&Rates> {
        self.rates.iter().rev().find(|rates| rates.over == 0 || input > rates.over)
    }
}

/// A day by its midnight, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Day(pub Timestamp);

impl Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.to_string();
        serializer.serialize_str(text.get(..10).unwrap_or(&text))
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_day(&text).map(Day).ok_or_else(|| de::Error::custom(format!("'{text}' is no day")))
    }
}

/// Counts days from the epoch (Howard Hinnant's `days_from_civil`, from 1970 on).
fn parse_day(text: &str) -> Option<Timestamp> {
    let mut parts = text.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some()
        || !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
    {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(Timestamp((era * 146_097 + day_of_era - 719_468) * 86_400_000_000))
}

/// What a model costs. There is always at least one price, and each holds for the smallest prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Price {
    pub(crate) entries: Vec<Entry>,
}

impl Price {
    /// One price for everything, as an operator writes it. `cache_read` and the like cost what `input` costs, if unsaid.
    pub fn flat(rates: Rates) -> Self {
        let rates = Rates { over: 0, ..rates };
        Self { entries: vec![Entry { tier: None, from: None, minutes: None, rates: vec![rates] }] }
    }

    pub fn free() -> Self {
        Self::flat(Rates::default())
    }

    /// What is shown of it: the usual price of a small prompt.
    pub fn shown(&self) -> Option<&Rates> {
        self.entries.iter().find(|entry| entry.tier.is_none()).and_then(|entry| entry.rates.first())
    }

    fn checked(entries: Vec<Entry>) -> Result<Self, &'static str> {
        if !entries.iter().any(|entry| entry.tier.is_none()) {
            return Err("no usual price");
        }
        for entry in &entries {
            if entry.rates.first().is_none_or(|first| first.over != 0) {
                return Err("no price of the smallest prompt");
            }
            if !entry.rates.is_sorted_by(|one, next| one.over < next.over) {
                return Err("steps are out of order");
            }
            if entry.minutes.is_some_and(|(from, to)| from >= to || to > 1_440) {
                return Err("no part of a day");
            }
        }
        Ok(Self { entries })
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::checked(Vec::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// For people, `$1.25 in, $10 out per million tokens`.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rates) = self.shown() else { return f.write_str("no price") };
        let [input, output] = [rates.input, rates.output].map(PerMillion::from_pico);
        write!(f, "${input} in, ${output} out per million tokens")?;
        if self.entries.len() > 1 || self.entries.iter().any(|entry| entry.rates.len() > 1) {
            f.write_str(", more in some cases")?;
        }
        Ok(())
    }
}
