//! Each class of failure leads where the design says.

use super::*;

/// After one failure of the first target: who is asked, by which key, after which pause.
#[derive(Debug, PartialEq)]
enum Then {
    Same,
    OtherKey,
    Other,
    Nobody(Stop),
}

fn then(document: &str, class: Class, retry_after: Option<u64>) -> (Then, Duration) {
    let router = router(document);
    let mut plan = router.plan(&asked("best")).unwrap();
    let first = plan.next(None, START).unwrap();
    let failure = Failure { retry_after: retry_after.map(Duration::from_millis), ..failure(class) };
    let next = plan.next(Some(&failure), at(1));
    replay(plan.record()).unwrap();
    match next {
        None => (Then::Nobody(plan.stopped().unwrap()), Duration::ZERO),
        Some(next) if next.id != first.id => (Then::Other, next.pause),
        Some(next) if next.key != first.key => (Then::OtherKey, next.pause),
        Some(next) => (Then::Same, next.pause),
    }
}

const ONE_KEY_EACH: &str = r#"
    [providers.one]
    kind = "openai"
    keys = ["one-a"]
    [providers.two]
    kind = "openai-compatible"
    base_url = "https://two.example/v1"
    catalog = "openai"
    [routes.best]
    targets = [{ model = "one/gpt-5" }, { model = "two/gpt-5" }]
"#;

#[test]
fn each_class_does_what_the_design_says() {
    for (class, wait, wanted) in [
        (Class::RateLimited, None, Then::Other),
        (Class::RateLimited, Some(1_000), Then::Same),
        (Class::RateLimited, Some(6_000), Then::Other),
        (Class::QuotaExhausted, None, Then::Other),
        (Class::Auth, None, Then::Other),
        (Class::Overloaded, None, Then::Same),
        (Class::Overloaded, Some(2_000), Then::Same),
        (Class::Overloaded, Some(60_000), Then::Other),
        (Class::Server, None, Then::Same),
        (Class::Malformed, None, Then::Same),
        (Class::Connect, None, Then::Other),
        (Class::Timeout, None, Then::Other),
        (Class::NotCapable, None, Then::Other),
        (Class::BadRequest, None, Then::Nobody(Stop::Final)),
        (Class::ContentFilter, None, Then::Nobody(Stop::Final)),
        (Class::StreamBroken, None, Then::Nobody(Stop::Final)),
        // Its window is as small as the first one's.
        (Class::ContextOverflow, None, Then::Nobody(Stop::Exhausted)),
    ] {
        let (found, pause) = then(ONE_KEY_EACH, class, wait);
        assert_eq!(found, wanted, "{class} {wait:?}");
        match (found, wait) {
            (Then::Same, Some(wait)) => assert_eq!(pause, Duration::from_millis(wait), "{class}"),
            (Then::Same, None) => assert!(pause <= Duration::from_millis(100), "{class}"),
            _ => assert_eq!(pause, Duration::ZERO, "{class}"),
        }
    }
}

#[test]
fn another_key_comes_before_another_provider() {
    for class in [Class::RateLimited, Class::QuotaExhausted, Class::Auth] {
        assert_eq!(then(TWO, class, None), (Then::OtherKey, Duration::ZERO), "{class}");
    }
}
