//! What an attempt may cost, held before it is sent, and what it did cost, settled after it, whatever became of it.

use std::sync::{
    Arc, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use agentos_catalog::{Price, Terms};
use agentos_failpoint::{Point, hit};
use agentos_ledger::{Amount, Ledger, Reservation, SpendRow};
use agentos_monitor::SoFar;
use agentos_router::Target;
use agentos_types::{Code, Fault, Result, Timestamp, budget::BudgetUnit};
use agentos_wire::{Bytes, Peek, Protocol, Tap, Usage, delivered_tokens, input_tokens_max_by};

use crate::{ModelCall, Operation, Policy, attempt::Asking, engine::Inner};

/// Searches of a provider's own tool in one call, which it bills each. Providers stop at fewer.
const SEARCHES_MAX: u64 = 10;
/// Below this an answer is worth nothing, and a limit of a budget is rather refused than lowered to it.
const OUTPUT_TOKENS_MIN: u64 = 16;

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub usage: Usage,
    /// By us and not by the provider.
    pub is_estimated: bool,
}

/// A share of the budgets that an attempt holds. Dropped, it is settled by what is known of the attempt; where nobody knows what
/// became of it, all of it counts as used.
pub(crate) struct Stake {
    ledger: Ledger,
    reservation: Option<Reservation>,
    reserved: Amount,
    /// No tokenizer counts more.
    input_max: u64,
    /// What a tokenizer of today counts at most of ordinary text: what is billed where nobody has counted.
    input_usual: u64,
    row: SpendRow,
    now: Timestamp,
    price: Option<Arc<Price>>,
    /// The operator's worst case.
    price_is_assumed: bool,
    /// What the client asked to be served at.
    tier: Option<String>,
    has_media: bool,
    so_far: SoFar,
    /// Something of the request may have left. Until then nothing can be billed.
    sent: Arc<AtomicBool>,
    /// The provider was asked for events, and stops when nobody takes them.
    is_stream: bool,
}

/// A stake, and the limit of the output that has to be written into the request for it to be true.
pub(crate) struct Held {
    pub stake: Stake,
    pub max_output: Option<u64>,
}

impl Inner {
    /// Reserves for one attempt at this target, with less output if the policy lets it and the budget needs it.
    pub(crate) async fn hold(&self, asking: &Asking<'_>, target: &Target) -> Result<Held> {
        let Asking { call, so_far, prefill, .. } = asking;
        let prefill_bytes = prefill.map_or(0, |text| text.len() as u64);
        let is_budgeted = self.ledger.is_budgeted(&call.payer);
        let input_usual = input_of(call, target, Bytes::Usual, prefill_bytes);
        // A budget holds for hostile bytes too, of which each can be a token.
        let input = if is_budgeted { input_of(call, target, Bytes::Strict, prefill_bytes) } else { input_usual };
        let (mut output, mut written) = output_of(call, target, &self.policy, is_budgeted);
        if prefill_bytes > 0 {
            // What was delivered counts against the client's limit.
            output = output.saturating_sub(delivered_tokens(prefill_bytes)).max(1);
            written = Some(output);
        }
        if is_budgeted && target.price.is_none() {
            return Err(Fault::new(
                Code::MODEL_PRICE_UNKNOWN,
                format!("the price of {} is not known, and a budget applies to this call", target.id),
            )
            .hint("the operator sets the model's price, or `unknown_price` to a worst case"));
        }
        let choices = call.peek.choices.max(1);
        let now = self.ambient.now();
        let amount = |output: u64| amount(call, target, now, (input, output.saturating_mul(choices)));
        let mut reserved = amount(output);
        let reservation = match self.ledger.reserve(&call.payer, reserved).await {
            Err(fault) if self.policy.lowers_output && fault.code == Code::BUDGET_EXCEEDED => {
                let fits = lowered(&fault, output, &amount).ok_or(fault)?;
                written = Some(fits);
                // Sums: whole after any panic.
                so_far.lock().unwrap_or_else(PoisonError::into_inner).shortened_to = written;
                reserved = amount(fits);
                self.ledger.reserve(&call.payer, reserved).await?
            }
            reserved => reserved?,
        };
        let row = SpendRow { payer: call.payer.shown(), model: target.id.clone(), requests: 1, ..SpendRow::default() };
        let stake = Stake {
            ledger: self.ledger.clone(),
            reservation: Some(reservation),
            reserved,
            input_max: input,
            input_usual,
            row,
            now,
            price: target.price.clone(),
            price_is_assumed: target.price_is_assumed,
            tier: call.peek.service_tier.clone(),
            has_media: has_media(call),
            so_far: SoFar::clone(so_far),
            sent: Arc::default(),
            is_stream: false,
        };
        Ok(Held { stake, max_output: written })
    }
}

