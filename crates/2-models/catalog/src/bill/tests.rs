use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{Catalog, Family};

fn price(family: Family, model: &str) -> Arc<Price> {
    Catalog::vendored().unwrap().facts(family, model).unwrap().price.clone().unwrap()
}

fn used(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

/// The public price lists, by hand: USD for a million tokens each way, in nano-USD for a thousand.
#[test]
fn known_models_cost_what_their_public_prices_say() {
    for (family, model, input, output) in [
        (Family::Openai, "gpt-4o", 2_500_000, 10_000_000),
        (Family::Openai, "gpt-5", 1_250_000, 10_000_000),
        (Family::Openai, "gpt-4o-mini", 150_000, 600_000),
        (Family::Anthropic, "claude-sonnet-4-5", 3_000_000, 15_000_000),
        (Family::Anthropic, "claude-sonnet-4-5-20250929", 3_000_000, 15_000_000),
        (Family::Google, "gemini-2.5-pro", 1_250_000, 10_000_000),
        (Family::Openai, "text-embedding-3-small", 20_000, 0),
    ] {
        let price = price(family, model);
        assert_eq!(price.cost(&used(1_000, 0)), input, "{model}");
        assert_eq!(price.cost(&used(0, 1_000)), output, "{model}");
    }
}

#[test]
fn a_long_prompt_is_billed_as_a_whole_at_its_step() {
    let pro = price(Family::Google, "gemini-2.5-pro");
    assert_eq!(pro.cost(&used(200_000, 1_000)), 250_000_000 + 10_000_000);
    assert_eq!(pro.cost(&used(200_001, 1_000)), 500_002_500 + 15_000_000);
    let cached = Usage { input: 200_001, cache_read: 200_001, ..Usage::default() };
    assert_eq!(pro.cost(&cached), 50_000_250, "what comes from the cache counts for the size");
}

#[test]
fn each_use_of_a_cache_has_its_price() {
    let sonnet = price(Family::Anthropic, "claude-sonnet-4-5");
    let usage =
        Usage { input: 10_000, cache_read: 4_000, cache_write: 5_000, cache_write_1h: 2_000, ..Usage::default() };
    // 1,000 plain at 3, 4,000 read at 0.30, 3,000 written at 3.75, 2,000 for an hour at 6.
    assert_eq!(sonnet.cost(&usage), 3_000_000 + 1_200_000 + 11_250_000 + 12_000_000);
    let plain = Price::flat(Rates { input: 1_000_000, output: 1_000_000, ..Rates::default() });
    assert_eq!(plain.cost(&usage), 10_000_000, "what has no price of its own costs what the rest costs");
}

#[test]
fn a_tier_that_is_named_is_billed_and_one_that_nobody_knows_is_the_dearest() {
    let gpt = price(Family::Openai, "gpt-5");
    let cost = |tier| gpt.cost_on(&used(1_000, 0), &Terms { tier, ..Terms::default() });
    assert_eq!(cost(None), 1_250_000);
    assert_eq!(cost(Some("default")), 1_250_000);
    assert_eq!(cost(Some("flex")), 625_000);
    assert_eq!(cost(Some("priority")), 2_500_000);
    assert_eq!(cost(Some("platinum")), 2_500_000);
    let worst = |tier| gpt.worst_on(1_000, 0, &Terms { tier, ..Terms::default() });
    assert_eq!(worst(None), 2_500_000);
    assert_eq!(worst(Some("auto")), 2_500_000);
    assert_eq!(worst(Some("default")), 1_250_000);
    assert_eq!(gpt.worst(1_000, 0), 2_500_000);
}

#[test]
fn prices_of_hours_and_of_days_to_come_hold_when_they_do() {
    const DAY: i64 = 86_400_000_000;
    let at =
        |days: i64, minute: i64| Terms { at: Some(Timestamp(days * DAY + minute * 60_000_000)), ..Terms::default() };
    let today = 20_780; // 2026-11-23
    let flash = price(Family::Deepseek, "deepseek-v4-flash");
    for (minute, nano) in
        [(0, 150_000), (59, 150_000), (60, 300_000), (239, 300_000), (240, 150_000), (360, 300_000), (600, 150_000)]
    {
        assert_eq!(flash.cost_on(&used(1_000, 0), &at(today, minute)), nano, "minute {minute}");
    }
    assert_eq!(flash.cost(&used(1_000, 0)), 300_000, "whoever does not say when pays the dearest");
    let gemini = price(Family::Google, "gemini-3.6-flash");
    let new_year = 20_819;
    assert_eq!(gemini.cost_on(&used(1_000, 0), &at(new_year - 1, 1_439)), 750_000);
    assert_eq!(gemini.cost_on(&used(1_000, 0), &at(new_year, 0)), 1_500_000);
}

#[test]
fn requests_and_searches_are_billed_by_piece() {
    let price = Price::flat(Rates { request: Some(5_000_000_000), search: Some(10_000_000_000), ..Rates::default() });
    assert_eq!(price.cost(&Usage::default()), 5_000_000);
    assert_eq!(price.cost_on(&Usage::default(), &Terms { searches: 3, ..Terms::default() }), 35_000_000);
}

#[test]
fn one_token_of_the_cheapest_price_is_not_free_and_the_dearest_bill_does_not_overflow() {
    let cheap = Price::flat(Rates { input: 1, ..Rates::default() });
    assert_eq!(cheap.cost(&used(1, 0)), 1, "rounded up");
    assert_eq!(cheap.cost(&used(1_000, 0)), 1);
    assert_eq!(cheap.cost(&used(1_001, 0)), 2);
    assert_eq!(Price::free().cost(&used(u64::MAX, u64::MAX)), 0);
    let dear = Price::flat(Rates { input: u64::MAX, output: u64::MAX, ..Rates::default() });
    assert_eq!(dear.cost(&used(u64::MAX, 0)), NanoUsd::MAX);
    assert_eq!(dear.worst(u64::MAX, 0), NanoUsd::MAX);
}

/// An independent sum, with fractions of integers: numerator over a thousand.
fn by_hand(rates: &Rates, usage: &Usage) -> (u128, u128) {
    let parts = [
        (usage.input - usage.cache_read - usage.cache_write, rates.input),
        (usage.cache_read, rates.cache_read.unwrap_or(rates.input)),
        (usage.cache_write, rates.cache_write.unwrap_or(rates.input)),
        (usage.output, rates.output),
    ];
    (parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price)).sum(), 1_000)
}

