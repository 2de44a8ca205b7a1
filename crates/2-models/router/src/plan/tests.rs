use agentos_catalog::Catalog;
use agentos_wire::{Class, Needs, Protocol};

use super::*;
use crate::{Document, Operation, Router, replay};

mod classes;
mod hedges;

pub(crate) const START: Timestamp = Timestamp(1_795_000_000_000_000);

pub(crate) fn at(ms: u64) -> Timestamp {
    START.after(Duration::from_millis(ms))
}

pub(crate) fn router(document: &str) -> Router {
    Router::new(config(document, 1))
}

pub(crate) fn config(document: &str, revision: u64) -> Config {
    thread_local! { static CATALOG: Catalog = Catalog::vendored().unwrap(); }
    let document = Document::from_toml(document).unwrap();
    Config::new(document, CATALOG.with(Clone::clone), revision).unwrap()
}

pub(crate) fn asked(model: &str) -> Asked<'_> {
    Asked {
        model,
        operation: Operation::Chat,
        needs: Needs::default(),
        stream: false,
        input_tokens: 1_000,
        max_output_tokens: Some(1_000),
        budgeted: true,
        now: START,
        deadline: at(120_000),
        seed: 7,
    }
}

pub(crate) fn failure(class: Class) -> Failure {
    Failure { class, retry_after: None, code: None, message: String::new() }
}

/// Two providers with a key each, one with two more in a group, and an alias over both.
pub(crate) const TWO: &str = r#"
    [providers.one]
    kind = "openai"
    keys = ["one-a", { group = "g", secrets = ["one-b", "one-c"] }]
    [providers.two]
    kind = "anthropic"
    keys = ["two-a"]
    [routes.best]
    targets = [{ model = "one/gpt-5" }, { model = "two/claude-sonnet-4-5" }]
"#;

#[test]
fn the_first_of_the_order_is_asked_and_the_next_after_its_failures() {
    let router = router(TWO);
    let mut plan = router.plan(&asked("best")).unwrap();
    let first = plan.next(None, START).unwrap();
    assert_eq!((first.id.as_str(), first.route.as_deref(), first.attempt), ("one/gpt-5", Some("best"), 1));
    assert_eq!((first.base_url.as_str(), first.protocol), ("https://api.openai.com/v1", Protocol::Chat));
    assert_eq!(
        first.price.as_ref().unwrap().cost(&agentos_wire::Usage { input: 1_000, ..Default::default() }),
        1_250_000
    );
    let again = plan.next(Some(&failure(Class::Server)), at(10)).unwrap();
    assert_eq!((again.id.as_str(), again.attempt), ("one/gpt-5", 2));
    assert!(again.pause <= Duration::from_millis(100));
    let other = plan.next(Some(&failure(Class::Server)), at(20)).unwrap();
    assert_eq!((other.id.as_str(), other.protocol, other.attempt), ("two/claude-sonnet-4-5", Protocol::Messages, 3));
    assert!(plan.next(Some(&failure(Class::Server)), at(30)).is_none());
    assert_eq!(plan.stopped(), Some(Stop::Attempts));
    assert_eq!(plan.record().steps.len(), 4);
    replay(plan.record()).unwrap();
}

#[test]
fn names_mean_one_target_or_are_refused_with_the_choices() {
    let router = router(
        r#"
        [providers.one]
        kind = "openai"
        keys = ["a"]
        [providers.two]
        kind = "azure"
        base_url = "https://x.example/openai/v1"
        keys = ["b"]
        [providers.lab]
        kind = "openai-compatible"
        base_url = "http://127.0.0.1:8080/v1"
        only_listed = true
        models."acme/small" = {}
        models.gone = { disabled = true }
        [routes.off]
        disabled = true
        targets = [{ model = "one/gpt-5" }]
        "#,
    );
    let named = |name: &str| {
        router.plan(&Asked { budgeted: false, ..asked(name) }).map(|mut plan| plan.next(None, START).unwrap().id)
    };
    assert_eq!(named("one/gpt-5").unwrap(), "one/gpt-5");
    assert_eq!(
        named("one/what-is-this").unwrap(),
        "one/what-is-this",
        "a provider may have models that we do not know"
    );
    assert_eq!(named("acme/small").unwrap(), "lab/acme/small");
    assert_eq!(named("lab/acme/small").unwrap(), "lab/acme/small");
    let NoTarget::Ambiguous { choices, .. } = named("gpt-5").unwrap_err() else { unreachable!() };
    assert_eq!(choices, ["one/gpt-5", "two/gpt-5"]);
    assert_eq!(
        named("lab/acme/large").unwrap_err(),
        NoTarget::Unknown { model: "lab/acme/large".to_owned(), choices: vec![] }
    );
    let NoTarget::Unknown { choices, .. } = named("smal").unwrap_err() else { unreachable!() };
    assert_eq!(choices, ["lab/acme/small"]);
    assert!(matches!(named("off").unwrap_err(), NoTarget::Disabled { .. }));
    assert!(matches!(named("lab/gone").unwrap_err(), NoTarget::NotCapable { .. }));
    assert!(matches!(named("one/").unwrap_err(), NoTarget::Unknown { .. }));
    assert!(matches!(named("").unwrap_err(), NoTarget::Unknown { .. }));
}