/// Tokens that the provider reads at most.
fn input_of(call: &ModelCall, target: &Target, bytes: Bytes, prefill_bytes: u64) -> u64 {
    let Peek { needs, .. } = &call.peek;
    let counted = || {
        let prefill = if bytes == Bytes::Strict { prefill_bytes } else { delivered_tokens(prefill_bytes) };
        let of_image = target.image_tokens.min(target.context.unwrap_or(u64::MAX));
        input_tokens_max_by(bytes, of_image, &call.peek).saturating_add(prefill)
    };
    match call.operation {
        Operation::CountTokens => 0,
        // What lies with the provider cannot be counted from here, nor what a file unfolds to there; the model's window is the most
        // that it can be.
        _ if needs.stored_input || needs.files => counted().max(target.context.unwrap_or_default()),
        _ => counted(),
    }
}

fn amount(call: &ModelCall, target: &Target, now: Timestamp, (input, output): (u64, u64)) -> Amount {
    let searches = if call.peek.needs.hosted_tools { SEARCHES_MAX } else { 0 };
    let terms = Terms { tier: call.peek.service_tier.as_deref(), at: Some(now), media: has_media(call), searches };
    let nano_usd = match &target.price {
        Some(_) if call.operation == Operation::CountTokens => 0,
        Some(price) => price.worst_on(input, output, &terms),
        None => 0,
    };
    Amount { nano_usd, tokens: integer(input.saturating_add(output)), requests: 1 }
}

fn has_media(call: &ModelCall) -> bool {
    let needs = call.peek.needs;
    needs.images || needs.audio || needs.files
}

/// Tokens of one answer at most, and whether they have to be written as a limit.
fn output_of(call: &ModelCall, target: &Target, policy: &Policy, is_budgeted: bool) -> (u64, Option<u64>) {
    if matches!(call.operation, Operation::Embeddings | Operation::CountTokens) {
        return (0, None);
    }
    match call.peek.max_output_tokens {
        Some(max) => (max, None),
        None => {
            let most = target.output_max.unwrap_or(policy.output_max).min(policy.output_max);
            // Without a limit the model may write more than was reserved; where nothing is limited, nothing is touched, unless the
            // provider's protocol knows no request without one.
            let is_below = target.output_max.is_none_or(|known| most < known);
            let is_needed = target.protocol == Protocol::Messages && target.output_max.is_none();
            (most, (is_below && (is_budgeted || is_needed)).then_some(most))
        }
    }
}

/// The longest output that the rest of the budget pays for.
fn lowered(fault: &Fault, output: u64, amount: &impl Fn(u64) -> Amount) -> Option<u64> {
    let fact = |name: &str| fault.facts.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    let remaining: i64 = fact("remaining")?.parse().ok()?;
    let unit =
        [BudgetUnit::NanoUsd, BudgetUnit::Tokens].into_iter().find(|unit| Some(unit.as_str()) == fact("unit"))?;
    let fits = |output: u64| amount(output).of(unit) <= remaining;
    let (mut low, mut high) = (OUTPUT_TOKENS_MIN, output);
    if high <= low || !fits(low) {
        return None;
    }
    // The amount grows with the output: halving finds the last one that fits in at most 64 steps.
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low)
}

fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Stake {
    /// Hands out the word that says when the request leaves.
    pub fn on_its_way(&mut self, is_stream: bool) -> Arc<AtomicBool> {
        self.is_stream = is_stream;
        self.sent.clone()
    }

    /// The provider has said at which tier it serves, which is what it bills.
    pub fn served(&mut self, tier: Option<&str>) {
        // OpenAI says `auto` of a call for which it has not decided yet.
        if let Some(tier) = tier.filter(|tier| *tier != "auto") {
            self.tier = Some(tier.to_owned());
        }
    }

    /// As the provider counted, or as we did. Once: what comes after changes nothing.
    pub fn settle(&mut self, counted: Counted, is_failure: bool) -> Counted {
        if self.reservation.is_none() {
            return counted;
        }
        let Usage { input, output, .. } = counted.usage;
        let nano_usd = match &self.price {
            // Nothing was used: not even what a provider takes for each request.
            _ if counted == Counted::default() => 0,
            Some(price) => price.cost_on(&counted.usage, &self.terms()),
            None => 0,
        };
        let is_estimated =
            counted.is_estimated || self.price_is_assumed || (self.price.is_none() && counted != Counted::default());
        let counted = Counted { is_estimated, ..counted };
        let actual = Amount { nano_usd, tokens: integer(input.saturating_add(output)), requests: 1 };
        if let Some(reservation) = self.reservation.take() {
            reservation.settle(actual);
        }
        self.book(&counted, nano_usd, is_failure);
        hit(Point::ModelsCostSettled);
        counted
    }

    fn terms(&self) -> Terms<'_> {
        Terms { tier: self.tier.as_deref(), at: Some(self.now), media: self.has_media, searches: 0 }
    }

    /// Nothing was sent.
    pub fn release(mut self) {
        if let Some(reservation) = self.reservation.take() {
            reservation.release();
        }
    }

    /// What an answer cost that came whole, or of which so much came. `None` of usage is estimated.
    pub fn counted(&mut self, tap: &Tap, is_whole: bool) -> Counted {
        self.served(tap.tier());
        if is_whole && let Some(usage) = tap.usage() {
            return Counted { usage, is_estimated: false };
        }
        let told = tap.usage_so_far();
        let output = delivered_tokens(tap.delivered_bytes());
        let usage = match told {
            Some(usage) => Usage { output: usage.output.max(output), ..usage },
            None => Usage { input: self.input_usual, output, ..Usage::default() },
        };
        Counted { usage, is_estimated: true }
    }

    /// Something was sent and nothing came back: the provider may have read it.
    pub fn unanswered(&self) -> Counted {
        Counted { usage: Usage { input: self.input_usual, ..Usage::default() }, is_estimated: true }
    }

    fn book(&mut self, counted: &Counted, nano_usd: i64, is_failure: bool) {
        let mut row = std::mem::take(&mut self.row);
        row.failures = i64::from(is_failure);
        row.tokens_input = integer(counted.usage.input);
        row.tokens_output = integer(counted.usage.output);
        row.nano_usd = nano_usd;
        row.estimated = i64::from(counted.is_estimated);
        self.ledger.spend().add(self.now, row);
        // Sums: whole after any panic.
        let mut so_far = self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        so_far.tokens_input = so_far.tokens_input.saturating_add(counted.usage.input);
        so_far.tokens_output = so_far.tokens_output.saturating_add(counted.usage.output);
        so_far.nano_usd = so_far.nano_usd.saturating_add(nano_usd);
        so_far.estimated |= counted.is_estimated;
    }
}

impl Drop for Stake {
    fn drop(&mut self) {
        if self.reservation.is_none() {
            return;
        }
        if !self.sent.load(Ordering::Relaxed) {
            if let Some(reservation) = self.reservation.take() {
                reservation.release();
            }
            return;
        }
        if self.is_stream {
            // Its connection closes, which stops a provider that writes events; of those nothing has come. One that answers as a
            // whole may go on to the end.
            let counted = self.unanswered();
            self.settle(counted, true);
            return;
        }
        drop(self.reservation.take());
        // The reservation, dropped with this, books the same.
        let output = self.reserved.tokens.saturating_sub(integer(self.input_max));
        let usage =
            Usage { input: self.input_max, output: u64::try_from(output).unwrap_or_default(), ..Usage::default() };
        self.book(&Counted { usage, is_estimated: true }, self.reserved.nano_usd, true);
    }
}
