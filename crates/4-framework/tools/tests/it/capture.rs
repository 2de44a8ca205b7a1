//! Who reaches the host of a provider of models, and who ends at the models here.

use agentos_audit::{Filter, query};
use agentos_authority::{Caller, Credential, GrantSet, HostRule};
use agentos_monitor::egress::{Closing, EgressRules, Terms, Way};
use agentos_protocol::egress::{Wish, WishEnd};
use agentos_types::{
    Code, Manifest, Result,
    audit::{AuditEvent, Decision, Phase},
};
use serde_json::json;

use crate::{
    house::{House, caller},
    server::Server,
};

const HOST: &str = "api.provider.example";
const MODEL: [&str; 3] = ["model", "call", "fast"];

fn connect(host: &str, port: u16) -> Wish {
    Wish::Connect { host: host.into(), port }
}

async fn ask(house: &House, caller: &Caller, credentials: &[Credential], wish: &Wish) -> Result<Way> {
    let is_provider = |host: &str| host == HOST || host.ends_with(".own.example");
    house.monitor.egress(caller, &Terms { credentials, is_provider: &is_provider }, wish).await
}

/// Where a wish led, in a word. What leads out is closed.
async fn way(house: &House, caller: &Caller, wish: &Wish) -> String {
    match ask(house, caller, &[], wish).await {
        Ok(Way::Known) => "known".to_owned(),
        Ok(Way::Models(captured)) => format!("models as {}", captured.host()),
        Ok(Way::Out(passage)) => {
            let end = WishEnd::Done { status: None };
            passage.close(Closing { bytes_out: 1, bytes_in: 1, duration_ms: 1, end }).await;
            "out".to_owned()
        }
        Err(fault) => fault.code.to_string(),
    }
}

async fn records(house: &House) -> Vec<AuditEvent> {
    let filter = Filter { limit: 500, ascending: true, ..Filter::default() };
    let found = house.store.read(move |conn| query(conn, "node-1", &filter)).await.unwrap();
    let events = found.into_iter().map(|stored| stored.record.event);
    events.filter(|event| event.action.starts_with("egress.")).collect()
}

#[tokio::test]
async fn a_grant_that_names_the_host_comes_before_models_and_a_star_after_them() {
    // What the operator lets out binds connections; a model is called at whatever provider he has chosen.
    let allowed = ["*.star.example", "api.provider.example"].map(|text| HostRule::parse(text).unwrap());
    let rules = EgressRules { allowed_domains: Some(allowed.into()), ..EgressRules::default() };
    let house = House::open_ruled(&Server::saying("").await, rules).await;
    let exact = ["net", "connect", "tcp://api.provider.example:443"];
    let star = ["net", "connect", "tcp://*.provider.example:443"];
    let plain = ["net", "connect", "tcp://api.provider.example:80"];
    let models = format!("models as {HOST}");
    for (grants, expected) in [
        (&[][..], "AOS-1401"),
        (&[MODEL], &models),
        (&[MODEL, star], &models),
        (&[MODEL, plain], &models),
        (&[MODEL, exact], "out"),
        (&[exact], "out"),
        (&[star], "out"),
    ] {
        let agent = caller("web", grants);
        assert_eq!(way(&house, &agent, &connect("API.provider.example.", 443)).await, expected, "{grants:?}");
        let known = way(&house, &agent, &Wish::Name { host: HOST.into() }).await;
        assert_eq!(known, if grants.is_empty() { "AOS-1401" } else { "known" }, "{grants:?}");
    }
    let thinker = caller("thinker", &[MODEL]);
    for (wish, expected) in [
        (connect("models.own.example", 443), "models as models.own.example"),
        (connect(HOST, 8443), "AOS-1401"),
        (connect("other.example", 443), "AOS-1401"),
        (connect("api.provider.example.evil.example", 443), "AOS-1401"),
        (connect("127.0.0.1", 443), "AOS-1401"),
        (Wish::Name { host: "other.example".into() }, "AOS-1401"),
    ] {
        assert_eq!(way(&house, &thinker, &wish).await, expected, "{wish:?}");
    }
    // Requests that the proxy has read are for the host itself.
    for is_tls in [true, false] {
        let (host, path) = (HOST.to_owned(), "/v1/models".to_owned());
        let wish = Wish::Request { host, port: 443, is_tls, method: "GET".into(), path };
        assert_eq!(way(&house, &thinker, &wish).await, "AOS-1401");
    }
    house.verified().await;
}

#[tokio::test]
async fn an_own_credential_for_the_host_is_the_operators_choice_of_it() {
    let house = House::open(&Server::saying("").await).await;
    let manifest: Manifest = serde_json::from_value(json!({
        "schema": 1, "name": "web", "version": "1.0.0", "command": ["x"],
        "grants": [
            {"category": "net", "actions": ["connect"], "resources": ["tcp://*.provider.example:443"]},
            {"category": "secret", "actions": ["use"], "resources": [format!("key@{HOST}")]},
            {"category": "model", "actions": ["call"], "resources": ["fast"]},
        ],
        "egress": {"credentials": [{"host": HOST, "header": "Authorization", "value": "Bearer ${secret:key}"}]},
    }))
    .unwrap();
    let grants = GrantSet::compile(&manifest.grants).unwrap();
    let credentials = Credential::compile(&manifest, &grants).unwrap();
    let agent = Caller { grants: grants.into(), ..caller("web", &[]) };
    let Way::Out(passage) = ask(&house, &agent, &credentials, &connect(HOST, 443)).await.unwrap() else {
        panic!("it was caught")
    };
    passage.lose().await;
    house.verified().await;
}

#[tokio::test]
async fn a_capture_is_recorded_once_for_each_host_and_what_it_asks_for_in_vain_is_counted() {
    let house = House::open(&Server::saying("").await).await;
    let agent = caller("thinker", &[MODEL]);
    // Without a record nothing is caught either.
    house.audit.refuse(|event| event.action.starts_with("egress."));
    assert_eq!(way(&house, &agent, &connect(HOST, 443)).await, "AOS-1405");
    house.audit.open();
    for _ in 0..5 {
        assert_eq!(way(&house, &agent, &connect(HOST, 443)).await, format!("models as {HOST}"));
        assert_eq!(way(&house, &agent, &Wish::Name { host: HOST.into() }).await, "known");
        let target = format!("https://{HOST}:443/v1/files");
        house.monitor.capture_refused(&agent, &target, Code::CAPTURED_PATH).await.unwrap();
    }
    let all = records(&house).await;
    let shapes: Vec<_> = all.iter().map(|r| (r.action.as_str(), r.resource.as_str(), r.phase, r.decision)).collect();
    assert_eq!(
        shapes,
        [
            ("egress.capture", "tcp://api.provider.example:443", Phase::Fact, Decision::Allowed),
            ("egress.name", "tcp://api.provider.example", Phase::Fact, Decision::Allowed),
            ("egress.capture", "https://api.provider.example:443/v1/files", Phase::Fact, Decision::Denied),
        ]
    );
    assert_eq!((all[0].actor.label().as_str(), &all[2].facts["code"]), ("agent:thinker", &json!("AOS-2051")));
    house.monitor.egress_ended(&agent).await.unwrap();
    assert_eq!(records(&house).await.last().unwrap().facts["repeated"], json!(4));
    house.verified().await;
}