fn good() -> Observed<'static> {
    Observed::Answered { first_byte: Duration::from_millis(5) }
}

/// One target without a key, so that there is one way only.
const ONE: &str = "[providers.one]\nkind = \"ollama\"\n[routes.best]\ntargets = [{ model = \"one/m\" }]\n";

fn fail(router: &Router, class: Class, now: Timestamp) -> Option<Change> {
    let mut plan = router.plan(&Asked { now, deadline: now.after(Duration::from_secs(9)), ..asked("best") }).unwrap();
    let target = plan.next(None, now).unwrap();
    plan.report(&target, Observed::Failed(&failure(class)), now)
}

#[test]
fn five_failures_open_the_breaker_and_requests_fail_fast_until_it_reopens() {
    let router = router(ONE);
    for index in 0..4 {
        assert_eq!(fail(&router, Class::Connect, at(index)), None);
    }
    assert_eq!(fail(&router, Class::Connect, at(4)), Some(Change::Opened));
    let refused = router.plan(&Asked { now: at(1_004), ..asked("best") }).unwrap_err();
    let fault = agentos_types::Fault::from(refused);
    assert_eq!(fault.code, agentos_types::Code::MODEL_UNAVAILABLE);
    assert_eq!(fault.retry_after, Some(Duration::from_secs(4)));
    // Half open: one request finds out, and while it does, no other.
    let late = Asked { now: at(5_004), ..asked("best") };
    let mut probe = router.plan(&late).unwrap();
    let target = probe.next(None, at(5_004)).unwrap();
    assert!(router.plan(&late).is_err());
    assert_eq!(probe.report(&target, good(), at(5_010)), None);
    assert!(router.plan(&late).is_ok(), "its answer has begun, so that the next may try");
    let forgotten = router.plan(&late).unwrap();
    drop(forgotten);
    for closes in [None, Some(Change::Closed)] {
        let mut plan = router.plan(&late).unwrap();
        let target = plan.next(None, at(5_020)).unwrap();
        assert_eq!(plan.report(&target, good(), at(5_020)), closes);
    }
    drop(probe);
    let views = router.health(at(5_021));
    assert_eq!((views.len(), views[0].target.as_str(), views[0].in_flight), (1, "one/m", 0));
    assert_eq!(views[0].lanes[0].state, BreakerState::Closed);
}

#[test]
fn a_stream_that_breaks_after_its_first_byte_counts() {
    let router = router(ONE);
    for index in 0..5 {
        let mut plan = router.plan(&Asked { stream: true, ..asked("best") }).unwrap();
        let target = plan.next(None, START).unwrap();
        plan.report(&target, good(), START);
        let change = plan.report(&target, Observed::Failed(&failure(Class::StreamBroken)), at(1));
        assert_eq!(
            change,
            if index == 4 { Some(Change::Opened) } else { None },
            "{index}: each is half of what it counts"
        );
        assert_eq!(plan.report(&target, Observed::Failed(&failure(Class::StreamBroken)), at(2)), None, "once");
        assert!(plan.next(Some(&failure(Class::StreamBroken)), at(2)).is_none());
        assert_eq!(plan.stopped(), Some(Stop::Final));
    }
}

#[test]
fn health_outlives_a_swap_for_what_stays_and_a_request_keeps_its_document() {
    let router = router(ONE);
    let mut old = router.plan(&asked("best")).unwrap();
    for index in 0..5 {
        fail(&router, Class::Server, at(index));
    }
    router.swap(config(&format!("{ONE}hedge = true"), 2));
    assert!(router.plan(&Asked { now: at(10), ..asked("best") }).is_err(), "the same target is still open");
    assert_eq!(router.config().revision(), 2);
    assert_eq!(old.next(None, at(10)).unwrap().id, "one/m");
    assert_eq!(old.record().revision, 1);
    let moved = ONE.replace("kind = \"ollama\"", "kind = \"ollama\"\nbase_url = \"http://127.0.0.1:9/v1\"");
    router.swap(config(&moved, 3));
    assert!(router.plan(&Asked { now: at(10), ..asked("best") }).is_ok(), "another address is another provider");
    assert_eq!(router.health(at(10)).len(), 1);
}

