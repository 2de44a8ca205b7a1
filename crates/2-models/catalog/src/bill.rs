//! From tokens to money. Sums are exact in 128 bits and rounded up once.

use agentos_types::Timestamp;
use agentos_wire::Usage;

use crate::{
    Price,
    price::{Entry, Rates},
};

/// Billionths of a USD, as the ledger counts them. Never negative; what does not fit is the most that does.
pub type NanoUsd = i64;

const PICO_PER_NANO: u128 = 1_000;

/// How a service says that it has nothing special: OpenAI's `default`, Anthropic's `standard` and `standard_only`, Groq's
/// `on_demand`.
const USUAL_TIERS: &[&str] = &["default", "standard", "standard_only", "on_demand"];

/// What a price depends on beside tokens. What is not known is left out, and the dearest of what may hold counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms<'a> {
    /// Before a call what the client asked for, after it what the provider says that it was.
    pub tier: Option<&'a str>,
    /// When the call began.
    pub at: Option<Timestamp>,
    /// There is more than text in what is read or written.
    pub media: bool,
    /// Searches that the provider made, or may make.
    pub searches: u64,
}

impl Price {
    /// What was used costs this, at the usual tier.
    pub fn cost(&self, usage: &Usage) -> NanoUsd {
        self.cost_on(usage, &Terms::default())
    }

    /// A provider that names no tier served the usual one.
    pub fn cost_on(&self, usage: &Usage, terms: &Terms<'_>) -> NanoUsd {
        let tier = match terms.tier {
            None | Some("auto") => Tier::Usual,
            Some(name) => self.tier(name),
        };
        self.dearest(tier, terms.at, |entry| entry.rates_of(usage.input).map_or(0, |rates| bill(rates, usage, terms)))
    }

    /// No call of at most this size costs more, whatever tier it is served at and whatever is read from a cache or written to it.
    pub fn worst(&self, input: u64, output: u64) -> NanoUsd {
        self.worst_on(input, output, &Terms { media: true, ..Terms::default() })
    }

    /// The same for a call of which more is known. A project can have another tier than the usual one as its default, so one
    /// that is not named can be any.
    pub fn worst_on(&self, input: u64, output: u64, terms: &Terms<'_>) -> NanoUsd {
        let tier = match terms.tier {
            None | Some("auto") => Tier::Any,
            Some(name) => self.tier(name),
        };
        self.dearest(tier, terms.at, |entry| {
            let reached = entry.rates.iter().filter(|rates| rates.over == 0 || input > rates.over);
            reached.map(|rates| bound(rates, input, output, terms)).max().unwrap_or(0)
        })
    }

    fn tier<'a>(&self, name: &'a str) -> Tier<'a> {
        if USUAL_TIERS.contains(&name) {
            Tier::Usual
        } else if self.entries.iter().any(|entry| entry.tier.as_deref() == Some(name)) {
            Tier::Named(name)
        } else {
            Tier::Any
        }
    }

    fn dearest(&self, tier: Tier<'_>, at: Option<Timestamp>, bill: impl Fn(&Entry) -> u128) -> NanoUsd {
        let holds = |entry: &&Entry| match at {
            None => true,
            // Of those that hold the last one counts.
            Some(at) => {
                let last = self.entries.iter().rfind(|other| other.tier == entry.tier && other.holds_at(at));
                last.is_none_or(|last| std::ptr::eq(last, *entry))
            }
        };
        let pico = self.entries.iter().filter(|entry| tier.is(entry)).filter(holds).map(bill).max().unwrap_or(0);
        NanoUsd::try_from(pico.div_ceil(PICO_PER_NANO)).unwrap_or(NanoUsd::MAX)
    }
}

#[derive(Clone, Copy)]
enum Tier<'a> {
    Usual,
    Named(&'a str),
    Any,
}

impl Tier<'_> {
    fn is(self, entry: &Entry) -> bool {
        match self {
            Tier::Usual => entry.tier.is_none(),
            Tier::Named(name) => entry.tier.as_deref() == Some(name),
            Tier::Any => true,
        }
    }
}

fn times(tokens: u64, pico: u64) -> u128 {
    u128::from(tokens) * u128::from(pico)
}

impl Rates {
    fn text_or_media(&self, terms: &Terms<'_>) -> u64 {
        if terms.media { self.input.max(self.media_in.unwrap_or(0)) } else { self.input }
    }

    /// Models that write images do so unasked, so that their text cannot be told apart; those that speak say so beforehand.
    fn written(&self, terms: &Terms<'_>) -> u64 {
        let media = self.media_out.filter(|_| terms.media || self.media_in.is_none());
        self.output.max(media.unwrap_or(0))
    }

    /// Where only the price of minutes is known, an hour is taken for twice the input, as the one provider that has both does.
    fn kept_an_hour(&self) -> u64 {
        self.cache_write_1h.unwrap_or_else(|| match self.cache_write {
            Some(write) => write.max(self.input.saturating_mul(2)),
            None => self.input,
        })
    }

    fn units(&self, terms: &Terms<'_>) -> u128 {
        let search = self.search.unwrap_or(0).max(self.file_search.unwrap_or(0));
        u128::from(self.request.unwrap_or(0)) + times(terms.searches, search)
    }
}

/// Parts that come to more than their whole are billed as they are.
fn bill(rates: &Rates, usage: &Usage, terms: &Terms<'_>) -> u128 {
    let read = rates.text_or_media(terms);
    let written = rates.written(terms);
    let plain = usage.input.saturating_sub(usage.cache_read).saturating_sub(usage.cache_write);
    let minutes = usage.cache_write.saturating_sub(usage.cache_write_1h);
    let spoken = usage.output.saturating_sub(usage.reasoning);
    times(plain, read)
        + times(usage.cache_read, rates.cache_read.unwrap_or(read))
        + times(minutes, rates.cache_write.unwrap_or(read))
        + times(usage.cache_write_1h, rates.kept_an_hour())
        + times(spoken, written)
        + times(usage.reasoning, rates.reasoning.unwrap_or(written))
        + rates.units(terms)
}

fn bound(rates: &Rates, input: u64, output: u64, terms: &Terms<'_>) -> u128 {
    let read = [
        rates.text_or_media(terms),
        rates.cache_read.unwrap_or(0),
        rates.cache_write.unwrap_or(0),
        rates.kept_an_hour(),
    ];
    let written = [rates.written(terms), rates.reasoning.unwrap_or(0)];
    let dearest = |prices: &[u64]| prices.iter().copied().max().unwrap_or(0);
    times(input, dearest(&read)) + times(output, dearest(&written)) + rates.units(terms)
}

#[cfg(test)]
mod tests;