fn rates() -> impl Strategy<Value = Rates> {
    let price = || 0_u64..2_000_000_000;
    let maybe = || proptest::option::of(0_u64..2_000_000_000);
    (price(), price(), maybe(), maybe(), maybe()).prop_map(|(input, output, cache_read, cache_write, reasoning)| {
        Rates { input, output, cache_read, cache_write, reasoning, ..Rates::default() }
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    let tokens = || 0_u64..3_000_000;
    (tokens(), tokens(), tokens(), tokens()).prop_map(|(plain, cache_read, cache_write, output)| Usage {
        input: plain + cache_read + cache_write,
        cache_read,
        cache_write,
        output,
        ..Usage::default()
    })
}

proptest! {
    #[test]
    fn the_bill_is_the_exact_rational_rounded_up(rates in rates(), usage in usage()) {
        let nano = u128::try_from(Price::flat(rates).cost(&usage)).unwrap();
        let (numerator, denominator) = by_hand(&rates, &usage);
        prop_assert!(nano * denominator >= numerator);
        prop_assert!(nano == 0 || (nano - 1) * denominator < numerator);
    }

    #[test]
    fn no_call_costs_more_than_the_worst(
        model in 0_usize..10_000, usage in usage(), hour in any::<bool>(), thought in 0_u64..=100,
        media in any::<bool>(), tier in proptest::option::of("(flex|priority|fast|default|auto|x)"), searches in 0_u64..5,
        more in 0_u64..1_000_000, at in proptest::option::of(0_i64..100_000_000_000_000_000),
    ) {
        thread_local! { static CATALOG: Catalog = Catalog::vendored().unwrap(); }
        let prices: Vec<Arc<Price>> = CATALOG.with(|catalog| Family::ALL.iter().flat_map(|family| {
            catalog.names(*family).into_iter().filter_map(|name| catalog.facts(*family, name)?.price.clone()).collect::<Vec<_>>()
        }).collect());
        let price = &prices[model % prices.len()];
        let usage = Usage {
            cache_write_1h: if hour { usage.cache_write } else { 0 },
            reasoning: usage.output * thought / 100,
            ..usage
        };
        let terms = Terms { tier: tier.as_deref(), at: at.map(Timestamp), media, searches };
        let cost = price.cost_on(&usage, &terms);
        prop_assert!(cost >= 0);
        prop_assert!(cost <= price.worst_on(usage.input + more, usage.output + more, &terms));
        let unknown = Terms { media: true, searches, ..Terms::default() };
        prop_assert!(cost <= price.worst_on(usage.input + more, usage.output + more, &unknown));
    }
}