#[test]
fn a_refused_key_is_left_alone_and_the_other_is_used() {
    let document = "[providers.one]\nkind = \"openai\"\nkeys = [\"a\", \"b\"]\n[routes.best]\ntargets = [{ model = \"one/gpt-5\" }]";
    let router = router(document);
    let mut plan = router.plan(&asked("best")).unwrap();
    let first = plan.next(None, START).unwrap();
    let second = plan.next(Some(&failure(Class::Auth)), at(1)).unwrap();
    assert_ne!(first.key, second.key);
    plan.report(&second, good(), at(2));
    for seed in 0..20 {
        let mut plan = router.plan(&Asked { seed, now: at(3), ..asked("best") }).unwrap();
        assert_eq!(plan.next(None, at(3)).unwrap().key, second.key);
    }
    let view = &router.health(at(3))[0];
    assert_eq!((view.keys.len(), view.keys[0].is_refused), (1, true));
    // Both refused: the client learns it, and nobody is asked a third time.
    let mut plan = router.plan(&Asked { now: at(4), ..asked("best") }).unwrap();
    plan.next(None, at(4)).unwrap();
    assert!(plan.next(Some(&failure(Class::Auth)), at(5)).is_none());
    assert_eq!(plan.stopped(), Some(Stop::Exhausted));
    assert!(router.plan(&Asked { now: at(6), ..asked("best") }).is_err());
}

#[test]
fn a_hedge_goes_elsewhere_counts_as_an_attempt_and_loses_quietly() {
    let document = format!("{TWO}hedge = true");
    let router = router(&document);
    for _ in 0..30 {
        let mut plan = router.plan(&Asked { stream: true, ..asked("best") }).unwrap();
        let target = plan.next(None, START).unwrap();
        plan.report(&target, good(), START);
    }
    let mut plan = router.plan(&Asked { stream: true, ..asked("best") }).unwrap();
    let slow = plan.next(None, START).unwrap();
    assert_eq!(slow.hedge_after, Some(Duration::from_millis(5)));
    let other = plan.hedge(at(5)).unwrap();
    assert_eq!((other.id.as_str(), other.attempt), ("two/claude-sonnet-4-5", 2));
    assert!(plan.hedge(at(6)).is_none(), "there is nobody else");
    plan.report(&slow, Observed::Failed(&failure(Class::Timeout)), at(7));
    // Both failed: one more attempt, and the failures of both are known.
    let third = plan.next(Some(&failure(Class::Server)), at(8)).unwrap();
    assert_eq!(third.attempt, 3);
    assert!(plan.next(Some(&failure(Class::Server)), at(9)).is_none());
    assert_eq!(plan.stopped(), Some(Stop::Attempts));
    replay(plan.record()).unwrap();
    assert!(router.plan(&asked("one/gpt-5")).unwrap().hedge(at(9)).is_none(), "only where a route wants it");
}

#[test]
fn a_record_is_read_back_replays_and_notices_a_change() {
    let router = router(TWO);
    let mut plan = router.plan(&asked("best")).unwrap();
    plan.next(None, START).unwrap();
    plan.next(Some(&failure(Class::Connect)), at(3)).unwrap();
    let json = serde_json::to_string(plan.record()).unwrap();
    let mut record: DecisionRecord = serde_json::from_str(&json).unwrap();
    assert_eq!(&record, plan.record());
    replay(&record).unwrap();
    assert!(json.len() < 4_096, "{} bytes", json.len());
    record.steps[0].situation.candidates[0].excluded = Some(Exclusion::Disabled);
    let mismatch = replay(&record).unwrap_err();
    assert_eq!(mismatch.step, 0);
    assert!(mismatch.to_string().contains("would be"), "{mismatch}");
}

