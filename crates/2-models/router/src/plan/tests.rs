use agentos_catalog::Catalog;
use agentos_wire::{Class, Needs, Protocol};

use super::*;
use crate::{Document, Operation, Router, replay};

mod classes;

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
