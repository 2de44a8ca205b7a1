//! Looks at a provider that nobody asks: by its list, on the wire, through the real router.

use std::time::Duration;

use agentos_catalog::Catalog;
use agentos_router::{BreakerState, Config, Document, Kind, Probed, Router};

use super::{
    hard::until,
    house::{House, target},
    provider::{Play, Provider},
};

/// Looks every few milliseconds until the test ends.
async fn looked_at(provider: &Provider, kind: &str) -> (House, Router) {
    let document = format!(
        "[providers.own]\nkind = \"{kind}\"\nbase_url = \"http://{}{}\"\nkeys = [\"own-key\"]\n\
         headers = {{ x-team = \"a\" }}\n[routes.fast]\ntargets = [{{ model = \"own/m1\" }}]",
        provider.address,
        if kind == "anthropic" { "" } else { "/v1" },
    );
    let document = Document::from_toml(&document).unwrap();
    let router = Router::new(Config::new(document, Catalog::vendored().unwrap(), 1).unwrap());
    let house = House::new(vec![target(Kind::OpenaiCompatible, provider)]).await;
    let looking = house.engine.clone().look_around(router.clone(), Duration::from_millis(20));
    house.background.spawn("looks", looking);
    (house, router)
}

fn counted(router: &Router, probed: Probed) -> u64 {
    router.probe_views().first().and_then(|view| view.counts.get(&probed).copied()).unwrap_or(0)
}

#[tokio::test]
async fn a_look_is_a_get_of_the_list_with_the_key_and_never_a_generation() {
    for (kind, key_line) in [
        ("openai-compatible", "authorization: Bearer the-value-of-own-key"),
        ("anthropic", "x-api-key: the-value-of-own-key"),
    ] {
        let provider = Provider::always(Play::Whole(200, "", r#"{"data":[]}"#.into())).await;
        let (house, router) = looked_at(&provider, kind).await;
        until(|| counted(&router, Probed::Answered) >= 3).await;
        assert!(house.background.stop(Duration::from_secs(20)).await, "it ends with the server");
        for got in provider.got() {
            assert!(got.head.starts_with("GET /v1/models HTTP/1.1\r\n"), "{}", got.head);
            assert!(
                got.head.contains(key_line) && got.head.contains("x-team: a") && got.body.is_empty(),
                "{}",
                got.head
            );
        }
        assert_eq!(provider.connections(), 1, "over one connection");
        assert!(house.records().is_empty(), "it is no call");
    }
}

#[tokio::test]
async fn an_idle_provider_that_fails_is_shut_before_anybody_asks_it() {
    let provider = Provider::always(Play::Whole(503, "", "no".into())).await;
    let (house, router) = looked_at(&provider, "openai-compatible").await;
    let is_open = || {
        let health = router.health(house.ambient.now());
        health
            .iter()
            .any(|view| view.target == "own/m1" && view.lanes.iter().any(|lane| lane.state == BreakerState::Open))
    };
    until(is_open).await;
    assert!(counted(&router, Probed::Failed) >= 5);
}

#[tokio::test]
async fn who_has_no_list_is_not_asked_again_and_not_blamed() {
    for status in [401, 404, 429] {
        let provider = Provider::start(vec![Play::Whole(status, "", "{}".into())]).await;
        let (house, router) = looked_at(&provider, "openai-compatible").await;
        until(|| counted(&router, Probed::Unsupported) == 1).await;
        // A second request would find no script and never be answered: the next rounds ask nobody.
        assert!(router.probes(Duration::from_millis(20), house.ambient.now()).is_empty(), "{status}");
        let health = router.health(house.ambient.now());
        assert!(health.iter().all(|view| view.keys.is_empty()), "{status}: the key may be good for models");
    }
}