#[test]
fn an_explanation_says_why_each_target_was_chosen_or_not_and_asks_nobody() {
    let router = router(
        r#"
        [providers.one]
        kind = "openai"
        keys = ["one-a"]
        models.gpt-5.disabled = true
        [providers.two]
        kind = "ollama"
        models.m = { capabilities = { tools = false } }
        [providers.three]
        kind = "anthropic"
        keys = ["three-a"]
        [routes.best]
        targets = [{ model = "one/gpt-5" }, { model = "two/m" }, { model = "three/claude-sonnet-4-5" }, { model = "one/gpt-4o" }]
        "#,
    );
    let needs = Needs { tools: true, ..Needs::default() };
    let record = router.explain(&Asked { needs, ..asked("best") }).unwrap();
    assert_eq!(
        record.to_string(),
        "'best' at 2026-11-18T11:06:40.000Z, document 1, policy order: 1000 tokens at most, needs tools\n\
         1. one/gpt-5: not possible: it is disabled\n\
         1. two/m: not possible: it lacks tools\n\
         1. three/claude-sonnet-4-5: chosen with the key 'three-a'; no answer yet, 0 ‰ errors, 0 in flight, at most $0.021, weight 1\n\
         1. one/gpt-4o: possible; no answer yet, 0 ‰ errors, 0 in flight, at most $0.02125, weight 1\n"
    );
    assert!(router.health(START).iter().all(|view| view.in_flight == 0));
    let fault = agentos_types::Fault::from(router.plan(&Asked { needs, ..asked("two/m") }).unwrap_err());
    assert_eq!(fault.code, agentos_types::Code::MODEL_NOT_CAPABLE);
    assert_eq!(fault.message, "no target of 'two/m' can answer this request: two/m: it lacks tools");
}

#[test]
fn each_refusal_has_its_code() {
    use agentos_types::{Code, Fault};
    let router = router(&format!("{TWO}\n[providers.three]\nkind = \"openai\"\nkeys = [\"k\"]\ndisabled = true"));
    let code = |asked: &Asked<'_>| Fault::from(router.plan(asked).unwrap_err()).code;
    assert_eq!(code(&asked("nothing")), Code::MODEL_UNKNOWN);
    assert_eq!(code(&asked("three/gpt-5")), Code::MODEL_DISABLED);
    assert_eq!(code(&asked("one/unpriced")), Code::MODEL_PRICE_UNKNOWN);
    assert_eq!(code(&Asked { input_tokens: 10_000_000, ..asked("best") }), Code::MODEL_INPUT_TOO_LONG);
    assert_eq!(code(&Asked { operation: Operation::Embeddings, ..asked("best") }), Code::MODEL_NOT_CAPABLE);
    assert_eq!(code(&Asked { deadline: START, ..asked("best") }), Code::MODEL_UNAVAILABLE);
}

#[test]
fn a_worst_case_prices_what_has_no_price() {
    let router = router(&format!("unknown_price = {{ input = 30, output = 150 }}\n{TWO}"));
    let target = router.plan(&asked("one/unpriced")).unwrap().next(None, START).unwrap();
    assert!(target.price_is_assumed);
    assert_eq!(target.price.unwrap().worst(1_000, 1_000), 30_000_000 + 150_000_000);
    assert!(!router.plan(&asked("one/gpt-5")).unwrap().next(None, START).unwrap().price_is_assumed);
}

#[test]
fn retries_stay_below_a_tenth_of_the_traffic() {
    let router = router(ONE);
    let mut retries = 0;
    for index in 0..2_000_u64 {
        let now = at(index * 50);
        let asked = Asked { now, deadline: now.after(Duration::from_secs(30)), seed: index, ..asked("best") };
        let mut plan = router.plan(&asked).unwrap();
        let mut target = plan.next(None, now);
        // A third of the requests fails, which opens no breaker.
        if index % 3 == 0 {
            target = plan.next(Some(&failure(Class::Server)), now);
            match &target {
                Some(_) => retries += 1,
                None => assert_eq!(plan.stopped(), Some(Stop::RetryBudget)),
            }
        }
        if let Some(target) = target {
            plan.report(&target, good(), now);
        }
        replay(plan.record()).unwrap();
    }
    assert!((200..=210).contains(&retries), "{retries} retries of 2000 requests");
}

#[test]
fn a_key_that_was_replaced_rests_no_longer() {
    let document =
        "[providers.one]\nkind = \"openai\"\nkeys = [\"a\"]\n[routes.best]\ntargets = [{ model = \"one/gpt-5\" }]\n";
    let router = router(document);
    assert_eq!(fail(&router, Class::Auth, START), Some(Change::KeyRefused));
    let asked = Asked { budgeted: false, ..asked("best") };
    let refused: agentos_types::Fault = router.plan(&asked).unwrap_err().into();
    assert_eq!(refused.code, agentos_types::Code::MODEL_UNAVAILABLE);
    assert!(refused.hint.unwrap().contains("model explain best"));
    router.forgive_key("b");
    assert!(router.plan(&asked).is_err(), "that is another one");
    router.forgive_key("a");
    assert_eq!(router.plan(&asked).unwrap().next(None, START).unwrap().id, "one/gpt-5");
}
